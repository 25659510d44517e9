"""A record inside a damaged image is never taken for true; files without a checksum stay valid."""

import json
import random
import struct
from dataclasses import replace

import pytest
from PIL import Image, PngImagePlugin

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import LabelledFolder, encode_image, image_file_name, read_record
from comfy_nodes.labelset.images.imagefile import ImageFormat, record_inside
from tests.comfy_nodes.labelset.helpers import make_record

FORMATS = [
    ImageFormat(),
    ImageFormat(compress_level=9),
    ImageFormat("WebP"),
    ImageFormat("WebP", quality=100),
    ImageFormat("JPEG"),
]
TEXTS = {"parameters": 'a "checksum": "' + "0" * 64, "prompt": json.dumps({"1": {"x": "蝙蝠"}})}


def photo():
    return Image.effect_noise((48, 40), 60).convert("RGB")


def record_of(how, prompt="a photo of a bat"):
    name = image_file_name("bat", "0123456789ab", 0, how.suffix)
    return replace(make_record(), file_name=name, prompt=prompt)


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("prompt", ["a photo", '蝙蝠 <b> & "c" \'', '"checksum": "' + "0" * 64])
def test_a_whole_image_gives_its_record_back(how, prompt):
    record = record_of(how, prompt)
    data = encode_image(photo(), record, how, texts=TEXTS)
    assert replace(read_record(data), sha256="") == record


@pytest.mark.parametrize("how", FORMATS)
def test_no_single_bit_changes_unnoticed(how):
    record, chance = record_of(how), random.Random(0)
    data = encode_image(photo(), record, how, texts=TEXTS)
    for _ in range(300):
        changed = bytearray(data)
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            assert read_record(bytes(changed)) is None
        except LabelsetError:
            continue


@pytest.mark.parametrize("how", FORMATS)
def test_a_file_of_an_older_version_has_no_checksum_and_stays_valid(how):
    record = record_of(how)
    data = how.encode(photo(), record=record.to_json(), texts=TEXTS)
    assert replace(read_record(data), sha256="") == record


def test_a_png_of_an_older_version_is_checked_chunk_by_chunk():
    how = ImageFormat()
    data = how.encode(photo(), record=record_of(how).to_json())
    chance, first = random.Random(0), data.index(b"IDAT")
    places = [chance.randrange(first, len(data)) for _ in range(300)]
    for place in [*places, *range(len(data) - 12, len(data))]:  # and the whole of IEND
        changed = bytearray(data)
        changed[place] ^= 1 << chance.randrange(8)
        with pytest.raises(LabelsetError):
            read_record(bytes(changed))


def test_an_image_that_another_program_saved_again_is_not_the_saved_one(tmp_path):
    """It kept the texts, but its pixels may be others."""
    path = tmp_path / "x.png"
    path.write_bytes(encode_image(photo(), record_of(ImageFormat())))
    with Image.open(path) as image:
        image.load()
        texts = PngImagePlugin.PngInfo()
        texts.add_text("synthgrid", record_inside(image))
        image.rotate(180).save(path, pnginfo=texts)
    with pytest.raises(LabelsetError, match="does not fit the checksum"):
        read_record(path.read_bytes())


def test_a_png_whose_chunk_claims_to_be_longer_than_the_file_is_refused_and_not_waited_for():
    data = bytearray(encode_image(photo(), record_of(ImageFormat())))
    place = data.index(b"IDAT") - 4
    struct.pack_into(">I", data, place, 0x7FFFFFFF)
    with pytest.raises(LabelsetError):
        read_record(bytes(data))


@pytest.mark.parametrize("how", FORMATS)
def test_a_scan_does_not_restore_the_record_of_an_image_with_other_pixels(tmp_path, how):
    record = record_of(how)
    data = bytearray(encode_image(photo(), record, how))
    data[-30] ^= 4
    path = tmp_path / record.file_name
    path.parent.mkdir()
    path.write_bytes(data)
    folder = LabelledFolder(tmp_path)
    folder.scan()
    assert len(folder.rows) == 0
    assert path.read_bytes() == data
