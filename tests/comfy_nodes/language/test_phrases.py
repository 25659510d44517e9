"""Phrases are cleaned, and dropped for a reason that is counted."""

import pytest

from comfy_nodes.language.phrases import LONGEST, Filter


def taken(*phrases, label="bat", others=("bat", "polar bear", "bear")):
    chosen = Filter(label, others)
    for phrase in phrases:
        chosen.take(phrase)
    return chosen


def test_phrases_are_cleaned():
    assert taken("  in  a cave. ").kept == ["in a cave"]


@pytest.mark.parametrize(
    ("phrase", "reason"),
    [
        ("with a Bear", "names another class"),
        ("with two bears", "names another class"),
        ("with a watermark", "banned word"),
        ("in {a|b}", "special syntax"),
        ("in __color__", "special syntax"),
        ("{x", "special syntax"),
        ("# comment", "special syntax"),
        ("a\nb", "not a phrase"),
        ("x" * (LONGEST + 1), "not a phrase"),
        ("...", "not a phrase"),
    ],
)
def test_what_does_not_belong_is_dropped_with_its_reason(phrase, reason):
    chosen = taken(phrase)
    assert (chosen.kept, chosen.dropped) == ([], {reason: 1})


def test_a_word_inside_another_word_is_no_class():
    assert taken("on a bearing wall").dropped == {}


def test_the_own_name_may_hold_the_name_of_another_class():
    assert taken("a polar bear on ice", label="polar bear").dropped == {}
    assert taken("a polar bear with a bear", label="polar bear").kept == []


def test_near_duplicates_are_dropped_and_different_phrases_are_not():
    chosen = taken("beside a calm blue mountain lake", "Beside a calm, blue mountain lake!")
    assert chosen.dropped == {"near duplicate": 1}
    assert len(taken("beside a calm lake", "beside a calm river").kept) == 2
