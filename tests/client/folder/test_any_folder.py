"""Whatever is in a folder, every command on it ends, in words, in little time and memory.

Covers: client.folder.report, client.folder.image_check.
"""

import json
import shutil
import tempfile
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from client.errors import FolderError
from client.folder.repair import repair
from client.folder.run_folder import RunFolder
from client.folder.verify import verify
from client.run.status import status
from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import ImageRecord, LabelledFolder, encode_image, image_file_name
from tests.client.helpers import stub_workflow

WORKFLOW = stub_workflow(names=("bat", "bear"), per_class=3)
PLAN = WORKFLOW.plan()
WORDS = (FolderError, LabelsetError)  # what a command may end with


def planned(index):
    row = PLAN.row(index)
    record = ImageRecord(
        file_name=image_file_name(row.label, PLAN.plan_id, index),
        label=row.label,
        prompt=row.prompt,
        negative_prompt="",
        seed=row.seed,
        index=index,
        plan_id=PLAN.plan_id,
        settings={"width": 8, "height": 8},
    )
    return record, encode_image(Image.new("RGB", (8, 8), (index, 9, 9)), record)


IMAGES = [planned(index) for index in range(len(PLAN))]
LINE = IMAGES[0][0].to_json()

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars | st.sampled_from([10**30, -1, 2**22, 2**63, "..", "a/b", "/", "\ud800", ". a/x.png"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
fields = st.sampled_from([*json.loads(LINE), "unknown"])
changed = st.dictionaries(fields, values, max_size=3).map(
    lambda change: json.dumps(json.loads(LINE) | change).encode()
)
lines = st.one_of(
    st.sampled_from([record.to_json().encode() for record, _ in IMAGES]),
    changed,
    st.binary(max_size=40),
    st.tuples(st.just(LINE.encode()), st.integers(0, 200)).map(lambda cut: cut[0][: cut[1]]),
)
metadata = st.lists(lines, max_size=8).map(b"\n".join) | st.binary(max_size=200)
names = st.sampled_from(
    [
        *(record.file_name for record, _ in IMAGES),
        "bat/other.png",
        "bat/.hidden.part",
        "x/y/z.png",
        "README.md",
        "generation.json",
        ".synthgrid-state.json",
        ".synthgrid.lock",
        " a/b.png",
        "bat/é.jpg",
    ]
)
contents = st.one_of(
    st.sampled_from([data for _, data in IMAGES]),
    st.tuples(st.sampled_from([data for _, data in IMAGES]), st.integers(0, 900)).map(
        lambda cut: cut[0][: cut[1]]
    ),
    st.binary(max_size=60),
    values.map(lambda value: json.dumps(value).encode()),
    st.none(),  # a folder
)
folders = st.tuples(metadata | st.none(), st.dictionaries(names, contents, max_size=8))


def write(root, what):
    text, files = what
    root.mkdir()
    for name, data in files.items():
        path = root / name
        with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if data is None:
                path.mkdir()
            else:
                path.write_bytes(data)
    if text is not None:
        (root / "metadata.jsonl").write_bytes(text)


def opened(root):
    """What `run` does with the folder before it asks a server for anything."""
    folder = RunFolder(root, WORKFLOW)
    folder.check()
    with folder.locked():
        folder.open()
        folder.missing(range(len(PLAN)))
        folder.in_the_way()
        folder.describe({})
        folder.labelled.write_card()


def every_file(*roots):
    return sorted(
        path.read_bytes()
        for root in roots
        for path in root.rglob("*")
        if path.is_file() and path.suffix in (".png", ".jpg")
    )


def check(what, commands=(verify, status, opened, repair, verify, opened)):
    base = Path(tempfile.mkdtemp())
    try:
        root = base / "set"
        write(root, what)
        before, started = every_file(root), time.process_time()
        tracemalloc.start()
        for command in commands:
            with suppress(*WORDS):
                command(root)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100 * 2**20
        assert time.process_time() - started < 20
        left = every_file(base)
        for data in before:
            left.remove(data)  # ValueError: an image that somebody had made is gone
        with suppress(FolderError):  # a damaged generation.json, which no repair can make
            repair(root)
            assert verify(root).problems == ()
            LabelledFolder(root).scan()
    finally:
        tracemalloc.stop()
        shutil.rmtree(base)


ODD = (
    (b'{"a":' * 50_000, {}),
    (b"[" * 100_000 + b"\n", {}),
    (b"9" * 10_000, {}),
    (json.dumps(json.loads(LINE) | {"index": 10**300}).encode(), {}),
    (json.dumps(json.loads(LINE) | {"settings": {"\ud800": "\ud800"}}).encode(), {}),
    (b"", {IMAGES[0][0].file_name: None, "bear": b"", "generation.json": None}),
    (LINE.encode(), {"bat": b"a file where a class folder belongs"}),
    (None, {".synthgrid.lock": None, "README.md": None, ".synthgrid-state.json": b"[[1]]"}),
)


@pytest.mark.parametrize("what", ODD, ids=range(len(ODD)))
def test_odd_folders_end_in_words(what):
    check(what)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(folders)
def test_any_bytes_and_any_files_end_in_words_and_no_image_is_lost(what):
    check(what)


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(folders)
@example((b"\xff\xfe", {}))
def test_many_folders_end_in_words_and_no_image_is_lost(what):
    check(what)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        b"x" * 1000,
        json.dumps(json.loads(LINE) | {"index": 2**40}).encode(),
        LINE.encode(),
    ],
)
def test_a_large_damaged_file_takes_time_and_memory_in_proportion(line):
    check((b"\n".join([line] * 3_000), {}), (verify, status, opened))
