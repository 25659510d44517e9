"""A selection is read as it is written, and anything else is refused in words.

Covers: trainer.config.selection.
"""

from __future__ import annotations

import pytest

from trainer.analysis.cellkey import CellKey, headline_keys, random_twin
from trainer.config import GridConfig
from trainer.config.selection import Term, parse_selection
from trainer.errors import ConfigError


def test_reasons_and_scores_are_terms() -> None:
    found = parse_selection("clean=syn:label, outlier,real>=0.1,clip<3e-1")
    assert (found.name, found.source, found.random) == ("clean", "syn", "clean.random")
    assert found.terms == (
        Term("label"),
        Term("outlier"),
        Term("real", ">=", 0.1),
        Term("clip", "<", 0.3),
    )


@pytest.mark.parametrize(
    ("sign", "below", "at", "above"),
    [
        (">=", False, True, True),
        (">", False, False, True),
        ("<=", True, True, False),
        ("<", True, False, False),
    ],
)
def test_a_score_is_compared_as_written(sign: str, below: bool, at: bool, above: bool) -> None:
    term = Term("real", sign, 0.5)
    assert [term.holds(value) for value in (0.4, 0.5, 0.6)] == [below, at, above]
    assert not term.holds(float("nan"))


@pytest.mark.parametrize(
    "text",
    ["clean", "clean=syn", "clean=syn:", "=syn:label", "clean=:label", "a b=syn:label",
     "x.random=syn:label", "clean=syn:labels", "clean=syn:real>=x", "clean=syn:real=>1",
     "clean=syn:label,"],
)  # fmt: skip
def test_anything_else_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(ConfigError, match="--select " + text.replace(".", r"\.")):
        parse_selection(text)


def grid(**options: object) -> GridConfig:
    return GridConfig(
        "real", "out", synthetic={"syn": "made", "b": "more"}, models=("cnn",), **options
    )  # type: ignore[arg-type]


def test_the_same_number_at_random_stands_beside_every_selected_arm() -> None:
    config = grid(
        select=("clean=syn:label",), arms=("real", "add:1@syn", "add:1@clean", "add:2@b+clean")
    )
    assert [arm.name for arm in config.used_arms] == [
        *("real", "add:1@syn", "add:1@clean", "add:2@b+clean"),
        *("add:1@clean.random", "add:2@b+clean.random"),
    ]
    assert config.source_names == ("syn", "b", "clean", "clean.random")
    asked = grid(select=("clean=syn:label",), arms=("real", "add:1@clean", "add:1@clean.random"))
    assert len(asked.used_arms) == 3


@pytest.mark.parametrize(
    ("select", "says"),
    [
        (("clean=none:label",), "no synthetic source 'none', only syn, b"),
        (("b=syn:label",), "'b' is taken"),
        (("copy=syn:label",), "'copy' is taken"),
        (("c=syn:label", "c=b:label"), "'c' is taken"),
    ],
)
def test_a_selection_from_nowhere_or_of_a_taken_name_is_refused(
    select: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        grid(select=select, arms=("real", "add:1@syn"))


def test_the_random_twin_is_no_headline() -> None:
    cells = [
        CellKey("cnn"),
        CellKey("cnn", "add:1@clean", "updates", "add", 1.0, "clean"),
        CellKey("cnn", "add:2@clean", "updates", "add", 2.0, "clean"),
        CellKey("cnn", "add:1@clean.random", "updates", "add", 1.0, "clean.random"),
        CellKey("cnn", "add:2@clean.random", "updates", "add", 2.0, "clean.random"),
        CellKey("cnn", "add:2@clean.random", "epochs", "add", 2.0, "clean.random"),
    ]
    assert headline_keys(cells) == (cells[2],)
    assert random_twin(cells[1], cells) == cells[3]
    assert random_twin(cells[2], cells) == cells[4]
    assert random_twin(cells[3], cells) is None
    mixed = CellKey("cnn", "add:1@b+clean", "updates", "add", 1.0, "b+clean")
    other = CellKey("cnn", "add:1@b+clean.random", "updates", "add", 1.0, "b+clean.random")
    assert random_twin(mixed, [mixed, other]) == other
