"""The node that gives out the batches of a GenerationPlan, one each time a workflow is queued."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from .. import host, paths
from ..errors import LabelsetError, PlanError
from ..graph import Graph, is_link, queued
from ..plan import (
    MAX_SEED,
    MOST_PER_BATCH,
    MOST_PER_CLASS,
    MOST_PER_PROMPT,
    ClassEntry,
    ImageSpec,
    PromptTemplates,
)
from ..plan.attempts import parse_rows
from ..plan.caption_plan import AnyPlan, CaptionPlan, CaptionPrompts, plan_of
from ..plan.captions import Captions
from ..plan.strengths import parse_strengths
from .prompts import BATCHER, CATEGORY
from .realimages import SourceImage
from .subfolders import images_below, rejected_below

TRY_ONE = "try_one_of_each"
SAVER = "SynthGridLabelledImageSaver"
REAL_LATENT = "SynthGridRealImageLatent"  # passes the batch on
STRENGTH = 2  # the output
_TRIED = (
    "one image of each class, {}; if you like them, turn "
    f"{TRY_ONE} off and press 'Queue what is missing' for the rest"
)
_TO_FINISH = "press 'Queue what is missing' on the batcher, or set batch_index back to 0"


@dataclass(frozen=True)
class PromptBatch:
    """The value of a SYNTHGRID_BATCH link: the rows of one sampler call and their plan.

    `sources` are the real images that the rows start from, one per row; empty if they start from
    noise. While one image of each class is tried, `batch_count` counts the batches of these.
    """

    plan: AnyPlan
    specs: tuple[ImageSpec, ...]
    batch_index: int
    batch_count: int
    sources: tuple[SourceImage, ...] = ()
    is_try: bool = False

    def summary(self) -> str:
        """The batch in words: "batch 3 of 19: badger x4, bat x4"."""
        counts = Counter(spec.label for spec in self.specs)
        listing = ", ".join(f"{label} x{count}" for label, count in counts.items())
        what = "one image of each class, batch" if self.is_try else "batch"
        return f"{what} {self.batch_index + 1} of {self.batch_count}: {listing}"


class ClassPromptBatcher:
    """SynthGrid Class-Prompt Batcher: one batch of the plan per prompt -> SYNTHGRID_BATCH.

    Its outputs are lists, of one value each unless the plan has strengths: then a batch comes in
    parts of one strength each, and ComfyUI runs the nodes after this one once for each part.
    """

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Plans images_per_class images for every class and gives out one batch of them each time "
        "the workflow is queued. batch_index counts up by itself: set the queue count to the "
        "number of batches and press Run. With try_one_of_each, only the first image of every "
        "class is made. 'Queue what is missing' queues every batch of which the "
        "saver's folder lacks an image. Every image has its own label, prompt and seed, which "
        "depend neither on the batch size nor on the number of images."
    )
    RETURN_TYPES = ("SYNTHGRID_BATCH", "STRING", "FLOAT")
    RETURN_NAMES = ("batch", "summary", "strength")
    OUTPUT_IS_LIST = (True, True, True)
    OUTPUT_TOOLTIPS = (
        "Label, prompt and seed of every image of this batch.",
        "Which batch this is, in words.",
        "With strengths: for BasicScheduler's denoise. Otherwise 1.",
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
            "Images for each class. Raising it later keeps the existing images. Not used with "
            "captions, of which images_per_prompt are made.",
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
        per_prompt = number(
            1,
            1,
            MOST_PER_PROMPT,
            "Images that share a prompt, each with its own seed. 1 draws a prompt for every image. "
            "With captions: images of each caption.",
        )
        only = (
            "Leave this empty for the whole batch. Numbers such as '3, 7' make only those images "
            "of this batch. '7@2' makes image 7 with the seed of attempt 2; '7' is attempt 0. "
            "The SynthGrid client uses it to fill gaps."
        )
        resume = (
            "Leave this empty to make every image. With the saver's folder, such as 'synthgrid', "
            "only missing images are made: set batch_index to 0 and queue again to finish an "
            "interrupted run. Images that a check has set aside are made with other seeds."
        )
        try_one = (
            "On: only the first image of every class is made, to see whether the prompts work "
            "before hundreds are made. Off: all images. Those that were tried count: they are the "
            "first of the plan, and 'Queue what is missing' does not make them again. With "
            "captions: one image of each. The SynthGrid client always makes all images."
        )
        strengths = (
            "For images that start from real ones. Numbers such as '0.3, 0.5, 0.7' give every "
            "image one of them, in equal shares: connect the strength output to BasicScheduler's "
            "denoise. Each strength in a batch is sampled by itself. Leave this empty otherwise."
        )
        templates = "From SynthGrid Prompt Templates or Captions."
        return {
            "required": {
                "classes": (
                    "SYNTHGRID_CLASSES",
                    {"tooltip": "From SynthGrid Class List or Captions."},
                ),
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
                "images_per_prompt": ("INT", per_prompt),
                TRY_ONE: ("BOOLEAN", {"default": False, "tooltip": try_one}),
                "strengths": ("STRING", {"default": "", "tooltip": strengths}),
            },
            "hidden": {"prompt": "PROMPT", "unique_id": "UNIQUE_ID"},
        }

    @classmethod
    def IS_CHANGED(
        cls, resume_folder: str | None = "", try_one_of_each: bool | None = False, **_: Any
    ) -> float | str:
        """Cached like any node, unless it depends on a folder; a linked one (None) is not known."""
        is_free = resume_folder is not None and not resume_folder.strip()
        return "" if is_free and try_one_of_each is False else float("nan")

    @classmethod
    def VALIDATE_INPUTS(
        cls, resume_folder: str | None = "", strengths: str | None = ""
    ) -> bool | str:
        """Refuses a folder outside the output folder, and strengths that are none or that no node
        takes, before anything is sampled."""
        try:
            if resume_folder and resume_folder.strip():
                paths.folder_in_output(resume_folder)
        except LabelsetError as error:
            return f"resume_folder: {error}"
        try:
            if strengths is not None:
                parse_strengths(strengths)
        except PlanError as error:
            return str(error)
        return queued.once("strengths", _strengths_problem)

    def select(
        self,
        classes: tuple[ClassEntry, ...] | Captions,
        templates: PromptTemplates | CaptionPrompts,
        images_per_class: int,
        batch_size: int,
        plan_seed: int,
        batch_index: int,
        only: str = "",
        resume_folder: str = "",
        images_per_prompt: int = 1,
        try_one_of_each: bool = False,
        strengths: str = "",
        prompt: Graph | None = None,
        unique_id: str | None = None,
    ) -> dict[str, Any]:
        """The batch; where there is nothing to make, a message, and later nodes are skipped.

        The result is (batches, summaries, strengths), lists of a value for each strength.

        Raises:
            PlanError: the classes or templates make no plan. Outside ComfyUI, which alone can skip
                nodes, also if nothing is left to make.
        """
        plan = plan_of(
            classes,
            templates,
            images_per_class,
            plan_seed,
            images_per_prompt,
            parse_strengths(strengths),
        )
        asked, count = plan, plan.batch_count(batch_size)
        if try_one_of_each:  # again and again, since the classes or templates may have changed
            asked = one_of_each(plan)
            count = asked.batch_count(batch_size)
            batch_index %= count
            resume_folder = resume_folder.strip() or saver_folder(prompt or {}, unique_id)
        elif batch_index >= count:
            text = _past_the_end(plan, batch_index, count, resume_folder)
            if answer := _nothing(text):
                return answer
        specs = _only(plan, asked.batch(batch_index, batch_size), only)
        missing = _missing(plan, specs, resume_folder)
        if not missing:
            where = f"batch {batch_index + 1} of {count}"
            text = f"{where}: all {len(specs)} images already exist in '{resume_folder.strip()}'"
            if try_one_of_each:
                text = _TRIED.format(text)
            if answer := _nothing(text):
                return answer
            raise PlanError(f"{text}; nothing is left to make")
        existing = len(specs) - len(missing)
        whole = PromptBatch(plan, missing, batch_index, count, is_try=try_one_of_each)
        summary = whole.summary() + (f" ({existing} already exist)" if existing else "")
        parts = _by_strength(missing)
        batches = [replace(whole, specs=rows) for _, rows in parts]
        numbers = [1.0 if strength is None else strength for strength, _ in parts]
        return {"ui": {"text": [summary]}, "result": (batches, [summary] * len(parts), numbers)}


def _by_strength(
    specs: Iterable[ImageSpec],
) -> list[tuple[float | None, tuple[ImageSpec, ...]]]:
    """(strength, its rows in order), lowest first; one entry of None if the plan has none."""

    def of(spec: ImageSpec) -> float:
        return -1.0 if spec.strength is None else spec.strength

    return [
        (None if strength < 0 else strength, tuple(rows))
        for strength, rows in groupby(sorted(specs, key=of), key=of)
    ]


def _strengths_problem() -> bool | str:
    """Whether the queued graph's typed-in strengths and its links from their output agree."""
    for node_id, inputs in queued.nodes(BATCHER).items():
        text = inputs.get("strengths", "")
        if not isinstance(text, str):
            continue
        is_taken = queued.is_taken(node_id, STRENGTH)
        if text.strip() and not is_taken:
            return (
                "strengths are given, but no node takes the strength output; connect it to "
                "BasicScheduler's denoise, or empty strengths"
            )
        if is_taken and not text.strip():
            return (
                "a node takes the strength output, but strengths is empty; write numbers such as "
                "0.3, 0.5, 0.7"
            )
    return True


