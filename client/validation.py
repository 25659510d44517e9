"""A workflow checked against a server's /object_info before the first job. No I/O.

`validate` raises one line with every problem; `warnings` lists what runs but may surprise.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from comfy_nodes.plan import sampler_warning

from .errors import WorkflowError
from .workflow import Workflow, is_link

MOST_PROBLEMS = 6
_EXTRA_INPUTS = {"control_after_generate", "speak_and_recognation"}  # left in files by ComfyUI's own export
_NUMBERS = ("INT", "FLOAT")


def validate(workflow: Workflow, object_info: Mapping[str, Any]) -> None:
    """Checks node classes, inputs, choices, ranges and links.

    Raises:
        WorkflowError: one line that names every problem, with what would be right.
    """
    _refuse_missing_nodes(workflow, object_info)
    problems = [problem for node_id in workflow.graph for problem in _node_problems(workflow, node_id, object_info)]
    if problems:
        more = f"; and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
        raise WorkflowError("; ".join(problems[:MOST_PROBLEMS]) + more)


def _refuse_missing_nodes(workflow: Workflow, object_info: Mapping[str, Any]) -> None:
    missing = sorted({node["class_type"] for node in workflow.graph.values()} - set(object_info))
    if not missing:
        return
    ours = [name for name in missing if name.startswith("SynthGrid")]
    if ours:
        raise WorkflowError(
            f"the server lacks {', '.join(ours)}; install SynthGrid there (clone it into ComfyUI/custom_nodes), restart it"
        )
    name = missing[0]
    near = nearest(name, list(object_info))
    hint = f"; nearest: {', '.join(near)}" if near else ""
    raise WorkflowError(
        f"the server lacks the nodes {', '.join(missing)} that {workflow.source} uses{hint}; install their pack there"
    )


def _node_problems(workflow: Workflow, node_id: str, object_info: Mapping[str, Any]) -> Iterator[str]:
    node = workflow.graph[node_id]
    info = object_info[node["class_type"]]
    groups = info.get("input") if isinstance(info, Mapping) else None
    groups = groups if isinstance(groups, Mapping) else {}
    required, optional = (dict(groups.get(group) or {}) for group in ("required", "optional"))
    known = required | optional
    name = workflow.name_of(node_id)
    yield from _unknown_inputs(name, node["inputs"], known)
    for missing in [each for each in required if each not in node["inputs"]]:
        if not _is_dynamic(required[missing]):
            yield f"{name} lacks the input '{missing}'"
    for key, value in node["inputs"].items():
        if key not in known:
            continue
        if is_link(value):
            yield from _link_problems(name, key, value, known[key], workflow, object_info)
        else:
            yield from _value_problems(name, key, value, known[key])


def _unknown_inputs(name: str, inputs: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[str]:
    if any(_is_dynamic(spec) for spec in known.values()):
        return
    for key in inputs:
        if key not in known and key not in _EXTRA_INPUTS and "." not in key:
            yield f"{name} has no input '{key}'; available: {', '.join(known) or 'none'}"


def _is_dynamic(spec: Any) -> bool:
    """Whether an input stands for inputs that the server makes up while running ("*", COMFY_AUTOGROW_V3, ...)."""
    kind = spec[0] if isinstance(spec, Sequence) and spec else spec
    return isinstance(kind, str) and (kind == "*" or kind.startswith("COMFY_"))


def _choices(spec: Any) -> list[Any] | None:
    """The values that an input may have, where it is a choice; both spellings of ComfyUI are understood."""
    if not isinstance(spec, Sequence) or isinstance(spec, str) or not spec:
        return None
    if isinstance(spec[0], list):
        return spec[0]
    options = _options(spec)
    if spec[0] == "COMBO" and isinstance(options.get("options"), list) and not options.get("remote"):
        return options["options"]
    return None


def _options(spec: Any) -> Mapping[str, Any]:
    return spec[1] if len(spec) > 1 and isinstance(spec[1], Mapping) else {}


def _value_problems(name: str, key: str, value: Any, spec: Any) -> Iterator[str]:
    choices = _choices(spec)
    if choices is not None:
        if value not in choices and not _options(spec).get("multiselect"):
            yield f"{name}: {key} '{value}' is not on this server; {_available(value, choices)}"
        return
    kind = spec[0] if isinstance(spec, Sequence) and spec and isinstance(spec[0], str) else None
    if kind in _NUMBERS:
        yield from _number_problems(name, key, value, str(kind), _options(spec))
    elif kind is not None and kind.isupper() and kind not in ("STRING", "BOOLEAN", "COMBO") and value is None:
        yield f"{name}: {key} needs a link to a {kind}"


def _number_problems(name: str, key: str, value: Any, kind: str, options: Mapping[str, Any]) -> Iterator[str]:
    if not _is_number(value) or (kind == "INT" and value != int(value)):
        yield f"{name}: {key} is {value!r}; expected {'a whole number' if kind == 'INT' else 'a number'}"
        return
    low, high = options.get("min"), options.get("max")
    if low is not None and value < low:
        yield f"{name}: {key} {value} is below the smallest value {low}"
    if high is not None and value > high:
        yield f"{name}: {key} {value} is above the largest value {high}"


def _is_number(value: Any) -> bool:
    finite = not isinstance(value, float) or math.isfinite(value)
    return isinstance(value, (int, float)) and not isinstance(value, bool) and finite


def _available(value: Any, choices: Sequence[Any]) -> str:
    if not choices:
        return "it has none"
    near = nearest(str(value), [str(each) for each in choices])
    ordered = list(dict.fromkeys((*near, *map(str, choices))))
    shown = ", ".join(ordered[:10])
    return f"it has {shown}" + (f" and {len(ordered) - 10} more" if len(ordered) > 10 else "")


def nearest(name: str, names: Sequence[str], *, most: int = 5) -> list[str]:
    """The names most like `name`, best first; case does not count."""
    by_lower = {each.lower(): each for each in names}
    return [by_lower[each] for each in difflib.get_close_matches(name.lower(), list(by_lower), n=most, cutoff=0.4)]


def _link_problems(
    name: str, key: str, link: Sequence[Any], spec: Any, workflow: Workflow, object_info: Mapping[str, Any]
) -> Iterator[str]:
    source = object_info[workflow.graph[link[0]]["class_type"]]
    outputs = source.get("output") if isinstance(source, Mapping) else None
    if not isinstance(outputs, list):
        return
    if not 0 <= link[1] < len(outputs):
        yield f"{name}: '{key}' takes output {link[1]} of {workflow.name_of(link[0])}, which has {len(outputs)}"
        return
    wanted = spec[0] if isinstance(spec, Sequence) and spec else None
    given = outputs[link[1]]
    if isinstance(wanted, str) and isinstance(given, str) and not _compatible(given, wanted):
        yield f"{name}: '{key}' needs {wanted}, but output {link[1]} of {workflow.name_of(link[0])} is {given}"


def _compatible(given: str, wanted: str) -> bool:
    if "*" in (given, wanted) or "COMBO" in (given, wanted) or wanted.startswith("COMFY_"):
        return True
    return bool({each.strip() for each in given.split(",")} & {each.strip() for each in wanted.split(",")})


def warnings(workflow: Workflow) -> list[str]:
    """What runs but makes images that their records alone do not reproduce, one sentence each."""
    sampler = workflow.option("sampler")
    warning = sampler_warning(sampler) if isinstance(sampler, str) else None
    return [warning] if warning else []
