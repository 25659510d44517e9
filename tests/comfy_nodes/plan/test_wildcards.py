"""Alternatives and wildcards: what a row gets follows from its seed alone, and nothing is endless.

Covers: comfy_nodes.plan.alternatives, comfy_nodes.plan.wildcards, comfy_nodes.listing.
"""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_nodes.errors import PlanError
from comfy_nodes.plan import ClassEntry, GenerationPlan, PromptTemplates, placeholders
from comfy_nodes.plan.alternatives import Choice, Name, Wildcard, parse
from comfy_nodes.plan.wildcards import (
    LONGEST,
    MOST_CHOICES,
    Wildcards,
    parse_wildcards,
    read_wildcard,
    used_wildcards,
    wildcards_text,
)

NONE = Wildcards({})


def made(text, seed=0, lists=None):
    """The text of one row; placeholders in angle brackets."""
    pieces = Wildcards(lists or {}).pieces(text, seed, "template")
    pieces[1::2] = [f"<{name}>" for name in pieces[1::2]]
    return "".join(pieces)


def all_made(text, lists=None, rows=400):
    return {made(text, seed, lists) for seed in range(rows)}


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        ("a {red|blue} {class}", {"a red <class>", "a blue <class>"}),
        ("{a|{b|c} d}", {"a", "b d", "c d"}),
        ("{{a|b} c|d}", {"a c", "b c", "d"}),
        ("{{a|b}|{c|d}}", {"a", "b", "c", "d"}),
        ("x{|y}", {"x", "xy"}),
        ("{a {class}|the {class}}", {"a <class>", "the <class>"}),
        ("{class|dog}", {"class", "dog"}),
        ("{{class}}", {"{class}"}),
        ("{{{class}}}", {"{<class>}"}),
        ("{{a|b}}", {"{a|b}"}),
        ("{{{a|b}}}", {"{a}", "{b}"}),
        ("{x|{{a|b}}}", {"x", "{a|b}"}),
        ("{0::a|b}", {"b"}),
        ("a | b", {"a | b"}),
        ("__color__ {__color__|x}", {"red red", "red x"}),
        ("my__color__s ____ __", {"my__color__s ____ __"}),
        ("__a/b-c.d__", {"deep"}),
    ],
)
def test_what_a_text_can_become(text, ways):
    assert all_made(text, {"color": ("red",), "a/b-c.d": ("deep",)}) == ways


@given(text=st.text("ab{}{} ", max_size=14))
@settings(max_examples=300)
def test_without_alternatives_every_text_is_read_as_ever(text):
    """All texts whose braces are no "{{...}}" pair have the pieces that they had before."""
    parsed = parse(text)
    if parsed.is_special:
        assert "{{" in text
        assert "}}" in text
    else:
        names = [part.name for part in parsed.parts if isinstance(part, Name)]
        assert names == placeholders(text)
        assert "".join(
            "{" + part.name + "}" if isinstance(part, Name) else part for part in parsed.parts
        ) == (text)


@given(text=st.text("a{}|_:1$ ", max_size=30))
@settings(max_examples=300)
def test_any_text_is_read_or_refused_with_a_sentence(text):
    try:
        extent = NONE.check(text)
    except PlanError:
        return
    for seed in range(3):
        pieces = NONE.pieces(text, seed, "style")
        assert sum(map(len, pieces[::2])) <= extent.letters
        assert set(pieces[1::2]) <= extent.names


def test_weights_are_shares():
    counts = Counter(made("{3::a|b|0.5::c}", seed) for seed in range(9000))
    assert abs(counts["a"] / 9000 - 3 / 4.5) < 0.03
    assert abs(counts["b"] / 9000 - 1 / 4.5) < 0.03
    assert abs(counts["c"] / 9000 - 0.5 / 4.5) < 0.03


def test_entries_of_a_wildcard_have_weights_alternatives_and_wildcards():
    lists = {"color": ("9::red", "dark {blue|__shade__}"), "shade": ("grey",)}
    counts = Counter(made("__color__", seed, lists) for seed in range(4000))
    assert set(counts) == {"red", "dark blue", "dark grey"}
    assert 0.87 < counts["red"] / 4000 < 0.93


