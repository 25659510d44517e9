"""Mixup and CutMix: an image of two counts for both, in proportion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from trainer.config import TrainingConfig
from trainer.training.batches.mixing import Mixed, mixed

PIXELS = torch.arange(4).view(4, 1, 1, 1).expand(4, 3, 8, 8).float() * 10
LABELS = torch.arange(4)


def test_without_mixing_the_batch_and_its_loss_are_unchanged() -> None:
    found = mixed(PIXELS, LABELS, TrainingConfig(), np.random.default_rng(0))
    logits = torch.randn(4, 4)
    assert found.pixels is PIXELS
    assert torch.equal(found.loss(logits, smoothing=0.0), functional.cross_entropy(logits, LABELS))


def test_mixup_blends_each_image_with_its_neighbour_by_the_share_that_the_loss_uses() -> None:
    found = mixed(PIXELS, LABELS, TrainingConfig(mixup=1.0), np.random.default_rng(1))
    expected = found.share * PIXELS + (1 - found.share) * PIXELS.roll(1, 0)
    assert 0 < found.share < 1
    assert torch.allclose(found.pixels, expected)
    assert torch.equal(found.others, LABELS.roll(1))


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_pastes_a_square_of_the_neighbour_and_counts_its_pixels(seed: int) -> None:
    found = mixed(PIXELS, LABELS, TrainingConfig(cutmix=1.0), np.random.default_rng(seed))
    own = (found.pixels == PIXELS).float().mean(dim=(1, 2, 3))
    assert torch.allclose(own, torch.full((4,), found.share))
    foreign = (found.pixels != PIXELS)[1, 0]
    rows, columns = foreign.any(dim=1).sum(), foreign.any(dim=0).sum()
    assert rows * columns == foreign.sum()


def test_the_loss_of_a_mixed_batch_is_that_of_soft_labels() -> None:
    logits, others = torch.randn(4, 4), LABELS.roll(1)
    soft = 0.7 * functional.one_hot(LABELS, 4) + 0.3 * functional.one_hot(others, 4)
    expected = functional.cross_entropy(logits, soft.float(), label_smoothing=0.1)
    found = Mixed(PIXELS, LABELS, others, 0.7).loss(logits, smoothing=0.1)
    assert found == pytest.approx(expected.item(), abs=1e-6)


def test_where_both_are_on_each_has_its_turn() -> None:
    random = np.random.default_rng(0)
    config = TrainingConfig(mixup=1.0, cutmix=1.0)
    batches = [mixed(PIXELS, LABELS, config, random) for _ in range(20)]
    pasted = [bool(((each.pixels % 10) == 0).all()) for each in batches]
    assert 3 < sum(pasted) < 17


def test_a_batch_of_one_has_no_neighbour() -> None:
    found = mixed(PIXELS[:1], LABELS[:1], TrainingConfig(mixup=1.0), np.random.default_rng(0))
    assert found.share == 1.0
