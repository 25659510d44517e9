"""A record exists if and only if its image does, whatever happens while they are written.

Covers: comfy_nodes.labelset.line, comfy_nodes.labelset.folder.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import (
    LabelledFolder,
    encode_image,
    image_file_name,
    read_record,
    sha256,
)
from comfy_nodes.labelset import folder as labelset
from comfy_nodes.labelset.images.imagefile import ImageFormat
from tests.comfy_nodes.helpers import scanned_records
from tests.comfy_nodes.labelset.helpers import add_images, files, make_items, make_record, metadata


def test_image_and_record_agree(tmp_path):
    add_images(tmp_path)
    for values in metadata(tmp_path):
        data = (tmp_path / values["file_name"]).read_bytes()
        assert values["sha256"] == sha256(data)
        assert read_record(data).to_dict() == values


def test_torchvision_reads_the_folder_as_it_is(tmp_path):
    folder = add_images(tmp_path, 4)
    folder.write_card()
    dataset = ImageFolder(str(tmp_path))
    assert dataset.classes == ["bat", "cat"]
    assert len(dataset) == 4


def test_a_kill_in_the_middle_of_a_record_loses_nothing(tmp_path):
    add_images(tmp_path)
    before = (tmp_path / "metadata.jsonl").read_bytes()
    for cut in (1, 40, len(before.splitlines()[-1])):
        (tmp_path / "metadata.jsonl").write_bytes(before[:-cut])
        assert len(scanned_records(tmp_path)) == 3
        assert (tmp_path / "metadata.jsonl").read_bytes() == before


def test_a_kill_between_image_and_record_loses_nothing(tmp_path):
    add_images(tmp_path)
    lines = (tmp_path / "metadata.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "metadata.jsonl").write_bytes(b"".join(lines[:-1]))
    assert len(scanned_records(tmp_path)) == 3
    assert len(metadata(tmp_path)) == 3


def test_a_record_whose_image_was_deleted_is_dropped(tmp_path):
    add_images(tmp_path)
    (tmp_path / make_record(1, "cat").file_name).unlink()
    assert {index for _, index in scanned_records(tmp_path)} == {0, 2}
    assert len(metadata(tmp_path)) == 2


def test_half_written_files_are_cleared_away_and_foreign_files_left(tmp_path):
    add_images(tmp_path)
    halves = [tmp_path / "bat" / ".abc.part", tmp_path / ".metadata.jsonl.abc.part"]
    for half in halves:
        half.write_bytes(b"half")
    (tmp_path / "bat" / "mine.png").write_bytes(b"not even an image")
    LabelledFolder(tmp_path).scan()
    assert not any(half.exists() for half in halves)
    assert (tmp_path / "bat" / "mine.png").exists()
    assert len(metadata(tmp_path)) == 3


def test_a_malformed_record_in_the_middle_is_reported_with_its_line(tmp_path):
    add_images(tmp_path)
    text = (tmp_path / "metadata.jsonl").read_text().splitlines()
    (tmp_path / "metadata.jsonl").write_text("\n".join([text[0], "{oops", *text[1:]]) + "\n")
    with pytest.raises(LabelsetError, match=r"metadata.jsonl line 2"):
        LabelledFolder(tmp_path).scan()


def test_scanning_a_sound_folder_changes_no_byte(tmp_path):
    add_images(tmp_path)
    before = (tmp_path / "metadata.jsonl").stat().st_mtime_ns
    LabelledFolder(tmp_path).scan()
    assert (tmp_path / "metadata.jsonl").stat().st_mtime_ns == before


def test_an_existing_image_is_kept_unless_overwriting_is_asked_for(tmp_path):
    folder = add_images(tmp_path, 1)
    record = make_record()
    other = encode_image(Image.new("RGB", (8, 8), "red"), record)
    with pytest.raises(LabelsetError, match="exists; it is kept"):
        folder.add(record, other)
    folder.add(record, other, overwrite=True)
    assert [values["sha256"] for values in metadata(tmp_path)] == [sha256(other)]
    assert files(tmp_path) == [record.file_name]


def test_a_disk_that_fills_up_leaves_neither_image_nor_record(tmp_path):
    """A real file size limit, in a process of its own, stands in for the full disk."""
    pytest.importorskip("resource", reason="Windows has no file size limits")
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(labelset.__file__.rsplit("comfy_nodes", 1)[0])!r})
from pathlib import Path
from PIL import Image
from comfy_nodes.labelset import *
from comfy_nodes.labelset import encode_image
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
folder = LabelledFolder(Path({str(tmp_path)!r}))
for index in range(9):
    record = ImageRecord(f"bat/p-{{index}}.png", "bat", "x" * 100, "", 0, index, "p")
    try:
        folder.add(record, encode_image(Image.new("RGB", (8, 8)), record))
    except LabelsetError as error:
        print(error)
        break
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "cannot write" in answer
    assert files(tmp_path) == sorted(values["file_name"] for values in metadata(tmp_path))
    assert 0 < len(files(tmp_path)) < 9
    assert not list(tmp_path.rglob("*.part"))


def test_many_images_at_once_get_the_records_that_single_ones_get(tmp_path):
    single, many = LabelledFolder(tmp_path / "single"), LabelledFolder(tmp_path / "many")
    expected = [single.add(record, data) for record, data in make_items(9)]
    assert many.add_all(make_items(9)) == expected
    assert scanned_records(tmp_path / "many") == {record.key: record for record in expected}
    assert (tmp_path / "many" / "metadata.jsonl").read_bytes() == (
        tmp_path / "single" / "metadata.jsonl"
    ).read_bytes()
    assert files(tmp_path / "many") == files(tmp_path / "single")


@pytest.fixture
def synced(monkeypatch):
    """The inodes that were synced so far, in order."""
    fsync, numbers = os.fsync, []
    monkeypatch.setattr(
        os, "fsync", lambda number: (numbers.append(os.fstat(number).st_ino), fsync(number))
    )
    return numbers


def inodes(*paths):
    return [path.stat().st_ino for path in paths]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot sync folders")
def test_what_is_acknowledged_survives_a_power_cut(tmp_path, synced):
    """Images, records, and the folders that name them are synced before the call returns."""
    root = tmp_path / "set"
    LabelledFolder(root).add_all(make_items(6))
    images = sorted(root.glob("*/*.png"))
    assert set(inodes(*images, root / "bat", root / "cat", root / "metadata.jsonl", root)) | set(
        inodes(tmp_path)
    ) == set(synced)
    (records,) = inodes(root / "metadata.jsonl")
    assert all(synced.index(each) < synced.index(records) for each in inodes(*images))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot sync folders")
def test_folders_and_records_are_waited_for_once_a_call_and_not_once_an_image(tmp_path, synced):
    folder = LabelledFolder(tmp_path)
    folder.add_all(make_items(2))
    synced.clear()
    folder.add_all(make_items(8, "blue")[2:])
    expected = [
        tmp_path / "bat",
        tmp_path / "cat",
        tmp_path / "metadata.jsonl",
    ]
    assert len(synced) == 6 + len(expected)
    assert synced[6:8] in (inodes(*expected[:2]), inodes(*expected[1::-1]))
    assert synced[8:] == inodes(expected[2])


def test_no_record_is_written_before_the_last_image_is(tmp_path, monkeypatch):
    folder = LabelledFolder(tmp_path)
    append = folder.append
    monkeypatch.setattr(
        folder, "append", lambda records: (seen.extend(files(tmp_path)), append(records))
    )
    seen = []
    folder.add_all(make_items(6))
    assert len(seen) == 6


def test_one_image_in_the_way_and_none_of_many_is_written(tmp_path):
    folder = LabelledFolder(tmp_path)
    folder.add(*make_items(3)[2])
    before = (tmp_path / "metadata.jsonl").read_bytes()
    with pytest.raises(LabelsetError, match="exists; it is kept"):
        folder.add_all(make_items(3, "blue"))
    assert len(files(tmp_path)) == 1
    assert (tmp_path / "metadata.jsonl").read_bytes() == before


def test_many_images_are_overwritten_at_once(tmp_path):
    folder = LabelledFolder(tmp_path)
    folder.add_all(make_items(5))
    folder.add_all(make_items(4, "blue"), overwrite=True)
    hashes = {values["file_name"]: values["sha256"] for values in metadata(tmp_path)}
    assert hashes == {name: sha256((tmp_path / name).read_bytes()) for name in files(tmp_path)}
    assert len(hashes) == 5


def test_an_image_that_cannot_be_written_leaves_the_others_with_their_records(tmp_path):
    (tmp_path / "cat").write_text("a file where the class folder belongs")
    with pytest.raises(LabelsetError, match=r"cannot write .*cat"):
        LabelledFolder(tmp_path).add_all(make_items(6))
    assert files(tmp_path) == sorted(values["file_name"] for values in metadata(tmp_path))
    assert len(files(tmp_path)) == 3


def test_images_whose_records_cannot_be_written_are_taken_away_again(tmp_path):
    (tmp_path / "metadata.jsonl").mkdir()
    with pytest.raises(LabelsetError, match=r"cannot write .*metadata.jsonl"):
        LabelledFolder(tmp_path).add_all(make_items(4))
    assert files(tmp_path) == []


def test_two_records_for_one_file_are_refused(tmp_path):
    with pytest.raises(LabelsetError, match="name the same file"):
        LabelledFolder(tmp_path).add_all([*make_items(2), make_items(1)[0]])
    assert not files(tmp_path)


def test_a_folder_of_all_formats_is_repaired_like_one_of_png(tmp_path):
    folder, added = LabelledFolder(tmp_path), {}
    for index, how in enumerate((ImageFormat(), ImageFormat("WebP"), ImageFormat("JPEG"))):
        record = replace(
            make_record(index), file_name=image_file_name("bat", "0123456789ab", index, how.suffix)
        )
        data = encode_image(Image.new("RGB", (8, 8), "red"), record, how)
        added[record.key] = folder.add(record, data)
    (tmp_path / "metadata.jsonl").unlink()
    assert scanned_records(tmp_path) == added
    assert {name.rsplit(".")[-1] for name in image_folder_names(tmp_path)} == {"png", "webp", "jpg"}


def image_folder_names(root):
    return [path for path, _ in ImageFolder(str(root)).samples]


def test_an_image_has_one_file_even_when_its_format_changes(tmp_path):
    folder = add_images(tmp_path, 1)
    old = make_record()
    new = replace(old, file_name=image_file_name("bat", old.plan_id, 0, ".webp"))
    data = encode_image(Image.new("RGB", (8, 8), "red"), new, ImageFormat("WebP"))
    with pytest.raises(LabelsetError, match=r"000000.png exists"):
        folder.add(new, data)
    folder.add(new, data, overwrite=True)
    assert [values["file_name"] for values in metadata(tmp_path)] == [new.file_name]
    assert [path.name for path in (tmp_path / "bat").iterdir()] == [new.file_name.split("/")[1]]


def test_a_kill_between_an_image_of_a_new_format_and_its_old_file_leaves_one_record(tmp_path):
    add_images(tmp_path, 1)
    before = scanned_records(tmp_path)
    new = replace(make_record(), file_name=image_file_name("bat", "0123456789ab", 0, ".webp"))
    (tmp_path / new.file_name).write_bytes(
        encode_image(Image.new("RGB", (8, 8)), new, ImageFormat("WebP"))
    )
    assert scanned_records(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["../x/a.png", "a.png", "bat/../../a.png", "/bat/a.png", "bat\\x/a.png", "con/a.png"]
)
def test_a_record_cannot_lead_out_of_the_folder(tmp_path, name):
    with pytest.raises(LabelsetError, match="expected '<class folder>/<image file>'"):
        LabelledFolder(tmp_path / "in").add(replace(make_record(), file_name=name), b"")


def doubled(root, change):
    """Appends the first line of the folder's metadata again, changed."""
    path = root / "metadata.jsonl"
    values = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(values | change) + "\n")