def test_every_choice_is_its_own_and_the_same_every_time():
    text = "{a|b}{a|b}{a|b}"
    assert len(all_made(text)) == 8
    kinds = [NONE.pieces(text, seed, kind) for seed in range(60) for kind in ("context", "style")]
    assert kinds[::2] != kinds[1::2]
    assert [made(text, seed) for seed in range(8)] == [
        "aab", "baa", "bbb", "bba", "abb", "bba", "aba", "baa",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a {red|blue {class}", "without a closing brace"),
        ("{0::a|0::b}", "all have the weight 0"),
        ("{2$$a|b}", "several alternatives at once"),
        ("<lora:detail:0.8> a {class}", r"<lora:detail:0\.8>.*Load LoRA"),
        ("<LyCO:x>", "loads nothing"),
        ("__animals/*__", "not the name of one list"),
        ("__a/../../secret__", "not the name of one list"),
        ("{ " * 40 + "a" + "|b}" * 40, "more than 20 braces"),
        ("{" * 40 + "a" + "|b}" * 40, "more than 20 alternatives in one another"),
        ("__gone__", "there is no wildcard __gone__; known: 'big'"),
        ("__big__", f"more than {LONGEST} letters"),
        ("{a|b}" * (MOST_CHOICES + 1), f"more than {MOST_CHOICES} choices"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(text, words):
    with pytest.raises(PlanError, match=words):
        Wildcards({"big": ("x" * (LONGEST + 1),)}).check(text)


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({"a": ("x", "__b__"), "b": ("{y|__a__}",)}, "__a__ -> __b__ -> __a__; break the circle"),
        ({"a": ("__a__",)}, "__a__ -> __a__"),
        ({"a": ()}, "has no entries"),
        ({"a": ("x", "a {class}")}, "entry 2 has a placeholder"),
        ({"a": ("x", "{y|z")}, "wildcard __a__ entry 2: .*closing brace"),
        ({"a": ("0::x",)}, "weight 0"),
        (
            {"a": ("__l0__",)} | {f"l{n}": (f"__l{n + 1}__ " * 9,) for n in range(30)},
            "there is no wildcard __l30__|more than 20 wildcards",
        ),
        (
            {"a": ("__l0__",), "l9": ("word",)}
            | {f"l{n}": (f"__l{n + 1}__ " * 9,) for n in range(9)},
            f"more than {LONGEST} letters",
        ),
    ],
)
def test_wildcards_that_do_not_end_or_are_malformed_are_refused(lists, words):
    with pytest.raises(PlanError, match=words):
        Wildcards(lists).check("__a__")


def test_only_the_wildcards_that_are_used_are_read():
    files = {"a": ("{x|__b/c__}",), "b/c": ("__a__ y", "z")}
    asked = []

    def find(name):
        asked.append(name)
        return files[name]

    assert used_wildcards(["1 __a__", "__a__"], find) == (("a", files["a"]), ("b/c", files["b/c"]))
    assert asked == ["a", "b/c"]
    with pytest.raises(PlanError, match="letters in all"):
        used_wildcards(["__a__"], lambda name: ["x" * 2**20] * 9)


def test_typed_wildcards_survive_a_trip_through_text():
    text = "# mine\n__color__:\nred\n 3::dark {blue|green}\n\n__animals/cats__:\n__color__ lynx\n"
    lists = parse_wildcards(text)
    assert lists == {
        "color": ("red", "3::dark {blue|green}"),
        "animals/cats": ("__color__ lynx",),
    }
    assert parse_wildcards(wildcards_text(lists.items())) == lists
    with pytest.raises(PlanError, match="'red' belongs to no wildcard"):
        parse_wildcards("red\n__color__:")
    with pytest.raises(PlanError, match="there twice"):
        parse_wildcards("__a__:\nx\n__a__:\ny")


def test_a_file_of_a_wildcard_has_one_entry_per_line(tmp_path):
    (tmp_path / "color.txt").write_text("# colours\nred\n\n2::blue\r\n", encoding="utf-8-sig")
    assert read_wildcard(tmp_path / "color.txt", "color") == ("red", "2::blue")
    with pytest.raises(PlanError, match=r"no wildcard __size__: .*size\.txt does not exist"):
        read_wildcard(tmp_path / "size.txt", "size")


def plan_of(*templates, seed=3, per_class=40, **more):
    names = (ClassEntry("bat"), ClassEntry("__bear__ {x|y}"))
    return GenerationPlan(names, PromptTemplates(templates, **more), per_class, seed)


def test_rows_do_not_depend_on_one_another_and_banks_are_still_used_evenly():
    plan = plan_of("a {small|large} {class}, {style}", styles=("{ink|oil}", "photo"))
    assert [plan.row(index) for index in (7, 3)] == [list(plan)[7], list(plan)[3]]
    longer = plan_of(
        "a {small|large} {class}, {style}", styles=("{ink|oil}", "photo"), per_class=80
    )
    assert (list(longer)[:80], longer.plan_id) == (list(plan), plan.plan_id)
    assert Counter(row.style for row in plan) == {"{ink|oil}": 40, "photo": 40}
    assert len({row.prompt.replace(row.label, "X") for row in plan}) == 6


def test_class_names_are_never_expanded():
    plan = plan_of("{a|the} {class}")
    assert {row.prompt for row in plan if row.label != "bat"} == {
        "a __bear__ {x|y}",
        "the __bear__ {x|y}",
    }


def test_a_row_uses_the_banks_that_its_own_alternatives_name():
    plan = plan_of("a {class}{, {context}|}", contexts=("snow", "rain"))
    assert {(row.context is None) == ("," not in row.prompt) for row in plan} == {True}
    assert len({row.context for row in plan}) == 3


def test_every_alternative_has_to_name_the_class():
    for text in ("{a {class}|the {definition}}", "{a|the} {class}"):
        PromptTemplates((text,))
    with pytest.raises(PlanError, match="does not name the class"):
        PromptTemplates(("a {{class}|dog}",))
    with pytest.raises(PlanError, match="does not name the class"):
        PromptTemplates(("a {{class}}",))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"negative_prompt": "{a|b}"}, "negative prompt is the same for every image"),
        ({"negative_prompt": "<lora:x:1>"}, "negative prompt: '<lora:x:1>'"),
        ({"contexts": ("<lora:x:1>",)}, "context '<lora:x:1>': .*Load LoRA"),
        ({"styles": ("__ink__",)}, "style '__ink__': there is no wildcard"),
        ({"templates": ("{class} {a|{b}}",)}, r"unknown placeholder '\{b\}'"),
        ({"templates": ("{class} {|{style}}",)}, "there are no styles"),
    ],
)
def test_mistakes_name_their_text(values, words):
    with pytest.raises(PlanError, match=words):
        PromptTemplates(**{"templates": ("a {class}",)} | values)


