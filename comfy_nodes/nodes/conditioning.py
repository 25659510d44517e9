"""CONDITIONING of a batch: one row per image, each as if the image were made alone.

A conditioning is ComfyUI's list of [tensor [rows, tokens, width], extras]. Torch is imported only
when something is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import PlanError

if TYPE_CHECKING:
    import torch

AVERAGE, CONCAT = "ConditioningAverage", "ConditioningConcat"
MOST_TOKENS = 2**20  # of all rows of a batch together: 3 GiB in SD1.5's width of 768
# Nodes after which no conditioning comes: what follows them in a graph works on latents and images.
_LAST = ("Guider", "Sampler")


def stack_conditionings(conditionings: Sequence[list[Any]]) -> list[Any]:
    """Conditionings of one row each -> one conditioning of B rows, [B, tokens, width].

    Rows of different lengths are repeated up to their least common multiple. For attention that is
    the same as the row by itself: repeating every key and value changes no weighted mean.

    Raises:
        PlanError: that makes more than MOST_TOKENS, as very long prompts of many lengths do.
    """
    import torch

    tensors = [conditioning[0][0] for conditioning in conditionings]
    lengths = sorted({tensor.shape[1] for tensor in tensors})
    length = math.lcm(*lengths)
    if len(lengths) > 1 and length * len(tensors) > MOST_TOKENS:
        raise PlanError(
            f"the prompts of this batch have {', '.join(map(str, lengths))} tokens, and repeating "
            f"them to one length would take {length} for each image; shorten the longest prompts, "
            "or set batch_size to 1"
        )
    rows = torch.cat([tensor.repeat(1, length // tensor.shape[1], 1) for tensor in tensors])
    extras = dict(conditionings[0][0][1])
    pooled = [conditioning[0][1].get("pooled_output") for conditioning in conditionings]
    if all(each is not None for each in pooled):
        extras["pooled_output"] = torch.cat(pooled)
    return [[rows, extras]]


def average(conditioning: list[Any], other: list[Any], strength: float) -> list[Any]:
    """`strength` of one conditioning and the rest of another, token by token, [1, tokens, width].

    The same numbers as ComfyUI's ConditioningAverage at batch 1: the other one is cut, or filled up
    with zeros, to the length of the first.

    Raises:
        PlanError: the other conditioning has several rows.
    """
    import torch

    (tensor, extras), (other_tensor, other_extras) = (
        conditioning[0],
        _one_row(other, "average_with"),
    )
    cut = other_tensor[:, : tensor.shape[1]]
    missing = tensor.shape[1] - cut.shape[1]
    filled = torch.nn.functional.pad(cut, (0, 0, 0, missing))
    extras = dict(extras)
    pooled, other_pooled = extras.get("pooled_output"), other_extras.get("pooled_output")
    if other_pooled is not None:
        mixed = other_pooled if pooled is None else _mix(pooled, other_pooled, strength)
        extras["pooled_output"] = mixed
    return [[_mix(tensor, filled, strength), extras]]


def concat(conditioning: list[Any], other: list[Any]) -> list[Any]:
    """The tokens of a conditioning and then those of another, as ConditioningConcat at batch 1.

    Raises:
        PlanError: the other conditioning has several rows.
    """
    import torch

    tensor, extras = conditioning[0]
    return [[torch.cat((tensor, _one_row(other, "concat_with")[0]), 1), dict(extras)]]


def _mix(tensor: torch.Tensor, other: torch.Tensor, strength: float) -> torch.Tensor:
    return tensor * strength + other * (1.0 - strength)


def _one_row(conditioning: list[Any], name: str) -> tuple[torch.Tensor, dict[str, Any]]:
    tensor, extras = conditioning[0]
    if tensor.shape[0] != 1:
        raise PlanError(
            f"'{name}' has {tensor.shape[0]} prompts, but every image of the batch gets the same "
            "one; connect CLIP Text Encode to it"
        )
    return tensor, extras


def refuse_mixers(
    prompt: Mapping[str, Any], node_id: str | None, *, rows: int, lengths: Sequence[int]
) -> None:
    """Refuses a graph whose stock nodes would garble the conditioning of a batch.

    `rows` and `lengths` are its number of rows, and of tokens in each before stacking. Averaging
    token by token is wrong where rows have been repeated to a common length, and joining needs as
    many rows on both sides.

    Raises:
        PlanError: such a node gets the conditioning; the message names the input to use instead.
    """
    for name, node in _after(prompt, node_id):
        shown = f"node {name}, {node['class_type']},"
        mixed = " and ".join(map(str, sorted(set(lengths))))
        if node["class_type"] == AVERAGE and len(set(lengths)) > 1:
            raise PlanError(
                f"{shown} works token by token, but the prompts of this batch have {mixed} tokens: "
                "images would not be those made alone. Remove it, and connect the other "
                "conditioning to 'average_with' of SynthGrid Encode Class Prompts"
            )
        if node["class_type"] == CONCAT and (
            len(set(lengths)) > 1 or (rows > 1 and not _joins_batches(prompt, node))
        ):
            raise PlanError(
                f"{shown} cannot join the {rows} prompts of this batch ({mixed} tokens) with "
                "another conditioning. Remove it, and connect the other conditioning to "
                "'concat_with' of SynthGrid Encode Class Prompts"
            )


def _joins_batches(prompt: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """Whether both inputs come straight from the rows of an Encode Class Prompts."""
    links = [node["inputs"].get(f"conditioning_{end}") for end in ("to", "from")]
    return all(
        isinstance(link, list)
        and prompt.get(str(link[0]), {}).get("class_type") == "SynthGridEncodeClassPrompts"
        and link[1] == 0
        for link in links
    )


def _after(prompt: Mapping[str, Any], node_id: str | None) -> Iterator[tuple[str, Any]]:
    """(id, node) of every node that a node's first output reaches before a sampler."""
    followers: dict[str, list[str]] = {}
    for name, node in prompt.items():
        for link in node.get("inputs", {}).values():
            if isinstance(link, list) and len(link) == 2:
                source = str(link[0])
                if source != node_id or link[1] == 0:
                    followers.setdefault(source, []).append(name)
    waiting, seen = list(followers.get(node_id or "", ())), {node_id}
    while waiting:
        name = waiting.pop()
        kind = str(prompt[name].get("class_type", ""))
        if name in seen or any(each in kind for each in _LAST):
            continue
        seen.add(name)
        yield name, prompt[name]
        waiting += followers.get(name, ())
