"""Real images: each row gets one of its class, at the given size; unreadable files are named."""

import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import sha256
from comfy_nodes.nodes.realimages import RealFolder, source_of
from trainer.data.images import read_image


@pytest.fixture
def folder(tmp_path):
    for label in ("bat", "a_b"):
        (tmp_path / label / "deeper").mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (40, 30), (number * 20, 5, 5)).save(tmp_path / label / f"{number}.png")
        Image.new("RGB", (40, 30), "red").save(tmp_path / label / "deeper" / "x.JPG", format="JPEG")
        (tmp_path / label / "notes.txt").write_text("no image")
        (tmp_path / label / ".hidden.png").write_text("no image")
    return RealFolder(tmp_path, "real")


def read(tmp_path, image, name="x.png", size=(8, 8), **options):
    (tmp_path / "bat").mkdir(exist_ok=True)
    image.save(tmp_path / "bat" / name, **options)
    return np.asarray(RealFolder(tmp_path, "real").read(f"bat/{name}", *size)[0])


def test_a_class_has_the_images_below_its_folder_in_a_fixed_order(folder):
    assert folder.images("bat") == ["bat/0.png", "bat/1.png", "bat/2.png", "bat/deeper/x.JPG"]


def test_a_label_that_is_not_a_folder_name_is_found_under_its_safe_name(folder):
    assert folder.images("a/b")[0] == "a_b/0.png"


def test_each_image_of_a_class_is_used_equally_often_and_each_row_knows_its_own(folder):
    files = folder.images("bat")
    drawn = [
        source_of(files, plan_seed=3, label="bat", position=position) for position in range(12)
    ]
    assert Counter(drawn) == dict.fromkeys(files, 3)
    assert drawn[7] == source_of(files, plan_seed=3, label="bat", position=7)
    assert drawn != [
        source_of(files, plan_seed=4, label="bat", position=position) for position in range(12)
    ]


def test_what_is_recorded_names_the_file_and_its_bytes(folder):
    _, source = folder.read("bat/1.png", 8, 8)
    assert (source.file, source.sha256) == (
        "bat/1.png",
        sha256((folder.root / "bat" / "1.png").read_bytes()),
    )


def test_an_image_is_cropped_at_its_centre_and_not_squeezed(tmp_path):
    image = Image.new("RGB", (300, 100), "black")
    image.paste("white", (100, 0, 200, 100))
    assert read(tmp_path, image, size=(64, 64)).min() > 240


def test_a_photo_on_its_side_is_turned_upright(tmp_path):
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to look at it
    pixels = read(tmp_path, image, "x.jpg", size=(20, 40), exif=exif, quality=100)
    assert pixels[:15].min() > 200 > 50 > pixels[25:].max()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (9, 9), 100), (100, 100, 100)),
        (Image.new("RGBA", (9, 9), (10, 20, 30, 0)), (255, 255, 255)),
        (Image.new("LA", (9, 9), (100, 255)), (100, 100, 100)),
        (Image.fromarray(np.full((9, 9), 257 * 200, dtype=np.uint16)), (200, 200, 200)),
        (Image.new("P", (9, 9), 0), (0, 0, 0)),
        (Image.new("1", (9, 9), 1), (255, 255, 255)),
    ],
)
def test_odd_kinds_of_image_become_what_they_look_like(tmp_path, image, expected):
    assert tuple(read(tmp_path, image)[4, 4]) == expected


def test_img2img_and_the_classifier_see_the_same_pixels_of_a_16_bit_file(tmp_path):
    grey = np.random.default_rng(0).integers(0, 65536, (9, 9), dtype=np.uint16)
    seen = read(tmp_path, Image.fromarray(grey), size=(9, 9))
    assert np.array_equal(seen[..., 0], np.round(grey / 257))
    assert np.array_equal(seen, np.asarray(read_image(tmp_path / "bat" / "x.png")))


def test_cmyk_is_read(tmp_path):
    assert tuple(read(tmp_path, Image.new("CMYK", (9, 9), 0), "x.jpg", quality=100)[4, 4]) == (
        255,
        255,
        255,
    )


def bomb():
    """A PNG that says it is 50,000 x 50,000 pixels."""
    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "bomb"])
def test_a_file_that_is_not_a_complete_image_is_named(folder, kind):
    path = folder.root / "bat" / "bad.png"
    whole = (folder.root / "bat" / "deeper" / "x.JPG").read_bytes()
    path.write_bytes(
        {"truncated": whole[:-200], "empty": b"", "text": b"hello", "bomb": bomb()}[kind]
    )
    with pytest.raises(
        LabelsetError, match=r"bat.bad\.\w+ is not a whole image .*; replace or remove the file"
    ):
        folder.read(f"bat/{path.name}", 8, 8)


def test_a_file_that_cannot_be_read_or_has_no_8_bit_reading_is_named(folder):
    with pytest.raises(LabelsetError, match=r"cannot read .*gone\.png: No such file"):
        folder.read("bat/gone.png", 8, 8)
    Image.new("F", (9, 9), 300.0).save(folder.root / "bat" / "bright.tif")
    with pytest.raises(
        LabelsetError, match=r"bright\.tif: pixels run from 300 to 300; expected 0 to 1"
    ):
        folder.read("bat/bright.tif", 8, 8)


def test_an_error_names_what_is_missing_and_what_exists(folder, tmp_path):
    with pytest.raises(LabelsetError, match=r"no folder for class 'owl'; it has a_b, bat"):
        folder.images("owl")
    (folder.root / "empty").mkdir()
    with pytest.raises(LabelsetError, match=r"empty has no images; expected files ending in \.png"):
        folder.images("empty")
    with pytest.raises(LabelsetError, match="folder 'gone' does not exist"):
        RealFolder(tmp_path / "gone", "gone").classes()
    with pytest.raises(LabelsetError, match="has no class folders"):
        RealFolder(folder.root / "empty", "empty").classes()


def test_the_state_follows_the_files(folder):
    before = folder.state()
    assert folder.state() == before
    (folder.root / "bat" / "new.png").write_bytes(b"x")
    assert folder.state() != before
