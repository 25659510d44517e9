"""Checks a workflow before its first job: against /object_info, /system_stats and the disk.

    findings = check(workflow, server.object_info(), stats=server.system_stats(), out=Path("out"))

A finding is an error, with which the run would fail, or a warning. `validate` raises all errors in
one line. No I/O except a look at the free space of `out`.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from comfy_nodes.samplers import sampler_warning

from ..errors import WorkflowError
from .api_graph import is_link
from .changes.overrides import nearest
from .convert.widgets import CUSTOM_COMBO
from .estimates import gpu_memory, image_bytes, shown_bytes
from .graph import Workflow
from .roles import LATENT, SAVER

MOST_PROBLEMS = 6
ERROR, WARNING = "error", "warning"
# Left in files by ComfyUI's own export.
_EXTRA_INPUTS = {"control_after_generate", "speak_and_recognation"}
_NUMBERS = ("INT", "FLOAT")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong ("error") or may surprise ("warning").

    `node` is a node id, "" if no node is to blame. `code` never changes between versions:
    missing_node, unknown_input, missing_input, not_on_server, out_of_range, wrong_type, wrong_link,
    not_reproducible, pack_version, gpu_memory, disk_space.
    """

    level: str
    code: str
    node: str
    message: str

    def to_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


def check(
    workflow: Workflow,
    object_info: Mapping[str, Any],
    *,
    stats: Mapping[str, Any] | None = None,
    out: Path | None = None,
    images: int | None = None,
) -> list[Finding]:
    """Every finding, errors first.

    `stats` is /system_stats; `images` (default: the whole plan) will be written to `out`.

    Raises:
        WorkflowError, PlanError: the workflow makes no plan.
    """
    found = list(_missing_nodes(workflow, object_info))
    if not found:
        found = [
            each
            for node_id in workflow.graph
            for each in _node_findings(workflow, node_id, object_info)
        ]
    found += [
        Finding(WARNING, "not_reproducible", _sampler_node(workflow), text)
        for text in warnings(workflow)
    ]
    if stats is not None:
        found += [*_version_findings(stats), *_memory_findings(workflow, stats)]
    if out is not None:
        found += _disk_findings(workflow, out, len(workflow.plan()) if images is None else images)
    return sorted(found, key=lambda each: each.level != ERROR)


def validate(workflow: Workflow, object_info: Mapping[str, Any]) -> None:
    """Checks node classes, inputs, choices, ranges and links.

    Raises:
        WorkflowError: one line that names every problem and what would be right.
    """
    found = list(_missing_nodes(workflow, object_info))
    refuse(
        found
        or [
            each
            for node_id in workflow.graph
            for each in _node_findings(workflow, node_id, object_info)
        ]
    )


def refuse(findings: Sequence[Finding]) -> None:
    """Raises WorkflowError with the errors among the findings, if there are any."""
    errors = [each.message for each in findings if each.level == ERROR]
    if errors:
        more = f"; and {len(errors) - MOST_PROBLEMS} more" if len(errors) > MOST_PROBLEMS else ""
        raise WorkflowError("; ".join(errors[:MOST_PROBLEMS]) + more)


def _missing_nodes(workflow: Workflow, object_info: Mapping[str, Any]) -> Iterator[Finding]:
    missing: dict[str, str] = {}
    for node_id, node in workflow.graph.items():
        if node["class_type"] not in object_info:
            missing.setdefault(node["class_type"], node_id)
    ours = sorted(name for name in missing if name.startswith("SynthGrid"))
    if ours:
        yield Finding(
            ERROR,
            "missing_node",
            missing[ours[0]],
            f"the server lacks {', '.join(ours)}; install SynthGrid there "
            "(clone it into ComfyUI/custom_nodes) and restart it",
        )
    others = sorted(set(missing) - set(ours))
    if others:
        near = nearest(others[0], list(object_info))
        hint = f"; nearest: {', '.join(near)}" if near else ""
        yield Finding(
            ERROR,
            "missing_node",
            missing[others[0]],
            f"the server lacks the nodes {', '.join(others)} that {workflow.source} uses{hint}; "
            "install their pack there",
        )


def _node_findings(
    workflow: Workflow, node_id: str, object_info: Mapping[str, Any]
) -> Iterator[Finding]:
    for code, message in _node_problems(workflow, node_id, object_info):
        yield Finding(ERROR, code, node_id, message)


