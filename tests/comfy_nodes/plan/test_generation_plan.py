"""A plan is a pure function: exact counts, independent rows, and errors that name the culprit."""

import json
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_nodes.errors import PlanError
from comfy_nodes.plan import (
    MAX_SEED,
    MOST_ATTEMPTS,
    ClassEntry,
    GenerationPlan,
    PromptTemplates,
    fill,
    parse_classes,
    parse_lines,
)

NAMES = st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=6, unique=True)


def make_plan(names=("badger", "bat", "bear"), *, per_class=4, seed=0, templates=None):
    return GenerationPlan(
        tuple(map(ClassEntry, names)), templates or PromptTemplates(), per_class, seed
    )


@settings(max_examples=60)
@given(
    names=NAMES,
    per_class=st.integers(1, 9),
    batch_size=st.integers(1, 20),
    seed=st.integers(0, MAX_SEED),
)
def test_batches_of_any_size_cut_the_same_rows(names, per_class, batch_size, seed):
    plan = make_plan(names, per_class=per_class, seed=seed)
    batches = [plan.batch(index, batch_size) for index in range(plan.batch_count(batch_size))]
    rows = [spec for batch in batches for spec in batch]
    assert rows == list(plan)
    assert len(rows) == len(plan) == len(names) * per_class
    assert all(0 <= spec.seed <= MAX_SEED for spec in rows)
    assert [sum(spec.label == name for spec in rows) for name in names] == [per_class] * len(names)


@settings(max_examples=40)
@given(names=NAMES, fewer=st.integers(1, 5), more=st.integers(0, 5))
def test_more_images_per_class_only_appends_rows_and_keeps_the_plan_id(names, fewer, more):
    short, long = make_plan(names, per_class=fewer), make_plan(names, per_class=fewer + more)
    assert list(long)[: len(short)] == list(short)
    assert long.plan_id == short.plan_id


def test_the_plan_id_changes_with_everything_that_changes_an_image():
    base = make_plan()
    others = [
        make_plan(("badger", "bat")),
        make_plan(("bat", "badger", "bear")),
        make_plan(seed=1),
        make_plan(templates=PromptTemplates(("a drawing of a {class}",))),
        make_plan(templates=PromptTemplates(negative_prompt="blurry")),
    ]
    assert len({plan.plan_id for plan in [base, *others]}) == 1 + len(others)


def test_rows_are_the_same_on_every_machine():
    """Pinned values: a change would break every data set started with an earlier version."""
    plan = make_plan(
        per_class=2,
        seed=7,
        templates=PromptTemplates(("a {class}, {style}",), styles=("x", "y", "z")),
    )
    assert plan.plan_id == "312c2f5f011c"
    assert [(spec.seed, spec.prompt) for spec in list(plan)[:2]] == [
        (7545043196777, "a badger, x"),
        (8654889847972956, "a bat, y"),
    ]


def test_rows_do_not_depend_on_the_hash_seed_of_the_process():
    code = (
        "from comfy_nodes.plan import *; p = GenerationPlan(parse_classes('a\\nb'), "
        "PromptTemplates(('{class} {style}',), styles=('x', 'y')), 5); "
        "print([(r.seed, r.prompt) for r in p], p.plan_id)"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": number},
            capture_output=True,
            check=True,
        ).stdout
        for number in ("0", "1")
    }
    assert len(answers) == 1


def test_planning_keeps_no_rows():
    templates = PromptTemplates(("{style} {class}",), styles=tuple(map(str, range(20))))
    plan = make_plan(
        [f"class {number}" for number in range(50)], per_class=400, templates=templates
    )
    list(zip(plan, range(1000), strict=False))  # fills the caches
    tracemalloc.start()
    assert sum(1 for _ in plan) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_every_seed_of_a_large_plan_is_its_own():
    plan = make_plan([f"class {number}" for number in range(90)], per_class=60)
    assert len({spec.seed for spec in plan}) == len(plan) == 5400


