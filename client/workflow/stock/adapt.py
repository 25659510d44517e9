"""A stock Stable Diffusion workflow becomes one of SynthGrid's. No I/O.

    adapted = adapt(load_workflow("mine_api.json"), class_word="cat")
    adapted.workflow.graph, adapted.changes

Class List, Prompt Templates and Class-Prompt Batcher are new; prompts, empty latent image, noise
and saver make way for SynthGrid's, under their old node ids; KSampler becomes the nodes that it
stands for, since only they take a noise with a seed per image. Everything else stays as it is.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy_nodes.errors import PlanError
from comfy_nodes.plan import ClassEntry, parse_classes, placeholders

from ...errors import WorkflowError
from ..api_graph import is_link
from ..changes.options import classes_text
from ..graph import Workflow, parse_workflow
from ..roles import BATCHER, CLASS_LIST, LATENT, TEMPLATES
from ..roles import SAVER as LABELLED_SAVER
from .parts import (
    CUSTOM,
    CUSTOM_ADVANCED,
    KSAMPLER,
    KSAMPLER_ADVANCED,
    NO_NOISE,
    RANDOM_NOISE,
    Pass,
    Stock,
    read_stock,
    upstream,
)

ENCODE, NOISE = "SynthGridEncodeClassPrompts", "SynthGridPerImageNoise"
EXAMPLES = ("badger", "bat", "bear")  # classes to start with where none are given
DEFAULT_FOLDER = "synthgrid"
_DEFAULT_BATCH_SIZE = 8
_LAST_STEP = 10_000  # KSamplerAdvanced's way to say "to the end"
_PLAIN_NAME = re.compile(r"[\w -]+(/[\w -]+)*")


@dataclass(frozen=True)
class Change:
    """What happened to one node, in one line."""

    node: str
    text: str


@dataclass(frozen=True)
class Adapted:
    """The new workflow, and what was changed, node by node."""

    workflow: Workflow
    changes: tuple[Change, ...]


def adapt(
    workflow: Workflow,
    *,
    class_word: str | None = None,
    classes: tuple[ClassEntry, ...] | None = None,
    images_per_class: int = 30,
    batch_size: int | None = None,
) -> Adapted:
    """A workflow in API format with SynthGrid's nodes in place of their stock counterparts.

    The positive prompt becomes the template. `class_word`, wherever it stands in it, becomes
    {class}; without it, a prompt that has no {class} gets it at its beginning. `batch_size` is the
    workflow's own if that is above 1, or else 8.

    Raises:
        WorkflowError: it is not a stock text-to-image workflow, or its prompt lacks `class_word`.
    """
    stock = read_stock(workflow)
    work = _Adaptation(workflow, stock)
    template, how = template_of(stock.positive.text, class_word)
    if classes is None:
        classes = tuple(ClassEntry(name) for name in ((class_word,) if class_word else EXAMPLES))
    work.leave_out_unused()
    batcher = work.add_plan(template, how, classes, images_per_class, batch_size)
    work.replace_prompts(batcher)
    work.replace_latent(batcher)
    for number, each in enumerate(stock.passes):
        work.replace_sampler(each, batcher, number)
    work.replace_saver(batcher)
    work.drop_unused()
    adapted = parse_workflow(work.graph, source=workflow.source)
    where = workflow.name_of(stock.positive.encoders[0])
    try:
        templates = adapted.class_plan().templates.templates
    except PlanError as error:
        why = error.__cause__ or error  # without the file's name
        raise WorkflowError(f"the prompt of {where} is no template: {why}") from None
    if templates != (template,):
        raise WorkflowError(f"the prompt of {where} begins with '#'; take it out")
    return Adapted(adapted, tuple(work.changes))


def template_of(prompt: str, class_word: str | None) -> tuple[str, str]:
    """(template, how the class got into it) of a positive prompt.

    Raises:
        WorkflowError: the prompt lacks `class_word`.
    """
    text = " ".join(prompt.split())  # a template is one line; to CLIP, ends of lines are spaces
    if class_word is not None:
        word = re.compile(rf"(?<!\w){re.escape(class_word)}(?!\w)", re.IGNORECASE)
        found, count = word.subn("{class}", text)
        if not class_word.strip() or not count:
            raise WorkflowError(
                f"the positive prompt does not contain the word '{class_word}': '{text[:100]}'"
            )
        return found, f"'{class_word}' became {{class}}"
    if "class" in placeholders(text):
        return text, "it names {class} already"
    if not text:
        return "a photo of a {class}", "the prompt was empty"
    return f"{{class}}, {text}", "{class} was put first; --class-word WORD puts it elsewhere"


def _listed(classes: tuple[ClassEntry, ...]) -> str:
    """The classes one per line, or as JSON where a name would be read as something else."""
    text = "\n".join(each.name for each in classes)
    try:
        return text if parse_classes(text) == classes else classes_text(classes)
    except PlanError:
        return classes_text(classes)


class _Adaptation:
    """A graph on its way, and the changes so far."""

    def __init__(self, workflow: Workflow, stock: Stock) -> None:
        self.graph: dict[str, Any] = copy.deepcopy(dict(workflow.graph))
        self.changes: list[Change] = []
        self._workflow = workflow
        self._stock = stock
        numbers = [int(part) for each in self.graph for part in each.split(":") if part.isdecimal()]
        self._next = max(numbers, default=0) + 1
        self._shared: dict[str, str] = {}

    def _note(self, node_id: str, text: str) -> None:
        name = (
            self._workflow.name_of(node_id)
            if node_id in self._workflow.graph
            else f"node {node_id}"
        )
        self.changes.append(Change(node_id, f"{name}: {text}"))

    def _add(self, kind: str, title: str, inputs: Mapping[str, Any]) -> str:
        """A new node, or the one that was added with the same class and inputs."""
        key = repr((kind, sorted(inputs.items())))
        if key not in self._shared:
            node_id, self._next = str(self._next), self._next + 1
            self._put(node_id, kind, title, inputs)
            self._shared[key] = node_id
            self._note(node_id, f"new, {kind}")
        return self._shared[key]

    def _put(self, node_id: str, kind: str, title: str, inputs: Mapping[str, Any]) -> None:
        self.graph[node_id] = {
            "class_type": kind,
            "inputs": dict(inputs),
            "_meta": {"title": title},
        }

    def _redirect(self, encoder: str, new: tuple[str, int]) -> None:
        for node in self.graph.values():
            for name, value in node["inputs"].items():
                if is_link(value) and value[0] == encoder:
                    node["inputs"][name] = list(new)

    def leave_out_unused(self) -> None:
        """Drops what the final images do not need: previews, savers of earlier passes."""
        for node_id in [each for each in self.graph if each not in self._stock.used]:
            kind = self.graph.pop(node_id)["class_type"]
            self._note(node_id, f"{kind} left out, the final images do not need it")

    def add_plan(
        self,
        template: str,
        how: str,
        classes: tuple[ClassEntry, ...],
        images_per_class: int,
        batch_size: int | None,
    ) -> str:
        """Class List, Prompt Templates and Batcher; the last one's id."""
        inputs: dict[str, Any] = {"classes": _listed(classes), "path": ""}
        list_id = self._add(CLASS_LIST, "Classes", inputs)
        inputs = {"templates": template, "negative_prompt": self._stock.negative.text.strip()}
        banks = dict.fromkeys(
            ("contexts", "styles", "templates_file", "contexts_file", "styles_file"), ""
        )
        templates_id = self._add(TEMPLATES, "Prompt templates", inputs | banks)
        self.changes[-1] = Change(
            templates_id, f"node {templates_id}: new, {TEMPLATES}, '{template}' ({how})"
        )
        own = self.graph[self._stock.latent]["inputs"].get("batch_size")
        size = own if isinstance(own, int) and own > 1 else _DEFAULT_BATCH_SIZE
        inputs = {
            "classes": [list_id, 0],
            "templates": [templates_id, 0],
            "images_per_class": images_per_class,
            "batch_size": batch_size or size,
            "plan_seed": 0,
            "batch_index": 0,
            "only": "",
            "resume_folder": "",
        }
        return self._add(BATCHER, "Batcher", inputs)

    def replace_prompts(self, batcher: str) -> None:
        """One node per CLIP that encodes both prompts, in place of the text encoders."""
        first = self._stock.positive.encoders
        outputs = {each: 1 for each in self._stock.negative.encoders} | {each: 0 for each in first}
        made: dict[str, str] = {}
        for node_id in dict.fromkeys((*first, *outputs)):
            clip = self.graph[node_id]["inputs"].get("clip")
            encode = made.setdefault(repr(clip), node_id)
            if encode == node_id:
                inputs = {"clip": clip, "batch": [batcher, 0]}
                self._put(node_id, ENCODE, "Encode prompts", inputs)
                self._note(node_id, f"CLIPTextEncode became {ENCODE}")
            else:
                del self.graph[node_id]
                self._note(node_id, f"CLIPTextEncode left out, node {encode} does its work")
            self._redirect(node_id, (encode, outputs[node_id]))

    def replace_latent(self, batcher: str) -> None:
        """An empty latent image with a row per image of the batch."""
        node_id = self._stock.latent
        inputs = self.graph[node_id]["inputs"]
        size = {name: inputs[name] for name in ("width", "height") if name in inputs}
        self._put(node_id, LATENT, "Image size", {"batch": [batcher, 0], **size})
        self._note(node_id, f"EmptyLatentImage became {LATENT}")

    def replace_sampler(self, each: Pass, batcher: str, number: int) -> None:
        """SamplerCustomAdvanced with a seed per image, in place of a pass's sampler."""
        node_id = each.sampler
        kind, inputs = self.graph[node_id]["class_type"], self.graph[node_id]["inputs"]
        if kind == CUSTOM_ADVANCED:
            self._replace_noise(node_id, batcher)
            return
        if "model" not in inputs:
            raise WorkflowError(f"{self._workflow.name_of(node_id)} has no model; connect one")
        which = "" if number == 0 else f", pass {number + 1}"
        guider = {name: inputs.get(name) for name in ("model", "positive", "negative", "cfg")}
        parts = {
            "noise": [self._noise(node_id, kind, inputs, batcher), 0],
            "guider": [self._add("CFGGuider", f"Guidance{which}", guider), 0],
            "sampler": inputs.get("sampler"),
            "sigmas": inputs.get("sigmas"),
            "latent_image": inputs["latent_image"],
        }
        if kind != CUSTOM:
            name = {"sampler_name": inputs.get("sampler_name", "euler")}
            parts["sampler"] = [self._add("KSamplerSelect", f"Sampler{which}", name), 0]
            parts["sigmas"] = self._sigmas(node_id, kind, inputs, which)
        title = self._workflow.title_of(node_id) or "Sample"
        self._put(node_id, CUSTOM_ADVANCED, title, parts)
        self._note(node_id, f"{kind} became {CUSTOM_ADVANCED}")

    def _replace_noise(self, sampler: str, batcher: str) -> None:
        link = self.graph[sampler]["inputs"].get("noise")
        kind = self.graph[link[0]]["class_type"] if is_link(link) else ""
        if kind == RANDOM_NOISE:
            self.graph[sampler]["inputs"]["noise"] = [self._per_image(batcher), 0]
            self._note(sampler, f"its noise comes from {NOISE}, a seed per image")
        elif kind not in (NO_NOISE, NOISE):
            raise WorkflowError(
                f"{self._workflow.name_of(sampler)} takes its noise from "
                f"{kind or 'nowhere'}; expected {RANDOM_NOISE}"
            )

    def _per_image(self, batcher: str) -> str:
        return self._add(NOISE, "Noise: a seed per image", {"batch": [batcher, 0]})

    def _noise(self, node_id: str, kind: str, inputs: Mapping[str, Any], batcher: str) -> str:
        """The noise of a pass; a pass that goes on with the noise of the last one adds none."""
        adds = inputs.get("add_noise", True)
        if is_link(adds):
            raise WorkflowError(
                f"{self._workflow.name_of(node_id)} takes add_noise from a link; type it in"
            )
        none = adds == "disable" if kind == KSAMPLER_ADVANCED else kind == CUSTOM and not adds
        return self._add(NO_NOISE, "No new noise", {}) if none else self._per_image(batcher)

    def _sigmas(self, node_id: str, kind: str, inputs: Mapping[str, Any], which: str) -> list[Any]:
        """The noise levels of a KSampler, or of the steps that a KSamplerAdvanced makes."""
        schedule = {
            "model": inputs["model"],
            "scheduler": inputs.get("scheduler", "normal"),
            "steps": inputs.get("steps", 20),
            "denoise": inputs.get("denoise", 1.0) if kind == KSAMPLER else 1.0,
        }
        levels = [self._add("BasicScheduler", f"Steps{which}", schedule), 0]
        if kind == KSAMPLER:
            return levels
        first, last = inputs.get("start_at_step", 0), inputs.get("end_at_step", _LAST_STEP)
        steps = inputs.get("steps", 20)
        if not all(isinstance(each, int) for each in (first, last, steps)):
            raise WorkflowError(
                f"{self._workflow.name_of(node_id)} has no typed-in whole number of steps, first "
                "and last step; type them in"
            )
        if last < steps:
            if inputs.get("return_with_leftover_noise", "disable") != "enable":
                raise WorkflowError(
                    f"{self._workflow.name_of(node_id)} ends at step {last} of {steps} and removes "
                    "the noise that is left at once, which SamplerCustomAdvanced cannot; turn "
                    "return_with_leftover_noise on, or let it make all its steps"
                )
            cut = {"sigmas": levels, "step": last}
            levels = [self._add("SplitSigmas", f"First steps{which}", cut), 0]
        if first > 0:
            cut = {"sigmas": levels, "step": first}
            levels = [self._add("SplitSigmas", f"Last steps{which}", cut), 1]
        return levels

    def replace_saver(self, batcher: str) -> None:
        """The saver that puts every image into the folder of its class."""
        node_id = self._stock.saver
        kind, inputs = self.graph[node_id]["class_type"], self.graph[node_id]["inputs"]
        prefix = inputs.get("filename_prefix")
        named = isinstance(prefix, str) and prefix != "ComfyUI" and _PLAIN_NAME.fullmatch(prefix)
        values = {
            "images": inputs.get("images"),
            "batch": [batcher, 0],
            "folder": prefix if named else DEFAULT_FOLDER,
            "overwrite": False,
            "format": "PNG",
            "compress_level": 4,
            "quality": 95,
            "keep_bad_images": False,
            "subfolders": "{label}",
        }
        self._put(node_id, LABELLED_SAVER, "Save into class folders", values)
        self._note(node_id, f"{kind} became {LABELLED_SAVER}, folder '{values['folder']}'")

    def drop_unused(self) -> None:
        """Drops what only the replaced nodes needed, such as RandomNoise or a node with a text."""
        used = set(upstream(Workflow(self.graph), self._stock.saver))
        for node_id in [each for each in self.graph if each not in used]:
            kind = self.graph.pop(node_id)["class_type"]
            self._note(node_id, f"{kind} left out, nothing needs it any more")
