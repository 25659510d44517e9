"""What a stock Stable Diffusion workflow is made of: prompts, passes and saver. No I/O.

    stock = read_stock(workflow)
    stock.passes[0].sampler, stock.positive.text, stock.saver

A pass is one sampler: the first one starts from an empty latent image, a later one ("hires fix", a
refiner) from the images of the one before it. Whatever makes a workflow something else is refused
with a sentence that names the node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...errors import WorkflowError
from ..api_graph import is_link
from ..graph import Workflow

Link: TypeAlias = tuple[str, int]
CHECKPOINTS = ("CheckpointLoaderSimple", "CheckpointLoader")
ENCODER = "CLIPTextEncode"
EMPTY_LATENT = "EmptyLatentImage"
KSAMPLER, KSAMPLER_ADVANCED = "KSampler", "KSamplerAdvanced"
CUSTOM, CUSTOM_ADVANCED = "SamplerCustom", "SamplerCustomAdvanced"
SAMPLERS = (KSAMPLER, KSAMPLER_ADVANCED, CUSTOM, CUSTOM_ADVANCED)
RANDOM_NOISE, NO_NOISE = "RandomNoise", "DisableNoise"
SAVER, PREVIEW = "SaveImage", "PreviewImage"
# Models in parts, and nodes of models whose latent images or guidance are others.
_OTHER_MODELS = {
    "UNETLoader", "UnetLoaderGGUF", "DualCLIPLoader", "TripleCLIPLoader", "QuadrupleCLIPLoader",
    "CLIPTextEncodeFlux", "CLIPTextEncodeSD3", "FluxGuidance", "ModelSamplingFlux",
    "ModelSamplingSD3", "ModelSamplingAuraFlow", "EmptySD3LatentImage", "EmptyHunyuanLatentVideo",
    "StableCascade_EmptyLatentImage", "unCLIPCheckpointLoader", "ImageOnlyCheckpointLoader",
}  # fmt: skip
_OTHER_NAMES = re.compile(
    r"flux|sd3|stable.?diffusion.?3|aura.?flow|hunyuan|cascade|pixart|lumina|cosmos|chroma|kolors",
    re.IGNORECASE,
)
# Flux's own guidance is part of the model, and it is run with a cfg of 1.
_LEAST_GUIDANCE = 1.5
# pixels: SD1.5 was trained at 512 x 512, models of these names at about 1024 x 1024. Our choice.
_LARGEST_SD15 = 768 * 768
_ENDS = ("Save", "Preview", "VHS_VideoCombine")  # how classes that save or show begin
# They repeat, drop or join images, so that images and labels would no longer match.
_OTHER_COUNTS = {
    "ImageBatch", "BatchImagesNode", "ImageFromBatch", "RepeatImageBatch", "RebatchImages",
    "LatentBatch", "LatentFromBatch", "RepeatLatentBatch", "RebatchLatents",
    "LatentBatchSeedBehavior",
}  # fmt: skip
_TEXTS = ("value", "text", "string")  # inputs of the nodes that hold a text for others


@dataclass(frozen=True)
class Pass:
    """One sampler, and where its parts come from."""

    sampler: str
    model: Link | None
    positive: Link | None
    negative: Link | None
    latent: Link
    guider: str | None = None


@dataclass(frozen=True)
class Prompt:
    """A prompt, and the nodes that encode it; there are several if the passes differ in CLIP."""

    text: str
    encoders: tuple[str, ...]


@dataclass(frozen=True)
class Stock:
    """The parts that `adapt` replaces. `latent` is the empty latent image of the first pass."""

    passes: tuple[Pass, ...]
    positive: Prompt
    negative: Prompt
    latent: str
    saver: str
    used: frozenset[str]


def read_stock(workflow: Workflow) -> Stock:
    """The parts of a workflow.

    Raises:
        WorkflowError: it is not a text-to-image workflow of one Stable Diffusion 1.5 or SDXL
            checkpoint; says which node is in the way and what to do.
    """
    ours = [each for each in workflow.graph if _kind(workflow, each).startswith("SynthGrid")]
    if ours:
        raise WorkflowError(
            f"{workflow.source} has SynthGrid's nodes already ({workflow.name_of(ours[0])}); "
            "run it as it is"
        )
    saver = _saver(workflow)
    used = frozenset(upstream(workflow, saver))
    _refuse_foreign(workflow, used)
    _refuse_other_results(workflow, used, saver)
    passes = tuple(_passes(workflow, used))
    latent = _empty_latent(workflow, passes[0])
    positive = _prompt(workflow, "positive", [each.positive for each in passes])
    negative = _prompt(workflow, "negative", [each.negative for each in passes])
    return Stock(passes, positive, negative, latent, saver, used)


def upstream(workflow: Workflow, *ends: str) -> Iterator[str]:
    """These nodes and every node that they need, each once."""
    waiting, seen = list(ends), set()
    while waiting:
        node_id = waiting.pop()
        if node_id not in seen:
            seen.add(node_id)
            yield node_id
            waiting += [link[0] for link in links_of(workflow, node_id).values()]


def links_of(workflow: Workflow, node_id: str) -> dict[str, Link]:
    """The linked inputs of a node."""
    inputs = workflow.graph[node_id]["inputs"]
    return {name: (value[0], value[1]) for name, value in inputs.items() if is_link(value)}


def _kind(workflow: Workflow, node_id: str) -> str:
    return str(workflow.graph[node_id]["class_type"])


def _saver(workflow: Workflow) -> str:
    """The node that saves the final images: the one that all others are steps towards."""
    savers = workflow.ids_of(SAVER) or workflow.ids_of(PREVIEW)
    if not savers:
        raise WorkflowError(
            f"{workflow.source} has no {SAVER} node, so it is not clear which images are wanted"
        )
    samplers = {
        each: {other for other in upstream(workflow, each) if _kind(workflow, other) in SAMPLERS}
        for each in savers
    }
    best = max(savers, key=lambda each: len(samplers[each]))
    rivals = [
        each
        for each in savers
        if each != best and (samplers[each] == samplers[best] or samplers[each] - samplers[best])
    ]
    if rivals:
        listed = ", ".join(map(workflow.name_of, [best, *rivals]))
        raise WorkflowError(
            f"{workflow.source} saves images at {listed}, and none of them is a step towards "
            "another; keep the one whose images are wanted"
        )
    if not samplers[best]:
        raise WorkflowError(
            f"{workflow.source}: no sampler leads to {workflow.name_of(best)}; expected one of "
            f"{', '.join(SAMPLERS)}"
        )
    return best


def _refuse_foreign(workflow: Workflow, used: frozenset[str]) -> None:
    for node_id in (each for each in workflow.graph if each in used):
        kind = _kind(workflow, node_id)
        if kind in _OTHER_MODELS:
            raise WorkflowError(
                f"{workflow.name_of(node_id)} ({kind}) belongs to another kind of model; adapt "
                "knows workflows of one Stable Diffusion 1.5 or SDXL checkpoint"
            )
        if kind in _OTHER_COUNTS:
            raise WorkflowError(
                f"{workflow.name_of(node_id)} ({kind}) repeats, drops or joins images, so that "
                "images and labels would not match; take it out"
            )
    loaders = [each for each in workflow.ids_of(*CHECKPOINTS) if each in used]
    if not loaders:
        raise WorkflowError(
            f"{workflow.source} has no checkpoint loader ({CHECKPOINTS[0]}) that leads to its "
            "images"
        )
    for each in loaders:
        name = str(workflow.graph[each]["inputs"].get("ckpt_name", ""))
        found = {match.lower() for match in _OTHER_NAMES.findall(name)}
        if found and not _runs_like_stable_diffusion(workflow, used, found):
            raise WorkflowError(
                f"{workflow.name_of(each)} loads '{name}', another kind of model by its name, and "
                "neither guidance nor size say otherwise; adapt knows workflows of one Stable "
                "Diffusion 1.5 or SDXL checkpoint. If it is one, give the file another name"
            )


def _runs_like_stable_diffusion(workflow: Workflow, used: frozenset[str], names: set[str]) -> bool:
    """Whether a workflow treats its checkpoint, a mix perhaps, as models of these names are not."""
    if any(_kind(workflow, each) == "CLIPSetLastLayer" for each in used):
        return True
    guidance = _numbers(workflow, used, "cfg")
    if not guidance or min(guidance) < _LEAST_GUIDANCE:
        return False
    latents = frozenset(each for each in used if _kind(workflow, each) == EMPTY_LATENT)
    sizes = [_numbers(workflow, {each}, "width", "height") for each in latents]
    small = [len(size) == 2 and size[0] * size[1] <= _LARGEST_SD15 for size in sizes]
    return names == {"flux"} or (bool(small) and all(small))


def _numbers(workflow: Workflow, node_ids: Iterable[str], *names: str) -> list[float]:
    """The typed-in values of these inputs."""
    values = [workflow.graph[each]["inputs"].get(name) for each in node_ids for name in names]
    return [value for value in values if isinstance(value, (int, float))]


def _refuse_other_results(workflow: Workflow, used: frozenset[str], saver: str) -> None:
    """Refuses a workflow that samples for something else too, such as a video."""
    for node_id, node in workflow.graph.items():
        if node_id in used or not str(node["class_type"]).startswith(_ENDS):
            continue
        others = [each for each in upstream(workflow, node_id) if each not in used]
        if any(_kind(workflow, each) in SAMPLERS for each in others):
            raise WorkflowError(
                f"{workflow.source} samples for {workflow.name_of(node_id)} beside "
                f"{workflow.name_of(saver)}; keep the one that is wanted"
            )


def _passes(workflow: Workflow, used: frozenset[str]) -> Iterator[Pass]:
    """The passes, first to last; each must start where the one before it ended."""
    samplers = [
        each for each in workflow.graph if each in used and _kind(workflow, each) in SAMPLERS
    ]
    before = {
        each: {other for other in upstream(workflow, each) if other in samplers} - {each}
        for each in samplers
    }
    samplers.sort(key=lambda each: len(before[each]))
    for number, node_id in enumerate(samplers):
        if before[node_id] != set(samplers[:number]):
            listed = " and ".join(map(workflow.name_of, (samplers[number - 1], node_id)))
            raise WorkflowError(
                f"{listed} are two samplers of equal standing, neither of which continues the "
                "other's images; keep one"
            )
        yield _pass(workflow, node_id)


def _pass(workflow: Workflow, node_id: str) -> Pass:
    links = links_of(workflow, node_id)
    if "latent_image" not in links:
        raise WorkflowError(f"{workflow.name_of(node_id)} has no latent_image; connect one")
    source, guider = links, None
    if _kind(workflow, node_id) == CUSTOM_ADVANCED:
        guider = links["guider"][0] if "guider" in links else None
        if guider is None or _kind(workflow, guider) not in ("CFGGuider", "BasicGuider"):
            raise WorkflowError(
                f"{workflow.name_of(node_id)} needs a CFGGuider; adapt knows no other guider"
            )
        source = links_of(workflow, guider)
    return Pass(
        sampler=node_id,
        model=source.get("model"),
        positive=source.get("positive", source.get("conditioning")),
        negative=source.get("negative"),
        latent=links["latent_image"],
        guider=guider,
    )


def _empty_latent(workflow: Workflow, first: Pass) -> str:
    node_id = first.latent[0]
    kind = _kind(workflow, node_id)
    if kind == EMPTY_LATENT:
        return node_id
    images = [each for each in upstream(workflow, node_id) if _kind(workflow, each) == "LoadImage"]
    if images:
        raise WorkflowError(
            f"{workflow.name_of(first.sampler)} starts from one fixed image, "
            f"{workflow.name_of(images[0])}; for images from real ones take the workflow "
            "sd15_from_real_images, or connect an Empty Latent Image"
        )
    raise WorkflowError(
        f"{workflow.name_of(first.sampler)} starts from {workflow.name_of(node_id)} ({kind}); "
        f"expected {EMPTY_LATENT}"
    )


def _prompt(workflow: Workflow, which: str, links: list[Link | None]) -> Prompt:
    """The prompt that all passes share. The negative one may be absent."""
    given = [link for link in links if link is not None]
    if which == "positive" and len(given) < len(links):
        raise WorkflowError(f"{workflow.source}: a sampler has no positive prompt; connect one")
    found = (each for link in given for each in _encoders(workflow, link, frozenset()))
    encoders = list(dict.fromkeys(found))
    if which == "positive" and not encoders:
        raise WorkflowError(f"{workflow.source}: its positive prompt has no text; connect one")
    texts = {each: text_of(workflow, each) for each in encoders}
    if len({text.strip() for text in texts.values()}) > 1:
        listed = " and ".join(map(workflow.name_of, encoders))
        raise WorkflowError(
            f"{listed} are different {which} prompts; adapt keeps one for every pass: "
            "make their texts equal, or keep one node"
        )
    return Prompt(next(iter(texts.values()), ""), tuple(encoders))


def _encoders(workflow: Workflow, link: Link, seen: frozenset[Link]) -> Iterator[str]:
    """The text encoders that a conditioning comes from, through ControlNets and the like."""
    node_id, output = link
    if link in seen:
        raise WorkflowError(f"links form a cycle through {workflow.name_of(node_id)}; cut one")
    kind = _kind(workflow, node_id)
    if kind == ENCODER:
        yield node_id
        return
    links = links_of(workflow, node_id)
    if "positive" in links and "negative" in links:
        found = [links["negative" if output == 1 else "positive"]]
    else:
        found = [each for name, each in links.items() if name.startswith("conditioning")]
    if len(found) != 1:
        what = "joins several prompts" if found else "is no text encoder that adapt knows"
        raise WorkflowError(
            f"{workflow.name_of(node_id)} ({kind}) {what}; expected one {ENCODER} for the "
            "positive prompt and one for the negative"
        )
    if kind != "ConditioningZeroOut":  # it keeps nothing of a prompt but its shape
        yield from _encoders(workflow, found[0], seen | {link})


def text_of(workflow: Workflow, encoder: str) -> str:
    """A text encoder's text, typed in there or in the node that it comes from."""
    value: Any = workflow.graph[encoder]["inputs"].get("text", "")
    if is_link(value):
        inputs = workflow.graph[value[0]]["inputs"]
        texts = [inputs[name] for name in _TEXTS if isinstance(inputs.get(name), str)]
        if len(texts) != 1 or any(map(is_link, inputs.values())):
            raise WorkflowError(
                f"{workflow.name_of(encoder)} takes its text from {workflow.name_of(value[0])}, "
                "which makes it when it runs; type the text in"
            )
        value = texts[0]
    return str(value)
