"""Heads without an optimiser: logistic regression, class means, neighbours."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import nn

from trainer.training import heads
from trainer.training.engine import Standardise
from trainer.training.heads import (
    STRENGTHS,
    Neighbours,
    _chosen_strength,
    _unwarned,
    fit_head,
    fit_logistic,
    new_head,
)


def points(per_class: int = 12, width: int = 40, apart: float = 2.0, seed: int = 0):  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(seed)
    centres = apart * torch.randn(3, width, generator=torch.Generator().manual_seed(9))
    labels = torch.arange(3).repeat_interleave(per_class)
    noise = torch.randn(len(labels), width, generator=generator)
    return centres[labels] + 3 * noise, labels


def test_the_solution_is_that_of_scikit_learn_on_all_features() -> None:
    """Fewer rows than features: the fit in the rows' own coordinates loses nothing."""
    features, labels = points()
    found = fit_logistic(features, labels, num_classes=3)
    model = LogisticRegression(C=1 / found.strength, max_iter=500, tol=1e-5)
    model.fit(features.double().numpy(), labels.numpy())
    expected = model.decision_function(features.double().numpy())
    ours = (features @ found.weight.T + found.bias).numpy()
    centred = ours - ours.mean(axis=1, keepdims=True)
    assert np.allclose(centred, expected - expected.mean(axis=1, keepdims=True), atol=0.02)


def test_noisy_features_get_a_stronger_penalty_than_clear_ones() -> None:
    noisy, labels = points(apart=0.3)
    clear, _ = points(apart=5.0)
    strengths = [fit_logistic(each, labels, num_classes=3).strength for each in (noisy, clear)]
    assert strengths[0] > strengths[1]


def test_two_classes_and_a_class_without_images_work() -> None:
    features, labels = points()
    two = labels < 2
    found = fit_logistic(features[two], labels[two], num_classes=4)
    guessed = (features[two] @ found.weight.T + found.bias).argmax(dim=1)
    assert (guessed == labels[two]).float().mean() > 0.9


def test_the_strength_is_judged_by_the_marked_rows_only() -> None:
    """Rows that are not judged are easy copies of one another, which would ask for no penalty."""
    features, labels = points(apart=0.4)
    easy = torch.eye(3)[labels] @ torch.randn(3, 40, generator=torch.Generator().manual_seed(2))
    both, twice = torch.cat([features, 20 * easy]), torch.cat([labels, labels])
    judged = torch.arange(len(twice)) < len(labels)
    values, target = both.double().numpy(), twice.numpy()
    marked = _chosen_strength(values, target, judged.numpy(), 0)
    easiest = _chosen_strength(values, target, ~judged.numpy(), 0)
    assert marked > easiest
    assert {marked, easiest} <= set(STRENGTHS)


def test_rows_of_one_group_are_never_on_both_sides_of_a_fold() -> None:
    """Copies on both sides would ask for no penalty, as every row is known already."""
    features, labels = points(apart=0.4)
    four, of_four = features.repeat_interleave(4, 0), labels.repeat_interleave(4)
    groups = torch.arange(len(labels)).repeat_interleave(4)
    single = fit_logistic(features, labels, num_classes=3, groups=torch.arange(len(labels)))
    assert single.strength == fit_logistic(features, labels, num_classes=3).strength
    apart = fit_logistic(four, of_four, num_classes=3).strength
    together = fit_logistic(four, of_four, num_classes=3, groups=groups).strength
    assert together > 10 * apart


def test_a_class_of_one_group_leaves_no_folds() -> None:
    features, labels = points()
    groups = torch.where(labels == 0, 0, torch.arange(len(labels)))
    assert fit_logistic(features, labels, num_classes=3, groups=groups).strength == 1.0


def test_a_fit_that_ends_first_does_not_end_the_silence_of_another() -> None:
    """Warnings are errors here, and filters are the whole process's, in threads too."""
    before = list(warnings.filters)
    first, second = _unwarned(), _unwarned()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    warnings.warn("not converged", ConvergenceWarning, stacklevel=1)
    second.__exit__(None, None, None)
    assert warnings.filters == before


def test_one_image_per_class_leaves_no_folds_and_still_fits() -> None:
    features, labels = points(per_class=1)
    found = fit_logistic(features, labels, num_classes=3)
    assert ((features @ found.weight.T + found.bias).argmax(dim=1) == labels).all()


def fitted(kind: str) -> nn.Sequential:
    features, labels = points()
    scale = Standardise(features.mean(dim=0), features.std(dim=0))
    network = nn.Sequential(scale, *new_head(kind, features.shape[1], 3))
    fit_head(kind, network, features, labels)
    return network


@pytest.mark.parametrize("kind", ["logistic", "cosine", "knn"])
def test_every_head_knows_images_that_it_has_not_seen(kind: str) -> None:
    features, labels = points(seed=1)
    guessed = fitted(kind)(features).argmax(dim=1)
    assert (guessed == labels).float().mean() > 0.8


def test_neighbours_vote_by_similarity() -> None:
    head = Neighbours(2, 2)
    head.rows, head.labels = torch.eye(2), torch.tensor([0, 1])
    shares = head(torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5]])).exp()
    assert shares[0, 0] > 0.99
    assert shares[1, 0] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("kind", ["logistic", "cosine", "knn"])
def test_a_head_is_loaded_from_its_state(kind: str) -> None:
    network, features = fitted(kind), points(seed=1)[0]
    empty = nn.Sequential(Standardise(torch.zeros(40), torch.ones(40)), *new_head(kind, 40, 3))
    empty.load_state_dict(network.state_dict())
    assert torch.equal(empty(features), network(features))


def test_the_same_rows_are_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = points()
    fitted: list[float] = []
    real_fit = heads._fit

    def counted(model: LogisticRegression, *rows: np.ndarray) -> None:
        fitted.append(model.C)
        real_fit(model, *rows)

    monkeypatch.setattr(heads, "_fit", counted)
    monkeypatch.setattr(heads, "_latest", None)
    first, again = (
        fit_logistic(features, labels, num_classes=3, strength=1.0, seed=seed) for seed in (0, 1)
    )
    assert torch.equal(first.weight, again.weight)
    assert torch.equal(first.bias, again.bias)
    assert len(fitted) == 1
    for changed in (
        {"strength": 2.0},
        {"tolerance": 1e-3},
        {"labels": labels.flip(0)},
        {"features": features + 1},
    ):
        given = {"features": features, "labels": labels, "strength": 1.0, **changed}
        fit_logistic(given.pop("features"), given.pop("labels"), num_classes=3, **given)
    assert len(fitted) == 5
