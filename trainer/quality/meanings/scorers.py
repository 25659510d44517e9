"""How images and meanings are compared, each scorer looking at every image once.

To add one: a function here that returns a Scorer, and a name in SCORERS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from comfy_nodes.language.wordnet import WordNet
from trainer.data.images import iter_pixels
from trainer.data.samples import Sample
from trainer.errors import DataError
from trainer.quality.embedding.embedder import Embedder
from trainer.quality.meanings.resolve import Scorer
from trainer.quality.meanings.taxonomy import Classify, similarities

SCORERS = ("taxonomy", "clip")
TEMPLATES = ("a photo of a {}", "a picture of a {}", "an image showing a {}")  # our choice


def taxonomy_scorer(
    nouns: WordNet,
    classes: Sequence[int],
    side_px: int,
    classify: Classify,
    tell: Callable[[int], Any],
) -> Scorer:
    """Senses of WordNet beside ImageNet's `classes` (offsets of senses). `tell` gets the numbers of
    images that have been looked at.

    The scorer raises DataError if a meaning is not one of WordNet's senses of the class.
    """

    def score(label: str, samples: Sequence[Sample], meanings: Sequence[str]) -> np.ndarray:
        known = {each.text: each.offset for each in nouns.senses(label)}
        for text in meanings:
            if text not in known:
                raise DataError(
                    f"class '{label}': WordNet does not have the meaning '{text}'; take --scorer "
                    "clip, or make the bank with: synthgrid bank --offline --wordnet DIR"
                )
        table = similarities(nouns, [known[text] for text in meanings], classes)
        found = _looked_at(samples, side_px, classify, tell)
        scores: np.ndarray = found @ table.T
        return scores

    return score


def words_scorer(embedder: Embedder, tell: Callable[[int], Any]) -> Scorer:
    """CLIP's cosine of image and meaning, the mean over TEMPLATES."""
    words = embedder.classify_words
    assert words is not None

    def score(label: str, samples: Sequence[Sample], meanings: Sequence[str]) -> np.ndarray:
        features = torch.from_numpy(
            _looked_at(samples, embedder.size_px, embedder.embed, tell)
        ).float()
        cosines = [
            words(features, [template.format(text) for text in meanings]).numpy()
            for template in TEMPLATES
        ]
        scores: np.ndarray = np.mean(cosines, axis=0).astype(np.float64)
        return scores

    return score


def _looked_at(
    samples: Sequence[Sample],
    side_px: int,
    network: Callable[[torch.Tensor], torch.Tensor],
    tell: Callable[[int], Any],
) -> np.ndarray:
    """What a network gives for each image: float64 [n, d]."""
    found = []
    for chunk in iter_pixels([each.path for each in samples], [side_px]):
        pixels = torch.from_numpy(chunk[side_px]).permute(0, 3, 1, 2)
        found.append(network(pixels).double().numpy())
        tell(len(pixels))
    return np.concatenate(found)
