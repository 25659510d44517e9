"""Options: what a user may change in a workflow, and `patch`, which applies them."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from comfy_nodes.banks.prompt_bank import PromptBank, bank_text
from comfy_nodes.errors import PlanError
from comfy_nodes.listing import listing
from comfy_nodes.plan import (
    MOST_PER_BATCH,
    MOST_PER_CLASS,
    ClassEntry,
    PromptTemplates,
    parse_lines,
)
from comfy_nodes.plan.captions import Captions
from comfy_nodes.plan.strengths import check_strengths, strengths_text
from comfy_nodes.plan.wildcards import read_wildcard, wildcards_text

from ...errors import WorkflowError
from ..api_graph import flag
from ..graph import Workflow
from ..roles import BANKS, BATCHER, CLASS_LIST, REAL, STRENGTH, TEMPLATES
from .captions import with_captions

log = logging.getLogger(__name__)

# Options that are no input's value.
_OTHERWISE = ("classes", "wildcards", "bank", "captions", "strengths")


@dataclass(frozen=True)
class Options:
    """What to change in a workflow; None keeps the file's value. Sizes are multiples of 8 pixels.

    Raises:
        WorkflowError: a value that no server accepts.
        PlanError: strengths that make no plan.
    """

    classes: tuple[ClassEntry, ...] | None = None
    templates: tuple[str, ...] | None = None
    contexts: tuple[str, ...] | None = None
    styles: tuple[str, ...] | None = None
    negative: str | None = None
    images_per_class: int | None = None
    batch_size: int | None = None
    images_per_prompt: int | None = None
    plan_seed: int | None = None
    checkpoint: str | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    cfg: float | None = None
    sampler: str | None = None
    scheduler: str | None = None
    strength: float | None = None
    strengths: tuple[float, ...] | None = None  # of one plan; instead of `strength`
    real_folder: str | None = None
    wildcards: Path | None = None  # a folder of text files
    bank: PromptBank | None = None
    captions: Captions | None = None

    def __post_init__(self) -> None:
        for name in ("images_per_class", "images_per_prompt", "batch_size", "steps"):
            value = getattr(self, name)
            most = MOST_PER_BATCH if name == "batch_size" else MOST_PER_CLASS
            if value is not None and not 1 <= value <= most:
                shown = name.replace("_", " ")
                raise WorkflowError(f"{shown} is {value}; it must be 1 to {most}")
        self._refuse_beside_captions()
        if self.strength is not None and not 0.0 < self.strength <= 1.0:
            raise WorkflowError(
                f"strength is {self.strength}; "
                "it must be above 0 (the real image) and at most 1 (nothing of it)"
            )
        check_strengths(self.strengths or ())
        for name in ("width", "height"):
            value = getattr(self, name)
            if value is not None and (value < 16 or value % 8):
                raise WorkflowError(
                    f"{name} {value} is not a multiple of 8 pixels, 16 or more; "
                    f"try {_multiple(value)}"
                )
        for name in ("templates", "contexts", "styles"):
            for line in getattr(self, name) or ():
                _refuse_unlisted(name[:-1], line)
        for entry in self.classes or ():
            _refuse_undecodable("class", entry.name + entry.definition)
        _refuse_undecodable("negative prompt", self.negative or "")

    def _refuse_beside_captions(self) -> None:
        given = [name for name in BESIDE_CLASSES if getattr(self, name) is not None]
        if self.captions is not None and given:
            flags = ", ".join("--" + flag(name) for name in given)
            raise WorkflowError(
                f"captions are prompts as they are and cannot go with {flags}; leave that out, or "
                "--captions; --per-prompt K makes K images of each caption"
            )


# What makes prompts out of classes; with captions there is none of it.
BESIDE_CLASSES = (
    "classes",
    "templates",
    "contexts",
    "styles",
    "wildcards",
    "bank",
    "images_per_class",
    "strengths",
)


def _multiple(value: int) -> int:
    return max(16, round(value / 8) * 8)


def _refuse_unlisted(kind: str, line: str) -> None:
    """The nodes keep these one per line, so an entry must be a line that their parser returns."""
    _refuse_undecodable(kind, line)
    if parse_lines(line) != (line,):
        raise WorkflowError(
            f"{kind} '{line}' must be one line, not blank, without '#' "
            "or spaces at its start or end"
        )


def _refuse_undecodable(kind: str, text: str) -> None:
    """File names and arguments may hold bytes that are not text, which JSON cannot hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise WorkflowError(f"{kind} {text!a} is not valid Unicode text; rename it") from None


