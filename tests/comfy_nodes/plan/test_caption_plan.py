"""A plan of captions: rows that follow from the captions alone, beside plans of classes.

Covers: comfy_nodes.plan.rows.
"""

import pytest

from comfy_nodes.errors import PlanError
from comfy_nodes.nodes.subfolders import SubfolderPattern
from comfy_nodes.plan import MAX_SEED, GenerationPlan, PromptTemplates, parse_classes
from comfy_nodes.plan.caption_plan import (
    CaptionPlan,
    CaptionPrompts,
    caption_plan_from,
    is_caption_plan,
    plan_of,
)
from comfy_nodes.plan.captions import Captions, parse_captions

PAIRS = [("a dog", "dog"), ("{a|b} __x__", "odd"), ("a dog in snow", "dog")]


def plan(per_caption=2, seed=7, **more):
    return CaptionPlan(Captions(PAIRS), images_per_caption=per_caption, seed=seed, **more)


def test_each_caption_is_a_prompt_as_it_is_and_comes_again_after_the_last():
    rows = list(plan(negative_prompt="text"))
    assert [(row.prompt, row.label) for row in rows] == PAIRS * 2
    assert {row.negative_prompt for row in rows} == {"text"}
    assert {(row.template, row.context, row.style) for row in rows} == {("", None, None)}
    assert [row.index for row in rows] == list(range(6))
    assert len({row.seed for row in rows}) == 6
    assert all(0 <= row.seed <= MAX_SEED for row in rows)


def test_ids_and_seeds_of_a_caption_plan_stay_as_they_are():
    made = plan()
    assert made.plan_id == "937bbe382aa6"
    assert [row.seed for row in made][:4] == [
        8939226087041111,
        7532485344925695,
        7427760898221407,
        8637506278697421,
    ]
    assert made.row(4, attempt=2).seed == 6645238350342235


def test_more_images_per_caption_only_append_rows():
    short, long = plan(1), plan(5)
    assert long.plan_id == short.plan_id
    assert [long.row(index) for index in range(len(short))] == list(short)


def test_the_id_covers_captions_labels_order_negative_prompt_and_seed():
    others = [
        CaptionPlan(Captions(PAIRS[::-1]), seed=7),
        CaptionPlan(Captions(PAIRS[:2]), seed=7),
        CaptionPlan(Captions([(caption, "dog") for caption, _ in PAIRS]), seed=7),
        plan(seed=8),
        plan(negative_prompt="text"),
    ]
    assert len({each.plan_id for each in (plan(), *others)}) == 6


def test_the_same_caption_twice_is_two_captions_with_images_of_their_own():
    made = CaptionPlan(parse_captions("a dog\na dog"), images_per_caption=3)
    assert len(made) == 6
    assert {row.prompt for row in made} == {"a dog"}
    assert len({row.seed for row in made}) == 6


def test_another_attempt_changes_the_seed_alone():
    made = plan()
    rows = [made.row(4, attempt=attempt) for attempt in range(3)]
    assert len({row.seed for row in rows}) == 3
    assert {(row.prompt, row.label, row.index) for row in rows} == {("{a|b} __x__", "odd", 4)}
    with pytest.raises(PlanError, match="attempt 10000 at image 4"):
        made.row(4, attempt=10_000)


def test_a_part_of_the_captions_makes_the_same_rows_under_the_same_id():
    whole, part = plan(), CaptionPlan(Captions(PAIRS).part(2, 2), images_per_caption=2, seed=7)
    assert (part.plan_id, len(part)) == (whole.plan_id, 6)
    assert [part.row(index) for index in (2, 3, 5)] == [whole.row(index) for index in (2, 3, 5)]
    with pytest.raises(PlanError, match="caption 1 is not in this part"):
        part.row(1)


@pytest.mark.parametrize("rows", [None, range(6), range(1, 5), range(2, 3), range(4, 6)])
def test_images_are_counted_by_label_of_all_rows_or_of_a_range(rows):
    made, counts = plan(), {}
    for index in rows or range(6):
        counts[made.label_of(index)] = counts.get(made.label_of(index), 0) + 1
    assert made.counts(rows) == counts


def test_classes_too_are_counted_in_any_range():
    made = GenerationPlan(parse_classes("bat\nbear\nbee"), images_per_class=4)
    for rows in (range(12), range(1, 2), range(5, 11), range(4, 4)):
        counted = {}
        for index in rows:
            counted[made.label_of(index)] = counted.get(made.label_of(index), 0) + 1
        assert made.counts(rows) == counted
    assert made.counts() == {"bat": 4, "bear": 4, "bee": 4}
    assert [made.source_position(index) for index in range(5)] == [0, 0, 0, 1, 1]


def test_a_row_outside_the_plan_is_refused():
    for index in (-1, 6):
        with pytest.raises(PlanError, match=f"row {index} is outside the plan"):
            plan().row(index)
    with pytest.raises(PlanError, match="images per prompt is 0"):
        plan(0)
    with pytest.raises(PlanError, match="plan seed -1"):
        plan(seed=-1)


def test_a_plan_is_read_back_with_its_captions_and_with_no_others():
    values = plan(negative_prompt="text").to_dict()
    assert is_caption_plan(values)
    assert "a dog" not in str(values)
    again = caption_plan_from(values, Captions(PAIRS))
    assert again == plan(negative_prompt="text")
    with pytest.raises(PlanError, match="other captions: 2, SHA-256"):
        caption_plan_from(values, Captions(PAIRS[:2]))


def test_a_folder_named_after_the_template_has_a_name_for_captions_too():
    made = plan()
    assert SubfolderPattern("{template}/{label}").parent(made.row(0), made.plan_id) == "no template"


def test_a_batcher_takes_captions_with_their_own_prompts_alone():
    captions, prompts = Captions(PAIRS), CaptionPrompts("text")
    assert plan_of(captions, prompts, 30, 7, 2) == plan(negative_prompt="text")
    classes, templates = parse_classes("bat"), PromptTemplates()
    assert plan_of(classes, templates, 3, 0, 1) == GenerationPlan(classes, templates, 3)
    for pair in ((captions, templates), (classes, prompts)):
        with pytest.raises(PlanError, match="connect both outputs of SynthGrid Captions"):
            plan_of(*pair, 3, 0, 1)
