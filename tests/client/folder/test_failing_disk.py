"""Every call to the disk fails once, in every way, and the folder stays true.

Nothing that was acknowledged is lost, nothing is there twice, and after a repair nothing is false.
More than 800 schedules with `pytest -m slow`; a few of each kind always.

Covers: client.folder.repair, comfy_nodes.labelset.folder, comfy_nodes.labelset.files.
"""

import json
import os
import random
import shutil
import sys
from contextlib import suppress

import pytest
from PIL import Image

from client.errors import FolderError
from client.folder.repair import repair
from client.folder.verify import verify
from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import ImageRecord, LabelledFolder, encode_image, image_file_name
from comfy_nodes.labelset.images.imagefile import ImageFormat
from tests.client.folder.failing_disk import KINDS, FailingDisk, PowerCut
from tests.client.helpers import stub_workflow

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or sys.version_info < (3, 11),
    reason="needs /proc, and a pathlib that calls os by name",
)
PLAN = stub_workflow(names=("bat", "bear"), per_class=4).plan()
FEW = 4  # schedules of each kind in the default suite


@pytest.fixture(autouse=True)
def _no_waiting_for_the_real_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda number: None)


def planned(index, how="PNG"):
    """(record, data) of the image of this row: the same every time."""
    row, kind = PLAN.row(index), ImageFormat(how, quality=100)
    record = ImageRecord(
        file_name=image_file_name(row.label, PLAN.plan_id, index, kind.suffix),
        label=row.label,
        prompt=row.prompt,
        negative_prompt="",
        seed=row.seed,
        index=index,
        plan_id=PLAN.plan_id,
        settings={"width": 8, "height": 8},
    )
    image = Image.new("RGB", (8, 8), (index * 20, 99, len(how)))
    return record, encode_image(image, record, kind)


TRUE = {planned(index, how)[1]: index for index in range(len(PLAN)) for how in ("PNG", "WebP")}


class Adding:
    """Images are added one by one and in batches, and some are replaced, in another format."""

    def prepare(self, root):
        pass

    def work(self, root, acknowledged):
        folder = LabelledFolder(root)
        folder.scan()
        self._add(folder, acknowledged, [0, 1, 2])
        self._add(folder, acknowledged, [3])
        folder.write_card()
        self._add(folder, acknowledged, [1, 2], "WebP", overwrite=True)
        folder = LabelledFolder(root)
        folder.scan()
        self._add(folder, acknowledged, [4, 5])
        folder.write_card()

    @staticmethod
    def _add(folder, acknowledged, indices, how="PNG", **more):
        """As the saver: a batch that cannot be written does not keep the next one from it."""
        with suppress(LabelsetError):
            for each in folder.add_all([planned(index, how) for index in indices], **more):
                acknowledged.add(each.index)


class Repairing:
    """A folder with every kind of damage is repaired; the sound images are acknowledged before."""

    def prepare(self, root):
        folder = LabelledFolder(root)
        folder.add_all([planned(index) for index in range(7)])
        lines = (root / "metadata.jsonl").read_bytes().splitlines(keepends=True)
        del lines[4]  # the image of row 4 has lost its record
        lines += [lines[0], b'{"no": "record"}\n', b'{"file_name": "bat/torn']
        (root / "metadata.jsonl").write_bytes(b"".join(lines))
        damaged = root / planned(5)[0].file_name
        damaged.write_bytes(damaged.read_bytes()[:-20])
        (root / planned(6)[0].file_name).unlink()
        self.damaged = damaged.read_bytes()

    def work(self, root, acknowledged):
        acknowledged |= {0, 1, 2, 3}
        repair(root)


def run(case, base, *, at=0, how="cut", seed=0):
    """One schedule. Returns the number of calls and where the folder is afterwards."""
    root, acknowledged = base / "before" / "set", set()
    root.mkdir(parents=True)
    case.prepare(root)
    disk = FailingDisk(base / "before", at=at, how=how)
    with disk, suppress(PowerCut, LabelsetError, FolderError):
        case.work(root, acknowledged)
    if how == "cut" and at:
        disk.after_power_cut(base / "after", random.Random(seed))
        root = base / "after" / "set"
    return disk, root, acknowledged


def images(root):
    return [path for path in root.glob("*/*") if path.suffix in (".png", ".webp")]


def lines_of(root):
    """The rows that have a whole line, as long as nobody has repaired anything."""
    rows = set()
    for line in LabelledFolder(root).lines():
        with suppress(LabelsetError):
            rows.add(line.record().index)
    return rows


def assert_true(case, root, acknowledged):
    """After the failure, the next run: it opens the folder, and what it then has is true."""
    root.mkdir(parents=True, exist_ok=True)
    if isinstance(case, Adding):  # rows 1 and 2 are replaced, and lose their lines for a moment
        assert acknowledged - {1, 2} <= lines_of(root), "a line is lost"
    with suppress(LabelsetError):  # a line that is no record: the message says to repair
        LabelledFolder(root).scan()
    repair(root)
    report = verify(root)
    assert report.problems == ()
    lines = (root / "metadata.jsonl").read_text("utf-8").splitlines() if images(root) else []
    indices = [json.loads(line)["index"] for line in lines]
    assert len(indices) == len(set(indices)), "doubled"
    assert acknowledged <= set(indices), "lost"
    assert sorted(TRUE[path.read_bytes()] for path in images(root)) == sorted(indices), "false"
    assert not list(root.rglob("*.part"))
    if isinstance(case, Repairing):
        everything = root.parent.rglob("*.png")
        assert case.damaged in [path.read_bytes() for path in everything], "a bad image is gone"
    folder = LabelledFolder(root)
    folder.scan()
    missing = [index for index in range(len(PLAN)) if (PLAN.plan_id, index) not in folder.rows]
    folder.add_all([planned(index) for index in missing])
    assert verify(root).problems == ()
    assert len(images(root)) == len(PLAN)


def schedules(case, base):
    """(call, way to fail, seed) for each call of the case, and for a cut several outcomes."""
    calls = run(case, base)[0].calls
    shutil.rmtree(base)
    for how in KINDS:
        for at in range(1, calls + 1):
            for seed in range(4 if how == "cut" else 1):
                yield at, how, seed


def check(case, base, chosen):
    for at, how, seed in chosen:
        try:
            _, root, acknowledged = run(case, base, at=at, how=how, seed=seed)
            assert_true(case, root, acknowledged)
        except BaseException as error:
            error.add_note(f"call {at} {how}, seed {seed}")
            raise
        shutil.rmtree(base)


@pytest.mark.parametrize("case", [Adding(), Repairing()], ids=["adding", "repairing"])
def test_some_failures_leave_the_folder_true(case, tmp_path):
    every = list(schedules(case, tmp_path / "disk"))
    assert len(every) > 150
    check(case, tmp_path / "disk", random.Random(7).sample(every, FEW * len(KINDS)))


@pytest.mark.slow
@pytest.mark.parametrize("case", [Adding(), Repairing()], ids=["adding", "repairing"])
def test_a_failure_of_any_call_leaves_the_folder_true(case, tmp_path):
    check(case, tmp_path / "disk", schedules(case, tmp_path / "disk"))
