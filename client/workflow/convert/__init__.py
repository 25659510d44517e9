"""Workflows in ComfyUI's editor format to API format, without a browser."""

from .conversion import Converted, ObjectInfo, convert, no_replacements
from .editor import is_editor_format

__all__ = ["Converted", "ObjectInfo", "convert", "is_editor_format", "no_replacements"]
