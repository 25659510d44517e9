"""Strengths as a dimension of a plan: which row has which, and what the batcher makes of it.

Covers: comfy_nodes.plan.strengths, comfy_nodes.plan.
"""

from collections import Counter
from dataclasses import replace

import pytest
from PIL import Image

from comfy_nodes.errors import LabelsetError, PlanError
from comfy_nodes.graph import queued
from comfy_nodes.labelset import ImageRecord, encode_image, read_record
from comfy_nodes.labelset.parameters import parameters_text
from comfy_nodes.nodes.batcher import ClassPromptBatcher
from comfy_nodes.plan import ClassEntry, GenerationPlan, PromptTemplates
from comfy_nodes.plan.strengths import parse_strengths, strengths_text

STRENGTHS = (0.3, 0.5, 0.7)
CLASSES = tuple(map(ClassEntry, ("bat", "cat", "dog")))
PLAIN = GenerationPlan(CLASSES, images_per_class=12, seed=3)
PLAN = replace(PLAIN, strengths=STRENGTHS)


def test_a_plan_with_strengths_is_another_plan_with_the_same_rows_otherwise():
    assert PLAN.plan_id != PLAIN.plan_id
    assert [replace(row, strength=None) for row in PLAN] == list(PLAIN)
    assert {row.strength for row in PLAIN} == {None}
    assert "strengths" not in PLAIN.to_dict()
    assert GenerationPlan.from_dict(PLAN.to_dict()) == PLAN


def test_every_class_uses_every_strength_equally_often():
    counts = Counter((row.label, row.strength) for row in PLAN)
    assert set(counts.values()) == {4}
    assert len(counts) == 9
    rounds = [tuple(PLAN.row(3 * image).strength for image in range(at, at + 3)) for at in (0, 3)]
    assert all(sorted(each) == list(STRENGTHS) for each in rounds)


def test_the_order_of_strengths_is_drawn_anew_in_every_round():
    long = replace(PLAN, images_per_class=60)
    rounds = {
        tuple(long.row(3 * image).strength for image in range(at, at + 3)) for at in range(0, 60, 3)
    }
    assert len(rounds) > 3


def test_a_strength_depends_neither_on_the_other_classes_nor_on_how_many_images_there_are():
    alone = replace(PLAN, classes=CLASSES[:1], images_per_class=30)
    assert [alone.row(image).strength for image in range(12)] == [
        PLAN.row(3 * image).strength for image in range(12)
    ]


def test_images_of_one_prompt_differ_in_strength():
    shared = replace(PLAN, images_per_prompt=3)
    assert {shared.row(3 * image).strength for image in range(3)} == set(STRENGTHS)


def test_another_attempt_keeps_the_strength():
    assert PLAN.row(4, attempt=2).strength == PLAN.row(4).strength


@pytest.mark.parametrize("text", ["0.3,0.5,0.7", " 0.3 0.5\n0.7 ", "0.3; 0.5; 0.7,"])
def test_strengths_are_numbers_between_commas_or_spaces(text):
    assert parse_strengths(text) == STRENGTHS
    assert parse_strengths(strengths_text(STRENGTHS)) == STRENGTHS


def test_a_blank_text_is_no_strengths():
    assert parse_strengths("  ") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.3, much", "'much' is not a number"),
        ("0", "strength is 0; it must be above 0"),
        ("0.5, 1.01", "strength is 1.01"),
        ("nan", "strength is nan"),
        ("0.5, 0.50", "given twice: 0.5, 0.5"),
        (" ".join(str(number / 200) for number in range(1, 103)), "102 strengths are too many"),
    ],
)
def test_other_strengths_are_refused_by_name(text, message):
    with pytest.raises(PlanError, match=message):
        parse_strengths(text)


def select(strengths, **changes):
    inputs = dict(images_per_class=12, batch_size=12, plan_seed=3, batch_index=0) | changes
    return ClassPromptBatcher().select(CLASSES, PromptTemplates(), strengths=strengths, **inputs)


def test_the_batcher_gives_out_the_rows_of_a_batch_by_strength():
    answer = select("0.3, 0.5, 0.7")
    batches, summaries, strengths = answer["result"]
    assert strengths == [0.3, 0.5, 0.7]
    assert [{spec.strength for spec in batch.specs} for batch in batches] == [{0.3}, {0.5}, {0.7}]
    made = sorted((spec for batch in batches for spec in batch.specs), key=lambda row: row.index)
    assert made == list(PLAN.batch(0, 12))
    assert {batch.plan.plan_id for batch in batches} == {PLAN.plan_id}
    assert summaries == [answer["ui"]["text"][0]] * 3


def test_a_batch_no_larger_than_the_classes_is_sampled_in_one_call():
    assert len(select("0.3, 0.5, 0.7", batch_size=3)["result"][0]) == 1


def test_without_strengths_a_batch_is_one_part_and_the_output_1():
    (batch,), _, strengths = select("")["result"]
    assert batch.specs == PLAIN.batch(0, 12)
    assert strengths == [1.0]


def validated(strengths, denoise):
    inputs = {"strengths": strengths}
    queued.remember(
        {
            "prompt": {
                "4": {"class_type": "SynthGridClassPromptBatcher", "inputs": inputs},
                "9": {"class_type": "BasicScheduler", "inputs": {"denoise": denoise}},
            }
        }
    )
    try:
        typed = strengths if isinstance(strengths, str) else None
        return ClassPromptBatcher.VALIDATE_INPUTS(strengths=typed)
    finally:
        queued.remember({})


def test_strengths_that_no_node_takes_are_refused_before_anything_is_sampled():
    assert "no node takes the strength output" in validated("0.3, 0.5", 0.6)
    assert "no node takes the strength output" in validated("0.3, 0.5", ["4", 1])
    assert validated("0.3, 0.5", ["4", 2]) is True
    assert validated("", 0.6) is True


def test_a_strength_output_without_strengths_is_refused():
    assert "strengths is empty" in validated(" ", ["4", 2])
    assert validated(["7", 0], ["4", 2]) is True, "a linked text is not known yet"


def test_typed_in_strengths_are_read_before_anything_is_sampled():
    assert "strength is 2" in validated("2", ["4", 2])


RECORD = ImageRecord("bat/a.png", "bat", "a bat", "", 7, 0, "p", settings={"steps": 4})


def test_the_record_holds_the_strength_in_the_line_and_in_the_image():
    record = replace(RECORD, strength=0.5)
    assert ImageRecord.from_json(record.to_json()) == record
    assert '"strength": 0.5' in record.to_json()
    inside = read_record(encode_image(Image.new("RGB", (8, 8), "red"), record))
    assert inside.strength == 0.5
    assert "Denoising strength: 0.5" in parameters_text(record)


def test_a_record_without_a_strength_is_written_as_ever():
    assert "strength" not in RECORD.to_json()
    assert "Denoising strength" not in parameters_text(RECORD)


@pytest.mark.parametrize("value", ["0.5", True, [0.5]])
def test_a_strength_that_is_no_number_is_a_damaged_record(value):
    with pytest.raises(LabelsetError, match="wrong type"):
        ImageRecord.from_dict(RECORD.to_dict() | {"strength": value})
