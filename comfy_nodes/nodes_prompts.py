"""Nodes that turn class names and templates into the batches of a GenerationPlan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import host
from .banks import BankEntry, read_bank
from .errors import LabelsetError, PlanError
from .plan import (
    DEFAULT_TEMPLATE,
    MAX_SEED,
    ClassEntry,
    GenerationPlan,
    ImageSpec,
    PromptTemplates,
    parse_classes,
    parse_lines,
    read_classes,
)
from .realimages import SourceImage
from .subfolders import images_below

CATEGORY = "SynthGrid"
BANKS = ("templates", "contexts", "styles")


@dataclass(frozen=True)
class PromptBatch:
    """The value of a SYNTHGRID_BATCH link: the rows that one sampler call makes, and where they stand in their plan.

    `sources` are the real images that the rows begin as, one a row; none where they begin as noise.
    """

    plan: GenerationPlan
    specs: tuple[ImageSpec, ...]
    batch_index: int
    batch_count: int
    sources: tuple[SourceImage, ...] = ()

    def summary(self) -> str:
        """For people: "batch 3 of 19: badger x4, bat x4"."""
        counts = Counter(spec.label for spec in self.specs)
        listing = ", ".join(f"{label} x{count}" for label, count in counts.items())
        return f"batch {self.batch_index + 1} of {self.batch_count}: {listing}"


class ClassList:
    """SynthGrid Class List: text, a file or a folder -> SYNTHGRID_CLASSES."""

    CATEGORY = CATEGORY
    DESCRIPTION = "The classes to make images of: typed in, or read from a text file, a JSON file or a folder of class folders."
    RETURN_TYPES = ("SYNTHGRID_CLASSES",)
    RETURN_NAMES = ("classes",)
    OUTPUT_TOOLTIPS = ("The classes, for the Class-Prompt Batcher.",)
    FUNCTION = "read"
    SEARCH_ALIASES = ["class names", "labels", "dataset", "categories", "class folders"]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "classes": (
                    "STRING",
                    {
                        "multiline": True,
                        "default": "badger\nbat\nbear",
                        "tooltip": "One class a line. 'crane: a large long-legged bird' also gives a definition, which "
                        "templates can use as {definition}. Lines that begin with # are ignored. JSON works too.",
                    },
                ),
                "path": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Optional. A text file, a JSON file, or a folder whose sub-folders are the classes, in ComfyUI's "
                        "input folder or with its whole path. When it is filled in, the text above is ignored.",
                    },
                ),
            }
        }

    @classmethod
    def IS_CHANGED(cls, classes: str, path: str) -> str:
        """A file or folder may have changed on disk; what was read from it decides, not the widgets."""
        try:
            return repr(_read_classes(classes, path))
        except PlanError as error:
            return str(error)

    def read(self, classes: str, path: str) -> tuple[tuple[ClassEntry, ...]]:
        """Raises PlanError: no class, a class twice, or a path that is not there."""
        return (_read_classes(classes, path),)


class PromptTemplatesNode:
    """SynthGrid Prompt Templates: templates, negative prompt and banks -> SYNTHGRID_TEMPLATES."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "How a class name becomes a prompt. Placeholders: {class}, {definition}, {context}, {style}. With several "
        "templates, contexts or styles, each class goes through all of them evenly, in an order of its own."
    )
    RETURN_TYPES = ("SYNTHGRID_TEMPLATES",)
    RETURN_NAMES = ("templates",)
    OUTPUT_TOOLTIPS = ("The templates, for the Class-Prompt Batcher.",)
    FUNCTION = "read"
    SEARCH_ALIASES = [
        "prompt list",
        "wildcards",
        "prompt bank",
        "dynamic prompts",
        "negative prompt",
        "styles",
    ]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        def bank(name: str, example: str) -> tuple[str, dict[str, Any]]:
            tooltip = f"One {name} a line, for {{{name}}} in a template; for example '{example}'."
            return "STRING", {"multiline": True, "default": "", "tooltip": tooltip}

        def file(name: str) -> tuple[str, dict[str, Any]]:
            tooltip = (
                f"Optional. A file of {name} in ComfyUI's input folder, or its whole path: one a line, or JSON, or CSV with a "
                f"column '{name}'. When it is filled in, the text of {name} above is ignored."
            )
            return "STRING", {"default": "", "tooltip": tooltip}

        templates = {
            "multiline": True,
            "default": DEFAULT_TEMPLATE,
            "tooltip": "One prompt template a line, for example 'a photo of a {class}, {context}, {style}'.",
        }
        negative = {
            "default": "",
            "tooltip": "What no image should show. The same for every image of the plan.",
        }
        return {
            "required": {
                "templates": ("STRING", templates),
                "negative_prompt": ("STRING", {"multiline": True} | negative),
                "contexts": bank("context", "in a forest at dawn"),
                "styles": bank("style", "black and white photograph"),
            },
            "optional": {f"{name}_file": file(name) for name in BANKS},
        }

    @classmethod
    def IS_CHANGED(cls, **inputs: Any) -> str:
        """A file may have changed on disk; what was read from it decides, not the widgets."""
        files = {name: inputs.get(f"{name}_file") or "" for name in BANKS}
        try:
            return repr([_bank(name, "", file) for name, file in files.items()])
        except PlanError as error:
            return str(error)

    def read(
        self,
        templates: str,
        negative_prompt: str,
        contexts: str,
        styles: str,
        templates_file: str = "",
        contexts_file: str = "",
        styles_file: str = "",
    ) -> tuple[PromptTemplates]:
        """Raises PlanError: an unknown placeholder (named), no template, a placeholder whose bank is empty, or a bank file
        that is missing or malformed (with its line)."""
        entries = _bank("templates", templates, templates_file)
        made = partial(
            PromptTemplates,
            negative_prompt=negative_prompt.strip(),
            contexts=_texts(_bank("contexts", contexts, contexts_file)),
            styles=_texts(_bank("styles", styles, styles_file)),
        )
        if templates_file.strip():
            _refuse_bad_lines(entries, templates_file, made)
        return (made(templates=_texts(entries)),)


