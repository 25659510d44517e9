"""A folder is written only by the run it belongs to, and by one client at a time.

Covers: client.folder.run_folder, client.folder.differences.
"""

import json
import os
import subprocess
import sys
import textwrap
import threading
import tracemalloc

import pytest
from PIL import Image

from client.errors import FolderError
from client.folder.run_folder import GENERATION, LOCK, RunFolder, is_locked, locked
from client.workflow.changes.options import Options, patch
from comfy_nodes.labelset import ImageRecord, encode_image, image_file_name, try_lock
from comfy_nodes.plan import ClassEntry

CLASSES = (ClassEntry("ant"), ClassEntry("bat"))


@pytest.fixture
def make(workflow, tmp_path):
    """A RunFolder for the shipped workflow with these options."""

    def build(root=None, **options):
        patched = patch(workflow, Options(**{"classes": CLASSES, "images_per_class": 3} | options))
        return RunFolder(root or tmp_path / "out", patched)

    return build


def fill(folder, indices):
    """Images for these rows, as the runner would add them."""
    plan = folder.plan
    for index in indices:
        row = plan.row(index)
        record = ImageRecord(
            file_name=image_file_name(row.label, plan.plan_id, index),
            label=row.label,
            prompt=row.prompt,
            negative_prompt="",
            seed=row.seed,
            index=index,
            plan_id=plan.plan_id,
        )
        folder.labelled.add(record, encode_image(Image.new("RGB", (8, 8)), record))


def test_a_new_folder_an_empty_one_and_one_with_hidden_files_are_fine(make, tmp_path):
    make().check()
    (tmp_path / "out").mkdir()
    make().check()
    (tmp_path / "out" / LOCK).touch()
    (tmp_path / "out" / ".DS_Store").touch()
    make().check()


def test_a_folder_with_other_things_is_left_alone(make, tmp_path):
    (tmp_path / "out" / "ant").mkdir(parents=True)
    (tmp_path / "out" / "ant" / "mine.jpg").write_bytes(b"x")
    with pytest.raises(FolderError, match=r"did not write \(ant\)"):
        make().check()
    assert (tmp_path / "out" / "ant" / "mine.jpg").read_bytes() == b"x"
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_file_is_refused(make, tmp_path):
    (tmp_path / "out").write_text("x", encoding="utf-8")
    with pytest.raises(FolderError, match="is a file"):
        make().check()


def test_a_folder_below_a_file_cannot_be_written(make, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="cannot write"), make(tmp_path / "file" / "out").locked():
        pass


def test_the_same_run_and_an_extension_may_go_on(make):
    first = make()
    with first.locked():
        first.open()
        first.describe({})
    make().check()
    make(images_per_class=30, batch_size=2).check()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"steps": 30}, "steps 20 -> 30"),
        ({"plan_seed": 4}, "seed 0 -> 4"),
        ({"classes": (*CLASSES, ClassEntry("cat"))}, "2 -> 3 classes, with cat added"),
        ({"templates": ("the {class}",)}, "templates"),
        ({"width": 64, "height": 64}, "width 512 -> 64; height 512 -> 64"),
    ],
)
def test_another_run_is_told_what_differs(make, options, told):
    first = make()
    with first.locked():
        first.describe({})
    with pytest.raises(FolderError, match=told):
        make(**options).check()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"plan": 3, "content": {}}', '{"plan": {}, "content": []}']
)
def test_a_damaged_generation_file_is_refused_in_one_line(make, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / GENERATION).write_text(content, encoding="utf-8")
    with pytest.raises(FolderError) as caught:
        make().check()
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_what_has_no_record(make):
    folder = make()
    with folder.locked():
        folder.open()
        fill(folder, [0, 4])
        assert folder.missing(range(6)) == [1, 2, 3, 5]
        assert folder.count() == 2
    again = make()
    again.open()
    assert again.missing(range(6)) == [1, 2, 3, 5]


