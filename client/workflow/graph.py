"""Workflows in API format: load, and compute the GenerationPlan.

    workflow = load_workflow(Path("workflows/api/sd15_class_prompts.json"))
    workflow = patch(workflow, Options(classes=read_classes(path), images_per_class=30, steps=30))
    plan = workflow.plan()                       # exactly the plan that the nodes will make
    graph = workflow.for_batch(3, folder="a")    # what is posted for batch 3

No I/O but files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from comfy_nodes.banks.prompt_bank import PromptBank, bank_from_json
from comfy_nodes.errors import PlanError
from comfy_nodes.plan import (
    DEFAULT_TEMPLATE,
    ClassEntry,
    GenerationPlan,
    PromptTemplates,
    fingerprint,
    parse_classes,
    parse_lines,
)
from comfy_nodes.plan.caption_plan import AnyPlan, CaptionPlan
from comfy_nodes.plan.captions import Captions, parse_captions
from comfy_nodes.plan.strengths import parse_strengths
from comfy_nodes.plan.wildcards import parse_wildcards

from ..errors import WorkflowError
from .api_graph import ApiGraph, flag, is_link
from .library import find_workflow
from .roles import BANKS, BATCHER, CAPTIONS, CLASS_LIST, PLAN_NODES, SAVER, TEMPLATES

# Where and how images are put, not what they look like.
_WHERE_TO = {SAVER: ("folder", "overwrite", "compress_level", "subfolders")}


@dataclass(frozen=True)
class Workflow(ApiGraph):
    """A graph with SynthGrid's nodes.

    `captions` are those of a file, which the graph does not hold; see
    client.workflow.changes.captions.
    """

    captions: Captions | None = None

    @property
    def captions_id(self) -> str | None:
        """Id of the captions node, if one feeds the batcher; then classes and templates do not."""
        batchers = self.ids_of(BATCHER)
        link: Any = self.graph[batchers[0]]["inputs"].get("classes") if batchers else None
        if not is_link(link) or self.graph[link[0]]["class_type"] != CAPTIONS:
            return None
        return str(link[0])

    @property
    def has_typed_captions(self) -> bool:
        """Whether the graph itself holds the captions."""
        node_id = self.captions_id
        return node_id is not None and bool(str(self.value(node_id, "captions", "")).strip())

    def check_nodes(self) -> None:
        """Raises WorkflowError if a node of the plan, or the saver, is missing or there twice."""
        texts = (CLASS_LIST, TEMPLATES) if self.captions_id is None else (CAPTIONS,)
        for class_type in (*texts, BATCHER, SAVER):
            self.only_id_of(class_type)

    def plan(self) -> AnyPlan:
        """The plan that the nodes of this graph will make, row for row; computed once.

        Raises:
            WorkflowError: a plan node is missing, duplicated, or fed by a link.
            PlanError: classes, templates or counts that make no plan.
        """
        return self._plan

    @cached_property
    def _plan(self) -> AnyPlan:
        self.check_nodes()
        return self.class_plan() if self.captions_id is None else self._caption_plan()

    def _caption_plan(self) -> CaptionPlan:
        node_id, batcher = self.only_id_of(CAPTIONS), self.only_id_of(BATCHER)
        if str(self.value(node_id, "path", "")).strip():
            raise WorkflowError(
                f"{self.name_of(node_id)} reads the captions from a file on the server; "
                "give them to the client: --captions FILE"
            )
        if self.graph[batcher]["inputs"].get("templates") != [node_id, 1]:
            raise WorkflowError(
                f"{self.name_of(batcher)} has captions and other templates; connect its "
                f"'templates' to {self.name_of(node_id)}, too"
            )
        try:
            return CaptionPlan(
                self.captions or self._typed_captions(node_id),
                str(self.value(node_id, "negative_prompt", "")).strip(),
                self.number(batcher, "images_per_prompt", 1),
                self.number(batcher, "plan_seed", 0),
            )
        except PlanError as error:
            raise PlanError(f"{self.source}: {error}") from error

    def _typed_captions(self, node_id: str) -> Captions:
        if str(self.value(node_id, "part", "")).strip():
            raise WorkflowError(
                f"{self.name_of(node_id)} has only the captions of one batch, as the client sends "
                "them; give all to the client: --captions FILE"
            )
        text, label = (str(self.value(node_id, name, "")) for name in ("captions", "label"))
        return parse_captions(text, label)

    def class_plan(self) -> GenerationPlan:
        """The plan of a workflow with classes and templates; raises as `plan` does."""
        classes, templates, batcher = (
            self.only_id_of(each) for each in (CLASS_LIST, TEMPLATES, BATCHER)
        )
        if str(self.value(classes, "path", "")).strip():
            raise WorkflowError(
                f"{self.name_of(classes)} reads the classes from a path on the server; "
                "give them to the client: --classes"
            )
        self._refuse_bank_files(templates)
        try:
            return GenerationPlan(
                classes=self.classes(),
                templates=PromptTemplates.with_bank(
                    self.prompt_bank(),
                    self._finder(templates),
                    negative_prompt=str(self.value(templates, "negative_prompt", "")).strip(),
                    **self.banks(),
                ),
                images_per_class=self.number(batcher, "images_per_class", 30),
                seed=self.number(batcher, "plan_seed", 0),
                images_per_prompt=self.number(batcher, "images_per_prompt", 1),
                strengths=parse_strengths(str(self.value(batcher, "strengths", ""))),
            )
        except PlanError as error:
            raise PlanError(f"{self.source}: {error}") from error

    def classes(self) -> tuple[ClassEntry, ...]:
        """The typed-in classes. Raises WorkflowError as `value` does, PlanError if none."""
        return parse_classes(str(self.value(self.only_id_of(CLASS_LIST), "classes", "")))

    def banks(self) -> dict[str, tuple[str, ...]]:
        """The typed-in templates, contexts and styles. Raises WorkflowError as `value` does."""
        node_id = self.only_id_of(TEMPLATES)
        defaults = {"templates": DEFAULT_TEMPLATE}
        return {
            name: parse_lines(str(self.value(node_id, name, defaults.get(name, ""))))
            for name in BANKS
        }

    def prompt_bank(self) -> PromptBank:
        """The typed-in bank; an empty one if there is none. Raises PlanError if it is none."""
        text = str(self.value(self.only_id_of(TEMPLATES), "bank", ""))
        return bank_from_json(text) if text.strip() else PromptBank()

    def _finder(self, templates: str) -> Callable[[str], tuple[str, ...]]:
        """Entries of wildcards by name; all of them must be typed into the node."""
        typed = parse_wildcards(str(self.value(templates, "wildcards", "")))

        def find(name: str) -> tuple[str, ...]:
            if name not in typed:
                raise WorkflowError(
                    f"{self.name_of(templates)} uses the wildcard __{name}__, which is not typed "
                    "in; give the folder of its text file to the client: --wildcards FOLDER"
                )
            return typed[name]

        return find

    def _refuse_bank_files(self, templates: str) -> None:
        for bank in (*BANKS, "bank"):
            if str(self.value(templates, f"{bank}_file", "")).strip():
                read, them = ("a bank", "it") if bank == "bank" else (bank, "them")
                raise WorkflowError(
                    f"{self.name_of(templates)} reads {read} from a file on the server; "
                    f"give {them} to the client: --{flag(bank)}"
                )

    def number(self, node_id: str, name: str, default: int) -> int:
        """A typed-in whole number of a node. Raises WorkflowError if it is something else."""
        value = self.value(node_id, name, default)
        try:
            return int(value)
        except (TypeError, ValueError):
            raise WorkflowError(
                f"{self.name_of(node_id)} has {name} {value!r}; expected a whole number"
            ) from None

    @property
    def batch_size(self) -> int:
        """Images per queued prompt. Raises WorkflowError or PlanError as `plan` does."""
        size = self.number(self.only_id_of(BATCHER), "batch_size", 8)
        if size < 1:
            raise PlanError(f"batch size is {size}; it must be 1 or more")
        return size

    @cached_property
    def content(self) -> dict[str, Any]:
        """How an image is made: the graph without titles, plan nodes and where images are saved."""
        return {
            node_id: _content(node)
            for node_id, node in self.graph.items()
            if node["class_type"] not in PLAN_NODES
        }

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits of everything that decides what the images look like.

        Independent of images per class and per batch. Raises as `plan` does.
        """
        return fingerprint([self.content, self.plan().plan_id])

    def for_batch(self, batch_index: int, *, folder: str, only: str = "") -> dict[str, Any]:
        """The graph to post for one batch; `only` names rows of it, "3,7@2", by default all."""
        batcher, saver = self.only_id_of(BATCHER), self.only_id_of(SAVER)
        changes: dict[tuple[str, str], Any] = {
            (batcher, "batch_index"): batch_index,
            (batcher, "only"): only,
            (saver, "folder"): folder,
            (saver, "overwrite"): False,
        }
        # The client itself sorts the images into folders, and knows what is missing.
        if "subfolders" in self.graph[saver]["inputs"]:
            changes[saver, "subfolders"] = "{label}"
        unset: dict[str, Any] = {"resume_folder": "", "try_one_of_each": False}
        for name in unset.keys() & self.graph[batcher]["inputs"]:
            changes[batcher, name] = unset[name]
        plan = self.plan() if self.captions_id is not None else None
        if isinstance(plan, CaptionPlan):
            part = plan.captions.part(batch_index * self.batch_size, self.batch_size)
            sent = {"captions": "".join(part.lines()), "part": part.part_text(), "path": ""}
            changes |= {(self.only_id_of(CAPTIONS), name): text for name, text in sent.items()}
        return dict(self.with_values(changes).graph)


