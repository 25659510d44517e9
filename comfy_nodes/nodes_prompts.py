"""Nodes that turn class names and templates into the batches of a GenerationPlan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from . import host, paths
from .banks import BankEntry, read_bank
from .errors import LabelsetError, PlanError, SynthGridError
from .plan import (
    DEFAULT_TEMPLATE,
    MAX_SEED,
    MOST_PER_BATCH,
    MOST_PER_CLASS,
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
from .wildcards import parse_wildcards, read_wildcard, used_wildcards

CATEGORY = "SynthGrid"
BANKS = ("templates", "contexts", "styles")
_TO_FINISH = "press 'Queue what is missing' on the batcher, or set batch_index back to 0"


@dataclass(frozen=True)
class PromptBatch:
    """The value of a SYNTHGRID_BATCH link: the rows of one sampler call and their plan.

    `sources` are the real images that the rows start from, one per row; empty if they start from
    noise.
    """

    plan: GenerationPlan
    specs: tuple[ImageSpec, ...]
    batch_index: int
    batch_count: int
    sources: tuple[SourceImage, ...] = ()

    def summary(self) -> str:
        """The batch in words: "batch 3 of 19: badger x4, bat x4"."""
        counts = Counter(spec.label for spec in self.specs)
        listing = ", ".join(f"{label} x{count}" for label, count in counts.items())
        return f"batch {self.batch_index + 1} of {self.batch_count}: {listing}"


class ClassList:
    """SynthGrid Class List: text, a file or a folder -> SYNTHGRID_CLASSES."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "The classes to make images of: typed in, or read from a text file, a JSON file or a "
        "folder of class folders."
    )
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
                        "tooltip": "One class per line. 'crane: a large long-legged bird' adds a "
                        "definition, which templates can use as {definition}. Lines that begin "
                        "with # are ignored. JSON works too.",
                    },
                ),
                "path": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Optional. A text file, a JSON file, or a folder whose "
                        "sub-folders are the classes; in ComfyUI's input folder. If this is filled "
                        "in, the text above is ignored.",
                    },
                ),
            }
        }

    @classmethod
    def IS_CHANGED(cls, classes: str, path: str) -> str:
        """The classes themselves, because a file or folder may have changed on disk."""
        try:
            return repr(_read_classes(classes, path))
        except SynthGridError as error:
            return str(error)

    @classmethod
    def VALIDATE_INPUTS(cls, classes: str | None = None, path: str | None = None) -> bool | str:
        """Refuses a list that cannot be read before anything is queued; None comes over a link."""
        if path is None or (classes is None and not path.strip()):
            return True
        try:
            _read_classes(classes or "", path)
        except SynthGridError as error:
            return str(error)
        return True

    def read(self, classes: str, path: str) -> tuple[tuple[ClassEntry, ...]]:
        """The classes. Raises PlanError: none, one given twice, or a path that does not exist."""
        return (_read_classes(classes, path),)


