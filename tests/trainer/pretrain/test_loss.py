"""The multi-positive loss, against the same figures computed another way."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from trainer.pretrain.loss import multi_positive_loss, positive_mask

TEMPERATURE = 0.2


def features_of(rows: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(3)
    return torch.randn(rows, 5, dtype=torch.float32, generator=random, requires_grad=True)


def by_hand(features: torch.Tensor, ids: list[int], temperature: float) -> torch.Tensor:
    """Row by row, pair by pair, from the definition and without a mask."""
    losses = []
    for i, own in enumerate(ids):
        others = [j for j in range(len(ids)) if j != i]
        cosines = torch.stack(
            [functional.cosine_similarity(features[i], features[j], dim=0) for j in others]
        )
        total = torch.logsumexp(cosines / temperature, dim=0)
        terms = [
            total - cosine / temperature
            for j, cosine in zip(others, cosines, strict=True)
            if ids[j] == own
        ]
        if terms:
            losses.append(torch.stack(terms).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("ids", [[0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 1, 0, 2, 2, 2, 0], [5, 5, 1, 2]])
def test_loss_and_gradient_equal_the_definition_to_1e_6(ids: list[int]) -> None:
    features = features_of(len(ids))
    expected = by_hand(features, ids, TEMPERATURE)
    (expected_gradient,) = torch.autograd.grad(expected, features)
    found = multi_positive_loss(features, torch.tensor(ids), temperature=TEMPERATURE)
    (gradient,) = torch.autograd.grad(found, features)
    assert abs(found.item() - expected.item()) < 1e-6
    assert float((gradient - expected_gradient).abs().max()) < 1e-6


def test_with_two_views_an_id_it_is_nt_xent() -> None:
    views = features_of(12)
    unit = functional.normalize(views, dim=1)
    logits = unit @ unit.T / TEMPERATURE - 1e9 * torch.eye(12)
    partner = torch.arange(12).roll(6)  # the second view of row i is row i + 6
    expected = functional.cross_entropy(logits, partner)
    found = multi_positive_loss(views, torch.arange(6).repeat(2), temperature=TEMPERATURE)
    assert abs(found.item() - expected.item()) < 1e-6
    (one,), (other,) = torch.autograd.grad(found, views), torch.autograd.grad(expected, views)
    assert float((one - other).abs().max()) < 1e-6


def test_a_caption_drawn_twice_is_a_positive_of_itself() -> None:
    twice = torch.tensor([7, 7, 4, 7, 7, 4])
    assert positive_mask(twice).sum(dim=1).tolist() == [3, 3, 1, 3, 3, 1]
    assert not positive_mask(twice).diagonal().any()
    alike = torch.ones(4, 3)
    # All rows are equal: each of the three others has a third of the softmax.
    found = multi_positive_loss(alike, torch.tensor([7, 7, 7, 7]))
    assert float(found) == pytest.approx(math.log(3), abs=1e-6)


def test_without_any_positive_the_loss_and_its_gradient_are_zero_not_nan() -> None:
    features = features_of(4)
    found = multi_positive_loss(features, torch.arange(4))
    (gradient,) = torch.autograd.grad(found, features)
    assert found.item() == 0.0
    assert float(gradient.abs().max()) == 0.0


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        multi_positive_loss(features_of(4), torch.tensor([0, 0, 1, 1]), temperature=0.0)
