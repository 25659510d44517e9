"""Everything that can be wrong with a folder is found by name; a repair loses nothing.

Covers: client.folder.verify, client.folder.repair.
"""

import hashlib
import io
import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from client.errors import FolderError
from client.folder.repair import quarantine_of, repair
from client.folder.run_folder import GENERATION, RunFolder, is_locked
from client.folder.verify import KINDS, Problem, verify
from client.workflow.changes.options import Options, patch
from comfy_nodes.labelset import ImageRecord, encode_image, image_file_name
from comfy_nodes.labelset.images.imagefile import ImageFormat
from comfy_nodes.plan import ClassEntry
from tests.comfy_nodes.helpers import scanned_records

CLASSES = (ClassEntry("ant"), ClassEntry("bat/../x"), ClassEntry("蝙蝠"))


def picture(record, colour="red", how=None):
    return encode_image(Image.new("RGB", (16, 8), colour), record, how or ImageFormat())


def planned(plan, index, suffix=".png"):
    row = plan.row(index)
    return ImageRecord(
        file_name=image_file_name(row.label, plan.plan_id, index, suffix),
        label=row.label,
        prompt=row.prompt,
        negative_prompt=row.negative_prompt,
        seed=row.seed,
        index=index,
        plan_id=plan.plan_id,
        template=row.template,
        settings={"width": 16, "height": 8},
    )


@pytest.fixture
def folder(workflow, tmp_path):
    """A finished folder of nine images, as a run leaves it."""
    patched = patch(workflow, Options(classes=CLASSES, images_per_class=3))
    folder = RunFolder(tmp_path / "set", patched)
    with folder.locked():
        folder.open()
        folder.describe({"url": "http://127.0.0.1:8188"})
        for index in range(9):
            how = ImageFormat(("PNG", "WebP", "JPEG")[index % 3])
            record = planned(patched.plan(), index, how.suffix)
            folder.labelled.add(record, picture(record, how=how))
        folder.labelled.write_card()
    return folder


def lines(root):
    return (root / "metadata.jsonl").read_text("utf-8").splitlines()


def cut_off(path, count):
    os.truncate(path, path.stat().st_size - count)


def write_lines(root, values):
    (root / "metadata.jsonl").write_text("".join(each + "\n" for each in values), encoding="utf-8")


def change_line(root, number, **changes):
    found = lines(root)
    found[number] = json.dumps(json.loads(found[number]) | changes, ensure_ascii=False)
    write_lines(root, found)


def file_of(root, number):
    return root / json.loads(lines(root)[number])["file_name"]


def contents(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_a_sound_folder_is_sound_and_nothing_in_it_changes(folder):
    before, seen = contents(folder.root), []
    report = verify(folder.root, on_progress=lambda done, total: seen.append((done, total)))
    assert report.sound
    assert (report.images, report.planned, report.counts, report.missing) == (9, 9, {}, {})
    assert seen == [(done, 9) for done in range(1, 10)]
    assert repair(folder.root) == report
    assert contents(folder.root) == before
    assert not list(folder.root.parent.glob("*.quarantine"))


def flip_a_bit(root):
    path = file_of(root, 0)
    data = bytearray(path.read_bytes())
    data[data.index(b"IEND") + 4] ^= 1  # the CRC of the last chunk, which no decoder looks at
    path.write_bytes(data)


def cut(root):
    path = file_of(root, 0)
    path.write_bytes(path.read_bytes()[:-40])


def other_pixels(root):
    record = ImageRecord.from_json(lines(root)[0])
    file_of(root, 0).write_bytes(picture(record, "blue"))


def other_size(root):
    record = ImageRecord.from_json(lines(root)[0])
    data = encode_image(Image.new("RGB", (8, 16)), record)
    file_of(root, 0).write_bytes(data)
    change_line(root, 0, sha256=hashlib.sha256(data).hexdigest())


def no_record_inside(root):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8)).save(buffer, format="PNG")
    file_of(root, 0).write_bytes(buffer.getvalue())
    change_line(root, 0, sha256=hashlib.sha256(buffer.getvalue()).hexdigest())