class ClassPromptBatcher:
    """SynthGrid Class-Prompt Batcher: one batch of the plan a queued prompt -> SYNTHGRID_BATCH."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Plans images_per_class images for every class and hands out one batch of them each time the workflow is queued. "
        "batch_index goes up by itself: set the queue count to the number of batches and press Run. Every image has its "
        "own label, prompt and seed, and does not depend on the batch size or on how many images there will be. Past the "
        "last batch it says that the plan is finished and nothing is sampled."
    )
    RETURN_TYPES = ("SYNTHGRID_BATCH", "STRING")
    RETURN_NAMES = ("batch", "summary")
    OUTPUT_TOOLTIPS = (
        "Label, prompt and seed of every image of this batch.",
        "Which batch this is, in words.",
    )
    FUNCTION = "select"
    SEARCH_ALIASES = [
        "prompt batch",
        "dataset generator",
        "class balance",
        "resume",
        "batch index",
        "synthetic data",
    ]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        def number(
            default: int, lowest: int, highest: int, tooltip: str, **more: Any
        ) -> tuple[str, dict[str, Any]]:
            return "INT", {
                "default": default,
                "min": lowest,
                "max": highest,
                "tooltip": tooltip,
            } | more

        return {
            "required": {
                "classes": ("SYNTHGRID_CLASSES", {"tooltip": "From SynthGrid Class List."}),
                "templates": (
                    "SYNTHGRID_TEMPLATES",
                    {"tooltip": "From SynthGrid Prompt Templates."},
                ),
                "images_per_class": number(
                    30, 1, 1_000_000, "Images for each class. More later keeps what is there."
                ),
                "batch_size": number(
                    8, 1, 4096, "Images a sampler call: as many as fit in the GPU's memory."
                ),
                # Not called "seed": the browser would give it a randomise control, and a plan must keep its seed.
                "plan_seed": number(
                    0,
                    0,
                    MAX_SEED,
                    "Every image's own seed follows from this number, class and position.",
                ),
                "batch_index": number(
                    0,
                    0,
                    2**31 - 1,
                    "Which batch to make, from 0. Steps by itself after every queued run.",
                    control_after_generate="increment",
                ),
            },
            "optional": {
                "only": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Leave empty for the whole batch. Numbers such as '3, 7' make only those images of this "
                        "batch; the SynthGrid client uses it to fill gaps.",
                    },
                ),
                "resume_folder": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Leave empty to make every image. The saver's folder, such as 'synthgrid', makes only the "
                        "images that are not in it yet: set batch_index to 0 and queue again to finish an interrupted run.",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, resume_folder: str | None = "", **_: Any) -> float | str:
        """Cached as any node, unless files on disk decide; a linked folder (None) is not known here."""
        return "" if resume_folder is not None and not resume_folder.strip() else float("nan")

    @classmethod
    def VALIDATE_INPUTS(cls, resume_folder: str | None = "") -> bool | str:
        """Refuses a folder outside the output folder before anything is sampled."""
        try:
            if resume_folder and resume_folder.strip():
                host.folder_in_output(resume_folder)
        except LabelsetError as error:
            return f"resume_folder: {error}"
        return True

    def select(
        self,
        classes: tuple[ClassEntry, ...],
        templates: PromptTemplates,
        images_per_class: int,
        batch_size: int,
        plan_seed: int,
        batch_index: int,
        only: str = "",
        resume_folder: str = "",
    ) -> dict[str, Any]:
        """The batch, or, where nothing is left to make, an answer in words that leaves out all nodes after this one.

        Raises:
            PlanError: the classes or templates make no plan; outside ComfyUI, which alone can leave out nodes, also where
                nothing is left to make.
        """
        plan = GenerationPlan(classes, templates, images_per_class, plan_seed)
        count = plan.batch_count(batch_size)
        if batch_index >= count and (answer := _nothing(_finished(plan, count))):
            return answer
        specs = _only(plan.batch(batch_index, batch_size), only)
        missing = _missing(specs, plan.plan_id, resume_folder)
        if not missing:
            text = f"batch {batch_index + 1} of {count}: all {len(specs)} images are in '{resume_folder.strip()}' already"
            if answer := _nothing(text):
                return answer
            raise PlanError(f"{text}; nothing is left to make")
        batch = PromptBatch(plan, missing, batch_index, count)
        there = len(specs) - len(missing)
        summary = batch.summary() + (f" ({there} are there already)" if there else "")
        return {"ui": {"text": [summary]}, "result": (batch, summary)}


def _finished(plan: GenerationPlan, count: int) -> str:
    return (
        f"plan finished: all {len(plan)} images are queued in {count} batches, numbered 0 to {count - 1}; "
        "set batch_index back to 0 for another plan"
    )


def _nothing(text: str) -> dict[str, Any] | None:
    """The node's answer that shows a text and makes no batch; None where the host cannot leave out nodes."""
    blocker = host.execution_blocker()
    return None if blocker is None else {"ui": {"text": [text]}, "result": (blocker, text)}


