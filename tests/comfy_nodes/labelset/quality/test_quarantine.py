"""Rejected images move out whole, with the reason beside them; a kill at any step loses none."""

import contextlib
import itertools
import json
from dataclasses import replace

import pytest
from PIL import Image

from comfy_nodes.labelset import (
    CLIENT_LOCK,
    LabelledFolder,
    LabelsetError,
    encode_image,
    files,
    rejected_attempts,
    set_aside,
)
from comfy_nodes.labelset.lock import writing
from comfy_nodes.labelset.quality import quarantine as module
from comfy_nodes.labelset.quality.verdicts import Verdict, quarantine_folder
from tests.comfy_nodes.labelset.helpers import add_images, make_record, metadata
from tests.comfy_nodes.labelset.helpers import files as image_files

PLAN = "0123456789ab"


def verdicts_of(root, rejected, **scores):
    """A check's verdicts for every image; those of the indices in `rejected` are bad."""
    return [
        Verdict(
            each["sha256"],
            each["file_name"],
            each["label"],
            "looks like a fox" if each["index"] in rejected else "",
            scores,
        )
        for each in metadata(root)
    ]


def contents(root):
    return {name: (root / name).read_bytes() for name in image_files(root)}


@pytest.fixture
def root(tmp_path):
    add_images(tmp_path / "syn", 6)
    return tmp_path / "syn"


def test_a_rejected_image_lies_beside_the_folder_with_the_reason_and_all_others_stay(root):
    before, lines = contents(root), metadata(root)
    verdicts = verdicts_of(root, {1, 4}, label=0.25, near=float("nan"))
    done = set_aside(root, verdicts, scorer="lite0.csv")
    place = root.with_name("syn.quarantine")
    assert done.folder == place
    assert [record.index for record in done.records] == [1, 4]
    assert done.gone == 0
    assert image_files(place) == [f"bat/{PLAN}-000004@0.png", f"cat/{PLAN}-000001@0.png"]
    assert (place / f"cat/{PLAN}-000001@0.png").read_bytes() == before[f"cat/{PLAN}-000001.png"]
    assert contents(root) == {
        name: data for name, data in before.items() if name[-8:] not in ("0001.png", "0004.png")
    }
    assert metadata(root) == [line for line in lines if line["index"] not in (1, 4)]
    first, second = metadata(place)
    assert (first["file_name"], first["index"], first["sha256"]) == (
        f"cat/{PLAN}-000001@0.png",
        1,
        lines[1]["sha256"],
    )
    rejected = first.pop("rejected")
    assert rejected.pop("at").endswith("+00:00")
    assert rejected == {
        "check": "lite0.csv", "reason": "looks like a fox", "scores": {"label": 0.25},
    }  # fmt: skip
    assert second["index"] == 4
    assert rejected_attempts(root, PLAN) == {1: 0, 4: 0}
    assert rejected_attempts(root, "another plan") == {}
    assert not (root / CLIENT_LOCK).exists()


def test_an_old_check_never_takes_an_image_that_was_made_since(root):
    verdicts = verdicts_of(root, {1, 4})
    set_aside(root, verdicts, scorer="old.csv")
    record = replace(make_record(1, "cat"), attempt=1)
    data = encode_image(Image.new("RGB", (8, 8), "blue"), record)
    LabelledFolder(root).add(record, data)
    again = set_aside(root, verdicts, scorer="old.csv")
    assert (again.records, again.gone) == ((), 2)
    assert (root / record.file_name).read_bytes() == data
    newer = set_aside(root, verdicts_of(root, {1}), scorer="new.csv")
    assert [each.attempt for each in newer.records] == [1]
    assert rejected_attempts(root, PLAN) == {1: 1, 4: 0}
    assert f"cat/{PLAN}-000001@1.png" in image_files(newer.folder)


def test_the_highest_attempt_counts_whatever_came_last(root):
    for attempt, colour in ((2, "blue"), (0, "red")):
        record = replace(make_record(7, "cat"), attempt=attempt)
        LabelledFolder(root).add(record, encode_image(Image.new("RGB", (8, 8), colour), record))
        set_aside(root, verdicts_of(root, {7}), scorer="a.csv")
    assert rejected_attempts(root, PLAN) == {7: 2}
    assert module.rejected_images(root, PLAN) == {"cat": 2}
    assert module.rejected_images(root, "another plan") == {}


def test_what_a_killed_writer_left_half_written_is_cleared_away(root):
    place = set_aside(root, verdicts_of(root, {1}), scorer="a.csv").folder
    (place / "cat" / ".x.png.0a0a0a0a.part").write_bytes(b"half")
    set_aside(root, verdicts_of(root, {4}), scorer="a.csv")
    assert not list(place.rglob("*.part"))
    assert len(image_files(place)) == 2


def test_a_row_that_was_made_twice_with_the_same_attempt_keeps_both_images(root):
    first = set_aside(root, verdicts_of(root, {1}), scorer="a.csv")
    record = make_record(1, "cat")
    LabelledFolder(root).add(record, encode_image(Image.new("RGB", (8, 8), "blue"), record))
    set_aside(root, verdicts_of(root, {1}), scorer="b.csv")
    kept = contents(first.folder)
    assert len(kept) == len(set(kept.values())) == 2
    assert sorted(kept) == sorted(line["file_name"] for line in metadata(first.folder))