def test_the_later_of_two_lines_for_one_image_counts(tmp_path):
    add_images(tmp_path)
    doubled(tmp_path, {"prompt": "newer"})
    folder = LabelledFolder(tmp_path)
    folder.scan()
    assert scanned_records(tmp_path)["0123456789ab", 0].prompt == "newer"
    assert [values["index"] for values in metadata(tmp_path)] == [1, 2, 0]
    assert folder.tally.labels == {"bat": 2, "cat": 1}


def test_two_rows_that_name_one_file_do_not_both_count(tmp_path):
    add_images(tmp_path)
    doubled(tmp_path, {"index": 9})
    assert [index for _, index in scanned_records(tmp_path)] == [0, 1, 2]
    assert [values["index"] for values in metadata(tmp_path)] == [0, 1, 2]


def test_repairing_keeps_the_other_lines_byte_for_byte(tmp_path):
    """That includes what a newer version has added to them."""
    add_images(tmp_path)
    path = tmp_path / "metadata.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[0] = (
        json.dumps(json.loads(path.read_text().splitlines()[0]) | {"newer": [1]}).encode()
        + b"  \r\n"
    )
    path.write_bytes(b"".join(lines))
    (tmp_path / make_record(1, "cat").file_name).unlink()
    LabelledFolder(tmp_path).scan()
    assert path.read_bytes() == lines[0] + lines[2]


