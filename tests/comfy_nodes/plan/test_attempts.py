"""Rows and attempts come back from their text as they went in, and bad text is refused in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_nodes.errors import PlanError
from comfy_nodes.plan.attempts import parse_rows, rows_text


@given(st.dictionaries(st.integers(0, 10**12), st.integers(0, 9999), min_size=1))
def test_the_text_of_rows_is_read_back(rows):
    assert list(parse_rows(rows_text(rows)).items()) == list(rows.items())


def test_rows_as_planned_are_written_as_before():
    assert rows_text({3: 0, 7: 0}) == "3,7"
    assert rows_text({3: 0, 7: 2}) == "3,7@2"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("3, 7", {3: 0, 7: 0}),
        (" 12 @ 1 ,3", {12: 1, 3: 0}),
        ("007", {7: 0}),
        ("3,3", {3: 0}),
        ("3,3@0", {3: 0}),
    ],
)
def test_spaces_and_repetitions_do_not_matter(text, rows):
    assert parse_rows(text) == rows


@pytest.mark.parametrize("text", ["", "3,", "3;4", "x", "-1", "1@", "@1", "1@2@3", "1@x", "1.5"])
def test_anything_else_is_refused(text):
    with pytest.raises(PlanError, match="must be image numbers"):
        parse_rows(text)


def test_two_attempts_at_one_row_are_refused():
    with pytest.raises(PlanError, match="two attempts at image 3"):
        parse_rows("3@1,3@2")