class PromptTemplatesNode:
    """SynthGrid Prompt Templates: templates, negative prompt and banks -> SYNTHGRID_TEMPLATES."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "How a class name becomes a prompt. Placeholders: {class}, {definition}, {context}, "
        "{style}. With several templates, contexts or styles, each class uses all of them equally "
        "often, in its own shuffled order. {red|blue} and the wildcard __color__ are drawn anew "
        "for every image, from its seed."
    )
    RETURN_TYPES = ("SYNTHGRID_TEMPLATES",)
    RETURN_NAMES = ("templates",)
    OUTPUT_TOOLTIPS = ("The templates, for the Class-Prompt Batcher.",)
    FUNCTION = "read"
    SEARCH_ALIASES = [
        "prompt list",
        "wildcards",
        "alternatives",
        "prompt bank",
        "dynamic prompts",
        "negative prompt",
        "styles",
    ]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        def bank(name: str, example: str) -> tuple[str, dict[str, Any]]:
            tooltip = f"One {name} per line, for {{{name}}} in a template; for example '{example}'."
            return "STRING", {"multiline": True, "default": "", "tooltip": tooltip}

        def file(name: str) -> tuple[str, dict[str, Any]]:
            tooltip = (
                f"Optional. A file of {name} in ComfyUI's input folder: one "
                f"per line, or JSON, or CSV with a column '{name}'. If this is filled in, the text "
                f"of {name} above is ignored."
            )
            return "STRING", {"default": "", "tooltip": tooltip}

        typed = (
            "Lists for __name__ in templates, contexts and styles: a line '__color__:', and below "
            "it the entries, one per line."
        )
        folder = (
            "A folder in ComfyUI's input folder with a text file for each wildcard that is not "
            "typed in: __color__ is color.txt, __animals/cats__ is animals/cats.txt."
        )
        templates = {
            "multiline": True,
            "default": DEFAULT_TEMPLATE,
            "tooltip": "One prompt template per line, for example "
            "'a photo of a {class}, {context}, {style}' or 'a {small|large} {class}'.",
        }
        negative = {
            "default": "",
            "tooltip": "What images should not show. The same for every image of the plan.",
        }
        return {
            "required": {
                "templates": ("STRING", templates),
                "negative_prompt": ("STRING", {"multiline": True} | negative),
                "contexts": bank("context", "in a forest at dawn"),
                "styles": bank("style", "black and white photograph"),
            },
            "optional": {f"{name}_file": file(name) for name in BANKS}
            | {
                "wildcards": ("STRING", {"multiline": True, "default": "", "tooltip": typed}),
                "wildcards_folder": ("STRING", {"default": "wildcards", "tooltip": folder}),
            },
        }

    @classmethod
    def IS_CHANGED(cls, **inputs: Any) -> float | str:
        """The entries of files and wildcards, because a file may have changed on disk.

        Which wildcards a linked text (None) uses is not known here: then nothing is cached, if
        there is a folder of them.
        """
        folder = inputs.get("wildcards_folder") or ""
        try:
            if any(value is None for value in inputs.values()):
                has_files = bool(folder.strip()) and paths.list_to_read(folder).is_dir()
                return float("nan") if has_files else _entries_of_files(inputs)
            required = dict.fromkeys(cls.INPUT_TYPES()["required"], "")
            texts = cls().read(**required | inputs)[0]
            return repr((texts.templates, texts.contexts, texts.styles, texts.wildcards))
        except SynthGridError as error:
            return str(error)

    @classmethod
    def VALIDATE_INPUTS(
        cls,
        templates: str | None = None,
        contexts: str | None = None,
        styles: str | None = None,
        templates_file: str | None = "",
        contexts_file: str | None = "",
        styles_file: str | None = "",
        wildcards: str | None = "",
        wildcards_folder: str | None = "",
    ) -> bool | str:
        """Refuses what makes no prompt before anything is queued.

        The value of a linked input (None) is not known yet, nor then whether the rest fits it.
        """
        inputs = {name: value for name, value in locals().items() if name != "cls"}
        if any(value is None for value in inputs.values()):
            return True
        try:
            cls().read(negative_prompt="", **inputs)
        except SynthGridError as error:
            return str(error)
        return True

    def read(
        self,
        templates: str,
        negative_prompt: str,
        contexts: str,
        styles: str,
        templates_file: str = "",
        contexts_file: str = "",
        styles_file: str = "",
        wildcards: str = "",
        wildcards_folder: str = "",
    ) -> tuple[PromptTemplates]:
        """The templates with their banks and the wildcards that they use.

        Raises:
            PlanError: no template, an unknown placeholder, a placeholder whose bank is empty, a
                bank file that is missing or malformed (the message names the line), or
                alternatives or wildcards that are malformed or missing.
            LabelsetError: a file outside the folders that may be read.
        """
        entries = _bank("templates", templates, templates_file)
        banks = (
            _texts(_bank("contexts", contexts, contexts_file)),
            _texts(_bank("styles", styles, styles_file)),
        )
        find = _finder(wildcards, wildcards_folder)

        def made(templates: tuple[str, ...]) -> PromptTemplates:
            used = used_wildcards((*templates, *banks[0], *banks[1]), find)
            return PromptTemplates(templates, negative_prompt.strip(), *banks, wildcards=used)

        if templates_file.strip():
            _refuse_bad_lines(entries, templates_file, made)
        return (made(_texts(entries)),)


class ClassPromptBatcher:
    """SynthGrid Class-Prompt Batcher: one batch of the plan per prompt -> SYNTHGRID_BATCH."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Plans images_per_class images for every class and gives out one batch of them each time "
        "the workflow is queued. batch_index counts up by itself: set the queue count to the "
        "number of batches and press Run. 'Queue what is missing' queues every batch of which the "
        "saver's folder lacks an image. Every image has its own label, prompt and seed, which "
        "depend neither on the batch size nor on the number of images."
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
        "dataset",
        "dataset generator",
        "class balance",
        "resume",
        "queue missing",
        "batch index",
        "synthetic data",
    ]

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        def number(default: int, least: int, most: int, tooltip: str) -> dict[str, Any]:
            return {"default": default, "min": least, "max": most, "tooltip": tooltip}

        per_class = number(
            30,
            1,
            MOST_PER_CLASS,
            "Images for each class. Raising it later keeps the existing images.",
        )
        size = number(
            8, 1, MOST_PER_BATCH, "Images per sampler call: as many as fit in the GPU's memory."
        )
        seed = number(
            0, 0, MAX_SEED, "Every image's own seed follows from this number, class and position."
        )
        index = number(
            0, 0, 2**31 - 1, "Which batch to make, from 0. Counts up by itself with every run."
        )
        only = (
            "Leave this empty for the whole batch. Numbers such as '3, 7' make only those images "
            "of this batch; the SynthGrid client uses it to fill gaps."
        )
        resume = (
            "Leave this empty to make every image. With the saver's folder, such as 'synthgrid', "
            "only missing images are made: set batch_index to 0 and queue again to finish an "
            "interrupted run."
        )
        templates = "From SynthGrid Prompt Templates."
        return {
            "required": {
                "classes": ("SYNTHGRID_CLASSES", {"tooltip": "From SynthGrid Class List."}),
                "templates": ("SYNTHGRID_TEMPLATES", {"tooltip": templates}),
                "images_per_class": ("INT", per_class),
                "batch_size": ("INT", size),
                # Not "seed": the browser would add a randomise control, and a plan keeps its seed.
                "plan_seed": ("INT", seed),
                "batch_index": ("INT", index | {"control_after_generate": "increment"}),
            },
            "optional": {
                "only": ("STRING", {"default": "", "tooltip": only}),
                "resume_folder": ("STRING", {"default": "", "tooltip": resume}),
            },
        }

    @classmethod
    def IS_CHANGED(cls, resume_folder: str | None = "", **_: Any) -> float | str:
        """Cached like any node, unless it depends on a folder; a linked one (None) is not known."""
        return "" if resume_folder is not None and not resume_folder.strip() else float("nan")

    @classmethod
    def VALIDATE_INPUTS(cls, resume_folder: str | None = "") -> bool | str:
        """Refuses a folder outside the output folder before anything is sampled."""
        try:
            if resume_folder and resume_folder.strip():
                paths.folder_in_output(resume_folder)
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
        """The batch; where there is nothing to make, a message, and later nodes are skipped.

        Raises:
            PlanError: the classes or templates make no plan. Outside ComfyUI, which alone can skip
                nodes, also if nothing is left to make.
        """
        plan = GenerationPlan(classes, templates, images_per_class, plan_seed)
        count = plan.batch_count(batch_size)
        if batch_index >= count:
            text = _past_the_end(plan, batch_index, count, resume_folder)
            if answer := _nothing(text):
                return answer
        specs = _only(plan.batch(batch_index, batch_size), only)
        missing = _missing(specs, plan.plan_id, resume_folder)
        if not missing:
            where = f"batch {batch_index + 1} of {count}"
            text = f"{where}: all {len(specs)} images already exist in '{resume_folder.strip()}'"
            if answer := _nothing(text):
                return answer
            raise PlanError(f"{text}; nothing is left to make")
        batch = PromptBatch(plan, missing, batch_index, count)
        existing = len(specs) - len(missing)
        summary = batch.summary() + (f" ({existing} already exist)" if existing else "")
        return {"ui": {"text": [summary]}, "result": (batch, summary)}