def test_a_metadata_file_that_an_editor_saved_with_bom_and_crlf_is_read_and_left(tmp_path):
    add_images(tmp_path)
    before = scanned_records(tmp_path)
    path = tmp_path / "metadata.jsonl"
    edited = b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(edited)
    assert scanned_records(tmp_path) == before
    assert path.read_bytes() == edited


def test_a_scan_knows_rows_and_counts(tmp_path):
    add_images(tmp_path, 5)
    (tmp_path / "README.md").unlink(missing_ok=True)
    folder = LabelledFolder(tmp_path)
    folder.scan()
    folder.add(*make_items(6)[5])
    assert [("0123456789ab", index) in folder.rows for index in range(7)] == [True] * 6 + [False]
    folder.write_card()
    whole = LabelledFolder(tmp_path)
    whole.scan()
    assert (tmp_path / "README.md").read_text("utf-8") == labelset.data_set_card(whole.tally)
    assert "| bat | 3 |" in labelset.data_set_card(whole.tally)


def test_overwriting_counts_an_image_once(tmp_path):
    folder = add_images(tmp_path, 3)
    folder.add_all(make_items(2, "blue"), overwrite=True)
    assert folder.tally.labels == {"bat": 2, "cat": 1}
    assert len(folder.rows) == 3


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows")
def test_leftovers_in_a_read_only_folder_are_no_error(tmp_path):
    add_images(tmp_path)
    (tmp_path / "bat" / ".a.png.1.part").touch()
    code = f"""
import os, sys
sys.path.insert(0, {str(labelset.__file__.rsplit("comfy_nodes", 1)[0])!r})
from pathlib import Path
from comfy_nodes.labelset import LabelledFolder
if os.geteuid() == 0:
    os.setegid(65534), os.seteuid(65534)
folder = LabelledFolder(Path({str(tmp_path)!r}))
folder.scan()
print(len(folder.rows))
"""
    for folder in (tmp_path, *tmp_path.parents):  # up to the system's own temporary folder
        if folder == Path(tempfile.gettempdir()).resolve():
            break
        folder.chmod(0o755)
    for folder in (tmp_path, tmp_path / "bat"):
        folder.chmod(0o555)
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    for folder in (tmp_path, tmp_path / "bat"):
        folder.chmod(0o755)
    assert answer.stdout == "3\n", answer.stderr
