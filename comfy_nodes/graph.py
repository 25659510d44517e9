"""What a graph in API format says about how its images are made.

The format is {node id: {"class_type": ..., "inputs": {name: value or [node id, slot]}}}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .samplers import sampler_warning

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
}
# Core nodes that draw the whole batch's noise from one seed.
_ONE_SEED = ("KSampler", "KSamplerAdvanced", "RandomNoise", "SamplerCustom")
# Core has a node for each of some samplers: SamplerEulerAncestral, SamplerDPMPP_2M_SDE, ...
_SAMPLER_CLASS = "Sampler"


def generator_settings(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """How the images were made, from a graph's typed-in values: {"checkpoint": ..., "steps": 20}.

    A setting to which two nodes give different values is left out: which one made the image is
    not known.
    """
    found: dict[str, list[Any]] = {}
    for node in prompt.values():
        for name, value in node.get("inputs", {}).items():
            setting = _SETTINGS.get((node.get("class_type"), name))
            if setting is not None and isinstance(value, (str, int, float)):
                found.setdefault(setting, []).append(value)
    return {setting: values[0] for setting, values in found.items() if len(set(values)) == 1}


def reproducibility_warnings(prompt: Mapping[str, Any], node_id: str | None) -> list[str]:
    """Why the images that reach a node cannot each be made again alone: one sentence per cause."""
    found: dict[str, None] = {}
    for node in _upstream(prompt, node_id):
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


def _upstream(prompt: Mapping[str, Any], node_id: str | None) -> Iterator[Mapping[str, Any]]:
    """The node and every node that feeds it, directly or through others."""
    waiting, seen = [node_id], set()
    while waiting:
        current = waiting.pop()
        if current is None or current in seen or current not in prompt:
            continue
        seen.add(current)
        yield prompt[current]
        links = [
            value
            for value in prompt[current].get("inputs", {}).values()
            if isinstance(value, list) and value
        ]
        waiting += [str(link[0]) for link in links]
