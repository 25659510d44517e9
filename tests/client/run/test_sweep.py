"""A sweep is every combination of what is varied, each with a name that a folder can have."""

from __future__ import annotations

import pytest

from client.errors import WorkflowError
from client.run.sweep import settings_of


def test_every_combination_is_made_the_last_fastest() -> None:
    found = settings_of(["cfg=2,7.5", "steps=10,20"])
    assert [each.name for each in found] == [
        "cfg2-steps10",
        "cfg2-steps20",
        "cfg7.5-steps10",
        "cfg7.5-steps20",
    ]
    assert found[2].options == {"cfg": 7.5, "steps": 10}


def test_sizes_samplers_and_any_input_can_vary() -> None:
    found = settings_of(["size=512,768x512,64x", "sampler=euler", "Image size.width=8"])
    assert found[0].options == {"width": 512, "height": 512, "sampler": "euler"}
    assert found[1].options["width"] == 768
    assert found[1].options["height"] == 512
    assert found[2].options["height"] == 64  # a missing height is the width
    assert found[0].sets == ("Image size.width=8",)
    assert found[1].name == "size768x512-samplereuler-Image_size.width8"


@pytest.mark.parametrize(
    ("varied", "message"),
    [
        ([], "a sweep varies something"),
        (["cfg=2", "cfg=3"], "each once"),
        (["cfg"], "expected NAME=VALUE,VALUE"),
        (["cfg=2,"], "expected NAME=VALUE,VALUE"),
        (["cfg=two"], "'two' is not a number"),
        (["colour=red"], "unknown; choose from cfg, steps"),
        (["cfg=2,2"], "the same value twice"),
        ([f"steps={','.join(map(str, range(1, 202)))}"], "201 settings are too many"),
    ],
)
def test_what_is_no_sweep_is_refused(varied: list[str], message: str) -> None:
    with pytest.raises(WorkflowError, match=message):
        settings_of(varied)
