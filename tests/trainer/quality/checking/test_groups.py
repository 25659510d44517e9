"""A prompt that shows something else is named; a hard style or class is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trainer.quality.checking.groups import GroupFinding, check_groups
from trainer.quality.images import Origin

CLASSES = ("ant", "bee", "crane", "dog", "elk")
Clouds = Callable[..., tuple[np.ndarray, np.ndarray]]
STYLES = 4
PER_GROUP = 10


def styled(clouds: Clouds, *, hard: int = -1) -> tuple[np.ndarray, np.ndarray, list[Origin | None]]:
    """10 real images a class, and 10 a class in each of four styles, which move everything."""
    real, ours = clouds(10, 0)
    parts, labels, origins = [real], [ours], [None] * len(real)
    for style in range(STYLES):
        shift = 2.0 if style == hard else 0.5 * style
        made, theirs = clouds(PER_GROUP, 10 + style, shift=shift)
        parts.append(made)
        labels.append(theirs)
        origins += [Origin(style=f"style {style}", template="a {class}")] * len(made)
    return np.concatenate(parts).astype(float), np.concatenate(labels), origins


def found(
    values: np.ndarray,
    labels: np.ndarray,
    origins: list[Origin | None],
    strange: np.ndarray | None = None,
) -> list[GroupFinding]:
    none = np.zeros(len(labels), bool)
    return check_groups(
        values,
        labels,
        origins,
        classes=CLASSES,
        strength=1.0,
        strange=none if strange is None else strange,
    )


@pytest.mark.parametrize("hard", [-1, 3])
def test_right_prompts_are_not_named_even_in_a_hard_style(clouds: Clouds, hard: int) -> None:
    assert found(*styled(clouds, hard=hard)) == []


def test_a_class_that_shows_another_at_one_strength_is_named(clouds: Clouds) -> None:
    values, labels, origins = styled(clouds)
    strengths = [each and Origin(strength=each.style.replace("style ", "0.")) for each in origins]
    at_one = np.array([each is not None and each.strength == "0.2" for each in strengths])
    machines = values[at_one & (labels == 4)] + np.random.RandomState(3).randn(PER_GROUP, 24) / 9
    values[at_one & (labels == 2)] = machines
    (named,) = (each for each in found(values, labels, strengths) if each.field == "strength")
    assert (named.label, named.value, named.instead) == (CLASSES[2], "0.2", CLASSES[4])


def test_a_class_that_shows_another_in_one_style_is_named(clouds: Clouds) -> None:
    values, labels, origins = styled(clouds)
    in_style = np.array([each is not None and each.style == "style 2" for each in origins])
    swapped = in_style & (labels == 2)
    machines = values[in_style & (labels == 4)] + np.random.RandomState(3).randn(PER_GROUP, 24) / 9
    values[swapped] = machines
    named = found(values, labels, origins)
    assert {each.label for each in named} == {"crane"}  # a quarter of the class, too
    (only,) = [each for each in named if each.field == "style"]
    assert only.value == "style 2"
    assert (only.instead, only.images) == ("elk", PER_GROUP)
    assert only.wrong >= 8
    assert only.p < 0.05


def test_a_style_whose_labels_are_all_wrong_is_named_once(clouds: Clouds) -> None:
    values, labels, origins = styled(clouds)
    in_style = np.array([each is not None and each.style == "style 1" for each in origins])
    labels = np.where(in_style, (labels + 2) % 5, labels)
    (only,) = found(values, labels, origins)
    assert (only.label, only.field, only.value) == ("", "style", "style 1")
    assert only.wrong > 0.9 * only.images == 0.9 * 50


def test_a_class_whose_images_all_show_another_is_named(clouds: Clouds) -> None:
    values, labels, origins = styled(clouds)
    made = np.array([each is not None for each in origins])
    dogs, elks = (np.flatnonzero(made & (labels == label)) for label in (3, 4))
    values[dogs] = values[elks] + np.random.RandomState(3).randn(40, 24) / 9
    found_groups = [each for each in found(values, labels, origins) if each.field == "class"]
    (only,) = found_groups
    assert (only.label, only.instead, only.images) == ("dog", "elk", 40)
    assert only.wrong > 30


def test_a_class_that_is_unlike_all_real_ones_is_named(clouds: Clouds) -> None:
    values, labels, origins = styled(clouds)
    made = np.array([each is not None for each in origins])
    strange = np.zeros(len(labels), bool)
    strange[np.flatnonzero(made & (labels == 3))[:12]] = True  # 12 of 40
    (only,) = found(values, labels, origins, strange)
    assert (only.label, only.field, only.wrong, only.images) == ("dog", "class", 12, 40)
    everything = made & (np.arange(len(labels)) % 3 == 0)  # all classes alike: the style
    assert found(values, labels, origins, everything) == []


def test_groups_of_three_images_say_nothing(clouds: Clouds) -> None:
    values, labels = clouds(5, 0)
    origins: list[Origin | None] = [None if row % 5 < 2 else Origin() for row in range(25)]
    assert found(values.astype(float), labels, origins, np.ones(25, bool)) == []
