"""Image files are opened in named formats only, and a huge one is refused before it is decoded."""

import io

import pytest
from PIL import Image

from comfy_nodes.labelset.images import openimage
from comfy_nodes.labelset.images.openimage import FORMATS, OWN_FORMATS, open_image


def encoded(format):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, format=format)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("format", FORMATS)
def test_the_named_formats_are_opened(format):
    with open_image(encoded(format)) as image:
        assert (image.format, image.size) == (format, (40, 30))


def test_postscript_is_refused_whatever_the_file_is_called(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded("EPS").getvalue())
    with pytest.raises(OSError, match="cannot identify image file"):
        open_image(path)


def test_a_caller_may_allow_fewer_formats():
    with open_image(encoded("PNG"), formats=OWN_FORMATS) as image:
        assert image.format == "PNG"
    with pytest.raises(OSError, match="cannot identify image file"):
        open_image(encoded("TIFF"), formats=OWN_FORMATS)


def test_more_pixels_than_the_limit_are_refused_and_as_many_are_not(monkeypatch):
    monkeypatch.setattr(openimage, "MOST_PIXELS", 40 * 30)
    open_image(encoded("PNG")).close()
    monkeypatch.setattr(openimage, "MOST_PIXELS", 40 * 30 - 1)
    with pytest.raises(ValueError, match="40 x 30 pixels are more than the limit of 1199"):
        open_image(encoded("PNG"))