def test_an_image_that_was_changed_since_stays_where_it_is(root):
    verdicts = verdicts_of(root, {1, 4})
    (root / f"cat/{PLAN}-000001.png").write_bytes(b"edited")
    done = set_aside(root, verdicts, scorer="a.csv")
    assert ([record.index for record in done.records], done.gone) == ([4], 1)
    assert (root / f"cat/{PLAN}-000001.png").read_bytes() == b"edited"


def test_a_check_that_rejects_nothing_writes_nothing(root):
    before = contents(root)
    assert set_aside(root, verdicts_of(root, set()), scorer="a.csv").records == ()
    assert contents(root) == before
    assert not quarantine_folder(root).exists()


def test_the_card_counts_what_is_left(root):
    folder = LabelledFolder(root)
    folder.scan()
    folder.write_card()
    set_aside(root, verdicts_of(root, {1, 4}), scorer="a.csv")
    assert "4 images of 2 classes" in (root / "README.md").read_text(encoding="utf-8")


def test_it_is_known_how_many_are_moved(root):
    seen = []
    set_aside(
        root, verdicts_of(root, {1, 4}), scorer="a", on_progress=lambda *each: seen.append(each)
    )
    assert seen == [(2, 2)]


def test_a_folder_that_is_being_written_is_refused(root):
    verdicts = verdicts_of(root, {1})
    with writing(root), pytest.raises(LabelsetError, match="another process is writing"):
        set_aside(root, verdicts, scorer="a.csv")
    assert not quarantine_folder(root).exists()


def test_a_folder_without_records_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabelsetError, match=r"no metadata.jsonl; give a labelled folder"):
        set_aside(tmp_path / "empty", [], scorer="a.csv")


def test_a_name_that_leads_out_of_the_folder_is_refused(root, tmp_path):
    outside = tmp_path / "precious.png"
    outside.write_bytes(b"mine")
    line = make_record(9).to_dict() | {
        "file_name": "../precious.png",
        "sha256": files.sha256(b"mine"),
    }
    with (root / "metadata.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(LabelsetError, match=r"expected '<class folder>/<image file>'"):
        set_aside(root, verdicts_of(root, {9}), scorer="a.csv")
    assert outside.read_bytes() == b"mine"


def test_a_damaged_line_of_the_quarantine_is_named_and_an_unfinished_one_is_mended(root):
    place = set_aside(root, verdicts_of(root, {1}), scorer="a.csv").folder
    with (place / "metadata.jsonl").open("ab") as file:
        file.write(b'{"file_name": "cat/')
    assert rejected_attempts(root, PLAN) == {1: 0}
    set_aside(root, verdicts_of(root, {4}), scorer="b.csv")
    assert [line["index"] for line in metadata(place)] == [1, 4]
    with (place / "metadata.jsonl").open("ab") as file:
        file.write(b"nonsense\n")
    with pytest.raises(LabelsetError, match="line 3"):
        rejected_attempts(root, PLAN)


class Killed(BaseException):
    """The process ends here; nothing after it runs."""


@pytest.mark.parametrize("together", [2, 64])
def test_killed_before_any_step_nothing_is_lost_and_the_same_call_completes(
    tmp_path, monkeypatch, together
):
    monkeypatch.setattr(module, "_TOGETHER", together)
    for step in itertools.count():
        root = tmp_path / f"syn{step}"
        add_images(root, 6)
        before = contents(root)
        verdicts = verdicts_of(root, {0, 1, 4})
        with monkeypatch.context() as patch:
            left = _die_before(patch, step)
            with contextlib.suppress(Killed):
                set_aside(root, verdicts, scorer="a.csv")
        place = quarantine_folder(root)
        kept = [*contents(root).values(), *(contents(place).values() if place.exists() else ())]
        assert set(before.values()) <= set(kept)
        listed = rejected_attempts(root, PLAN)
        gone = {int(name[-10:-4]) for name in set(before) - set(contents(root))}
        assert gone <= set(listed)  # what left the folder is listed
        set_aside(root, verdicts, scorer="a.csv")
        assert [line["index"] for line in metadata(root)] == [2, 3, 5]
        assert len(contents(root)) == 3
        assert sorted(line["index"] for line in metadata(place)) == [0, 1, 4]
        assert len(contents(place)) == 3
        if left[0] >= 0:
            assert step > 9
            return


def _die_before(patch, steps):
    """Raises Killed at the step number `steps` of what changes the disk; counts what is left."""
    left = [steps]

    def dying(function):
        def call(*args, **options):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return function(*args, **options)

        return call

    for name in ("write_atomically", "append_durably", "sync_folder", "_remove"):
        patch.setattr(module, name, dying(getattr(module, name)))
    patch.setattr(LabelledFolder, "rewrite", dying(LabelledFolder.rewrite))
    return left
