"""What a graph in API format, {node id: {"class_type", "inputs"}}, says about how its images are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .samplers import sampler_warning

# Which widgets of which core nodes say how an image was made, and what they are called in a record. Only values that
# are typed in are taken: label, prompt and seed come with the batch, never from the graph.
SETTINGS = {
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
_SAMPLER_CLASS = (
    "Sampler"  # core's nodes for one sampler each: SamplerEulerAncestral, SamplerDPMPP_2M_SDE, ...
)


def generator_settings(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """How the images were made, from the typed-in values of a graph: {"checkpoint": ..., "steps": 20, ...}.

    A setting that two nodes give differently is left out: which of them made the image is not known.
    """
    found: dict[str, list[Any]] = {}
    for node in prompt.values():
        for name, value in node.get("inputs", {}).items():
            setting = SETTINGS.get((node.get("class_type"), name))
            if setting is not None and isinstance(value, (str, int, float)):
                found.setdefault(setting, []).append(value)
    return {setting: values[0] for setting, values in found.items() if len(set(values)) == 1}


def reproducibility_warnings(prompt: Mapping[str, Any], node_id: str | None) -> list[str]:
    """Why the images that reach a node cannot each be made again alone, one sentence a cause; none where they can."""
    found: dict[str, None] = {}
    for node in _upstream(prompt, node_id):
        class_type = str(node.get("class_type", ""))
        name = node.get("inputs", {}).get("sampler_name")
        if not isinstance(name, str):
            name = (
                class_type.removeprefix(_SAMPLER_CLASS)
                if class_type.startswith(_SAMPLER_CLASS)
                else ""
            )
        if warning := sampler_warning(name):
            found[warning] = None
        if class_type in _ONE_SEED:
            found[
                f"{class_type} draws one noise for the whole batch from one seed: the images are fine, but none can be made "
                "again alone from its record; use SamplerCustomAdvanced with SynthGrid Per-Image Noise"
            ] = None
    return list(found)


def _upstream(prompt: Mapping[str, Any], node_id: str | None) -> Iterator[Mapping[str, Any]]:
    """The node and all that it takes anything from."""
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
