"""What a model costs when it is used: parameters, multiply-adds, milliseconds per image.

The whole network counts, a frozen backbone with its head, in 32 bits as `export` writes it.
Multiply-adds are half of what torch.utils.flop_counter counts: convolutions, matrix products and
attention, without normalisation and activations.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trainer.models.registry import model_spec

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)
BATCHES = {"cpu": 16, "cuda": 64}  # in which features are computed and images predicted
_TIMED_S = 0.25  # at most this long, or one pass, for each batch size
_MOST_PASSES = 20


@dataclass(frozen=True)
class ModelCost:
    """`ms_alone` is the time of a batch of one image, `ms_in_batch` that per image of a
    batch of `batch` images, each the fastest of several passes, without decoding."""

    parameters: int
    multiply_adds: int
    ms_alone: float
    ms_in_batch: float
    batch: int
    image_size_px: int
    classes: int
    device: str


def measured_cost(
    model: str,
    *,
    classes: int,
    image_size_px: int,
    device: torch.device,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """A ModelCost as it is stored in grid.json: the one measured `before` if it is for the same
    network and device; None if the device cannot hold the batch."""
    same = {"classes": classes, "image_size_px": image_size_px, "device": device_name(device)}
    if before and all(before.get(name) == value for name, value in same.items()):
        return dict(before)
    try:
        return asdict(_measure(model, classes, image_size_px, device))
    except (RuntimeError, MemoryError) as error:  # how torch reports a lack of memory
        logger.warning("the cost of %s could not be measured: %s", model, str(error)[:120])
        return None


def cost_texts(cost: Mapping[str, Any] | None) -> dict[str, str]:
    """A stored cost for a table: {"Parameters": "4.7 M", ...}; empty if there is none."""
    if not cost:
        return {}
    return {
        "Parameters": f"{cost['parameters'] / 1e6:.3g} M",
        "Multiply-adds": f"{cost['multiply_adds'] / 1e9:.3g} G",
        "ms per image alone": f"{cost['ms_alone']:.3g}",
        f"ms per image in batches of {cost['batch']}": f"{cost['ms_in_batch']:.3g}",
    }


def device_name(device: torch.device) -> str:
    """ "cpu (1 thread)" or the name of the GPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' * (threads > 1)})"


def _measure(model: str, classes: int, size_px: int, device: torch.device) -> ModelCost:
    import torch

    with torch.random.fork_rng(devices=[]):
        network = model_spec(model).build(classes, image_size_px=size_px)
    multiply_adds = _multiply_adds(network.eval(), size_px)
    network = network.to(device).to(memory_format=torch.channels_last)
    batch = BATCHES[device.type]
    return ModelCost(
        parameters=sum(each.numel() for each in network.parameters()),
        multiply_adds=multiply_adds,
        ms_alone=_ms_per_image(network, 1, size_px, device),
        ms_in_batch=_ms_per_image(network, batch, size_px, device),
        batch=batch,
        image_size_px=size_px,
        classes=classes,
        device=device_name(device),
    )


def _multiply_adds(network: nn.Module, size_px: int) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # With gradients, or attention takes a fused path that the counter does not know.
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, size_px, size_px))
    return int(counter.get_total_flops()) // 2


def _ms_per_image(network: nn.Module, batch: int, size_px: int, device: torch.device) -> float:
    import torch

    pixels = torch.rand(
        (batch, 3, size_px, size_px), generator=torch.Generator().manual_seed(0)
    ).to(device, memory_format=torch.channels_last)
    taken_s: list[float] = []
    with torch.inference_mode():
        network(pixels)  # the first pass also allocates
        while sum(taken_s) < _TIMED_S and len(taken_s) < _MOST_PASSES:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            started_s = time.perf_counter()
            network(pixels)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            taken_s.append(time.perf_counter() - started_s)
    return round(1000 * min(taken_s) / batch, 4)
