"""Tar shards are read in place, and give what the labelled folder gives that they come from."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.folder.exports import shards as writing
from client.folder.exports.source import Source
from comfy_nodes.labelset import ImageRecord, LabelledFolder, encode_image, image_file_name
from comfy_nodes.labelset.quality.verdicts import quality_folder
from comfy_nodes.labelset.shards import holds_shards
from synthgrid.__main__ import main
from trainer.data.images import read_bytes, read_image
from trainer.data.samples import fingerprint, read_labelled
from trainer.data.shards import Member, record_of
from trainer.errors import DataError
from trainer.models.row_file import read_rows
from trainer.quality.embedding.embedders import load_embedder
from trainer.quality.embedding.features import COLUMNS, common_size, see

REPOSITORY = Path(__file__).resolve().parents[3]
SHAPES = ("circle", "cross", "square")


def pack(folder: Path, out: Path, most_images: int = 5) -> Path:
    out.mkdir(parents=True)
    writing.write(Source(folder), out, most_images=most_images)
    return out


def add(folder: Path, label: str, index: int, image: Image.Image) -> None:
    name = image_file_name(label, "plan", index)
    prompt = f"a {('thin', 'bold')[index % 2]} {label}"
    record = ImageRecord(name, label, prompt, "", index, index, "plan")
    LabelledFolder(folder).add(record, encode_image(image, record))


@pytest.fixture
def folder(tmp_path: Path, make_picture: Callable[..., Image.Image]) -> Path:
    """12 images of three classes; one row after the other has another class."""
    random = np.random.RandomState(0)
    for index in range(12):
        label = SHAPES[index % 3]
        add(tmp_path / "a" / "made", label, index, make_picture(label, random))
    return tmp_path / "a" / "made"


@pytest.fixture
def shards(folder: Path, tmp_path: Path) -> Path:
    """Three shards, under the folder's own name."""
    return pack(folder, tmp_path / "b" / "made")


def test_images_and_records_are_those_of_the_folder_in_its_order(
    folder: Path, shards: Path
) -> None:
    assert len(list(shards.glob("*.tar"))) == 3
    one, other = read_labelled(folder), read_labelled(shards)
    assert one.records == other.records
    assert fingerprint(one.samples) == fingerprint(other.samples)
    for in_folder, in_shard in zip(one.samples, other.samples, strict=True):
        assert dataclasses.replace(in_shard, path=in_folder.path) == in_folder


def test_any_image_and_its_record_are_read_without_the_others(folder: Path, shards: Path) -> None:
    one, other = read_labelled(folder), read_labelled(shards)
    for number in reversed(range(12)):
        member = other.samples[number].path
        assert isinstance(member, Member)
        assert read_bytes(member) == read_bytes(one.samples[number].path)
        assert record_of(member) == one.records[number]


def test_features_are_the_same_to_the_bit(folder: Path, shards: Path, tmp_path: Path) -> None:
    pixels, found = load_embedder("pixels"), []
    for root in (folder, shards):
        samples = read_labelled(root).samples
        size = common_size([samples], pixels)
        found.append((size, see(samples, pixels, common_px=size, cache=tmp_path / "c", what="")))
        (tmp_path / "c").rename(tmp_path / f"c {len(found)}")
    assert found[0][0] == found[1][0] == 16
    for name in ("features", "thumbs", "range"):
        assert np.array_equal(getattr(found[0][1], name), getattr(found[1][1], name))


