"""Plans whose classes have their own prompts, and prompts that several images share.

Covers: comfy_nodes.plan, comfy_nodes.plan.templates.
"""

import json
from collections import Counter

import pytest

from comfy_nodes.banks.prompt_bank import ClassBank, PromptBank
from comfy_nodes.errors import PlanError
from comfy_nodes.plan import ClassEntry, GenerationPlan, PromptTemplates

NAMES = ("crane", "bat", "bear")
BANK = (
    ("bat", ClassBank(styles=("an etching",))),
    ("crane", ClassBank("a large bird", ("in a marsh", "in flight"))),
)


def texts(*templates, per_class=BANK, **changes):
    common = {"contexts": ("in the rain", "at dusk", "at noon"), "styles": ("a photo",)}
    return PromptTemplates(templates, per_class=per_class, **(common | changes))


def make(templates, *, names=NAMES, per_class=12, **changes):
    return GenerationPlan(tuple(map(ClassEntry, names)), templates, per_class, 3, **changes)


def test_a_class_uses_its_own_entries_equally_often_and_others_the_shared_ones():
    plan = make(texts("{class} {context}, {style}"))
    contexts = {name: Counter(row.context for row in plan if row.label == name) for name in NAMES}
    assert contexts["crane"] == {"in a marsh": 6, "in flight": 6}
    assert contexts["bat"] == contexts["bear"] == {"in the rain": 4, "at dusk": 4, "at noon": 4}
    styles = {row.label: row.style for row in plan}
    assert styles == {"crane": "a photo", "bat": "an etching", "bear": "a photo"}
    assert plan.row(0).prompt == f"crane {plan.row(0).context}, a photo"


def test_the_definition_of_the_class_list_comes_before_that_of_the_bank():
    templates = texts("a {definition}", per_class=(*BANK, ("bear", ClassBank("of the bank"))))
    classes = (ClassEntry("crane"), ClassEntry("bear", "of the list"))
    plan = GenerationPlan(classes, templates, 1)
    assert [row.prompt for row in plan] == ["a a large bird", "a of the list"]


def test_rows_of_classes_without_own_entries_are_those_of_a_plan_without_a_bank():
    with_bank, without = (make(texts("{class} {context}", per_class=bank)) for bank in (BANK, ()))
    for row, plain in zip(with_bank, without, strict=True):
        assert (row == plain) == (row.label != "crane")
        assert row.seed == plain.seed
    assert with_bank.plan_id != without.plan_id


def test_a_plan_without_a_bank_keeps_its_id():
    plain = make(texts("{class} {context}", per_class=()))
    assert plain.plan_id == "5da290903341"
    assert not {"per_class", "images_per_prompt"} & set(plain.to_dict())


def test_entries_of_other_classes_change_nothing():
    plan = make(texts("{class} {context}"))
    more = make(texts("{class} {context}", per_class=(*BANK, ("wolf", ClassBank("x")))))
    assert more == plan
    assert more.plan_id == plan.plan_id


def test_the_shared_entries_of_a_bank_replace_those_that_are_given_where_there_are_some():
    made = PromptTemplates.with_bank(
        PromptBank(("in the __weather__",), classes=dict(BANK)),
        {"weather": ("rain", "snow")}.__getitem__,
        templates=("{class} {context}, {style}",),
        contexts=("in a __room__",),
        styles=("an etching",),
    )
    assert (made.contexts, made.styles) == (("in the __weather__",), ("an etching",))
    assert made.wildcards == (("weather", ("rain", "snow")),)
    assert made.per_class == BANK


def test_wildcards_of_other_classes_change_nothing_either():
    lists = {"color": ("red", "blue"), "size": ("big",)}
    wolf = ("wolf", ClassBank(contexts=("__size__",)))
    own = ("bat", ClassBank(contexts=("in a __color__ barn",)))
    plans = []
    for bank, names in (((own, wolf), ("color", "size")), ((own,), ("color",))):
        used = tuple((name, lists[name]) for name in names)
        plans.append(make(texts("{class} {context}", per_class=bank, wildcards=used)))
    assert plans[0] == plans[1]
    assert plans[0].plan_id == plans[1].plan_id


@pytest.mark.parametrize("changes", [{}, {"images_per_prompt": 4}])
def test_it_survives_a_trip_through_json(changes):
    plan = make(texts("{class} {context} {a|b}"), **changes)
    again = GenerationPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    assert again.plan_id == plan.plan_id
    assert list(again) == list(plan)


def test_own_entries_may_have_alternatives_and_quotes_and_any_script():
    own = (("bat", ClassBank(contexts=('under a "{red|blue}" roof', "月の下"))),)
    plan = make(texts("{class} {context}", per_class=own), per_class=40)
    prompts = {row.prompt for row in plan if row.label == "bat"}
    assert prompts == {'bat under a "red" roof', 'bat under a "blue" roof', "bat 月の下"}


def test_an_own_entry_with_a_wildcard_that_is_missing_is_named():
    with pytest.raises(PlanError, match="context 'in __gone__'"):
        texts("{class} {context}", per_class=(("bat", ClassBank(contexts=("in __gone__",))),))


@pytest.mark.parametrize("name", ["context", "style"])
def test_a_class_with_neither_own_nor_shared_entries_is_refused_by_name(name):
    bank = (("crane", ClassBank(contexts=("x",), styles=("y",))),)
    templates = texts(f"{{class}} {{{name}}}", per_class=bank, contexts=(), styles=())
    with pytest.raises(PlanError, match=rf"{{{name}}} but these .* no {name}s: 'bat', 'bear'"):
        make(templates)
    assert len(make(templates, names=("crane",))) == 12


def test_images_of_one_prompt_follow_each_other_and_differ_in_their_seeds():
    templates = texts("{class} {context} {a|b}", per_class=())
    plan = make(templates, images_per_prompt=4)
    rows = [row for row in plan if row.label == "bat"]
    groups = [rows[start : start + 4] for start in range(0, 12, 4)]
    assert [len({row.prompt for row in group}) for group in groups] == [1, 1, 1]
    assert {row.context for row in rows} == {"in the rain", "at dusk", "at noon"}
    assert [row.seed for row in rows] == [row.seed for row in make(templates) if row.label == "bat"]
    assert len({row.seed for row in rows}) == 12
    again = plan.row(1, attempt=1)
    assert (again.prompt, again.seed != plan.row(1).seed) == (plan.row(1).prompt, True)


def test_one_image_a_prompt_is_the_plan_that_there_always_was():
    templates = texts("{class} {context} {a|b}")
    assert make(templates, images_per_prompt=1) == make(templates)
    assert make(templates, images_per_prompt=2).plan_id != make(templates).plan_id
    with pytest.raises(PlanError, match="images per prompt is 0"):
        make(templates, images_per_prompt=0)
