"""What is exported holds the same images and words as the labelled folder; what is not sound is
not exported, and nothing that exists is overwritten.

Covers: client.commands.export_data, client.folder.exports.source, client.folder.exports.place,
client.folder.exports.columns, client.folder.exports.hub_folder, client.folder.exports.parquet,
client.folder.exports.coco.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from client.__main__ import main
from client.folder.exports import parquet, place
from client.folder.exports.columns import COLUMNS, size_category
from client.folder.exports.source import Source
from client.folder.run_folder import locked
from tests.client.folder.exports.helpers import export, fails, lines_of, tree

LABELS = ("ant", "bat/../x", "蝙蝠")  # sorted


def front_matter(folder: Path) -> dict:
    text = (folder / "README.md").read_text(encoding="utf-8")
    return yaml.safe_load(text.split("---\n")[1])


def test_hf_has_every_image_and_record_and_no_column_of_changing_type(folder: Path) -> None:
    out = export(folder, "hf")
    rows, records = lines_of(out / "train"), lines_of(folder)
    for row, record in zip(rows, records, strict=True):
        assert (out / "train" / row["file_name"]).read_bytes() == (
            folder / record["file_name"]
        ).read_bytes()
        assert json.loads(row["settings"]) == record["settings"]
        same = ("file_name", "label", "prompt", "seed", "index", "sha256", "source_image")
        assert [row[name] for name in same] == [record[name] for name in same]
        assert row.keys() == {"file_name", "label", *COLUMNS}
        assert row["attempt"] == 0


def test_the_card_gives_every_column_a_type_and_the_classes_their_numbers(folder: Path) -> None:
    front = front_matter(export(folder, "hf", "--license", "cc0-1.0"))
    assert front["license"] == "cc0-1.0"
    assert front["size_categories"] == ["n<1K"]
    assert front["task_categories"] == ["image-classification"]
    (config,) = front["configs"]
    assert config["data_files"] == [{"split": "train", "path": "train/**"}]
    features = {each["name"]: each["dtype"] for each in config["features"]}
    names = dict(zip("012", LABELS, strict=True))
    assert features == {"image": "image", "label": {"class_label": {"names": names}}, **COLUMNS}


def test_without_a_licence_the_card_says_that_none_is_known(folder: Path) -> None:
    out = export(folder, "hf")
    assert front_matter(out)["license"] == "unknown"
    assert "Licence: none was named." in (out / "README.md").read_text(encoding="utf-8")


def test_classes_are_numbered_as_in_the_real_images_or_as_in_a_list(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    listed = tmp_path / "classes.txt"
    listed.write_text("\n".join(["蝙蝠", "bat/../x", "bear", "ant"]), encoding="utf-8")
    (config,) = front_matter(export(folder, "hf", "--classes", listed))["configs"]
    names = config["features"][1]["dtype"]["class_label"]["names"]
    assert list(names.values()) == ["蝙蝠", "bat/../x", "bear", "ant"]
    listed.write_text("ant\nbat/../x\n", encoding="utf-8")
    out = tmp_path / "other"
    said = fails(capsys, folder, "--to", "coco-cls", "--classes", listed, "--out", out)
    assert "lacks the class '蝙蝠'" in said
    assert not out.exists()


def test_coco_has_one_box_an_image_that_is_the_whole_image(folder: Path) -> None:
    out = export(folder, "coco-cls", "--license", "cc0-1.0")
    value = json.loads((out / "labels.json").read_text(encoding="utf-8"))
    names = {each["id"]: each["name"] for each in value["categories"]}
    assert names == dict(enumerate(LABELS, 1))
    (license_entry,) = value["licenses"]
    assert license_entry["name"] == "cc0-1.0"
    found = {each["image_id"]: each for each in value["annotations"]}
    for image, record in zip(value["images"], lines_of(folder), strict=True):
        note = found.pop(image["id"])
        assert names[note["category_id"]] == record["label"]
        assert (image["width"], image["height"]) == (16, 8)
        assert note["bbox"] == [0, 0, 16, 8]
        assert (note["area"], note["iscrowd"]) == (128, 0)
        assert image["license"] == license_entry["id"]
        data = (out / "data" / image["file_name"]).read_bytes()
        assert data == (folder / record["file_name"]).read_bytes()
    assert not found
    assert {each.name for each in out.iterdir()} == {"data", "labels.json"}


def test_parquet_holds_the_bytes_and_the_features_that_datasets_reads(folder: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    out = export(folder, "parquet")
    table = pq.read_table(out / "data" / "train-00000.parquet")
    for row, record in zip(table.to_pylist(), lines_of(folder), strict=True):
        assert row["image"]["bytes"] == (folder / record["file_name"]).read_bytes()
        assert LABELS[row["label"]] == record["label"]
        assert (row["prompt"], row["seed"]) == (record["prompt"], record["seed"])
    told = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert told["label"] == {"names": list(LABELS), "_type": "ClassLabel"}
    assert told["image"] == {"_type": "Image"}
    assert not any(str(each.type) == "null" for each in table.schema)


def test_parquet_files_end_before_they_are_too_large(
    make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    folder = make_folder(formats=("PNG",))
    largest = max(each.stat().st_size for each in folder.rglob("*.png"))
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 2)
    most = 9 * largest // 2
    parquet.write(Source(folder), tmp_path / "out", classes=LABELS, license_id="x", most_bytes=most)
    files = sorted((tmp_path / "out" / "data").iterdir())
    assert [pq.read_table(each).num_rows for each in files] == [4, 4, 1]


@pytest.mark.parametrize("to", ["hf", "webdataset", "coco-cls"])
def test_an_altered_image_is_named_and_nothing_is_left_behind(
    folder: Path, to: str, capsys: pytest.CaptureFixture
) -> None:
    name = lines_of(folder)[5]["file_name"]
    (folder / name).write_bytes((folder / name).read_bytes() + b"x")
    said = fails(capsys, folder, "--to", to, "--out", folder.with_name("out"))
    assert name in said
    assert "synthgrid verify" in said
    assert [each.name for each in folder.parent.iterdir()] == [folder.name]


def without_a_line(folder: Path) -> str:
    lines = (folder / "metadata.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "metadata.jsonl").write_bytes(b"".join(lines[1:]))
    return "has no record"


def with_a_line_twice(folder: Path) -> str:
    lines = (folder / "metadata.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "metadata.jsonl").write_bytes(b"".join([*lines, lines[0]]))
    return "has two records"


def with_a_row_twice(folder: Path) -> str:
    record = lines_of(folder)[0]
    other = record["file_name"].replace("000000", "000009")
    (folder / other).write_bytes(b"an image")
    with (folder / "metadata.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record | {"file_name": other}) + "\n")
    return "or its row has"


def with_a_file_twice(folder: Path) -> str:
    with (folder / "metadata.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(lines_of(folder)[0] | {"index": 77}) + "\n")
    return "has two records"


def with_a_torn_line(folder: Path) -> str:
    path = folder / "metadata.jsonl"
    os.truncate(path, path.stat().st_size - 5)
    return "unfinished"


def without_an_image(folder: Path) -> str:
    (folder / lines_of(folder)[0]["file_name"]).unlink()
    return "does not exist"


def with_a_record_from_outside(folder: Path) -> str:
    record = lines_of(folder)[0] | {"file_name": "../secret.png"}
    (folder / "metadata.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    return "../secret.png"


@pytest.mark.parametrize(
    "spoil",
    [
        without_a_line,
        with_a_line_twice,
        with_a_row_twice,
        with_a_file_twice,
        with_a_torn_line,
        without_an_image,
        with_a_record_from_outside,
    ],
)
def test_a_folder_that_is_not_sound_is_refused(
    folder: Path, spoil, capsys: pytest.CaptureFixture
) -> None:
    expected = spoil(folder)
    assert expected in fails(capsys, folder, "--to", "hf", "--out", folder.with_name("out"))
    assert not folder.with_name("out").exists()


def test_a_folder_that_is_being_written_is_refused(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    with locked(folder):
        said = fails(capsys, folder, "--to", "hf", "--out", folder.with_name("out"))
    assert "a client is writing" in said


def test_what_is_no_labelled_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for name, words in (("in", "has no metadata.jsonl"), ("file", "not a folder")):
        said = fails(capsys, tmp_path / name, "--to", "hf", "--out", tmp_path / "out")
        assert words in said
    (tmp_path / "in" / "metadata.jsonl").write_bytes(b"")
    assert "no images" in fails(capsys, tmp_path / "in", "--to", "hf", "--out", tmp_path / "out")


def test_nothing_is_overwritten_and_an_empty_folder_may_be_used(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    out = folder.with_name("set-hf")
    out.mkdir()
    export(folder, "hf")
    before = tree(out)
    capsys.readouterr()
    assert "already exists" in fails(capsys, folder, "--to", "coco-cls", "--out", out)
    assert tree(out) == before
    inside = fails(capsys, folder, "--to", "hf", "--out", folder / "out")
    assert "lies inside" in inside
    here = folder.with_name("a file")
    here.write_bytes(b"mine")
    assert "already exists" in fails(capsys, folder, "--to", "hf", "--out", here)
    assert here.read_bytes() == b"mine"


def test_an_option_without_effect_is_refused(folder: Path, capsys: pytest.CaptureFixture) -> None:
    out = folder.with_name("out")
    for to, option in (
        ("webdataset", ("--license", "x")),
        ("folder", ("--classes", "y")),
        ("hf", ("--shard-images", "3")),
    ):
        said = fails(capsys, folder, "--to", to, *option, "--out", out)
        assert f"{option[0]} has no effect with --to {to}" in said


def test_json_says_what_was_written(folder: Path, capsys: pytest.CaptureFixture) -> None:
    out = export(folder, "hf", "--json")
    assert json.loads(capsys.readouterr().out) == {
        "out": str(out),
        "format": "hf",
        "images": 9,
        "set_aside": [],
    }


@pytest.mark.parametrize(
    ("images", "name"),
    [
        (1, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (99_999, "10K<n<100K"),
        (10**6, "1M<n<10M"),
        (10**7, "n>10M"),
    ],
)
def test_sizes_have_the_hubs_names(images: int, name: str) -> None:
    assert size_category(images) == name


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(28, "No space left on device"), 1, "No space left on device; check space"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_full_disk_or_an_interrupt_leaves_nothing_behind(
    folder: Path,
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """Here at the very end, when everything has been written but has no name yet."""

    def fail() -> None:
        assert len(list(folder.parent.iterdir())) == 2
        raise error

    monkeypatch.setattr(place, "_wait_for_disk", fail)
    out = folder.with_name("out")
    assert main(["export-data", str(folder), "--to", "hf", "--out", str(out)]) == code
    assert words in capsys.readouterr().err
    assert [each.name for each in folder.parent.iterdir()] == [folder.name]