def one_of_each(plan: AnyPlan) -> AnyPlan:
    """The plan's first image of every class, or of every caption: the same id, prompts and seeds,
    and nothing more."""
    if isinstance(plan, CaptionPlan):
        return replace(plan, images_per_caption=1)
    return replace(plan, images_per_class=1)


def saver_folder(prompt: Graph, node_id: str | None) -> str:
    """The folder in which the savers of a batcher keep existing images; "" if it is not known.

    It is unknown where savers have several, replace existing images, or get theirs by a link.
    """
    inputs = [
        node["inputs"]
        for node in prompt.values()
        if node["class_type"] == SAVER and _batcher_of(prompt, node["inputs"]) == node_id
    ]
    if not inputs or any(each.get("overwrite") for each in inputs):
        return ""
    first = inputs[0].get("folder")
    is_one = all(each.get("folder") == first for each in inputs)
    return first if is_one and isinstance(first, str) else ""


def _batcher_of(prompt: Graph, inputs: Mapping[str, Any]) -> str | None:
    """The id of the node that a batch comes from, also through nodes that pass it on."""
    for _ in range(len(prompt) + 1):  # links in a circle end too
        link: Any = inputs.get("batch")
        if not is_link(link):
            return None
        node = prompt.get(link[0], {})
        if node.get("class_type") != REAL_LATENT:
            return str(link[0])
        inputs = node["inputs"]
    return None


