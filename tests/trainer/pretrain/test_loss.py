"""The multi-positive loss, against the same figures computed another way."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from trainer.pretrain.loss import image_text_loss, multi_positive_loss, positive_mask

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


# Rows, and what SupConLoss(temperature=0.2) of pytorch-metric-learning 2.9.0 makes of them in
# float64: by ids, the loss and its gradient.
ROWS = [
    [1.0, -0.5, 0.25],
    [0.5, 1.5, -1.0],
    [-0.75, 0.5, 2.0],
    [1.25, 0.75, -0.5],
    [-1.0, -1.5, 0.5],
    [0.25, -2.0, 1.0],
]
OF_PYTORCH_METRIC_LEARNING: dict[tuple[int, ...], tuple[float, list[list[float]]]] = {
    (0, 0, 0, 1, 1, 1): (
        4.76303541,
        [
            [-0.36200449, -0.82989197, -0.21176598],
            [0.18786211, -0.24193219, -0.26896723],
            [-0.40667465, -0.52539183, -0.02115504],
            [-0.62114117, 0.81689062, -0.32751700],
            [-0.04248451, 0.13960333, 0.33384096],
            [-0.23821628, 0.03626308, 0.13208023],
        ],
    ),
    (0, 1, 0, 2, 2, 0): (  # row 1 is alone
        4.75349279,
        [
            [0.32043567, 0.16550921, -0.95072427],
            [0.27732926, -0.05843176, 0.05101699],
            [-0.50435496, 0.19732545, -0.23846447],
            [-0.31439444, 0.51866260, -0.00799219],
            [0.05560816, 0.15334836, 0.57126140],
            [-0.37619107, -0.18602585, -0.27800393],
        ],
    ),
}


@pytest.mark.parametrize("ids", OF_PYTORCH_METRIC_LEARNING)
def test_loss_and_gradient_equal_saved_ones_of_pytorch_metric_learning(
    ids: tuple[int, ...],
) -> None:
    expected, expected_gradient = OF_PYTORCH_METRIC_LEARNING[ids]
    rows = torch.tensor(ROWS, requires_grad=True)
    found = multi_positive_loss(rows, torch.tensor(ids), temperature=TEMPERATURE)
    (gradient,) = torch.autograd.grad(found, rows)
    assert found.item() == pytest.approx(expected, abs=1e-6)
    assert float((gradient - torch.tensor(expected_gradient)).abs().max()) < 1e-6


@pytest.mark.parametrize("ids", [[0, 0, 0, 1, 1, 1], [0, 1, 0, 2, 2, 2, 0], [5, 5, 1, 2, 1]])
def test_loss_and_gradient_equal_those_of_pytorch_metric_learning(ids: list[int]) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    reducers = pytest.importorskip("pytorch_metric_learning.reducers")
    oracle = losses.SupConLoss(temperature=TEMPERATURE, reducer=reducers.AvgNonZeroReducer())
    features, numbers = features_of(len(ids)), torch.tensor(ids)
    expected = oracle(features, numbers)
    found = multi_positive_loss(features, numbers, temperature=TEMPERATURE)
    (one,), (other,) = torch.autograd.grad(found, features), torch.autograd.grad(expected, features)
    assert abs(found.item() - expected.item()) < 1e-6
    assert float((one - other).abs().max()) < 1e-6


def test_two_views_have_the_value_and_gradient_of_pytorch_metric_learnings_nt_xent() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    features, numbers = features_of(12), torch.arange(6).repeat(2)
    expected = losses.NTXentLoss(temperature=TEMPERATURE)(features, numbers)
    found = multi_positive_loss(features, numbers, temperature=TEMPERATURE)
    (one,), (other,) = torch.autograd.grad(found, features), torch.autograd.grad(expected, features)
    assert abs(found.item() - expected.item()) < 1e-6
    assert float((one - other).abs().max()) < 1e-6


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


def test_image_text_loss_equals_the_definition_pair_by_pair_to_1e_6() -> None:
    images, texts = features_of(7), features_of(4).detach() + 0.3
    texts.requires_grad_()
    image_ids, text_ids = [0, 0, 1, 2, 2, 2, 9], [0, 1, 2, 2]  # 9 has no text, 2 is there twice
    scale = torch.tensor(5.0, requires_grad=True)
    losses: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for side, (rows, row_ids, others, other_ids) in enumerate(
        ((images, image_ids, texts, text_ids), (texts, text_ids, images, image_ids))
    ):
        for row, own in zip(rows, row_ids, strict=True):
            logits = scale * functional.cosine_similarity(row[None], others, dim=1)
            logs = logits - torch.logsumexp(logits, dim=0)
            hits = [log for log, other in zip(logs, other_ids, strict=True) if other == own]
            if hits:
                losses[side].append(-torch.stack(hits).mean())
    expected = torch.stack([torch.stack(side).mean() for side in losses]).mean()
    found = image_text_loss(
        images, torch.tensor(image_ids), texts, torch.tensor(text_ids), scale=scale
    )
    assert abs(found.item() - expected.item()) < 1e-6
    for one, other in zip(
        torch.autograd.grad(found, (images, texts, scale)),
        torch.autograd.grad(expected, (images, texts, scale)),
        strict=True,
    ):
        assert float((one - other).abs().max()) < 1e-6


def test_with_one_image_a_text_it_is_clips_loss() -> None:
    images, texts = features_of(6), features_of(6).detach().flip(0)
    logits = 10 * functional.normalize(images, dim=1) @ functional.normalize(texts, dim=1).T
    target = torch.arange(6)
    both = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    found = image_text_loss(images, target, texts, target, scale=torch.tensor(10.0))
    assert found.item() == pytest.approx(both.item() / 2, abs=1e-6)
