"""An image that was set aside comes back as it was, or stays where it is."""

import io
from dataclasses import replace

import pytest
from PIL import Image

from comfy_nodes.labelset import (
    LabelledFolder,
    LabelsetError,
    encode_image,
    put_back,
    rejected_attempts,
    set_aside,
)
from comfy_nodes.labelset.lock import writing
from comfy_nodes.labelset.quality import undo
from comfy_nodes.labelset.quality.verdicts import Verdict, quarantine_folder
from tests.comfy_nodes.labelset.helpers import add_images, make_record, metadata
from tests.comfy_nodes.labelset.helpers import files as image_files

PLAN = "0123456789ab"
ASIDE = f"cat/{PLAN}-000001@0.png"


def contents(root):
    return {name: (root / name).read_bytes() for name in image_files(root)}


def by_index(root):
    return {line["index"]: line for line in metadata(root)}


def reject(root, *indices):
    lines = by_index(root)
    chosen = [lines[each] for each in indices]
    bad = [Verdict(each["sha256"], each["file_name"], each["label"], "bad") for each in chosen]
    set_aside(root, bad, scorer="panel")


def killed(*arguments, **_):
    if arguments[-1] != []:  # a scan that restores nothing appends nothing
        raise KeyboardInterrupt


@pytest.fixture
def root(tmp_path):
    """Six images, of which 1 and 4 are in the quarantine."""
    add_images(tmp_path / "syn", 6).write_card()
    return tmp_path / "syn"


def test_bytes_record_and_card_are_those_from_before_and_the_other_stays_aside(root):
    before, lines, card = contents(root), by_index(root), (root / "README.md").read_bytes()
    reject(root, 1)
    assert (root / "README.md").read_bytes() != card
    put_back(root, ASIDE)
    assert contents(root) == before
    assert by_index(root) == lines
    assert (root / "README.md").read_bytes() == card
    place = quarantine_folder(root)
    assert (image_files(place), metadata(place)) == ([], [])
    reject(root, 1, 4)
    assert put_back(root, ASIDE).to_dict() == lines[1]
    assert [line["index"] for line in metadata(place)] == [4]
    assert rejected_attempts(root, PLAN) == {4: 0}
    assert image_files(place) == [f"bat/{PLAN}-000004@0.png"]


def test_an_image_that_was_made_since_is_never_replaced(root):
    reject(root, 1)
    again = replace(make_record(1, "cat"), attempt=1)
    LabelledFolder(root).add(again, encode_image(Image.new("RGB", (8, 8), "blue"), again))
    before, aside = contents(root), contents(quarantine_folder(root))
    with pytest.raises(LabelsetError, match=r"another image in place of cat/.*set that one aside"):
        put_back(root, ASIDE)
    assert (contents(root), contents(quarantine_folder(root))) == (before, aside)


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_whatever_is_in_the_way_stays(root, suffix):
    reject(root, 1)
    (root / f"cat/{PLAN}-000001{suffix}").write_bytes(b"mine")
    with pytest.raises(LabelsetError, match="another image in place"):
        put_back(root, ASIDE)
    assert (root / f"cat/{PLAN}-000001{suffix}").read_bytes() == b"mine"
    assert len(metadata(quarantine_folder(root))) == 1


def test_changed_bytes_stay_aside(root):
    reject(root, 1)
    (quarantine_folder(root) / ASIDE).write_bytes(b"other")
    with pytest.raises(LabelsetError, match="has changed since it was set aside"):
        put_back(root, ASIDE)
    assert len(image_files(root)) == 5


@pytest.mark.parametrize("name", ["cat/gone@0.png", "../syn/cat/x.png", "metadata.jsonl", ""])
def test_only_a_name_in_the_records_of_the_quarantine_is_moved(root, name):
    reject(root, 1)
    with pytest.raises(LabelsetError, match="has no image"):
        put_back(root, name)


def test_a_line_that_is_no_record_is_reported_and_not_lost(root):
    reject(root, 1)
    path = quarantine_folder(root) / "metadata.jsonl"
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(LabelsetError, match="line 1"):
        put_back(root, ASIDE)
    assert path.read_bytes().startswith(b"{}\n")


def test_nothing_moves_while_another_process_writes(root):
    reject(root, 1)
    with writing(root), pytest.raises(LabelsetError, match="another process is writing"):
        put_back(root, ASIDE)


@pytest.mark.parametrize("step", ["sync_folder", "append", "rewrite", "unlink"])
def test_a_kill_at_any_step_loses_nothing_and_the_same_call_completes_it(root, step, monkeypatch):
    before, lines = contents(root), by_index(root)
    reject(root, 1)

    target = undo if step == "sync_folder" else LabelledFolder
    target = undo.Path if step == "unlink" else target
    with monkeypatch.context() as patch:
        patch.setattr(target, step, killed)
        with pytest.raises(KeyboardInterrupt):
            put_back(root, ASIDE)
    if step == "unlink":  # it is back; what is left is a file that no record names
        assert metadata(quarantine_folder(root)) == []
    else:
        put_back(root, ASIDE)
        assert image_files(quarantine_folder(root)) == []
    assert contents(root) == before
    assert by_index(root) == lines


def test_a_kill_before_the_record_of_an_image_that_holds_none_is_completed_too(root, monkeypatch):
    plain = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(plain, "PNG")
    LabelledFolder(root).add(make_record(6), plain.getvalue())
    lines = by_index(root)
    reject(root, 6)
    with monkeypatch.context() as patch:
        patch.setattr(LabelledFolder, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            put_back(root, f"bat/{PLAN}-000006@0.png")
    put_back(root, f"bat/{PLAN}-000006@0.png")
    assert by_index(root) == lines


def test_an_image_set_aside_under_a_longer_name_comes_back_too(root):
    """Two images of one attempt: the second has eight digits of its hash in its name."""
    reject(root, 1)
    other = make_record(1, "cat")
    LabelledFolder(root).add(other, encode_image(Image.new("RGB", (8, 8), "green"), other))
    before = contents(root)
    reject(root, 1)
    (_, name) = (each["file_name"] for each in metadata(quarantine_folder(root)))
    assert "@0-" in name
    assert put_back(root, name).file_name == other.file_name
    assert contents(root) == before


def test_a_name_that_the_quarantine_does_not_give_has_no_original():
    with pytest.raises(LabelsetError, match="not a name that the quarantine gives"):
        undo.original_name(make_record())