def test_another_attempt_at_a_row_has_another_seed_and_is_otherwise_the_same():
    texts = PromptTemplates(
        ("a {red|green|blue|grey} {class}, {style}",), styles=("x {1|2|3|4|5}", "y", "z")
    )
    plan = make_plan(per_class=40, seed=3, templates=texts)
    for row in plan:
        again = plan.row(row.index, attempt=5)
        assert replace(again, seed=row.seed, attempt=0) == row
        assert again.attempt == 5
    assert plan.row(7, attempt=0) == plan.row(7)


def test_attempts_are_the_same_on_every_machine():
    """Pinned values: a change would make rejected images again."""
    seeds = [make_plan().row(7, attempt=attempt).seed for attempt in range(4)]
    assert seeds == [2797191568008970, 774920216611806, 2080240848869191, 8249624802646354]


def test_every_attempt_at_every_row_has_a_seed_of_its_own():
    plan = make_plan(("badger", "bat"), per_class=20)
    seeds = {plan.row(index, attempt=a).seed for index in range(len(plan)) for a in range(30)}
    assert len(seeds) == 40 * 30
    assert max(seeds) <= MAX_SEED
    longer = make_plan(("badger", "bat"), per_class=21)
    assert longer.row(9, attempt=2) == plan.row(9, attempt=2)


@pytest.mark.parametrize("attempt", [-1, MOST_ATTEMPTS + 1])
def test_an_attempt_out_of_range_is_refused(attempt):
    with pytest.raises(PlanError, match=f"attempt {attempt} at image 1 is outside"):
        make_plan().row(1, attempt=attempt)


def test_banks_are_used_evenly_by_every_class():
    styles = tuple("abcd")
    plan = make_plan(per_class=12, templates=PromptTemplates(("{style} {class}",), styles=styles))
    for entry in plan.classes:
        used = [spec.style for spec in plan if spec.label == entry.name]
        assert all(used.count(style) == 3 for style in styles)


def test_a_row_says_only_what_its_template_uses():
    templates = PromptTemplates(("a {class}", "a {class} in {context}"), contexts=("snow", "rain"))
    for spec in make_plan(per_class=6, templates=templates):
        assert (spec.context is not None) == ("{context}" in spec.template)
        assert spec.style is None


def test_adding_a_class_leaves_the_seeds_of_the_others_alone():
    before = {spec.seed for spec in make_plan(("bat",)) if spec.label == "bat"}
    after = {spec.seed for spec in make_plan(("bat", "cat")) if spec.label == "bat"}
    assert before == after


def test_a_class_name_with_braces_is_not_taken_for_a_placeholder():
    assert fill("a {class} x", {"class": "{style}"}) == "a {style} x"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PromptTemplates(("a {klass}",)), r"\{klass\}.*known: \{class\}"),
        (lambda: PromptTemplates(()), "no prompt template"),
        (lambda: PromptTemplates(("a {class} {style}",)), "no styles"),
        (lambda: PromptTemplates(("a photo",)), "does not name the class"),
        (lambda: make_plan(()), "no classes"),
        (lambda: make_plan(("bat", "bat")), "more than once: 'bat'"),
        (lambda: make_plan(per_class=0), "images per class is 0"),
        (lambda: make_plan(seed=2**53), "outside"),
        (
            lambda: make_plan(templates=PromptTemplates(("a {definition}",))),
            "these classes have none: 'badger'",
        ),
        (lambda: make_plan().batch(3, 4), "past the end: this plan has 3 batches of 4"),
        (lambda: make_plan().batch(0, 0), "batch size is 0"),
        (lambda: make_plan().row(12), "row 12 is outside"),
        (lambda: make_plan().row(-1), "row -1 is outside"),
    ],
)
def test_a_bad_plan_is_refused_with_the_culprit_named(make, message):
    with pytest.raises(PlanError, match=message):
        make()


def test_a_plan_survives_a_trip_through_json():
    plan = GenerationPlan(
        parse_classes("crane: a bird\nbat: a mammal"), PromptTemplates(("a {definition}",)), 3, 5
    )
    again = GenerationPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    assert again.plan_id == plan.plan_id


def test_lines_are_trimmed_and_comments_skipped():
    assert parse_lines(" a \n\n#b\r\nc # d") == ("a", "c # d")
