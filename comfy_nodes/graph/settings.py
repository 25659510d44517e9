"""What a graph in API format says about how its images are made.

The format is {node id: {"class_type": ..., "inputs": {name: value or [node id, slot]}}}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..samplers import sampler_warning

Graph = Mapping[str, Any]
# Which widgets of which core nodes say how an image was made, and their names in a record. Only
# typed-in values count: label, prompt and seed come with the batch, never from the graph.
_SETTINGS = {
    ("CheckpointLoaderSimple", "ckpt_name"): "checkpoint",
    ("KSamplerSelect", "sampler_name"): "sampler",
    ("BasicScheduler", "scheduler"): "scheduler",
    ("BasicScheduler", "steps"): "steps",
    ("BasicScheduler", "denoise"): "denoise",
    ("CFGGuider", "cfg"): "cfg",
    ("KSampler", "sampler_name"): "sampler",
    ("KSampler", "scheduler"): "scheduler",
    ("KSampler", "steps"): "steps",
    ("KSampler", "cfg"): "cfg",
    ("KSampler", "denoise"): "denoise",
    ("LoraLoader", "lora_name"): "lora",
    ("LoraLoader", "strength_model"): "lora_strength",
    ("LoraLoader", "strength_clip"): "lora_strength_clip",
    ("LoraLoaderModelOnly", "lora_name"): "lora",
    ("LoraLoaderModelOnly", "strength_model"): "lora_strength",
    ("CLIPSetLastLayer", "stop_at_clip_layer"): "clip_skip",
}
# Those of one pass of sampling. A second pass over enlarged latents has its own.
_OF_A_PASS = frozenset({"sampler", "scheduler", "steps", "cfg", "denoise"})
_LATENT = "latent_image"  # the input of every core sampler for what it starts from
_MOST_PASSES = 20
# Core nodes that draw the whole batch's noise from one seed.
_ONE_SEED = ("KSampler", "KSamplerAdvanced", "RandomNoise", "SamplerCustom")
# Core has a node for each of some samplers: SamplerEulerAncestral, SamplerDPMPP_2M_SDE, ...
_SAMPLER_CLASS = "Sampler"


def generator_settings(prompt: Graph, node_id: str | None = None) -> dict[str, Any]:
    """How the images were made, from a graph's typed-in values: {"checkpoint": ..., "steps": 20}.

    Counted are the nodes before `node_id`, or all nodes if it is not in the graph. A setting to
    which two nodes give different values is left out: which one made the image is not known. If
    passes of sampling follow one another, the settings are those of the first one, and
    "hires_denoise", "hires_steps" and so on those of the later ones.
    """
    nodes = list(upstream(prompt, node_id)) or list(prompt)
    passes = _passes(prompt, nodes)
    if len(passes) < 2:
        return _settings(prompt, nodes)
    shared = _settings(prompt, nodes, lambda setting: setting not in _OF_A_PASS)
    own = [list(upstream(prompt, each, skipped=_LATENT)) for each in passes]
    later = dict.fromkeys(node for nodes_of_pass in own[1:] for node in nodes_of_pass)
    hires = _settings(prompt, later, _OF_A_PASS.__contains__)
    first = _settings(prompt, own[0], _OF_A_PASS.__contains__)
    return shared | first | {f"hires_{setting}": value for setting, value in hires.items()}


def _settings(
    prompt: Graph, node_ids: Iterable[str], wanted: Callable[[str], bool] = bool
) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    for node_id in node_ids:
        node = prompt[node_id]
        for name, value in node.get("inputs", {}).items():
            setting = _SETTINGS.get((node.get("class_type"), name), "")
            if wanted(setting) and isinstance(value, (str, int, float)):
                value = abs(value) if setting == "clip_skip" and type(value) is int else value
                found.setdefault(setting, []).append(value)
    return {setting: values[0] for setting, values in found.items() if len(set(values)) == 1}


def _passes(prompt: Graph, node_ids: Sequence[str]) -> list[str]:
    """The samplers, in order, if each starts from what the one before it made; otherwise none."""
    starts = {node_id: prompt[node_id].get("inputs", {}).get(_LATENT) for node_id in node_ids}
    starts = {node_id: start for node_id, start in starts.items() if is_link(start)}
    if len(starts) > _MOST_PASSES:
        return []
    before = {node_id: set(upstream(prompt, start[0])) for node_id, start in starts.items()}
    samplers = {node_id: before[node_id] & before.keys() for node_id in before}
    ordered = sorted(samplers, key=lambda node_id: len(samplers[node_id]))
    if any(len(samplers[node_id]) != place for place, node_id in enumerate(ordered)):
        return []
    return ordered


def reproducibility_warnings(prompt: Graph, node_id: str | None) -> list[str]:
    """Why the images that reach a node cannot each be made again alone: one sentence per cause."""
    found: dict[str, None] = {}
    for node in (prompt[each] for each in upstream(prompt, node_id)):
        class_type = str(node.get("class_type", ""))
        name = node.get("inputs", {}).get("sampler_name")
        if not isinstance(name, str):
            is_sampler = class_type.startswith(_SAMPLER_CLASS)
            name = class_type.removeprefix(_SAMPLER_CLASS) if is_sampler else ""
        if warning := sampler_warning(name):
            found[warning] = None
        if class_type in _ONE_SEED:
            found[
                f"{class_type} draws the noise of the whole batch from one seed: the images are "
                "fine, but none can be made again alone from its record; use SamplerCustomAdvanced "
                "with SynthGrid Per-Image Noise"
            ] = None
    return list(found)


def is_link(value: Any) -> bool:
    """Whether an input is linked to an output, [node id, slot], rather than typed in."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], (int, float))
    )


def upstream(prompt: Graph, node_id: str | None, *, skipped: str = "") -> Iterator[str]:
    """The node and every node that feeds it, directly or through others.

    The node's own input `skipped` is not followed.
    """
    waiting, seen = [node_id], set()
    while waiting:
        current = waiting.pop()
        if current is None or current in seen or current not in prompt:
            continue
        seen.add(current)
        yield current
        waiting += [
            value[0]
            for name, value in prompt[current].get("inputs", {}).items()
            if is_link(value) and not (current == node_id and name == skipped)
        ]