def _past_the_end(plan: GenerationPlan, batch_index: int, count: int, resume_folder: str) -> str:
    """What is so after the last batch; what exists is known only of the folder to resume."""
    past = (
        f"batch_index {batch_index} is past the last batch "
        f"(the plan has {count}, numbered 0 to {count - 1})"
    )
    name = resume_folder.strip()
    if not name:
        return f"{past}, so nothing was made; {_TO_FINISH}"
    existing = images_below(paths.folder_in_output(name), plan.plan_id)
    done = sum(index < len(plan) for index in existing)
    if done == len(plan):
        return f"plan finished: all {done} images exist in '{name}'"
    return f"{past}; {done} of {len(plan)} images exist in '{name}'; {_TO_FINISH}"


def _nothing(text: str) -> dict[str, Any] | None:
    """A node result that shows a text and makes no batch; None if the host cannot skip nodes."""
    blocker = host.execution_blocker()
    return None if blocker is None else {"ui": {"text": [text]}, "result": (blocker, text)}


def _missing(specs: tuple[ImageSpec, ...], plan_id: str, folder: str) -> tuple[ImageSpec, ...]:
    """The rows without an image anywhere below the folder; all rows if no folder is named."""
    if not folder.strip():
        return specs
    existing = images_below(paths.folder_in_output(folder), plan_id)
    return tuple(spec for spec in specs if spec.index not in existing)


