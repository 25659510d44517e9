"""A checksum of a whole image file, inside the file: it tells damage where no other record is left.

The record inside an image begins with {"checksum": "<64 hexadecimal digits>", ...}: the SHA-256 of
the file as it is with zeros for those digits, and in a PNG with the CRC that its chunk has then. It
covers pixels, record and all other texts, whatever decodes them. Older files have no checksum.
Standard library only.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from ...errors import LabelsetError
from ..files import sha256

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BLANK = "0" * 64
_MARK = '{"checksum": "'
_UNSEALED = '{"file_name": '  # how records without a checksum begin
_IN_XMP = b"<synthgrid:record>" + _MARK.encode()
_IN_PNG = (b"synthgrid\0" + _MARK.encode(), b"synthgrid\0\0\0\0\0" + _MARK.encode())


def blank(record: str) -> str:
    """The JSON of a record, with room for the checksum."""
    return f'{_MARK}{_BLANK}", {record[1:]}'


def sealed(data: bytes) -> bytes:
    """The file with its checksum in the room that `blank` made."""
    place = _place(data)
    return data if place is None else _with_digits(data, place, sha256(data))


def check_seal(data: bytes) -> bool:
    """Compares the file with its checksum, and the chunks of a PNG with their CRCs.

    Returns:
        Whether there is a checksum.

    Raises:
        LabelsetError: they differ: the file is damaged, or somebody changed it.
    """
    kinds = set()
    for kind, start, length in _chunks(data):
        kinds.add(kind)
        (stored,) = struct.unpack_from(">I", data, start + length)
        if stored != zlib.crc32(data[start - 4 : start + length]):
            raise LabelsetError(f"not a whole image: chunk {kind!r} does not fit its CRC")
    if data.startswith(_SIGNATURE) and b"IEND" not in kinds:
        raise LabelsetError("not a whole image: the file ends before the PNG does")
    place = _place(data)
    if place is None:
        return False
    digits = data[place : place + len(_BLANK)]
    if sha256(_with_digits(data, place, _BLANK)).encode() != digits:
        raise LabelsetError("not a whole image: it does not fit the checksum in its record")
    return True


def needs_seal(record: str) -> bool:
    """Whether this record was written with a checksum, wherever that is now."""
    return not record.startswith(_UNSEALED)


def _place(data: bytes) -> int | None:
    """Where the digits begin; None if there are none."""
    for kind, start, _ in _chunks(data):
        if kind in (b"tEXt", b"iTXt"):
            for mark in _IN_PNG:
                if data.startswith(mark, start):
                    return start + len(mark)
    if data.startswith(_SIGNATURE):
        return None
    found = data.find(_IN_XMP)
    return None if found < 0 else found + len(_IN_XMP)


def _with_digits(data: bytes, place: int, digits: str) -> bytes:
    """The file with other digits there, and in a PNG with the CRC that follows from them."""
    changed = bytearray(data)
    changed[place : place + len(digits)] = digits.encode()
    for _, start, length in _chunks(data):
        if start <= place < start + length:
            checksum = zlib.crc32(changed[start - 4 : start + length])
            struct.pack_into(">I", changed, start + length, checksum)
            break
    return bytes(changed)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of the contents, their length) of each whole chunk of a PNG."""
    start = len(_SIGNATURE) + 8
    while data.startswith(_SIGNATURE) and start <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start - 8)
        if start + length + 4 > len(data):
            return
        yield kind, start, length
        start += length + 12
