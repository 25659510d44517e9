"""PNG, WebP and JPEG files with texts inside, such as the image's record; writing and reading.

               PNG                        WebP, JPEG
record         text chunk "synthgrid"     XMP, element synthgrid:record
graph          text chunks "prompt",      EXIF "prompt:{...}" in Model, "workflow:{...}" in Make, as
               "workflow"                 ComfyUI writes WebP
parameters     text chunk "parameters"    EXIF UserComment, as A1111 writes it
made by an AI  XMP DigitalSourceType trainedAlgorithmicMedia, in all three

Pillow and NumPy only.
"""

from __future__ import annotations

import io
import json
import logging
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, unescape

from PIL import Image, PngImagePlugin

from ...errors import LabelsetError
from ..files import whole_characters
from .png import png_bytes

log = logging.getLogger(__name__)

SUFFIXES = {"PNG": ".png", "WebP": ".webp", "JPEG": ".jpg"}
RECORD_CHUNK = "synthgrid"
PARAMETERS = "parameters"
_RLE_LEVELS = range(1, 6)
_XMP_CHUNK = "XML:com.adobe.xmp"
_RECORD_IN_XMP = re.compile(rb"<synthgrid:record>(.*?)</synthgrid:record>", re.DOTALL)
_MODEL, _MAKE, _EXIF_FOLDER, _USER_COMMENT = 0x0110, 0x010F, 0x8769, 0x9286
_LONGEST_EXIF = 65_000  # bytes; a JPEG segment holds at most 65,535, including its header
# "Created algorithmically using a model trained on sampled content", according to
# https://cv.iptc.org/newscodes/digitalsourcetype/
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">\
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" \
xmlns:synthgrid="urn:synthgrid:1">
<Iptc4xmpExt:DigitalSourceType>\
http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia\
</Iptc4xmpExt:DigitalSourceType>{more}
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


@dataclass(frozen=True)
class ImageFormat:
    """How images are written. `compress_level`, 0..9, is for PNG; `quality`, 1..100, for others.

    PNG levels 1 to 5 only look for runs of equal bytes after PNG's own filters (zlib's RLE
    strategy). Photographs hardly ever repeat themselves, so this is about twice as fast as the
    usual search at level 4, and files are no larger; 6 to 9 search for repeats, which pays off for
    flat drawings. WebP at quality 100 is lossless.

    Raises:
        LabelsetError: an unknown format, or a number outside its range.
    """

    name: str = "PNG"
    compress_level: int = 4
    quality: int = 95

    def __post_init__(self) -> None:
        if self.name not in SUFFIXES:
            raise LabelsetError(
                f"image format '{self.name}' is unknown; choose one of {', '.join(SUFFIXES)}"
            )
        if not 0 <= self.compress_level <= 9:
            raise LabelsetError(f"compress_level is {self.compress_level}; it must be 0 to 9")
        if not 1 <= self.quality <= 100:
            raise LabelsetError(f"quality is {self.quality}; it must be 1 to 100")

    @property
    def suffix(self) -> str:
        """The file name's ending: ".png", ".webp" or ".jpg"."""
        return SUFFIXES[self.name]

    def encode(
        self,
        image: Image.Image,
        *,
        record: str = "",
        texts: Mapping[str, str] | None = None,
        threads: int = 1,
    ) -> bytes:
        """The bytes of a whole file: the RGB image with the record's JSON and the texts inside.

        PNG may use up to `threads` threads.

        Raises:
            LabelsetError: the record is too long for a JPEG.
        """
        if self.name == "PNG" and self.compress_level in _RLE_LEVELS and image.mode == "RGB":
            return _fast_png(self, image, record, texts or {}, threads)
        if self.name == "JPEG" and image.mode != "RGB":
            image = image.convert("RGB")  # it has no transparency
        options = (_png if self.name == "PNG" else _other)(self, record, texts or {})
        buffer = io.BytesIO()
        try:
            image.save(buffer, format=self.name, **options)
        except ValueError as error:
            raise LabelsetError(
                f"cannot write this image as {self.name}: {error}; choose PNG"
            ) from error
        return buffer.getvalue()


PNG = ImageFormat()


def _fast_png(
    how: ImageFormat, image: Image.Image, record: str, texts: Mapping[str, str], threads: int
) -> bytes:
    import numpy as np

    chunks = [(chunk[0], chunk[1]) for chunk in _png_texts(record, texts).chunks]
    return png_bytes(np.asarray(image), chunks, compress_level=how.compress_level, threads=threads)


def _png_texts(record: str, texts: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    for key, value in texts.items():
        chunks.add_text(key, whole_characters(value))
    if record:
        chunks.add_text(RECORD_CHUNK, record)
    chunks.add_itxt(_XMP_CHUNK, _XMP.format(more=""))
    return chunks


def _png(how: ImageFormat, record: str, texts: Mapping[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "pnginfo": _png_texts(record, texts),
        "compress_level": how.compress_level,
    }
    if how.compress_level in _RLE_LEVELS:
        options["compress_type"] = zlib.Z_RLE
    return options


def _other(how: ImageFormat, record: str, texts: Mapping[str, str]) -> dict[str, Any]:
    more = ""
    if record:  # as ASCII, because XML does not allow all code points of JSON text
        text = escape(json.dumps(json.loads(record)))
        more = f"\n<synthgrid:record>{text}</synthgrid:record>"
    options = {"quality": how.quality, "xmp": _XMP.format(more=more).encode("utf-8")}
    if how.name == "JPEG":  # full colour resolution, because a classifier may use it
        return options | {"subsampling": 0, "exif": _fitting_exif(texts)}
    if how.quality == 100:  # for lossless WebP, "quality" is the effort
        options |= {"lossless": True, "quality": 50}
    return options | {"exif": _exif(texts)}


def _exif(texts: Mapping[str, str]) -> bytes:
    exif = Image.Exif()
    tag = _MAKE
    for key, value in texts.items():
        if key == PARAMETERS:
            comment = b"UNICODE\0" + value.encode("utf-16-be", "replace")
            exif.get_ifd(_EXIF_FOLDER)[_USER_COMMENT] = comment
        elif key == "prompt":
            exif[_MODEL] = f"prompt:{value}"
        else:
            exif[tag] = f"{key}:{value}"
            tag -= 1
    return exif.tobytes()


def _fitting_exif(texts: Mapping[str, str]) -> bytes:
    """EXIF without the longest texts, if a JPEG cannot hold all of them."""
    left = dict(texts)
    while len(data := _exif(left)) > _LONGEST_EXIF:
        longest = max(left, key=lambda key: len(left[key]))
        message = "'%s' has %d characters, too many for a JPEG; PNG and WebP can hold it"
        log.warning(message, longest, len(left.pop(longest)))
    return data


def record_inside(image: Image.Image) -> str | None:
    """The JSON text of the record in a loaded image; None if there is none."""
    text = getattr(image, "text", {}).get(RECORD_CHUNK)
    if text is not None:
        return str(text)
    xmp = image.info.get("xmp", b"")
    found = _RECORD_IN_XMP.search(xmp.encode("utf-8") if isinstance(xmp, str) else xmp)
    return unescape(found.group(1).decode("utf-8", "replace")) if found else None
