"""Captions name what the image shows, and only that."""

import random

from tools.tiny_digits.grammar import (
    BOARDS,
    CHALKS,
    DIGIT_WORDS,
    INKS,
    Description,
    caption,
    random_description,
)


def captions(description: Description, count: int = 300) -> list[str]:
    rng = random.Random(0)
    return [caption(description, rng) for _ in range(count)]


def test_every_caption_names_the_digit_as_a_numeral_or_a_word() -> None:
    for text in captions(Description(7)):
        assert "7" in text or DIGIT_WORDS[7] in text


def test_a_caption_of_a_style_alone_names_no_digit() -> None:
    description = Description(None, "a blackboard", "yellow chalk", "bold strokes", "tilted left")
    for text in captions(description):
        assert not set(text.split()) & {*DIGIT_WORDS, *"0123456789"}
        assert "yellow chalk" in text


def test_what_differs_from_the_default_is_always_named() -> None:
    for text in captions(Description(3, "pink paper", "red ink")):
        assert "pink paper" in text
        assert "red ink" in text


def test_a_blackboard_is_only_omitted_if_the_chalk_is_named() -> None:
    texts = captions(Description(3, "a blackboard", "white chalk"))
    without = [text for text in texts if "board" not in text]
    assert without
    assert all("chalk" in text for text in without)


def test_random_descriptions_put_chalk_on_boards_and_ink_on_paper() -> None:
    rng = random.Random(0)
    for digit in range(200):
        each = random_description(digit % 10, rng, plain_share=0.0)
        assert each.stroke in (CHALKS if each.context in BOARDS else INKS)


def test_the_share_of_plain_descriptions_is_as_asked() -> None:
    rng = random.Random(0)
    assert all(random_description(1, rng, plain_share=1.0).is_plain for _ in range(50))