def another_prompt_everywhere(root):
    record = replace(ImageRecord.from_json(lines(root)[0]), prompt="another")
    file_of(root, 0).write_bytes(picture(record))
    change_line(root, 0, prompt="another", sha256=hashlib.sha256(picture(record)).hexdigest())


def a_row_that_is_not_planned(root):
    record = replace(ImageRecord.from_json(lines(root)[0]), index=99)
    file_of(root, 0).write_bytes(picture(record))
    change_line(root, 0, index=99, sha256=hashlib.sha256(picture(record)).hexdigest())


def moved_to_another_class(root):
    path = file_of(root, 0)
    path.rename(root / "蝙蝠" / path.name)


def a_picture_of_mine(root):
    (root / "ant" / "mine.jpg").write_bytes(b"\xff\xd8 not even whole")


def the_same_row_in_another_format(root):
    record = ImageRecord.from_json(lines(root)[0])
    twin = replace(record, file_name=record.file_name.replace(".png", ".webp"))
    (root / twin.file_name).write_bytes(picture(twin, how=ImageFormat("WebP")))


def two_rows_for_one_file(root):
    write_lines(root, [*lines(root), json.dumps(json.loads(lines(root)[0]) | {"index": 3})])


@pytest.mark.parametrize(
    ("damage", "kinds", "lost", "moved"),
    [
        (flip_a_bit, {"damaged": 1}, 1, 1),
        (cut, {"damaged": 1}, 1, 1),
        (lambda root: file_of(root, 0).write_bytes(b""), {"damaged": 1}, 1, 1),
        (other_pixels, {"altered": 1}, 1, 1),
        (other_size, {"size": 1}, 1, 1),
        (no_record_inside, {"inside": 1}, 1, 1),
        (another_prompt_everywhere, {"plan": 1}, 1, 1),
        (a_row_that_is_not_planned, {"plan": 1}, 1, 1),
        (lambda root: change_line(root, 0, prompt="edited"), {"inside": 1, "plan": 1}, 0, 0),
        (
            lambda root: change_line(root, 0, label="蝙蝠"),
            {"inside": 1, "folder": 1, "plan": 1}, 0, 0,
        ),
        (
            lambda root: change_line(root, 0, seed=5, sha256="0" * 64),
            {"altered": 1, "inside": 1, "plan": 1}, 1, 1,
        ),
        (lambda root: change_line(root, 0, context="x"), {"inside": 1, "plan": 1}, 0, 0),
        (lambda root: file_of(root, 0).unlink(), {"gone": 1}, 1, 0),
        (moved_to_another_class, {"gone": 1, "unrecorded": 1, "folder": 1}, 1, 1),
        (lambda root: write_lines(root, lines(root)[1:]), {"unrecorded": 1}, 0, 0),
        (lambda root: (root / "metadata.jsonl").unlink(), {"unrecorded": 9}, 0, 0),
        (a_picture_of_mine, {"damaged": 1}, 0, 1),
        (the_same_row_in_another_format, {"unrecorded": 1}, 0, 1),
        (lambda root: write_lines(root, [lines(root)[0], *lines(root)]), {"doubled": 1}, 0, 0),
        (
            lambda root: write_lines(
                root, [*lines(root), lines(root)[4].replace("a photo", "no photo")]
            ),
            {"doubled": 1}, 0, 0,
        ),
        (two_rows_for_one_file, {"doubled": 1}, 0, 0),
        (
            lambda root: write_lines(root, [*lines(root)[:4], "{oops", *lines(root)[4:]]),
            {"malformed": 1}, 0, 0,
        ),
        (
            lambda root: write_lines(root, ["{oops", *lines(root)[1:]]),
            {"malformed": 1, "unrecorded": 1}, 0, 0,
        ),
        (
            lambda root: change_line(root, 0, file_name="../../x.png"),
            {"malformed": 1, "unrecorded": 1}, 0, 0,
        ),
        (
            lambda root: cut_off(root / "metadata.jsonl", 1),
            {"unfinished": 1}, 0, 0,
        ),
        (lambda root: cut_off(root / "metadata.jsonl", 9),
         {"unfinished": 1, "unrecorded": 1}, 0, 0),
    ],
)  # fmt: skip
def test_each_damage_is_named_and_mended(folder, damage, kinds, lost, moved):
    root, before = folder.root, contents(folder.root)
    damage(root)
    damaged = contents(root)
    report = verify(root)
    assert report.counts == {kind: kinds[kind] for kind in KINDS if kind in kinds}
    assert contents(root) == damaged
    after = repair(root)
    assert (after.problems, after.mended) == ((), sum(kinds.values()))
    assert sum(after.missing.values()) == lost
    again = verify(root)
    assert (again.problems, again.missing) == ((), after.missing)
    kept = contents(root)
    assert {
        name: data for name, data in kept.items() if "/" in name
    }.items() <= damaged.items() | before.items()
    taken = {name: data for name, data in contents(after.quarantine).items() if "/" in name}
    assert len(taken) == moved
    assert taken.items() <= damaged.items()
    assert set(kept) | set(taken) >= {name for name in damaged if name != "README.md"}
    if "metadata.jsonl" in damaged:
        assert (after.quarantine / "metadata.jsonl").read_bytes() == damaged["metadata.jsonl"]
    assert [
        each for each in map(json.loads, lines(root)) if not (root / each["file_name"]).is_file()
    ] == []
    assert len(ImageFolder(str(root)).classes) == 3