def test_the_plan_id_covers_the_entries_of_wildcards():
    plans = [
        plan_of("a __c__ {class}", wildcards=(("c", entries),))
        for entries in (("red",), ("blue",), ("red", "blue"))
    ]
    assert len({plan.plan_id for plan in plans}) == 3
    again = GenerationPlan.from_dict(json.loads(json.dumps(plans[2].to_dict())))
    assert (again, again.plan_id) == (plans[2], plans[2].plan_id)


def test_rows_with_alternatives_are_the_same_on_every_machine():
    """Pinned values: a change would break every data set started with an earlier version."""
    plan = plan_of(
        "a {3::small|large} __c__ {class}", wildcards=(("c", ("red", "{sea|sky} blue")),)
    )
    assert plan.plan_id == "19f7845db5d3"
    assert [row.prompt.replace(row.label, "X") for row in list(plan)[:4]] == [
        "a small red X",
        "a small sea blue X",
        "a large sea blue X",
        "a small sea blue X",
    ]


def test_a_plan_made_before_there_were_alternatives_keeps_its_rows_and_its_id():
    old = {
        "classes": [{"name": "bat", "definition": ""}],
        "templates": ["a {{class}}, {style} <lora:x:1>"],
        "negative_prompt": "{{bad}} {x|y}",
        "contexts": [],
        "styles": ["{ink|oil} __x__"],
        "images_per_class": 2,
        "seed": 1,
    }
    plan = GenerationPlan.from_dict(old)
    assert (plan.to_dict(), plan.plan_id) == (old, "100e2082a339")
    assert [(row.seed, row.prompt) for row in plan] == [
        (seed, "a {bat}, {ink|oil} __x__ <lora:x:1>")
        for seed in (8134729609800010, 8241236852913475)
    ]
    with pytest.raises(PlanError, match="a newer SynthGrid has made it"):
        GenerationPlan.from_dict(old | {"syntax": "more"})


def test_parts_are_what_they_look_like():
    assert parse("a __b__ {c} {d|}").parts == (
        "a ",
        Wildcard("b"),
        " ",
        Name("c"),
        " ",
        Choice((("d",), ()), (1000, 2000)),
    )