def _missing(specs: tuple[ImageSpec, ...], plan_id: str, folder: str) -> tuple[ImageSpec, ...]:
    """The rows whose image is nowhere below the folder, in any format; all of them when no folder is named."""
    if not folder.strip():
        return specs
    root = host.folder_in_output(folder)
    there = images_below(root, plan_id)
    return tuple(spec for spec in specs if spec.index not in there)


def _read_classes(text: str, path: str) -> tuple[ClassEntry, ...]:
    return read_classes(host.path_to_read(path)) if path.strip() else parse_classes(text)


def _bank(name: str, text: str, file: str) -> tuple[BankEntry, ...]:
    """The entries of a bank: those of the file where one is named, else the lines of the text."""
    if file.strip():
        return read_bank(host.path_to_read(file), name)
    return tuple(BankEntry(line, "") for line in parse_lines(text))


def _texts(entries: tuple[BankEntry, ...]) -> tuple[str, ...]:
    return tuple(entry.text for entry in entries)


def _refuse_bad_lines(
    entries: tuple[BankEntry, ...], file: str, made: Callable[..., PromptTemplates]
) -> None:
    """What is wrong with a template, with the line it stands in."""
    for entry in entries:
        try:
            made(templates=(entry.text,))
        except PlanError as error:
            raise PlanError(
                f"templates_file {host.path_to_read(file)} {entry.place}: {error}"
            ) from error


def _only(specs: tuple[ImageSpec, ...], only: str) -> tuple[ImageSpec, ...]:
    """The rows of the batch that `only` names; all of them when it is blank."""
    if not only.strip():
        return specs
    try:
        wanted = {int(number) for number in only.split(",")}
    except ValueError:
        raise PlanError(
            f"'only' must be image numbers separated by commas, such as '3, 7', not '{only}'"
        ) from None
    unknown = wanted - {spec.index for spec in specs}
    if unknown:
        raise PlanError(
            f"'only' names images {sorted(unknown)}, but this batch has {specs[0].index} to {specs[-1].index}"
        )
    return tuple(spec for spec in specs if spec.index in wanted)


NODE_CLASS_MAPPINGS = {
    "SynthGridClassList": ClassList,
    "SynthGridPromptTemplates": PromptTemplatesNode,
    "SynthGridClassPromptBatcher": ClassPromptBatcher,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "SynthGridClassList": "SynthGrid Class List",
    "SynthGridPromptTemplates": "SynthGrid Prompt Templates",
    "SynthGridClassPromptBatcher": "SynthGrid Class-Prompt Batcher",
}