def test_what_is_missing_is_counted_by_class(folder):
    file_of(folder.root, 3).unlink()
    write_lines(
        folder.root, [line for number, line in enumerate(lines(folder.root)) if number != 3]
    )
    report = verify(folder.root)
    assert (report.sound, report.counts, report.missing) == (False, {}, {"ant": 1})


def test_a_folder_without_generation_json_is_checked_without_its_plan(folder):
    (folder.root / GENERATION).unlink()
    report = verify(folder.root)
    assert (report.sound, report.planned) == (True, None)
    other_pixels(folder.root)
    assert verify(folder.root).counts == {"altered": 1}


def test_images_of_another_plan_are_held_against_their_records_only(folder, workflow):
    other = patch(workflow, Options(classes=CLASSES, images_per_class=1, plan_seed=9)).plan()
    record = planned(other, 0)
    folder.labelled.add(record, picture(record))
    report = verify(folder.root)
    assert (report.sound, report.other_plans, report.images) == (True, 1, 10)


def test_what_is_no_folder_or_has_a_damaged_plan_is_refused_in_one_line(folder, tmp_path):
    for root in (tmp_path / "none", folder.root / GENERATION):
        for function in (verify, repair):
            with pytest.raises(FolderError, match="is not a folder"):
                function(root)
    (folder.root / GENERATION).write_text("{}", encoding="utf-8")
    with pytest.raises(FolderError, match="is damaged") as caught:
        verify(folder.root)
    assert "\n" not in str(caught.value)


def test_a_repair_waits_for_no_client_and_disturbs_none(folder):
    cut(folder.root)
    before = contents(folder.root)
    with folder.locked():
        assert is_locked(folder.root)
        with pytest.raises(FolderError, match="another client"):
            repair(folder.root)
        assert verify(folder.root).counts == {"damaged": 1}
    assert not is_locked(folder.root)
    assert contents(folder.root) == before


def test_two_repairs_in_one_second_do_not_share_a_quarantine(tmp_path):
    first = quarantine_of(tmp_path / "set")
    first.mkdir(parents=True)
    assert quarantine_of(tmp_path / "set") != first
    assert first.parent == tmp_path / "set.quarantine"


def test_the_report_is_json_with_every_problem(folder):
    other_pixels(folder.root)
    value = json.loads(json.dumps(verify(folder.root).to_dict()))
    assert value["counts"] == {"altered": 1}
    assert value["problems"][0]["file"] == json.loads(lines(folder.root)[0])["file_name"]
    assert (value["sound"], value["images"], value["planned"], value["missing"]) == (
        False,
        9,
        9,
        {"ant": 1},
    )


