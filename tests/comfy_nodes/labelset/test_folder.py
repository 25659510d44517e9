"""Record and image stand and fall together, whatever happens in between; folder names are legal everywhere."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import ImageFolder

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import (
    ImageRecord,
    LabelledFolder,
    encode_image,
    folder_name,
    folder_names,
    image_file_name,
    read_record,
    sha256,
    write_atomically,
)
from comfy_nodes.labelset import folder as labelset
from comfy_nodes.labelset.imagefile import ImageFormat


def make_record(index=0, label="bat", plan_id="0123456789ab"):
    return ImageRecord(
        file_name=image_file_name(label, plan_id, index),
        label=label,
        prompt=f"a photo of a {label}",
        negative_prompt="",
        seed=index,
        index=index,
        plan_id=plan_id,
        settings={"steps": 20},
    )


def add_images(root, count=3, labels=("bat", "cat")):
    folder = LabelledFolder(root)
    folder.scan()
    for index in range(count):
        record = make_record(index, labels[index % len(labels)])
        folder.add(record, encode_image(Image.new("RGB", (8, 8), (index, 0, 0)), record))
    return folder


def make_items(count, colour="red"):
    records = [make_record(index, ("bat", "cat")[index % 2]) for index in range(count)]
    return [(record, encode_image(Image.new("RGB", (8, 8), colour), record)) for record in records]


def metadata(root):
    return [
        json.loads(line)
        for line in (root / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def files(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))


def test_image_and_record_agree(tmp_path):
    add_images(tmp_path)
    for values in metadata(tmp_path):
        data = (tmp_path / values["file_name"]).read_bytes()
        assert values["sha256"] == sha256(data)
        assert asdict(read_record(data)) == values


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
        assert len(LabelledFolder(tmp_path).scan()) == 3
        assert (tmp_path / "metadata.jsonl").read_bytes() == before


def test_a_kill_between_image_and_record_loses_nothing(tmp_path):
    add_images(tmp_path)
    lines = (tmp_path / "metadata.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "metadata.jsonl").write_bytes(b"".join(lines[:-1]))
    assert len(LabelledFolder(tmp_path).scan()) == 3
    assert len(metadata(tmp_path)) == 3


def test_a_record_whose_image_was_deleted_is_dropped(tmp_path):
    add_images(tmp_path)
    (tmp_path / make_record(1, "cat").file_name).unlink()
    assert {key[1] for key in LabelledFolder(tmp_path).scan()} == {0, 2}
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
    assert many.records == single.records == LabelledFolder(tmp_path / "many").scan()
    assert (tmp_path / "many" / "metadata.jsonl").read_bytes() == (
        tmp_path / "single" / "metadata.jsonl"
    ).read_bytes()
    assert files(tmp_path / "many") == files(tmp_path / "single")


def test_the_disk_is_waited_for_once_an_image_and_not_for_the_records(tmp_path, monkeypatch):
    """What a power cut takes from the end of metadata.jsonl, `scan` brings back from inside the images."""
    waits = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (waits.append(number), fsync(number)))
    LabelledFolder(tmp_path).add_all(make_items(6))
    assert len(waits) == 6


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


def test_a_folder_of_all_formats_is_mended_as_one_of_png_is(tmp_path):
    folder = LabelledFolder(tmp_path)
    for index, how in enumerate((ImageFormat(), ImageFormat("WebP"), ImageFormat("JPEG"))):
        record = replace(
            make_record(index), file_name=image_file_name("bat", "0123456789ab", index, how.suffix)
        )
        folder.add(record, encode_image(Image.new("RGB", (8, 8), "red"), record, how))
    (tmp_path / "metadata.jsonl").unlink()
    assert LabelledFolder(tmp_path).scan() == folder.records
    assert {name.rsplit(".")[-1] for name in image_folder_names(tmp_path)} == {"png", "webp", "jpg"}


def image_folder_names(root):
    return [path for path, _ in ImageFolder(str(root)).samples]


def test_an_image_has_one_file_also_when_its_format_changes(tmp_path):
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
    folder = add_images(tmp_path, 1)
    new = replace(make_record(), file_name=image_file_name("bat", "0123456789ab", 0, ".webp"))
    (tmp_path / new.file_name).write_bytes(
        encode_image(Image.new("RGB", (8, 8)), new, ImageFormat("WebP"))
    )
    assert LabelledFolder(tmp_path).scan() == folder.records


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LabelsetError, match=r"cannot write .*file"):
        write_atomically(tmp_path / "file" / "image.png", b"")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_files_are_readable_for_whom_the_umask_allows(tmp_path):
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "a.txt", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomically(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabelsetError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "name", ["../x/a.png", "a.png", "bat/../../a.png", "/bat/a.png", "bat\\x/a.png", "con/a.png"]
)
def test_a_record_cannot_lead_out_of_the_folder(tmp_path, name):
    with pytest.raises(LabelsetError, match="expected '<class folder>/<image file>'"):
        LabelledFolder(tmp_path / "in").add(replace(make_record(), file_name=name), b"")


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("bat", "bat"),
        ("polar bear", "polar bear"),
        ("蝙蝠", "蝙蝠"),
        ("../x", "_x"),
        ("a/b", "a_b"),
        ("CON", "_CON"),
        ("con.txt", "_con.txt"),
        ("a. ", "a"),
        (".hidden", "hidden"),
        ("...", "_"),
        ('<>:"|?*', "_______"),
    ],
)
def test_folder_names_are_legal_on_windows_too(label, folder):
    assert folder_name(label) == folder


@given(st.text(min_size=1).filter(str.strip))
def test_a_folder_name_is_one_short_plain_path_part_and_stays_so(label):
    name = folder_name(label)
    assert folder_name(name) == name
    assert 0 < len(name.encode("utf-8", "surrogatepass")) <= 122
    assert not set(name) & set('<>:"/\\|?*\0\n')
    assert name == name.rstrip(". ")
    assert not name.startswith(".")


@pytest.mark.parametrize(
    "labels", [("Bat", "bat"), ("a/b", "a_b"), ("é", "e\u0301"), ("bat", "bat.")]
)
def test_classes_that_would_share_a_folder_are_refused(labels):
    with pytest.raises(LabelsetError, match="would share the folder"):
        folder_names(labels)


def test_a_blank_class_name_is_refused():
    with pytest.raises(LabelsetError, match="blank"):
        folder_name(" ")


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", "nope", '{"file_name": 3}', json.dumps(asdict(make_record()) | {"seed": "1"})],
)
def test_a_malformed_record_is_refused(text):
    with pytest.raises(LabelsetError):
        ImageRecord.from_json(text)


def test_a_record_of_a_newer_version_is_read():
    assert ImageRecord.from_json(json.dumps(asdict(make_record()) | {"new": 1})) == make_record()


def test_a_truncated_image_is_refused(tmp_path):
    data = encode_image(Image.new("RGB", (64, 64)), make_record())
    with pytest.raises(LabelsetError, match="not a whole image"):
        read_record(data[: len(data) // 2])


def test_the_card_counts_images_and_a_card_of_ones_own_is_left_alone(tmp_path):
    folder = add_images(tmp_path, 3)
    folder.write_card()
    card = tmp_path / "README.md"
    assert "| bat | 2 |" in card.read_text(encoding="utf-8")
    card.write_text("my own words")
    folder.write_card()
    assert card.read_text() == "my own words"


def doubled(root, change):
    """The folder's first line a second time at the end, changed."""
    path = root / "metadata.jsonl"
    values = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(values | change) + "\n")


