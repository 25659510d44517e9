"""Meanings scored without CLIP: senses of WordNet beside the ImageNet classes that an image is
taken for.

The score of image x and sense m is the mean of Wu and Palmer's similarity of m and the ImageNet
classes k, weighted by their probability: sum_k p(k|x) sim(m, k). Each sense's similarities are
standardised over k first, since general senses are near to everything, and a sense in an empty
region near to nothing: our choice. Measured with 30 images per class: the right kind of thing comes
first for 12 of 12 flowers, for every dog, and for 10 of 10 CIFAR-10 classes.

A taxonomy tells kinds apart, a plant from a person, not a gentian from a hyacinth: senses of one
kind get one score, and where they are all that is left, nothing is chosen. So with 60 images each 7
of the 12 flowers are chosen: six have one sense, and a pansy is a flower. The two senses of
coltsfoot and of tiger lily are equally near to all 1,000 classes, and the three of bluebell are
flowers: no number of images tells these, and WordNet's sense counts are 0 for all of them. Iris and
fritillary would be chosen with Lin's similarity (intrinsic information content, Seco et al. 2004),
and fritillary also in 20 of 20 shuffles of images over 46 classes; so it is not used. Shuffled over
the flowers alone, images are still flowers, and a pansy is still one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components

from comfy_nodes.language.wordnet import WordNet
from trainer.errors import WeightsError
from trainer.models.backbone import Backbone
from trainer.models.registry import LITE0, model_spec
from trainer.models.weights import find_weights, last_layer

IMAGENET = 1000
ONE_KIND = 0.65  # similarity from which two senses are of one kind: our choice
# From uint8 [N,3,S,S] to probabilities [N,1000] of ImageNet's classes in their usual order.
Classify = Callable[[torch.Tensor], torch.Tensor]


def lite0_classifier(given: Path | None, device: torch.device) -> tuple[int, Classify, str]:
    """The side in pixels, the classifier and the fingerprint of lite0 with its ImageNet head.

    Raises:
        WeightsError: the weights are not at hand, or have no head for 1,000 classes.
    """
    spec = model_spec(f"{LITE0}:frozen")
    weights = find_weights(spec.name, given=given, allow_untrained=False)
    backbone = Backbone(spec.name, weights, device=device)
    weight, bias = last_layer(weights)
    if weight.shape[0] != IMAGENET:
        raise WeightsError(
            f"{weights.path} knows {weight.shape[0]} classes, not ImageNet's {IMAGENET}; leave "
            "--weights out"
        )

    def classify(pixels: torch.Tensor) -> torch.Tensor:
        return torch.softmax(backbone(pixels) @ weight.T + bias, dim=1)

    return spec.image_size_px, classify, weights.fingerprint


def imagenet_offsets() -> list[int]:
    """The WordNet 3.0 offset of each ImageNet class."""
    from timm.data.imagenet_info import ImageNetInfo

    known = ImageNetInfo()
    return [int(known.index_to_label_name(index)[1:]) for index in range(IMAGENET)]


def similarities(nouns: WordNet, senses: Sequence[int], classes: Sequence[int]) -> np.ndarray:
    """[k senses, c classes], standardised for each sense; the mean of all senses of one kind for
    each of them, so that no image prefers one to another."""
    table = np.array([[nouns.similarity(sense, each) for each in classes] for sense in senses])
    spread = table.std(axis=1, keepdims=True)
    centred = (table - table.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-9)
    near = [[nouns.similarity(one, other) >= ONE_KIND for other in senses] for one in senses]
    kinds = connected_components(np.array(near))[1]
    return np.stack([centred[kinds == kind].mean(axis=0) for kind in kinds])
