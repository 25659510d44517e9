"""PNG, WebP and JPEG contain the record, the graph and a note that a model made the image."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import (
    ImageRecord,
    encode_image,
    image_file_name,
    read_record,
    sha256,
)
from comfy_nodes.labelset.images.imagefile import SUFFIXES, ImageFormat

TEXTS = {
    "parameters": "a photo of a bat — 蝙蝠",
    "prompt": '{"1": {}}',
    "workflow": '{"nodes": []}',
    "more": "[1]",
}
SOURCE_TYPE = b"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def make_record(**changes):
    values = dict(
        file_name=image_file_name("bat", "0123456789ab", 7),
        label="bat",
        prompt='a <photo> & "蝙蝠" \u2028 of a </synthgrid:record>',
        negative_prompt="blurry",
        seed=2**53 - 1,
        index=7,
        plan_id="0123456789ab",
        settings={"steps": 20, "cfg": 4.0, "sampler": "euler"},
    )
    return ImageRecord(**(values | changes))


def noise(size=32):
    return Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    )


def reopen(tmp_path, data):
    (tmp_path / "image").write_bytes(data)
    image = Image.open(tmp_path / "image")
    image.load()
    return image


@pytest.mark.parametrize("name", SUFFIXES)
def test_the_record_comes_back_from_the_file_whatever_its_texts_contain(name):
    record = make_record()
    data = encode_image(noise(), record, ImageFormat(name), texts=TEXTS)
    assert read_record(data) == replace(record, sha256=sha256(data))


@pytest.mark.parametrize("name", SUFFIXES)
def test_the_file_says_in_xmp_that_a_model_made_it(name, tmp_path):
    image = reopen(tmp_path, encode_image(noise(), make_record(), ImageFormat(name)))
    assert image.format == name.upper()
    xmp = image.info["xmp"]
    assert b"<Iptc4xmpExt:DigitalSourceType>" + SOURCE_TYPE + b"<" in (
        xmp if isinstance(xmp, bytes) else xmp.encode()
    )


@pytest.mark.parametrize("name", ["WebP", "JPEG"])
def test_graph_and_parameters_are_where_comfyui_and_a1111_look_for_them(name, tmp_path):
    exif = reopen(
        tmp_path, encode_image(noise(), make_record(), ImageFormat(name), texts=TEXTS)
    ).getexif()
    assert exif[0x0110] == "prompt:" + TEXTS["prompt"]
    assert exif[0x010F] == "workflow:" + TEXTS["workflow"]
    assert exif[0x010E] == "more:[1]"
    comment = exif.get_ifd(0x8769)[0x9286]
    assert comment == b"UNICODE\0" + TEXTS["parameters"].encode("utf-16-be")


def test_the_texts_are_chunks_of_a_png(tmp_path):
    text = reopen(tmp_path, encode_image(noise(), make_record(), ImageFormat(), texts=TEXTS)).text
    assert {key: text[key] for key in TEXTS} == TEXTS


LOSSLESS = [
    *(ImageFormat(compress_level=level) for level in range(10)),
    ImageFormat("WebP", quality=100),
]


@pytest.mark.parametrize("how", LOSSLESS)
def test_every_png_level_and_webp_at_100_keep_every_pixel(how, tmp_path):
    image = reopen(tmp_path, encode_image(noise(), make_record(), how))
    assert np.array_equal(np.asarray(image), np.asarray(noise()))


@pytest.mark.parametrize("name", ["WebP", "JPEG"])
def test_quality_trades_size_for_likeness(name):
    sizes = [
        len(encode_image(noise(64), make_record(), ImageFormat(name, quality=quality)))
        for quality in (30, 95)
    ]
    assert sizes[0] < 0.7 * sizes[1]


def test_the_default_png_of_a_photo_like_image_is_no_larger_than_pillows_level_4(tmp_path):
    rng = np.random.default_rng(1)
    pixels = np.zeros((256, 256, 3))
    for side, weight in ((4, 0.5), (16, 0.3), (64, 0.15), (256, 0.05)):
        octave = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        pixels += weight * np.asarray(octave.resize((256, 256), Image.BICUBIC), dtype=float)
    image = Image.fromarray(pixels.astype(np.uint8))
    image.save(tmp_path / "core.png", compress_level=4)
    assert len(ImageFormat().encode(image)) < 1.03 * (tmp_path / "core.png").stat().st_size


def test_png_levels_up_to_5_look_for_runs_and_from_6_for_repeats():
    """A tile of noise, repeated: nothing for runs, everything for repeats."""
    tiles = Image.fromarray(np.tile(np.asarray(noise(16)), (4, 4, 1)))
    sizes = [len(ImageFormat(compress_level=level).encode(tiles)) for level in (1, 4, 5, 6, 9)]
    assert sizes[0] == sizes[1] == sizes[2] > 2 * sizes[3] >= 2 * sizes[4]


def test_a_graph_too_long_for_a_jpeg_is_left_out_and_the_record_stays(tmp_path, caplog):
    long = TEXTS | {"workflow": json.dumps(["x" * 70_000])}
    data = encode_image(noise(), make_record(), ImageFormat("JPEG"), texts=long)
    assert read_record(data).key == make_record().key
    exif = reopen(tmp_path, data).getexif()
    assert not [value for value in exif.values() if str(value).startswith("workflow")]
    assert exif[0x0110] == "prompt:" + TEXTS["prompt"]
    assert "'workflow' has 70004 characters, too many for a JPEG" in caplog.text


def test_a_record_too_long_for_a_jpeg_is_refused():
    with pytest.raises(LabelsetError, match=r"as JPEG.*choose PNG"):
        encode_image(noise(), make_record(prompt="x" * 70_000), ImageFormat("JPEG"))


@pytest.mark.parametrize("name", SUFFIXES)
def test_half_a_file_is_refused_in_every_format(name):
    data = encode_image(noise(64), make_record(), ImageFormat(name))
    with pytest.raises(LabelsetError, match="not a whole image"):
        read_record(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("GIF",), "GIF.*PNG, WebP, JPEG"),
        (("PNG", 10), "0 to 9"),
        (("PNG", -1), "0 to 9"),
        (("JPEG", 4, 0), "1 to 100"),
    ],
)
def test_an_unknown_format_or_number_is_refused(arguments, message):
    with pytest.raises(LabelsetError, match=message):
        ImageFormat(*arguments)
