"""Parts of file names that ComfyUI's editor fills in before it queues a graph. No I/O.

"%Folder.text%" in the file name of a node that saves stands for the widget `text` of the node that
is called Folder. "%date:yyyy-MM-dd%" stands for the date; servers have the same in parts, "%year%",
which they fill in whenever they save.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

FILE_NAME = "filename_prefix"
# The core nodes whose file names the editor fills in; those of packs are sent as they are.
SAVERS = {
    "SaveImage", "SaveImageAdvanced", "SaveSVGNode", "SaveVideo", "SaveAnimatedWEBP",
    "SaveAnimatedPNG", "SaveWEBM", "SaveAudio", "SaveAudioMP3", "SaveAudioOpus",
    "SaveAudioAdvanced", "SaveGLB", "Save3DAdvanced", "SaveGaussianSplat", "SavePointCloud",
    "CLIPSave", "VAESave", "ModelSave", "LoraSave", "SaveLatent",
}  # fmt: skip
_PART = re.compile(r"%([^%]+)%")
_NOT_IN_NAMES = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
_DATE = {
    "yyyy": "%year%",
    "MM": "%month%",
    "dd": "%day%",
    "hh": "%hour%",
    "mm": "%minute%",
    "ss": "%second%",
}
_DATE_PART = re.compile(r"yyyy|yy|([Mdhms])\1?")


def filled(text: str, value_of: Callable[[str, str], Any]) -> str:
    """A file name with its parts filled in; what means nothing stays as it is.

    `value_of(node, widget)` is the value of a widget; LookupError if there is none.
    """

    def part(found: re.Match[str]) -> str:
        node, dot, widget = found[1].partition(".")
        if not dot or "." in widget:
            date = found[1].removeprefix("date:")
            return found[0] if date == found[1] else _dated(date, found[0])
        try:
            return _NOT_IN_NAMES.sub("_", _text(value_of(node, widget)))
        except LookupError:
            return found[0]

    return _PART.sub(part, text)


def _dated(form: str, otherwise: str) -> str:
    """A date in a server's parts; `otherwise` if it has a part that servers lack, such as "yy"."""
    if any(found[0] not in _DATE for found in _DATE_PART.finditer(form)):
        return otherwise
    return _DATE_PART.sub(lambda found: _DATE[found[0]], form)


def _text(value: Any) -> str:
    """A value as a browser writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
