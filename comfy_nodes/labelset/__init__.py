"""The labelled folder: images in class folders, with exactly one record for each.

    <root>/<class folder>/<plan_id>-<index>.png   the image (or .webp, .jpg), with its record inside
    <root>/metadata.jsonl                         one record per image
    <root>/README.md                              data set card

torchvision's ImageFolder and Hugging Face's `imagefolder` read it as it is. Whatever happens to the
process, a record exists if and only if its image does: the image is written first (temporary file,
fsync, rename) and its record second, and `LabelledFolder.scan` restores, from the record inside the
file, what a kill between the two left behind. Standard library, Pillow and NumPy only.
"""

from ..errors import LabelsetError, SynthGridError
from .files import open_regular, read_regular, sha256, sync_folder, write_atomically
from .folder import CARD, METADATA, LabelledFolder
from .index import FileNames, RowSet, holds_something
from .line import Line
from .lock import CLIENT_LOCK, TURNS, is_locked, try_lock
from .names import folder_name, folder_names, image_file_name, image_file_names
from .quality.quarantine import SetAside, rejected_attempts, set_aside
from .quality.undo import put_back
from .record import ImageRecord, encode_image, inspect_image, portable, read_record

__all__ = [
    "CARD",
    "CLIENT_LOCK",
    "METADATA",
    "TURNS",
    "FileNames",
    "ImageRecord",
    "LabelledFolder",
    "LabelsetError",
    "Line",
    "RowSet",
    "SetAside",
    "SynthGridError",
    "encode_image",
    "folder_name",
    "folder_names",
    "holds_something",
    "image_file_name",
    "image_file_names",
    "inspect_image",
    "is_locked",
    "open_regular",
    "portable",
    "put_back",
    "read_record",
    "read_regular",
    "rejected_attempts",
    "set_aside",
    "sha256",
    "sync_folder",
    "try_lock",
    "write_atomically",
]