def test_a_check_gives_the_same_verdicts_beside_the_shards(
    folder: Path, shards: Path, real: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {each.name: each.stat().st_mtime_ns for each in shards.iterdir()}
    for root in (folder, shards):
        assert main(["check", str(root), "--real", str(real), "--embedder", "pixels"]) == 0
    one, other = (quality_folder(root) for root in (folder, shards))
    for pattern in ("*.csv", "*.json"):
        ((first,), (second,)) = (list(each.glob(pattern)) for each in (one, other))
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes()
    page = (other / "report" / "circle.html").read_text()
    assert page.count("<img") == page.count("data:image/jpeg") == 4
    assert "(missing)" not in page + (other / "report.html").read_text()
    assert {each.name: each.stat().st_mtime_ns for each in shards.iterdir()} == before
    line = ["check", str(shards), "--real", str(real), "--embedder", "pixels", "--quarantine"]
    capsys.readouterr()
    assert main(line) == 1
    assert "--quarantine moves image files" in capsys.readouterr().err


def test_pretraining_ends_with_the_same_weights_and_goes_on_from_either(
    folder: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--updates", "3", "--batch", "12", "--per-caption", "3", "--image-size", "32"]
    for root in (folder, shards):
        out = tmp_path / f"pre {root.parent.name}"
        assert main(["pretrain", "--images", str(root), "--out", str(out), *given]) == 0
    one, other = ((tmp_path / f"pre {name}" / "model.safetensors") for name in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()
    capsys.readouterr()
    assert main(["pretrain", "--images", str(shards), "--out", str(one.parent), *given]) == 0
    assert "is finished" in capsys.readouterr().out


@pytest.mark.slow
def test_a_grid_trains_the_same_networks(
    folder: Path, shards: Path, real: Path, tmp_path: Path
) -> None:
    found = []
    for root in (folder, shards):
        out = tmp_path / f"grid {root.parent.name}"
        line = ["grid", "--real", str(real), "--synthetic", str(root), "--ratios", "0,0.5"]
        line += [
            "--models",
            "cnn",
            "--image-size",
            "32",
            "--seeds",
            "1",
            "--updates",
            "2",
            "--quick",
        ]
        assert main([*line, "--out", str(out)]) == 0
        runs = {each.parent.name: each.read_bytes() for each in out.glob("*/predictions.csv")}
        found.append((runs, json.loads((out / "mistakes.json").read_text())))
    assert len(found[0][0]) == 3
    assert found[0] == found[1]
    assert '"prompt": "a bold' in json.dumps(found[1][1])


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 512)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "why"),
    [(cut, "it is truncated: "), (flip, "its bytes are not those"), (Path.unlink, "No such file")],
)
def test_a_damaged_shard_is_named_and_nothing_of_it_is_taken(
    folder: Path,
    shards: Path,
    damage: Callable[[Path], Any],
    why: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    damage(shards / "train-000001.tar")
    found = read_labelled(shards)
    assert f"train-000001.tar is set aside with its 5 images: {why}" in caplog.text
    assert {each.index for each in found.records if each} == {0, 1, 2, 3, 4, 10, 11}
    for name in ("train-000000.tar", "train-000002.tar"):
        damage(shards / name)
    with pytest.raises(DataError, match=r"no sound shard \(train-000000\.tar: "):
        read_labelled(shards)


def vouched(shards: Path, first: Path) -> None:
    """Puts the images of `first` in place of shard 1, in the manifest too."""
    value = json.loads((shards / "manifest.json").read_text())
    value["shards"][1] |= {name: value["shards"][0][name] for name in ("sha256", "bytes", "images")}
    (shards / "train-000001.tar").write_bytes(first.read_bytes())
    (shards / "manifest.json").write_text(json.dumps(value))


def test_images_that_are_there_already_are_not_taken_twice(
    shards: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vouched(shards, shards / "train-000000.tar")
    found = read_labelled(shards)
    assert "train-000001.tar is set aside with its 5 images: " in caplog.text
    assert "is there already" in caplog.text
    assert len(found.samples) == 7


def test_an_incomplete_copy_is_refused(shards: Path) -> None:
    (shards / "DONE").unlink()
    with pytest.raises(DataError, match="not complete; copy all of it"):
        read_labelled(shards)
    (shards / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"no folder of shards with a manifest\.json"):
        read_labelled(shards)


def test_a_shard_that_shrinks_after_it_was_read_is_named(shards: Path) -> None:
    last = read_labelled(shards).samples[-1].path
    assert isinstance(last, Member)
    os.truncate(last.shard, last.offset + last.size - 1)
    with pytest.raises(DataError, match="shorter than it was"):
        read_image(last)
    with pytest.raises(DataError, match="has no record any more"):
        record_of(last)


def test_other_folders_are_not_taken_for_shards(folder: Path, shards: Path, real: Path) -> None:
    assert holds_shards(shards)
    (shards / ".cache").mkdir()
    assert holds_shards(shards)
    (folder / "notes.tar").touch()
    (real / "train" / "manifest.json").touch()
    assert not any(holds_shards(each) for each in (folder, real / "train", real / "none"))
    assert len(read_labelled(folder).samples) == 12
    assert len(read_labelled(real / "train").samples) == 18


def test_reading_holds_one_image_of_a_shard_at_a_time(tmp_path: Path) -> None:
    random = np.random.RandomState(1)
    for index in range(16):
        noise = random.randint(0, 256, (300, 300, 3)).astype(np.uint8)
        add(tmp_path / "large", SHAPES[index % 3], index, Image.fromarray(noise))
    packed = pack(tmp_path / "large", tmp_path / "packed", 16)
    (shard,) = packed.glob("*.tar")
    assert shard.stat().st_size > 4 * 2**20
    tracemalloc.start()
    try:
        read_labelled(packed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * 2**20


@pytest.mark.slow
def test_the_documented_ray_script_finds_the_features_that_a_check_then_takes(
    folder: Path, shards: Path, real: Path, tmp_path: Path
) -> None:
    for library in ("ray", "pandas", "pyarrow"):
        pytest.importorskip(library)
    text = (REPOSITORY / "docs" / "how-to" / "shards.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "features.py").write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "features.py", str(shards), str(real), "pixels", "2"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cache = quality_folder(shards) / "features"
    (file,) = cache.glob("*.safetensors")
    found = read_rows(file, COLUMNS)
    assert found is not None
    for root in (shards, folder):
        assert main(["check", str(root), "--real", str(real), "--embedder", "pixels"]) == 0
    assert list(cache.glob("*.safetensors")) == [file]  # it was this file that check went on with
    again = read_rows(file, COLUMNS)
    assert again is not None
    assert list(again[0])[:12] == list(found[0])
    ((one,), (other,)) = (list(quality_folder(each).glob("*.csv")) for each in (folder, shards))
    assert one.read_bytes() == other.read_bytes()
