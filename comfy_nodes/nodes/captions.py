"""The node that reads captions: prompts without classes and templates."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from .. import paths
from ..errors import SynthGridError
from ..plan.caption_plan import CaptionPrompts
from ..plan.captions import DEFAULT_LABEL, Captions, parse_captions, part_of, read_captions
from .prompts import CATEGORY

CAPTIONS = "SynthGridCaptions"


class CaptionsNode:
    """SynthGrid Captions: text or a file -> SYNTHGRID_CLASSES, SYNTHGRID_TEMPLATES."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Captions, each of which is a prompt as it is. Takes the place of Class List and Prompt "
        "Templates: connect both outputs to the Class-Prompt Batcher. Its images_per_prompt is the "
        "number of images of each caption; images_per_class is not used."
    )
    RETURN_TYPES = ("SYNTHGRID_CLASSES", "SYNTHGRID_TEMPLATES")
    RETURN_NAMES = ("classes", "templates")
    OUTPUT_TOOLTIPS = (
        "The captions with their labels, for the Class-Prompt Batcher.",
        "The negative prompt, for the Class-Prompt Batcher.",
    )
    FUNCTION = "read"
    SEARCH_ALIASES = [
        "caption file",
        "prompts from file",
        "prompt list",
        "csv",
        "json lines",
        "text to image dataset",
    ]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        typed = (
            "One caption per line, used as it is: braces and __name__ have no meaning. Lines of "
            'JSON work too: {"caption": "a bat at dusk", "label": "bat"}.'
        )
        path = (
            "Optional. A file in ComfyUI's input folder: text with one caption per line, CSV with "
            "a column caption and optionally label, or JSON lines. If this is filled in, the text "
            "above is ignored."
        )
        label = "The label, and class folder, of captions that have none of their own."
        negative = "What images should not show. The same for every image of the plan."
        part = (
            "Leave this empty. The SynthGrid client uses it to send only the captions of a batch."
        )
        return {
            "required": {
                "captions": (
                    "STRING",
                    {"multiline": True, "default": "a badger in tall grass", "tooltip": typed},
                ),
                "path": ("STRING", {"default": "", "tooltip": path}),
                "label": ("STRING", {"default": DEFAULT_LABEL, "tooltip": label}),
                "negative_prompt": (
                    "STRING",
                    {"multiline": True, "default": "", "tooltip": negative},
                ),
            },
            "optional": {"part": ("STRING", {"default": "", "tooltip": part})},
        }

    @classmethod
    def IS_CHANGED(
        cls, captions: str | None, path: str | None, label: str | None, **_: Any
    ) -> float | str:
        """The captions of a file, because it may have changed on disk."""
        if path is None or label is None:
            return float("nan")
        try:
            return repr(queued_captions("", path, label)) if path.strip() else ""
        except SynthGridError as error:
            return str(error)

    @classmethod
    def VALIDATE_INPUTS(cls, captions: str | None = None, path: str | None = None) -> bool | str:
        """Refuses what cannot be read before anything is queued; None comes over a link.

        ComfyUI repeats the answer for every input that is named here, hence only these.
        """
        if path is None or (captions is None and not path.strip()):
            return True
        try:
            queued_captions(captions or "", path, "")
        except SynthGridError as error:
            return str(error)
        return True

    def read(
        self, captions: str, path: str, label: str, negative_prompt: str, part: str = ""
    ) -> tuple[Captions, CaptionPrompts]:
        """The captions and their negative prompt.

        Raises:
            PlanError: no captions, or a file that is missing or malformed (the line is named).
            LabelsetError: a file outside the folders that may be read.
        """
        return queued_captions(captions, path, label, part), CaptionPrompts(negative_prompt.strip())


def queued_captions(captions: str, path: str, label: str, part: str = "") -> Captions:
    """The captions that a node's values name. Raises as `CaptionsNode.read` does."""
    if part.strip() and not path.strip():
        return part_of(captions, part)
    label = label.strip() or DEFAULT_LABEL
    return _from_file(path, label) if path.strip() else _typed(captions, label)


@lru_cache(maxsize=2)
def _typed(captions: str, label: str) -> Captions:
    return parse_captions(captions, label)


def _from_file(name: str, label: str) -> Captions:
    path = paths.list_to_read(name, largest=paths.LARGEST_CAPTIONS)
    try:
        found = path.stat()
    except (OSError, ValueError):
        return read_captions(path, label)  # which says what is wrong
    return _read(path, label, (found.st_size, found.st_mtime_ns, found.st_ino))


@lru_cache(maxsize=2)
def _read(path: Path, label: str, state: tuple[int, int, int]) -> Captions:
    """The file's captions, read once as long as its size, time and number stay."""
    return read_captions(path, label)


NODE_CLASS_MAPPINGS = {CAPTIONS: CaptionsNode}
NODE_DISPLAY_NAME_MAPPINGS = {CAPTIONS: "SynthGrid Captions"}
