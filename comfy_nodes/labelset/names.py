"""Names of class folders and image files that are valid on every file system."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from ..errors import LabelsetError
from .files import whole_characters
from .images.imagefile import SUFFIXES

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
# Bytes; file systems allow 255, and on Windows the whole path must fit into about as many letters.
_LONGEST_NAME = 120


def folder_name(label: str) -> str:
    """A folder name for a class that is valid on every file system.

    "a/b" -> "a_b", "CON" -> "_CON", "../x" -> "_x", ". a" -> "a". Letters of any language stay as
    they are, and so does every folder name. The records keep the label itself, verbatim.

    Raises:
        LabelsetError: the label is blank.
    """
    if not label.strip():
        raise LabelsetError("a class name is blank; give every class a name")
    label = whole_characters(label)
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", label))
    name = name.strip(" .")
    if _RESERVED.fullmatch(name):
        name = "_" + name
    if len(name.encode()) > _LONGEST_NAME:
        digest = hashlib.sha256(label.encode()).hexdigest()[:8]
        start = name.encode()[: _LONGEST_NAME - 9].decode(errors="ignore").rstrip(". ")
        name = f"{start}-{digest}"
    return name or "_"


def folder_names(labels: Iterable[str]) -> dict[str, str]:
    """Label -> folder name for all classes of a folder.

    Raises:
        LabelsetError: a label is blank, or two labels would share a folder on some file system
            ("Bat" and "bat", "a/b" and "a_b").
    """
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for label in labels:
        name = folder_name(label)
        other = owners.setdefault(unicodedata.normalize("NFKC", name).casefold(), label)
        if other != label:
            raise LabelsetError(
                f"classes '{other}' and '{label}' would share the folder '{name}' on some file "
                "systems; rename one"
            )
        names[label] = name
    return names


def image_file_name(label: str, plan_id: str, index: int, suffix: str = ".png") -> str:
    """The record's file_name: "<class folder>/<plan_id>-<index>.png", with a six-digit index."""
    return f"{folder_name(label)}/{plan_id}-{index:06d}{suffix}"


def image_file_names(label: str, plan_id: str, index: int) -> tuple[str, ...]:
    """Every file_name that the image of this plan and index may have: one per format."""
    return tuple(image_file_name(label, plan_id, index, suffix) for suffix in SUFFIXES.values())