def _past_the_end(plan: AnyPlan, batch_index: int, count: int, resume_folder: str) -> str:
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
    if blocker is None:
        return None
    return {"ui": {"text": [text]}, "result": (blocker, [text], blocker)}


def _missing(plan: AnyPlan, specs: tuple[ImageSpec, ...], folder: str) -> tuple[ImageSpec, ...]:
    """The rows without an image anywhere below the folder; all rows if no folder is named.

    A row whose image was rejected there gets the attempt after that, or the one that `only` named
    if that is later.
    """
    if not folder.strip():
        return specs
    root = paths.folder_in_output(folder)
    existing = images_below(root, plan.plan_id)
    missing = [spec for spec in specs if spec.index not in existing]
    rejected = rejected_below(root, plan.plan_id) if missing else {}
    return tuple(
        plan.row(spec.index, attempt=max(spec.attempt, rejected.get(spec.index, -1) + 1))
        for spec in missing
    )


def _only(plan: AnyPlan, specs: tuple[ImageSpec, ...], only: str) -> tuple[ImageSpec, ...]:
    """The rows of the batch that `only` names, at their attempts; all rows if it is blank."""
    if not only.strip():
        return specs
    wanted = parse_rows(only)
    unknown = wanted.keys() - {spec.index for spec in specs}
    if unknown:
        raise PlanError(
            f"'only' names images {sorted(unknown)}, but this batch has "
            f"{specs[0].index} to {specs[-1].index}"
        )
    return tuple(
        plan.row(spec.index, attempt=wanted[spec.index]) for spec in specs if spec.index in wanted
    )


NODE_CLASS_MAPPINGS = {BATCHER: ClassPromptBatcher}
NODE_DISPLAY_NAME_MAPPINGS = {BATCHER: "SynthGrid Class-Prompt Batcher"}
