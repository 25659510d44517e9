"""A prompt behind wrong answers is named; a hard class, or chance, is not."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.analysis.tracing import nearest_of_class, trace

N = 400


def test_an_image_is_traced_to_its_likest_of_the_class_predicted() -> None:
    made = np.eye(4)
    labels = np.array([0, 0, 1, 1])
    test = np.array([[0.1, 0.9, 0.0, 0.2], [0.1, 0.9, 0.0, 0.2], [1.0, 0, 0, 0]])
    assert nearest_of_class(test, np.array([0, 1, 2]), made, labels).tolist() == [1, 3, -1]


def answers(
    *, blamed: float, seed: int = 0, field: str = "context"
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, str]]]:
    """Four classes; values a, b, c, d of a field by turns; 10% wrong, with b a further share."""
    random = np.random.RandomState(seed)
    nearest = np.arange(N)
    origins = [{field: "abcd"[row // 4 % 4], "prompt": "the same"} for row in range(N)]
    chance = 0.1 + blamed * np.array([each[field] == "b" for each in origins])
    return random.rand(N) < chance, np.arange(N) % 4, nearest, origins


@pytest.mark.parametrize("field", ["template", "context", "style", "strength"])
def test_a_value_behind_wrong_answers_is_named_alone(field: str) -> None:
    (only,) = trace(*answers(blamed=0.3, field=field))
    assert (only.field, only.value) == (field, "b")
    assert only.wrong > 1.5 * only.expected
    assert only.wrong_total == answers(blamed=0.3)[0].sum()
    assert only.p < 0.05


def test_without_a_cause_at_most_five_percent_name_one() -> None:
    named = sum(bool(trace(*answers(blamed=0.0, seed=seed))) for seed in range(200))
    assert named <= 14  # 5% of 200, and a bit more than one standard deviation


def test_a_context_that_only_a_hard_class_has_is_not_blamed() -> None:
    random = np.random.RandomState(1)
    predicted = np.arange(N) % 4
    wrong = random.rand(N) < np.where(predicted == 2, 0.5, 0.05)
    contexts = [{"context": f"of class {label}"} for label in predicted]
    assert trace(wrong, predicted, np.arange(N), contexts) == []


@pytest.mark.parametrize("origins", [[{}] * N, [{"style": ""}] * N, [{"style": "s"}] * N])
def test_nothing_recorded_or_one_value_says_nothing(origins: list[dict[str, str]]) -> None:
    wrong, predicted, nearest, _ = answers(blamed=0.3)
    assert trace(wrong, predicted, nearest, origins) == []
    assert trace(wrong, predicted, np.full(N, -1), origins) == []