def test_a_sample_reads_that_share_and_looks_at_the_rest(folder):
    read = [verify(folder.root, share=0.3) for _ in range(30)]
    assert all(each.sound and each.images + each.unread == 9 for each in read)
    assert all(each.images >= 1 for each in read)
    assert 40 < sum(each.images for each in read) < 180  # of 270; 102 expected
    assert verify(folder.root, share=1e-9).images == 1
    other_pixels(folder.root)
    assert verify(folder.root).counts == {"altered": 1}


@pytest.mark.parametrize(
    ("damage", "counts"),
    [
        (lambda root: file_of(root, 5).write_bytes(b""), {"damaged": 1}),
        (lambda root: file_of(root, 5).unlink(), {"gone": 1}),
        (lambda root: change_line(root, 5, prompt="x"), {"plan": 1}),
        (lambda root: write_lines(root, lines(root)[:5]), {"unrecorded": 4}),
        (lambda root: write_lines(root, [*lines(root), lines(root)[5]]), {"doubled": 1}),
    ],
)
def test_what_can_be_seen_without_reading_is_seen_outside_the_sample(folder, damage, counts):
    damage(folder.root)
    assert verify(folder.root, share=1e-9).counts == counts


def test_a_repair_leaves_no_moment_in_which_a_sound_image_has_no_record(folder, monkeypatch):
    """A kill in such a moment, and damage after it, could make a false image count as true."""
    change_line(folder.root, 0, prompt="edited")  # dropped, and restored from inside the image
    write_lines(folder.root, lines(folder.root)[:-1])  # restored
    replace_file, seen = Path.replace, []

    def watched(path, target):
        done = replace_file(path, target)
        seen.append({json.loads(line)["file_name"] for line in lines(folder.root)})
        return done

    monkeypatch.setattr(Path, "replace", watched)
    assert repair(folder.root).mended == 3
    assert min(map(len, seen)) == 8  # as many as before
    assert len(lines(folder.root)) == 9


@pytest.mark.parametrize("number", range(3))
def test_a_false_image_without_a_record_is_not_certified(folder, number):
    """PNG, WebP and JPEG: one bit of the pixels, while the line of metadata.jsonl is lost."""
    path = file_of(folder.root, number)
    data = bytearray(path.read_bytes())
    data[-20] ^= 2
    path.write_bytes(data)
    write_lines(folder.root, lines(folder.root)[:number] + lines(folder.root)[number + 1 :])
    assert verify(folder.root).counts == {"damaged": 1}
    assert sum(repair(folder.root).missing.values()) == 1
    assert not path.exists()


@pytest.mark.parametrize("seed", range(8))
def test_a_folder_damaged_at_random_is_true_after_one_repair(folder, seed):
    """Bytes changed; files cut, swapped, deleted; lines lost, doubled, shuffled; some at once."""
    root, chance = folder.root, random.Random(seed)
    for _ in range(chance.randint(1, 6)):
        images = sorted(root.glob("*/*"))
        one, other = chance.sample(images, 2)
        found = (root / "metadata.jsonl").read_bytes().splitlines(keepends=True)
        number = chance.randrange(len(found))
        match chance.randrange(7):
            case 0:
                data = bytearray(one.read_bytes())
                data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
                one.write_bytes(data)
            case 1:
                one.write_bytes(one.read_bytes()[: chance.randrange(200)])
            case 2:
                one.unlink()
            case 3:
                held = one.read_bytes()
                shutil.copy(other, one)
                other.write_bytes(held)
            case 4:
                found[number] = found[number][: chance.randrange(len(found[number]))]
            case 5:
                found.append(found[number])
            case 6:
                chance.shuffle(found)
        (root / "metadata.jsonl").write_bytes(b"".join(found))
    repair(root)
    report = verify(root)
    assert report.problems == ()
    assert report.images + sum(report.missing.values()) == 9
    assert len(scanned_records(root)) == report.images


def test_a_problem_names_its_kind():
    assert Problem("gone", "a/b.png", "").kind in KINDS
