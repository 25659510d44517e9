"""What is learnt from: the images of labelled folders or shards, and which belong together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from trainer.data.images import iter_pixels, read_image, square
from trainer.data.samples import Sample, fingerprint, read_labelled
from trainer.errors import DataError
from trainer.pretrain.views import generator_at

_KEPT_BYTES = 2 << 30  # decoded pixels up to this stay in memory


@dataclass(frozen=True)
class Source:
    """Images with the number of their caption and of their class. `groups` has the rows of each
    caption; `fingerprints` one hash per folder, over names, labels and contents. With `redealt`,
    a seed, every step deals its captions out to its images anew (see `redeal_captions`)."""

    samples: tuple[Sample, ...]
    captions: tuple[str, ...]
    classes: tuple[str, ...]
    caption_ids: torch.Tensor
    class_ids: torch.Tensor
    groups: tuple[tuple[int, ...], ...]
    fingerprints: dict[str, str]
    redealt: int | None = None

    def ids_of(self, rows: torch.Tensor, step: int, *, by_class: bool) -> torch.Tensor:
        """The numbers of the classes or captions of these rows, as `step` sees them."""
        found = (self.class_ids if by_class else self.caption_ids)[rows]
        if self.redealt is None:
            return found
        generator = generator_at(self.redealt, "redealt", step)
        return found[torch.randperm(len(rows), generator=generator)]


def read_source(folders: Sequence[Path]) -> Source:
    """The images of labelled folders or tar shards; the prompt in their records is the caption.

    One caption in two folders is one caption. An image of plain class folders has no prompt, and
    takes its class for it.

    Raises:
        DataError: a folder is missing, empty or damaged, is given twice, or all images have one
            caption.
    """
    samples: list[Sample] = []
    captions: list[str] = []
    prints: dict[str, str] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} does not exist; make images with: synthgrid run")
        if str(folder.resolve()) in prints:
            raise DataError(f"{folder} is given twice with --images; name each folder once")
        found = read_labelled(folder)
        samples += found.samples
        captions += [
            record.prompt if record is not None and record.prompt else sample.label
            for sample, record in zip(found.samples, found.records, strict=True)
        ]
        prints[str(folder.resolve())] = fingerprint(found.samples)
    names = sorted(set(captions))
    if len(names) < 2:
        raise DataError(
            f"all {len(samples)} images have the caption '{names[0]}'; contrast needs at least two"
        )
    return _source(samples, captions, prints)


def _source(samples: Sequence[Sample], captions: Sequence[str], prints: dict[str, str]) -> Source:
    names, classes = sorted(set(captions)), sorted({each.label for each in samples})
    caption_of = {name: number for number, name in enumerate(names)}
    class_of = {name: number for number, name in enumerate(classes)}
    groups: list[list[int]] = [[] for _ in names]
    for row, caption in enumerate(captions):
        groups[caption_of[caption]].append(row)
    return Source(
        tuple(samples),
        tuple(names),
        tuple(classes),
        torch.tensor([caption_of[each] for each in captions]),
        torch.tensor([class_of[each.label] for each in samples]),
        tuple(map(tuple, groups)),
        prints,
    )


def hold_out(source: Source, captions: int, *, seed: int) -> tuple[Source, Source]:
    """The source without some captions and their images, and those alone. Which ones follows from
    `seed`; at least two captions must remain on either side."""
    order = torch.randperm(len(source.captions), generator=generator_at(seed, "held out", 0))
    out = set(order[:captions].tolist())
    parts = []
    for title, inside in (("without", False), ("only", True)):
        rows = [
            row
            for row, caption in enumerate(source.caption_ids.tolist())
            if (caption in out) is inside
        ]
        told = f"{title} {captions} captions of seed {seed}"
        parts.append(
            _source(
                [source.samples[row] for row in rows],
                [source.captions[int(source.caption_ids[row])] for row in rows],
                {folder: f"{each} {told}" for folder, each in source.fingerprints.items()},
            )
        )
    return parts[0], parts[1]


def shuffle_captions(source: Source, *, seed: int) -> Source:
    """A control: every image has the caption of a random one, and keeps its class."""
    order = torch.randperm(len(source.samples), generator=generator_at(seed, "shuffled", 0))
    return _source(
        source.samples,
        [source.captions[int(source.caption_ids[row])] for row in order.tolist()],
        {folder: f"{each} shuffled {seed}" for folder, each in source.fingerprints.items()},
    )


def redeal_captions(source: Source, *, seed: int) -> Source:
    """A control: what belongs together is drawn at random in every step, so that no two images ever
    belong together for longer. Images are drawn as they are of `source`."""
    told = {folder: f"{each} redealt {seed}" for folder, each in source.fingerprints.items()}
    return replace(source, fingerprints=told, redealt=seed)


class Pixels:
    """The centred squares of images, `size_px` wide. Up to 2 GiB are decoded once and kept, more
    are decoded whenever they are drawn."""

    def __init__(self, samples: Sequence[Sample], size_px: int) -> None:
        self.paths, self.size_px = [each.path for each in samples], size_px
        self._pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
        self._kept: torch.Tensor | None = None
        if len(samples) * 3 * size_px**2 <= _KEPT_BYTES:
            blocks = [each[size_px] for each in iter_pixels(self.paths, [size_px])]
            self._kept = torch.from_numpy(np.concatenate(blocks)).permute(0, 3, 1, 2).contiguous()

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """uint8 [n,3,S,S]. Raises DataError if a file cannot be read."""
        if self._kept is not None:
            return self._kept[rows]
        paths = [self.paths[row] for row in rows.tolist()]
        decoded = self._pool.map(lambda path: square(read_image(path), self.size_px), paths)
        return torch.from_numpy(np.stack(list(decoded))).permute(0, 3, 1, 2).contiguous()