def _content(node: Mapping[str, Any]) -> dict[str, Any]:
    skipped = _WHERE_TO.get(node["class_type"], ())
    inputs = {name: _plain(value) for name, value in node["inputs"].items() if name not in skipped}
    return {"class_type": node["class_type"], "inputs": inputs}


def _plain(value: Any) -> Any:
    """7.0 and 7 are one value to a node, and must be one to the fingerprint."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def load_workflow(path: Path | str) -> Workflow:
    """The workflow in a file in API format; `client.workflow.load_for` reads editor format too.

    Raises:
        WorkflowError: the file is missing, not JSON, in editor format, or not a graph.
    """
    return parse_workflow(read_json(Path(path)), source=str(path))


def read_json(path: Path) -> Any:
    """The parsed JSON of a workflow file. Raises WorkflowError if it cannot be read."""
    path = find_workflow(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise WorkflowError(
            f"cannot read the workflow {path}: {error}; expected a JSON file in API format"
        ) from error
    except ValueError as error:  # malformed, or a number of more digits than Python reads
        raise WorkflowError(
            f"{path} is not valid JSON: {error}; expected a workflow in API format"
        ) from error


def parse_workflow(value: Any, *, source: str = "workflow") -> Workflow:
    """The workflow in a parsed JSON value, or in the body of a POST /prompt.

    Raises:
        WorkflowError: editor format, or not a graph.
    """
    if isinstance(value, dict) and isinstance(value.get("nodes"), list):
        raise WorkflowError(
            f"{source} is in editor format; convert it to API format with: synthgrid convert "
            "(or take its twin in workflows/api/, or in ComfyUI: File, Export (API))"
        )
    if (
        isinstance(value, dict)
        and isinstance(value.get("prompt"), dict)
        and "class_type" not in value["prompt"]
    ):
        value = value["prompt"]
    if not isinstance(value, dict) or not value:
        raise WorkflowError(
            f"{source} is not a workflow in API format; "
            "expected {node id: {class_type, inputs}}"
        )
    for node_id, node in value.items():
        _check_node(source, node_id, node, value)
    return Workflow(value, source)


def _check_node(source: str, node_id: str, node: Any, graph: Mapping[str, Any]) -> None:
    if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
        raise WorkflowError(
            f"{source}: entry '{node_id}' is not a node in API format; it has no class_type"
        )
    if not isinstance(node.setdefault("inputs", {}), dict):
        raise WorkflowError(f"{source}: the inputs of node {node_id} must be an object")
    for name, link in node["inputs"].items():
        if is_link(link) and link[0] not in graph:
            raise WorkflowError(
                f"{source}: node {node_id} takes '{name}' from node {link[0]}, which does not exist"
            )
