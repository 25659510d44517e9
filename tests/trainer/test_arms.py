"""Arms are texts that mean one thing."""

from __future__ import annotations

import pytest

from trainer.arms import Arm, arm_of_ratio, control_of, parse_arm, resolved_source
from trainer.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "arm"),
    [
        ("real", Arm("real")),
        ("augment", Arm("augment")),
        ("add:0.5", Arm("add", 0.5)),
        ("add:1@syn2", Arm("add", 1.0, "syn2")),
        ("add:2@syn1+syn2", Arm("add", 2.0, "syn1+syn2")),
        ("swap:1", Arm("swap", 1.0)),
        ("fewer:0.3333333333333333", Arm("fewer", 1 / 3)),
        ("copies:1", Arm("copies", 1.0)),
        ("more:2", Arm("more", 2.0)),
        ("balance", Arm("balance")),
        ("fill:50@syn2", Arm("fill", 50, "syn2")),
        ("balance@syn2", Arm("balance", source="syn2")),
        ("augment:trivial", Arm("augment", change="trivial")),
        ("augment:mixup", Arm("augment", change="mixup")),
        ("add:1+augment", Arm("add", 1.0, change="standard")),
        ("add:2@syn1+syn2+augment:rand", Arm("add", 2.0, "syn1+syn2", "rand")),
        ("add:2@a+aux+norms:aux", Arm("add", 2.0, "a+aux", norms="aux")),
        ("add:1@b+augment:crop+then:real", Arm("add", 1.0, "b", "crop", then="real")),
        ("balance+augment:none+norms:stratified", Arm("balance", 0.0, "", "none", "stratified")),
    ],
)
def test_a_name_is_the_text_that_is_parsed(text: str, arm: Arm) -> None:
    assert parse_arm(text) == arm
    assert arm.name == text


def test_an_arm_is_compared_with_the_one_that_differs_in_one_thing_alone() -> None:
    aux = "add:2@a+b+augment:crop+norms:aux"
    stratified, plain = control_of(aux), "add:2@a+b+augment:crop"
    assert stratified == f"{plain}+norms:stratified"
    assert control_of(stratified) == control_of(f"{plain}+then:real") == plain
    assert control_of(plain) == control_of("real") == ""


def test_one_amount_has_one_spelling() -> None:
    assert {parse_arm(text).name for text in ("add:1", "add:1.0", " add:1e0 ")} == {"add:1"}
    assert parse_arm("real+augment:crop").name == parse_arm("augment:crop").name == "augment:crop"
    assert parse_arm("augment:standard").name == "augment"


def test_arms_of_one_group_differ_in_amount_or_source_only() -> None:
    names = ("add:1", "add:2@b", "add:1+augment:rand", "add:3+norms:aux")
    groups = {name: parse_arm(name).group for name in names}
    assert list(groups.values()) == ["add", "add", "add+augment:rand", "add+norms:aux"]
    assert parse_arm("augment").group == "augment"
    assert not parse_arm("augment:none").is_baseline


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plus:1", "arm 'plus' is unknown; choose from real, add"),
        ("add", "has no amount; write for example add:0.5"),
        ("add:", "has no amount"),
        ("add:x", "has amount 'x'"),
        ("add:0", "above 0"),
        ("add:nan", "above 0"),
        ("real:1", "takes no amount"),
        ("swap:1.5", "at most 1"),
        ("fewer:1", "below 1"),
        ("fewer:0.5@syn2", "uses no synthetic images"),
        ("augment:flip", "augmentation 'flip' is unknown; choose from none, standard"),
        ("add:1+augment:flip", "augmentation 'flip' is unknown"),
        ("balance:2", "takes no amount"),
        ("fill", "has no amount"),
        ("fill:2.5", "needs a whole number"),
        ("add:1@", "names no source"),
        ("add:1@a+a", "each synthetic source once"),
        ("add:1@a/b", "each synthetic source once"),
        ("add:1+norms:split", "norms 'split' is unknown; choose from shared, stratified, aux"),
        ("only:1+norms:aux", "does not train on both real and synthetic images"),
        ("only:1+then:real", "does not train on both"),
        ("add:1+then:aux", "does not end as an arm can"),
        ("add:1+norms:aux+then:real", "does not end as an arm can"),
        ("swap:1+norms:aux", "does not train on both"),
        ("copies:1+norms:aux", "does not train on both"),
    ],
)
def test_a_wrong_arm_says_what_is_expected(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_arm(text)
    assert "\n" not in str(caught.value)


def test_ratios_are_additive_arms_and_0_is_the_baseline() -> None:
    assert [arm_of_ratio(ratio).name for ratio in (0.0, 0.5, 1.0)] == ["real", "add:0.5", "add:1"]
    assert arm_of_ratio(0.0).is_baseline


def test_budgets_differ_only_where_the_number_of_images_does() -> None:
    assert {
        name: parse_arm(name).budgets
        for name in ("real", "augment", "swap:0.5", "add:1", "fewer:0.5")
    } == {
        "real": ("both",),
        "augment": ("both",),
        "swap:0.5": ("both",),
        "add:1": ("updates", "epochs"),
        "fewer:0.5": ("updates", "epochs"),
    }


def test_the_first_source_is_meant_where_none_is_named() -> None:
    assert resolved_source(parse_arm("add:1"), ("a", "b")) == "a"
    assert resolved_source(parse_arm("add:1@b+a"), ("a", "b")) == "b+a"
    assert resolved_source(parse_arm("copies:1"), ("a",)) == ""
    with pytest.raises(ConfigError, match="draws from 'c', but the synthetic sources are a, b"):
        resolved_source(parse_arm("add:1@c"), ("a", "b"))
    with pytest.raises(ConfigError, match="needs synthetic images"):
        resolved_source(parse_arm("only:1"), ())