def test_memory_of_a_resume_does_not_grow_with_the_folder(make, tmp_path):
    """A finished folder of 3,000 images: a scan of records would hold five megabytes."""
    folder = make(images_per_class=1500)
    folder.open()
    plan = folder.plan
    fill(folder, [0, 1])
    text = (tmp_path / "out" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    with (tmp_path / "out" / "metadata.jsonl").open("a", encoding="utf-8") as lines:
        for index in range(2, len(plan)):
            row, first = plan.row(index), json.loads(text[index % 2])
            name = image_file_name(row.label, plan.plan_id, index)
            os.link(tmp_path / "out" / first["file_name"], tmp_path / "out" / name)
            values = first | {
                "file_name": name,
                "index": index,
                "seed": row.seed,
                "prompt": row.prompt,
            }
            lines.write(json.dumps(values) + "\n")
    again = make(images_per_class=1500)
    tracemalloc.start()
    again.open()
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert again.count() == 3000
    assert now < 100_000
    # The entries of one class folder at a time; Python 3.13 takes 1.56 MB for them.
    assert peak < 2_000_000


def test_images_beyond_a_smaller_plan_do_not_count_and_stay(make, tmp_path):
    folder = make(images_per_class=3)
    folder.open()
    folder.describe({})
    fill(folder, range(6))
    smaller = make(images_per_class=1)
    smaller.open()
    assert smaller.count() == 2
    smaller.describe({})
    assert len(list((tmp_path / "out").glob("*/*.png"))) == 6
    assert (
        json.loads((tmp_path / "out" / GENERATION).read_text("utf-8"))["plan"]["images_per_class"]
        == 3
    )


def test_images_of_another_plan_alone_are_not_mixed_with(make):
    folder = make(plan_seed=5)
    folder.open()
    fill(folder, [0])
    with pytest.raises(FolderError, match="images of plan"):
        make().open()


def test_the_description_keeps_the_first_date_and_no_secret(make, tmp_path):
    folder = make()
    with folder.locked():
        folder.describe({"url": "http://host"})
        first = json.loads((tmp_path / "out" / GENERATION).read_text("utf-8"))
        folder.describe({"url": "http://other"})
    second = json.loads((tmp_path / "out" / GENERATION).read_text("utf-8"))
    assert second["created"] == first["created"]
    assert second["server"] == {"url": "http://other"}
    assert second["plan"]["classes"][0]["name"] == "ant"
    assert second["settings"]["steps"] == 20


def test_two_clients_cannot_hold_one_folder(make, tmp_path):
    with (
        make().locked(),
        pytest.raises(FolderError, match="another client is writing"),
        make().locked(),
    ):
        pass
    with make().locked():
        pass
    assert not (tmp_path / "out" / LOCK).exists()


def test_the_lock_of_a_killed_process_holds_nobody_up(make, tmp_path):
    script = f"""
        import sys, time
        from comfy_nodes.labelset.lock import open_locked
        from pathlib import Path
        file = open_locked(Path({str(tmp_path / "out" / LOCK)!r}))
        print("held", flush=True)
        time.sleep(60)
    """
    (tmp_path / "out").mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, env=os.environ
    )
    try:
        assert holder.stdout.readline().strip() == b"held"
        with pytest.raises(FolderError, match="another client"), make().locked():
            pass
    finally:
        holder.kill()
        holder.communicate()
    assert (tmp_path / "out" / LOCK).exists()
    with make().locked():
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="it has no shared locks")
def test_a_reader_who_looks_at_the_lock_does_not_keep_a_writer_out(tmp_path):
    """As `status` does beside a run that starts; a real one looks for much less than 0.1 s."""
    (tmp_path / LOCK).touch()
    reader = (tmp_path / LOCK).open("rb")
    assert try_lock(reader, shared=True)
    threading.Timer(0.1, reader.close).start()
    with locked(tmp_path):
        assert reader.closed


def test_two_readers_do_not_take_each_other_for_a_writer(tmp_path):
    (tmp_path / LOCK).touch()
    with (tmp_path / LOCK).open("rb") as file:
        assert try_lock(file, shared=True)
        assert not is_locked(tmp_path) or sys.platform == "win32"