def _node_problems(
    workflow: Workflow, node_id: str, object_info: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    node = workflow.graph[node_id]
    if node["class_type"] == CUSTOM_COMBO:
        return
    info = object_info[node["class_type"]]
    groups = info.get("input") if isinstance(info, Mapping) else None
    groups = groups if isinstance(groups, Mapping) else {}
    required, optional = (dict(groups.get(group) or {}) for group in ("required", "optional"))
    known = required | optional
    name = workflow.name_of(node_id)
    for problem in _unknown_inputs(name, node["inputs"], known):
        yield "unknown_input", problem
    for missing in [each for each in required if each not in node["inputs"]]:
        if not _is_dynamic(required[missing]):
            yield "missing_input", f"{name} lacks the input '{missing}'"
    for key, value in node["inputs"].items():
        if key not in known:
            continue
        if is_link(value):
            for problem in _link_problems(name, key, value, known[key], workflow, object_info):
                yield "wrong_link", problem
        else:
            yield from _value_problems(name, key, value, known[key])


def _unknown_inputs(
    name: str, inputs: Mapping[str, Any], known: Mapping[str, Any]
) -> Iterator[str]:
    if any(_is_dynamic(spec) for spec in known.values()):
        return
    for key in inputs:
        if key not in known and key not in _EXTRA_INPUTS and "." not in key:
            yield f"{name} has no input '{key}'; available: {', '.join(known) or 'none'}"


def _is_dynamic(spec: Any) -> bool:
    """Whether an input stands for inputs that the server creates at run time ("*", COMFY_...)."""
    kind = spec[0] if isinstance(spec, Sequence) and spec else spec
    return isinstance(kind, str) and (kind == "*" or kind.startswith("COMFY_"))


def _choices(spec: Any) -> list[Any] | None:
    """The choices of an input, in either of ComfyUI's spellings; None if it is not a choice."""
    if not isinstance(spec, Sequence) or isinstance(spec, str) or not spec:
        return None
    if isinstance(spec[0], list):
        return spec[0]
    options = _options(spec)
    if (
        spec[0] == "COMBO"
        and isinstance(options.get("options"), list)
        and not options.get("remote")
    ):
        choices: list[Any] = options["options"]
        return choices
    return None


def _options(spec: Any) -> Mapping[str, Any]:
    return spec[1] if len(spec) > 1 and isinstance(spec[1], Mapping) else {}


def _value_problems(name: str, key: str, value: Any, spec: Any) -> Iterator[tuple[str, str]]:
    choices = _choices(spec)
    if choices is not None:
        if value not in choices and not _options(spec).get("multiselect"):
            yield (
                "not_on_server",
                f"{name}: {key} '{value}' is not on this server; {_available(value, choices)}",
            )
        return
    kind = spec[0] if isinstance(spec, Sequence) and spec and isinstance(spec[0], str) else None
    if kind in _NUMBERS:
        yield from _number_problems(name, key, value, str(kind), _options(spec))
    elif (
        kind is not None
        and kind.isupper()
        and kind not in ("STRING", "BOOLEAN", "COMBO")
        and value is None
    ):
        yield "missing_input", f"{name}: {key} needs a link to a {kind}"


def _number_problems(
    name: str, key: str, value: Any, kind: str, options: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    if not _is_number(value) or (kind == "INT" and value != int(value)):
        yield (
            "wrong_type",
            f"{name}: {key} is {value!r}; "
            f"expected {'a whole number' if kind == 'INT' else 'a number'}",
        )
        return
    low, high = options.get("min"), options.get("max")
    if low is not None and value < low:
        yield "out_of_range", f"{name}: {key} {value} is below the smallest value {low}"
    if high is not None and value > high:
        yield "out_of_range", f"{name}: {key} {value} is above the largest value {high}"


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


def _link_problems(
    name: str,
    key: str,
    link: Sequence[Any],
    spec: Any,
    workflow: Workflow,
    object_info: Mapping[str, Any],
) -> Iterator[str]:
    source = object_info[workflow.graph[link[0]]["class_type"]]
    outputs = source.get("output") if isinstance(source, Mapping) else None
    if not isinstance(outputs, list):
        return
    if not 0 <= link[1] < len(outputs):
        yield (
            f"{name}: '{key}' takes output {link[1]} of {workflow.name_of(link[0])}, "
            f"which has {len(outputs)}"
        )
        return
    wanted = spec[0] if isinstance(spec, Sequence) and spec else None
    given = outputs[link[1]]
    if isinstance(wanted, str) and isinstance(given, str) and not _compatible(given, wanted):
        yield (
            f"{name}: '{key}' needs {wanted}, "
            f"but output {link[1]} of {workflow.name_of(link[0])} is {given}"
        )


def _compatible(given: str, wanted: str) -> bool:
    if "*" in (given, wanted) or "COMBO" in (given, wanted) or wanted.startswith("COMFY_"):
        return True
    return bool(
        {each.strip() for each in given.split(",")} & {each.strip() for each in wanted.split(",")}
    )


def warnings(workflow: Workflow) -> list[str]:
    """What runs, but makes images that cannot be reproduced from their records; a sentence each."""
    sampler = workflow.option("sampler")
    warning = sampler_warning(sampler) if isinstance(sampler, str) else None
    return [warning] if warning else []


def _sampler_node(workflow: Workflow) -> str:
    try:
        return workflow.place("sampler")[0]
    except WorkflowError:
        return ""


def _version_findings(stats: Mapping[str, Any]) -> Iterator[Finding]:
    """ComfyUI does not report a pack's version; a server that does is compared with this client."""
    system = stats.get("system")
    theirs = system.get("synthgrid_version") if isinstance(system, Mapping) else None
    try:
        ours = version("synthgrid")
    except PackageNotFoundError:
        return
    if isinstance(theirs, str) and theirs != ours:
        yield Finding(
            WARNING,
            "pack_version",
            "",
            f"the server has SynthGrid {theirs[:40]}, this client is {ours}; update the older one",
        )


def _memory_findings(workflow: Workflow, stats: Mapping[str, Any]) -> Iterator[Finding]:
    """A warning if the batch needs more than is free, an error if twice the GPU is too small."""
    gpus = _gpus(stats)
    width, height = workflow.option("width"), workflow.option("height")
    if not gpus or not isinstance(width, int) or not isinstance(height, int):
        return
    size = workflow.batch_size
    need = gpu_memory(batch_size=size, width=width, height=height)
    free, total = max(each[0] for each in gpus), max(each[1] for each in gpus)
    where = (workflow.ids_of(LATENT) or [""])[0]
    what = f"a batch of {size} images of {width}x{height}"
    if max(need.least_sampling, need.decoding) > 2 * total:
        least = shown_bytes(max(need.least_sampling, need.decoding))
        yield Finding(
            ERROR,
            "gpu_memory",
            where,
            f"{what} needs about {least} of GPU memory, the server's GPU has {shown_bytes(total)}; "
            "use a smaller batch size or image "
            f"(--batch-size {max(1, size * 2 * total // (need.sampling or 1))})",
        )
    elif need.comfortable > free:
        yield Finding(
            WARNING,
            "gpu_memory",
            where,
            f"{what} needs about {shown_bytes(need.comfortable)} of GPU memory with an SD 1.5 "
            f"model (estimated), {shown_bytes(free)} of {shown_bytes(total)} are free: "
            "it may be slow or fail; a smaller --batch-size helps",
        )


def _gpus(stats: Mapping[str, Any]) -> list[tuple[int, int]]:
    """(free, total) bytes of every device that is not a CPU and reports both."""
    devices = stats.get("devices")
    found = []
    for each in devices if isinstance(devices, list) else []:
        if isinstance(each, Mapping) and each.get("type") != "cpu":
            free, total = each.get("vram_free"), each.get("vram_total")
            if isinstance(free, int) and isinstance(total, int) and total > 0:
                found.append((free, total))
    return found


def _disk_findings(workflow: Workflow, out: Path, images: int) -> Iterator[Finding]:
    """An error if half the estimate does not fit, a warning if twice the estimate does not."""
    width, height = workflow.option("width"), workflow.option("height")
    if not isinstance(width, int) or not isinstance(height, int):
        return
    savers = workflow.ids_of(SAVER)
    form = workflow.graph[savers[0]]["inputs"].get("format") if savers else None
    need = images * image_bytes(
        width=width, height=height, file_format=form if isinstance(form, str) else "PNG"
    )
    free = _free_bytes(out)
    if free is None or 2 * need <= free:
        return
    fits = need <= 2 * free
    yield Finding(
        WARNING if fits else ERROR,
        "disk_space",
        "",
        f"{images} images of {width}x{height} take about {shown_bytes(need)} (estimated), "
        f"and {shown_bytes(free)} are free where {out} will be; "
        f"{'it may not fit' if fits else 'choose another disk with --out, or fewer images'}",
    )


def _free_bytes(path: Path) -> int | None:
    """Free space where a folder is or will be; None if the system does not tell."""
    place = path.expanduser().absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None
