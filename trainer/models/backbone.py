"""A frozen network without its last layer: from pixels to features, the same to the bit for an
image in any company."""

from __future__ import annotations

import copy
import logging
from itertools import pairwise

import torch
from torch import nn

from trainer.models.registry import model_spec
from trainer.models.weights import Weights, load_backbone

logger = logging.getLogger(__name__)
_BATCH = {"cpu": 16, "cuda": 64}  # larger ones are no faster and take more memory
# Of the largest feature. Rounding alone gives 1e-6 to 1e-5, a wrong order of layers a third.
_LARGEST_FOLDING_ERROR = 1e-3


class Backbone:
    """A frozen backbone: uint8 pixels [N,3,S,S] to float32 features [N,D] on the CPU, in full
    precision.

    Every pass takes the same number of images; the last one is padded. So an image's features do
    not depend, to the bit, on how many other images there are.
    """

    def __init__(
        self,
        model: str,
        weights: Weights,
        *,
        image_size_px: int | None = None,
        device: torch.device,
    ) -> None:
        spec = model_spec(model)
        network = load_backbone(model, weights, image_size_px=image_size_px)
        network = fused(network, image_size_px=image_size_px or spec.image_size_px)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.mean = torch.tensor(spec.mean, device=device).view(3, 1, 1)
        self.std = torch.tensor(spec.std, device=device).view(3, 1, 1)
        self.device = device

    @torch.inference_mode()
    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        size, blocks = _BATCH[self.device.type], []
        for batch in pixels.split(size):
            missing = torch.zeros(size - len(batch), *batch.shape[1:], dtype=batch.dtype)
            full = torch.cat([batch, missing]).to(self.device).float()
            scaled = ((full / 255.0 - self.mean) / self.std).contiguous(
                memory_format=torch.channels_last
            )
            blocks.append(self.network(scaled)[: len(batch)].float().cpu())
        return torch.cat(blocks)


@torch.inference_mode()
def fused(network: nn.Module, *, image_size_px: int) -> nn.Module:
    """The same function with each BatchNorm folded into the convolution that it follows.

    Layers are taken to run in the order in which they are registered, which a network may ignore.
    So both versions see the same noise once, and `network` itself is returned if they disagree.
    """
    folded = copy.deepcopy(network)
    if not _fold_batch_norms(folded):
        return network
    noise = torch.randn(
        2, 3, image_size_px, image_size_px, generator=torch.Generator().manual_seed(0)
    )
    expected, found = network(noise), folded(noise)
    error = float((expected - found).abs().max() / expected.abs().max().clamp(min=1e-12))
    if error <= _LARGEST_FOLDING_ERROR:
        return folded
    logger.debug("batch normalisation is not folded: features would differ by %.2g", error)
    return network


def _fold_batch_norms(network: nn.Module) -> int:
    """Folds in place, wherever a convolution and a BatchNorm are registered one after the other;
    how many pairs."""
    count, children = 0, list(network.named_children())
    for (first, conv), (second, norm) in pairwise(children):
        # Exactly these classes: another library's subclass may do more than normalise.
        if (
            type(conv) is nn.Conv2d
            and type(norm) is nn.BatchNorm2d
            and conv.out_channels == norm.num_features
        ):
            setattr(network, first, nn.utils.fusion.fuse_conv_bn_eval(conv, norm))
            setattr(network, second, nn.Identity())
            count += 1
    return count + sum(_fold_batch_norms(child) for _, child in children)
