"""Real images come split or not; synthetic ones come under the real names, with their origins."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from comfy_nodes.labelset import ImageRecord, LabelledFolder, encode_image
from trainer.errors import DataError
from trainer.quality.images import Origin, load_made, load_real

SHAPES = ("circle", "cross", "square")


def test_real_images_are_split_or_in_plain_class_folders(real: Path) -> None:
    split, plain = load_real(real), load_real(real / "train")
    assert split.classes == plain.classes == SHAPES
    assert [each.sha256 for each in split.train] == [each.sha256 for each in plain.train]
    assert (len(split.test), len(plain.test)) == (15, 0)
    shutil.rmtree(real / "test")
    assert load_real(real).test == ()


def test_one_class_is_too_few_to_judge_by(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "only" / "1.png")
    with pytest.raises(DataError, match="one class, 'only'"):
        load_real(tmp_path)


def test_origins_come_from_the_records(tmp_path: Path, make_picture: Callable[..., object]) -> None:
    folder = LabelledFolder(tmp_path / "made")
    record = ImageRecord(
        *("CON_/p-0.png", "CON", "a CON at dawn", "", 3, 0, "p", "a {class} {context}"),
        context="at dawn",
        source_image="x/1.png",
    )
    folder.add(record, encode_image(Image.new("RGB", (8, 8)), record))
    made = load_made(tmp_path / "made", ("CON", "b"))
    assert made.origins == (
        Origin("a CON at dawn", "a {class} {context}", "at dawn", "", "x/1.png"),
    )
    assert made.samples[0].label == "CON"
    assert made.samples[0].source == "made"


def test_plain_folders_have_no_origins_and_strange_classes_are_left_out(
    synthetic: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        made = load_made(synthetic, ("circle", "cross"))
    assert (len(made.samples), len(made.others)) == (24, 12)
    assert set(made.origins) == {Origin()}
    assert "12 images of 'square' are not judged" in caplog.text


def test_images_are_divided_by_what_their_records_say(tmp_path: Path) -> None:
    folder = LabelledFolder(tmp_path / "made")
    for number, strength in enumerate((0.7, None, 0.3, 0.7)):
        record = ImageRecord(
            *(f"a/p-{number}.png", "a", "an a", "", number, number, "p"),
            style="ink",
            strength=strength,
        )
        folder.add(record, encode_image(Image.new("RGB", (8, 8), (number, 0, 0)), record))
    made = load_made(tmp_path / "made", ("a", "b"))
    parts = made.by("strength")
    assert list(parts) == ["0.3", "0.7"]
    assert [len(each.samples) for each in parts.values()] == [1, 2]
    assert {each.strength for each in parts["0.7"].origins} == {"0.7"}
    assert {each.file for each in parts["0.7"].samples} == {"a/p-0.png", "a/p-3.png"}
    assert parts["0.3"].root == made.root
    with pytest.raises(DataError, match="divided by style: every image that has one has 'ink'"):
        made.by("style")
    with pytest.raises(DataError, match="divided by context: no image has one"):
        made.by("context")


def test_a_folder_without_a_known_class_is_refused(synthetic: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no class of .* is among the real ones"):
        load_made(synthetic, ("a", "b"))
    with pytest.raises(DataError, match="does not exist; make it with"):
        load_made(tmp_path / "none", ("a", "b"))