def patch(workflow: Workflow, options: Options) -> Workflow:
    """The workflow with the options applied.

    Raises:
        WorkflowError: no node takes an option, or several do.
    """
    workflow.check_nodes()
    if options.captions is not None:
        workflow = with_captions(workflow, options.captions)
    else:
        _refuse_for_captions(workflow, options)
    changes: dict[tuple[str, str], Any] = {}
    if options.classes is not None:
        node_id = workflow.only_id_of(CLASS_LIST)
        changes[node_id, "classes"] = classes_text(options.classes)
        changes[node_id, "path"] = ""
    for each in fields(options):
        value = getattr(options, each.name)
        if value is not None and each.name not in _OTHERWISE:
            node_id, name = workflow.place(each.name)
            changes[node_id, name] = "\n".join(value) if isinstance(value, tuple) else value
            if each.name in BANKS and f"{name}_file" in workflow.graph[node_id]["inputs"]:
                changes[node_id, f"{name}_file"] = ""
    patched = workflow.with_values(changes)
    if options.strengths is not None:
        patched = _with_strengths(patched, options.strengths)
    if options.bank is not None:
        patched = _with_bank(patched, options, options.bank)
    if options.wildcards is None:
        return patched
    find = partial(wildcard_in, options.wildcards)
    banks = patched.banks()
    texts = PromptTemplates.with_bank(
        patched.prompt_bank(),
        find,
        templates=banks["templates"],
        contexts=banks["contexts"],
        styles=banks["styles"],
    )
    return patched.with_values(
        {(workflow.only_id_of(TEMPLATES), "wildcards"): wildcards_text(texts.wildcards)}
    )


def _refuse_for_captions(workflow: Workflow, options: Options) -> None:
    given = [name for name in BESIDE_CLASSES if getattr(options, name) is not None]
    if workflow.captions_id is not None and given:
        raise WorkflowError(
            f"{workflow.source} makes images of captions, which take no --{flag(given[0])}; "
            "leave that out, or give a workflow with SynthGrid Class List"
        )


def _with_strengths(workflow: Workflow, strengths: Sequence[float]) -> Workflow:
    """The batcher has the strengths, and the scheduler takes them from it.

    Raises:
        WorkflowError: the images do not start from real ones, or no node takes a strength.
    """
    if not workflow.ids_of(REAL):
        raise WorkflowError(
            f"several strengths are for images that start from real ones, and {workflow.source} "
            f"has no {REAL} node; start from workflows/api/sd15_from_real_images.json"
        )
    batcher = workflow.only_id_of(BATCHER)
    changes: dict[tuple[str, str], Any] = {(batcher, "strengths"): strengths_text(strengths)}
    if not workflow.takes(batcher, STRENGTH):
        changes[workflow.place("strength")] = [batcher, STRENGTH]
    return workflow.with_values(changes)


def _with_bank(workflow: Workflow, options: Options, bank: PromptBank) -> Workflow:
    """The node keeps the bank's text, so that a server needs no file and a folder says it all."""
    node_id = workflow.only_id_of(TEMPLATES)
    changes = {"bank": bank_text(bank_for(workflow.classes(), bank, options))}
    if "bank_file" in workflow.graph[node_id]["inputs"]:
        changes["bank_file"] = ""
    return workflow.with_values({(node_id, name): value for name, value in changes.items()})


def bank_for(classes: Sequence[ClassEntry], bank: PromptBank, options: Options) -> PromptBank:
    """What a bank has for these classes; the options' contexts and styles replace shared ones."""
    names = {entry.name for entry in classes}
    if unused := sorted(set(bank.classes) - names):
        log.warning("the bank has entries for classes that are not made: %s", listing(unused))
    return replace(
        bank.only(names),
        contexts=bank.contexts if options.contexts is None else (),
        styles=bank.styles if options.styles is None else (),
    )


def wildcard_in(folder: Path | None, name: str) -> tuple[str, ...]:
    """The entries of a wildcard, from its text file in a folder.

    Raises:
        PlanError: no folder was given, it has no such file, or the file is malformed.
    """
    if folder is None:
        raise PlanError(
            f"a prompt uses the wildcard __{name}__; give the folder of {name}.txt: "
            "--wildcards FOLDER"
        )
    return read_wildcard(folder / f"{name}.txt", name)


def classes_text(classes: Sequence[ClassEntry]) -> str:
    """Classes as the JSON text that SynthGridClassList reads back verbatim, whatever the names."""
    return json.dumps([asdict(entry) for entry in classes], ensure_ascii=False)
