"""What the models of a grid see, computed once: pixels in memory, or the features of a frozen backbone.

Images are decoded in one pass for all models. Rows are found by the file's hash, so cells, seeds and a resumed grid
share them; features are also kept in the grid's folder.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from comfy_nodes.labelset import write_atomically
from trainer.copies import turned
from trainer.data import Sample
from trainer.images import iter_pixels
from trainer.models import model_spec
from trainer.progress import Progress
from trainer.weights import Weights, load_backbone

logger = logging.getLogger(__name__)
_BACKBONE_BATCH = 16  # larger ones are no faster on a CPU and take more memory


@dataclass(frozen=True)
class ModelInputs:
    """All rows one model needs: uint8 [N,3,S,S] pixels, or float32 [N,D] features; `rows` maps a file's hash to its row."""

    values: torch.Tensor
    rows: Mapping[str, int]

    def index(self, samples: Sequence[Sample]) -> torch.Tensor:
        """The rows of these samples: int64 [len(samples)]."""
        return torch.tensor([self.rows[sample.sha256] for sample in samples], dtype=torch.long)


@dataclass
class _Collector:
    """Gathers one model's rows while the images go by."""

    missing: dict[str, None]
    blocks: list[torch.Tensor] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    backbone: Backbone | None = None

    def add(self, hashes: Sequence[str], pixels: np.ndarray) -> None:
        wanted = [position for position, digest in enumerate(hashes) if digest in self.missing]
        if not wanted:
            return
        chosen = torch.from_numpy(pixels[wanted]).permute(0, 3, 1, 2)  # stays channels last
        self.blocks.append(self.backbone(chosen) if self.backbone else chosen)
        for position in wanted:
            self.rows[hashes[position]] = len(self.rows)

    def finish(self) -> ModelInputs:
        return ModelInputs(torch.cat(self.blocks), self.rows)


class Backbone:
    """A frozen backbone: uint8 pixels [N,3,S,S] to float32 features [N,D] on the CPU."""

    def __init__(self, model: str, weights: Weights, *, device: torch.device) -> None:
        spec = model_spec(model)
        network = load_backbone(model, weights)
        fuse_batch_norm(network)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.mean = torch.tensor(spec.mean, device=device).view(3, 1, 1)
        self.std = torch.tensor(spec.std, device=device).view(3, 1, 1)
        self.device = device

    @torch.inference_mode()
    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        blocks = []
        for batch in pixels.split(_BACKBONE_BATCH):
            scaled = (batch.to(self.device).float() / 255.0 - self.mean) / self.std
            blocks.append(self.network(scaled.contiguous(memory_format=torch.channels_last)).float().cpu())
        return torch.cat(blocks)


def fuse_batch_norm(network: nn.Module) -> None:
    """Folds each BatchNorm that directly follows a convolution into it, in place: the same function, fewer passes."""
    children = list(network.named_children())
    for (first, conv), (second, norm) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(network, first, nn.utils.fusion.fuse_conv_bn_eval(conv, norm))
            setattr(network, second, nn.Identity())
    for _, child in children:
        fuse_batch_norm(child)


def prepare_inputs(
    needs: Mapping[str, Sequence[Sample]],
    *,
    sizes_px: Mapping[str, int],
    weights: Mapping[str, Weights],
    cache: Path,
    device: torch.device,
) -> dict[str, ModelInputs]:
    """The inputs of each model in `needs`. `weights` has an entry for each frozen one.

    Raises:
        DataError: an image cannot be decoded.
        WeightsError: the weights do not fit.
    """
    collectors: dict[str, _Collector] = {}
    cache_paths: dict[str, Path] = {}
    for model, samples in needs.items():
        collector = _Collector(missing=dict.fromkeys(sample.sha256 for sample in samples))
        if model_spec(model).frozen:
            cache_paths[model] = cache / f"{model}-{sizes_px[model]}px-{weights[model].fingerprint}.safetensors"
            _take_cached(collector, cache_paths[model])
            if collector.missing:
                collector.backbone = Backbone(model, weights[model], device=device)
        collectors[model] = collector
    new = {model for model, collector in collectors.items() if collector.missing}
    _collect(collectors, {each.sha256: each for samples in needs.values() for each in samples}, sizes_px)
    inputs = {model: collector.finish() for model, collector in collectors.items()}
    for model in new & set(cache_paths):
        _save_cache(inputs[model], cache_paths[model])
    return inputs


def _collect(collectors: Mapping[str, _Collector], samples: Mapping[str, Sample], sizes_px: Mapping[str, int]) -> None:
    hashes = list(dict.fromkeys(digest for collector in collectors.values() for digest in collector.missing))
    sizes = {sizes_px[model] for model, collector in collectors.items() if collector.missing}
    start = 0
    with Progress("images", total=len(hashes), unit="images") as progress:
        for chunk in iter_pixels([samples[digest].path for digest in hashes], sizes):
            count = len(next(iter(chunk.values())))
            for row, digest in enumerate(hashes[start : start + count]):
                for pixels in chunk.values():
                    pixels[row] = turned(pixels[row], samples[digest].turn).copy()
            for model, collector in collectors.items():
                if collector.missing:
                    collector.add(hashes[start : start + count], chunk[sizes_px[model]])
            start += count
            progress.advance(count)


def _take_cached(collector: _Collector, path: Path) -> None:
    """Moves what the cache holds of `collector.missing` into the collector."""
    if not path.is_file():
        return
    try:
        stored = load_file(path)
        features, digests = stored["features"], stored["sha256"].numpy()
    except (OSError, SafetensorError, KeyError) as error:
        logger.warning("%s cannot be read and is made again (%s)", path, error)
        return
    collector.blocks.append(features)
    for row, digest in enumerate(digests):
        collector.rows[bytes(digest).hex()] = row
        collector.missing.pop(bytes(digest).hex(), None)


def _save_cache(inputs: ModelInputs, path: Path) -> None:
    digests = np.stack([np.frombuffer(bytes.fromhex(digest), dtype=np.uint8) for digest in inputs.rows])
    data = save({"features": inputs.values.contiguous(), "sha256": torch.from_numpy(digests.copy())})
    write_atomically(path, data)
