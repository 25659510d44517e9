"""The node that turns the text of a language model into a prompt bank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import host, paths
from ..banks.prompt_bank import PromptBank, bank_text
from ..errors import LabelsetError, PlanError, SynthGridError
from ..labelset import write_atomically
from ..language.answers import bank_from_text
from ..listing import listing
from ..plan import ClassEntry
from ..plan.captions import Captions
from .prompts import CATEGORY

SAVE_BANK = "SynthGridSaveBank"
SUFFIX = ".json"


class SaveBank:
    """SynthGrid Save Bank: text about classes -> a prompt bank, as a file and as text."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Turns what a language model wrote about the classes into a prompt bank: reads the text, "
        "leaves out phrases that are no use, and saves a JSON file that people can edit. Read it "
        "before images are made from it."
    )
    RETURN_TYPES = ("STRING", "STRING")
    RETURN_NAMES = ("bank", "summary")
    OUTPUT_TOOLTIPS = (
        "The bank as JSON, for bank of Prompt Templates.",
        "Where it was saved, what it has for each class, and what was left out.",
    )
    FUNCTION = "save"
    OUTPUT_NODE = True
    SEARCH_ALIASES = ["llm", "prompt bank", "text to bank", "save json", "contexts", "diversify"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        text = (
            "From a node that makes text, or typed in: a bank as JSON; or a JSON object with "
            "meanings, contexts and styles for each class, under the names of the classes or in "
            "their order."
        )
        file = (
            "A JSON file inside ComfyUI's output folder. Sub-folders such as 'banks/birds.json' "
            "are fine."
        )
        overwrite = (
            "Off: a file that holds another bank is kept, and this node says so. On: it is "
            "replaced, with what people changed in it."
        )
        return {
            "required": {
                "text": ("STRING", {"multiline": True, "default": "", "tooltip": text}),
                "classes": ("SYNTHGRID_CLASSES", {"tooltip": "From SynthGrid Class List."}),
                "file": ("STRING", {"default": "synthgrid/bank.json", "tooltip": file}),
                "overwrite": ("BOOLEAN", {"default": False, "tooltip": overwrite}),
            }
        }

    @classmethod
    def IS_CHANGED(cls, file: str | None = None, **_: Any) -> bool | str:
        """Whether the file is there: it is written again if somebody has deleted it."""
        try:
            return file is not None and paths.file_in_output(file, SUFFIX).is_file()
        except SynthGridError as error:
            return str(error)

    @classmethod
    def VALIDATE_INPUTS(cls, file: str | None = None) -> bool | str:
        """Refuses a file that cannot be written before a model is asked; None comes over a link."""
        try:
            if file is not None:
                paths.file_in_output(file, SUFFIX)
        except SynthGridError as error:
            return str(error)
        return True

    def save(
        self, text: str, classes: Sequence[ClassEntry] | Captions, file: str, overwrite: bool
    ) -> dict[str, Any]:
        """(bank, summary), also for the browser.

        Raises:
            PlanError: the text holds no bank and no answers about the classes, or there are
                captions instead of classes.
            LabelsetError: the file is not inside the output folder, cannot be written, or holds
                another bank and `overwrite` is off.
        """
        if isinstance(classes, Captions):
            raise PlanError(
                "captions have no prompt bank; connect SynthGrid Class List to 'classes'"
            )
        path = paths.file_in_output(file, SUFFIX)
        bank, dropped = bank_from_text(text, classes, {"made_by": "SynthGrid Save Bank"})
        written = bank_text(bank)
        _write(path, written, overwrite=overwrite)
        summary = _summary(path, bank, classes, dropped)
        return {"ui": {"text": [summary]}, "result": (written, summary)}


def _write(path: Path, text: str, *, overwrite: bool) -> None:
    data = text.encode("utf-8")
    if path.is_file():
        try:
            if path.stat().st_size == len(data) and path.read_bytes() == data:
                return
        except OSError as error:
            raise LabelsetError(f"cannot read {path}: {error.strerror or error}") from error
        if not overwrite:
            raise LabelsetError(
                f"{path} holds another bank; turn overwrite on, or give another file"
            )
    write_atomically(path, data)


def _summary(
    path: Path, bank: PromptBank, classes: Sequence[ClassEntry], dropped: Mapping[str, int]
) -> str:
    shown = path.relative_to(host.output_directory().resolve()).as_posix()
    lines = [f"saved in the output folder: {shown}"]
    for name, own in bank.per_class():
        lines.append(f"{name}: {len(own.contexts)} contexts, {len(own.styles)} styles")
    if bank.contexts or bank.styles:
        lines.append(f"shared: {len(bank.contexts)} contexts, {len(bank.styles)} styles")
    own_names = {name for name, _ in bank.per_class()}
    if without := [entry.name for entry in classes if entry.name not in own_names]:
        lines.append(f"nothing of their own: {listing(without)}")
    known = {entry.name for entry in classes}
    if unknown := sorted(own_names - known):
        lines.append(f"not among the classes: {listing(unknown)}")
    lines += [f"left out: {count} {reason}" for reason, count in dropped.items()]
    return "\n".join(lines)


NODE_CLASS_MAPPINGS = {SAVE_BANK: SaveBank}
NODE_DISPLAY_NAME_MAPPINGS = {SAVE_BANK: "SynthGrid Save Bank"}