def test_of_two_lines_for_one_image_the_later_counts(tmp_path):
    add_images(tmp_path)
    doubled(tmp_path, {"prompt": "newer"})
    folder = LabelledFolder(tmp_path)
    assert folder.scan()["0123456789ab", 0].prompt == "newer"
    assert [values["index"] for values in metadata(tmp_path)] == [1, 2, 0]
    assert folder.tally.labels == {"bat": 2, "cat": 1}


def test_two_rows_that_name_one_file_are_not_both_there(tmp_path):
    add_images(tmp_path)
    doubled(tmp_path, {"index": 9})
    assert [key[1] for key in LabelledFolder(tmp_path).scan()] == [0, 1, 2]
    assert [values["index"] for values in metadata(tmp_path)] == [0, 1, 2]


def test_mending_keeps_the_other_lines_byte_for_byte(tmp_path):
    """Also what a newer version wrote on them."""
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
    folder = add_images(tmp_path)
    path = tmp_path / "metadata.jsonl"
    edited = b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(edited)
    assert LabelledFolder(tmp_path).scan() == folder.records
    assert path.read_bytes() == edited


def test_a_scan_that_keeps_no_records_knows_rows_and_counts(tmp_path):
    add_images(tmp_path, 5)
    (tmp_path / "README.md").unlink(missing_ok=True)
    folder = LabelledFolder(tmp_path, keep_records=False)
    assert folder.scan() == {} == folder.records
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
def test_what_cannot_be_cleared_away_is_no_error_in_a_folder_to_read(tmp_path):
    add_images(tmp_path)
    (tmp_path / "bat" / ".a.png.1.part").touch()
    code = f"""
import os, sys
sys.path.insert(0, {str(labelset.__file__.rsplit("comfy_nodes", 1)[0])!r})
from pathlib import Path
from comfy_nodes.labelset import LabelledFolder
if os.geteuid() == 0:
    os.setegid(65534), os.seteuid(65534)
print(len(LabelledFolder(Path({str(tmp_path)!r})).scan()))
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