def _read_classes(text: str, path: str) -> tuple[ClassEntry, ...]:
    return read_classes(paths.list_to_read(path)) if path.strip() else parse_classes(text)


def _bank(name: str, text: str, file: str) -> tuple[BankEntry, ...]:
    """The entries of a bank: those of the file if one is named, otherwise the lines of the text."""
    if file.strip():
        return read_bank(paths.list_to_read(file), name)
    return tuple(BankEntry(line, "") for line in parse_lines(text))


def _entries_of_files(inputs: Mapping[str, Any]) -> str:
    files = {name: inputs.get(f"{name}_file") or "" for name in BANKS}
    return repr([_bank(name, "", file) for name, file in files.items()])


def _finder(typed: str, folder: str) -> Callable[[str], tuple[str, ...]]:
    """Entries by name: those typed in, otherwise those of a text file in the folder."""
    lists = parse_wildcards(typed)

    @cache
    def find(name: str) -> tuple[str, ...]:
        if name in lists or not folder.strip():
            return lists.get(name, ())
        return read_wildcard(paths.list_to_read(f"{folder.strip()}/{name}.txt"), name)

    return find


def _texts(entries: tuple[BankEntry, ...]) -> tuple[str, ...]:
    return tuple(entry.text for entry in entries)


def _refuse_bad_lines(
    entries: tuple[BankEntry, ...], file: str, made: Callable[..., PromptTemplates]
) -> None:
    """Raises PlanError for the first template that is wrong, with its line in the file."""
    for entry in entries:
        try:
            made((entry.text,))
        except PlanError as error:
            raise PlanError(
                f"templates_file {paths.list_to_read(file)} {entry.place}: {error}"
            ) from error


def _only(specs: tuple[ImageSpec, ...], only: str) -> tuple[ImageSpec, ...]:
    """The rows of the batch that `only` names; all rows if it is blank."""
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
            f"'only' names images {sorted(unknown)}, but this batch has "
            f"{specs[0].index} to {specs[-1].index}"
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
