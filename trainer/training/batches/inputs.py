"""What the models of a grid see, computed once: pixels, or the features of a frozen backbone.

Every file is decoded once for all models. Rows are found by a hash, so cells, seeds and a resumed
grid share them; features are also cached in the grid's folder. A frozen backbone sees each image
once and, if training uses augmentation, a few augmented views of each training image.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from trainer.config import RunConfig, TrainingConfig
from trainer.data.copies import turned
from trainer.data.images import iter_pixels
from trainer.data.samples import Sample
from trainer.data.shards import ImageFile
from trainer.models.backbone import Backbone
from trainer.models.registry import model_spec
from trainer.models.row_file import read_rows, write_rows
from trainer.models.weights import Weights, load_pretrained
from trainer.progress import Progress
from trainer.training.batches.augmentation import augment
from trainer.training.batches.row_store import RowStore

logger = logging.getLogger(__name__)
_SAVE_EVERY_S = 60.0
# Inputs are copied to the device whole if they fill at most 1 part in this many of its free memory.
_DEVICE_SHARE = 4
_VIEW, _UNMIRRORED = "+view", "-unmirrored"


@dataclass(frozen=True)
class ModelInputs:
    """All rows one model needs: uint8 [N,3,S,S] pixels, or float32 [N,D] features; `rows` maps a
    sample's hash to its row.

    `weights` is what a pretrained model starts from.
    """

    values: torch.Tensor
    rows: Mapping[str, int]
    weights: Weights | None = None
    _resident: dict[torch.device, torch.Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def index(self, samples: Sequence[Sample]) -> torch.Tensor:
        """The rows of these samples: int64 [len(samples)]."""
        return torch.tensor([self.rows[sample.sha256] for sample in samples], dtype=torch.long)

    def train_index(self, config: RunConfig, samples: Sequence[Sample]) -> torch.Tensor:
        """The rows to train on: int64 [n], or [n,K] if a frozen backbone has seen K views of
        each sample."""
        return self.train_rows(config.model, config.training, samples)

    def train_rows(
        self, model: str, training: TrainingConfig, samples: Sequence[Sample]
    ) -> torch.Tensor:
        """The same, for a model with these hyper-parameters."""
        if not _has_views(model, training):
            return self.index(samples)
        return self.index(views_of(samples, training)).view(len(samples), training.views)

    def on(self, device: torch.device) -> torch.Tensor:
        """`values`, copied to a GPU once if they fit well, so that no update waits for them."""
        if device.type != "cuda":
            return self.values
        if device not in self._resident:
            free_bytes, _ = torch.cuda.mem_get_info(device)
            fits = self.values.nbytes * _DEVICE_SHARE <= free_bytes
            self._resident[device] = self.values.to(device) if fits else self.values
        return self._resident[device]


def needed_samples(
    model: str, training: TrainingConfig, train: Sequence[Sample], others: Sequence[Sample]
) -> list[Sample]:
    """All samples that a training needs rows for: the images it uses, and the views of those it
    trains on."""
    views = views_of(train, training) if _has_views(model, training) else []
    return [*train, *others, *views]


def views_of(samples: Sequence[Sample], training: TrainingConfig) -> list[Sample]:
    """The augmented views of each sample, one sample's after the other's; the same for the same
    image everywhere."""
    kind = training.augment + ("" if training.mirror else _UNMIRRORED)
    word = "view" if kind == "standard" else f"{kind}-view"  # as it was before there were kinds
    return [
        replace(
            sample,
            sha256=_digest(f"{sample.sha256}#{word}{number}"),
            turn=f"{sample.turn}{_VIEW}{number}:{kind}",
        )
        for sample in samples
        for number in range(training.views)
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _has_views(model: str, training: TrainingConfig) -> bool:
    return model_spec(model).frozen and training.augment != "none"


def _seen_as(sample: Sample, pixels: np.ndarray) -> np.ndarray:
    """The pixels [S,S,3] of a file as this sample of it: turned, mirrored, or an augmented view."""
    turn, is_view, number = sample.turn.partition(_VIEW)
    shown = turned(pixels, turn)
    if not is_view:
        return shown
    kind, unmirrored, _ = number.partition(":")[2].partition(_UNMIRRORED)
    generator = torch.Generator().manual_seed(int(sample.sha256[:15], 16))
    image = torch.from_numpy(np.ascontiguousarray(shown)).permute(2, 0, 1)[None]
    view = augment(image, generator, kind=kind, mirror=not unmirrored)[0]
    return view.round().to(torch.uint8).permute(1, 2, 0).numpy()


@dataclass
class _Collector:
    """Gathers one model's rows while the images go by: pixels, or with a backbone features."""

    size_px: int
    missing: dict[str, None]
    folder: Path
    weights: Weights | None = None
    cache: Path | None = None
    backbone: Backbone | None = None
    features: list[torch.Tensor] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.total, self.saved_at = len(self.missing), time.monotonic()
        self.store: RowStore | None = None

    def add(self, samples: Iterable[Sequence[Sample]], pixels: np.ndarray) -> None:
        """Adds the missing samples of a chunk: all samples of each file, and the files' pixels
        [n,S,S,3]."""
        wanted = [
            (one, image)
            for each, image in zip(samples, pixels, strict=True)
            for one in each
            if one.sha256 in self.missing
        ]
        if not wanted:
            return
        shown = np.stack([_seen_as(sample, image) for sample, image in wanted])
        if self.backbone is not None:
            self.features.append(self.backbone(torch.from_numpy(shown).permute(0, 3, 1, 2)))
        else:
            self.store = self.store or RowStore(
                self.total, shown.shape[1:], shown.dtype, folder=self.folder
            )
            self.store.append(shown)
        for sample, _ in wanted:
            self.rows[sample.sha256] = len(self.rows)
        if self.cache is not None and time.monotonic() - self.saved_at > _SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Saves the features so far, for a grid that is resumed."""
        if self.cache is not None:
            self.features = [torch.cat(self.features)]
            write_rows(self.cache, list(self.rows), {"features": self.features[0]})
            self.saved_at = time.monotonic()

    def take_cached(self) -> None:
        """Moves the samples of `missing` that are cached into the rows."""
        stored = read_rows(self.cache, ("features",)) if self.cache is not None else None
        if stored is None:
            return
        self.rows, columns = stored
        self.features.append(columns["features"])
        for digest in self.rows:
            self.missing.pop(digest, None)

    def finish(self) -> ModelInputs:
        # Pixels stay as they were decoded, channels last.
        values = self.store.finish().permute(0, 3, 1, 2) if self.store else torch.cat(self.features)
        return ModelInputs(values, self.rows, self.weights)


def prepare_inputs(
    needs: Mapping[str, Sequence[Sample]],
    *,
    sizes_px: Mapping[str, int],
    weights: Mapping[str, Weights],
    cache: Path,
    device: torch.device,
) -> dict[str, ModelInputs]:
    """The inputs of each model in `needs`. `weights` has an entry for each pretrained one.

    Raises:
        DataError: an image cannot be decoded, or there is no room for the pixels.
        WeightsError: the weights do not fit.
    """
    collectors = {
        model: _collector(
            model, samples, sizes_px[model], weights.get(model), cache=cache, device=device
        )
        for model, samples in needs.items()
    }
    incomplete = [collector for collector in collectors.values() if collector.missing]
    _collect(incomplete, {each.sha256: each for samples in needs.values() for each in samples})
    for collector in incomplete:
        collector.save()
        collector.backbone = None
    return {model: collector.finish() for model, collector in collectors.items()}


def _collector(
    model: str,
    samples: Sequence[Sample],
    size_px: int,
    weights: Weights | None,
    *,
    cache: Path,
    device: torch.device,
) -> _Collector:
    spec = model_spec(model)
    collector = _Collector(
        size_px, dict.fromkeys(sample.sha256 for sample in samples), cache, weights
    )
    if weights is None or not spec.pretrained:
        return collector
    # Weights that do not fit are found now, not after other models have trained for hours.
    if not spec.frozen:
        load_pretrained(spec.build(2, image_size_px=size_px), model, weights)
        return collector
    collector.cache = (
        cache / f"{spec.name.replace(':', '-')}-{size_px}px-{weights.fingerprint}.safetensors"
    )
    collector.take_cached()
    if collector.missing:
        collector.backbone = Backbone(model, weights, image_size_px=size_px, device=device)
    return collector


def _collect(collectors: Sequence[_Collector], samples: Mapping[str, Sample]) -> None:
    """Decodes every file that any collector still needs, once, for all of them."""
    files: dict[ImageFile, dict[str, Sample]] = {}
    for digest in dict.fromkeys(digest for collector in collectors for digest in collector.missing):
        files.setdefault(samples[digest].path, {})[digest] = samples[digest]
    of_file, start = [list(each.values()) for each in files.values()], 0
    with Progress("images", total=len(files), unit="images") as progress:
        for chunk in iter_pixels(list(files), {collector.size_px for collector in collectors}):
            count = len(next(iter(chunk.values())))
            for collector in collectors:
                collector.add(of_file[start : start + count], chunk[collector.size_px])
            start += count
            progress.advance(count)
