"""Whether words find their images: text to image retrieval by what stablerep+ has learnt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from trainer.pretrain.networks import Learner
from trainer.pretrain.source import Pixels, Source
from trainer.pretrain.text import word_numbers


@dataclass(frozen=True)
class Retrieval:
    """Of as many of the nearest images as a caption has, the share that are its own (R-precision),
    and the share that are of its class; means over captions, beside what a random order gives."""

    own: float
    own_chance: float
    of_class: float
    class_chance: float


@torch.no_grad()
def retrieve(learner: Learner, source: Source, size_px: int, device: torch.device) -> Retrieval:
    """Ranks all images of `source`, as they are, for each of its captions, by cosine.

    Raises:
        ValueError: the learner has no text tower.
        DataError: an image cannot be read.
    """
    if learner.alignment is None:
        raise ValueError("only stablerep+ has a text tower")
    learner.eval()
    pixels = Pixels(source.samples, size_px)
    images = torch.cat(
        [
            learner.alignment.image(learner.features(pixels.take(rows).to(device).float() / 255.0))
            for rows in torch.split(torch.arange(len(source.samples)), 64)
        ]
    )
    texts = learner.alignment.tower(word_numbers(source.captions).to(device))
    return retrieval_of(functional.normalize(texts) @ functional.normalize(images).T, source)


def retrieval_of(cosines: torch.Tensor, source: Source) -> Retrieval:
    """From the cosines [captions, images]."""
    found, order = [], cosines.cpu().argsort(dim=1, descending=True)
    for caption, rows in enumerate(source.groups):
        near = order[caption, : len(rows)]
        label = source.class_ids[rows[0]]
        found.append(
            [
                float((source.caption_ids[near] == caption).float().mean()),
                len(rows) / len(source.samples),
                float((source.class_ids[near] == label).float().mean()),
                float((source.class_ids == label).float().mean()),
            ]
        )
    means = torch.tensor(found, dtype=torch.float64).mean(dim=0).tolist()
    return Retrieval(*means)
