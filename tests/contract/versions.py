"""What servers of different versions do differently: the one place where tests branch on it.

docs/comfyui-contract.md is the same in words, as a table by version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Behaviour:
    """How one server answers where versions differ; the tests ask for it as `behaviour`."""

    # POST /prompt
    takes_any_prompt_id: bool  # or canonical UUIDs only
    unknown_class: str  # type of the error for a class_type that is missing or not installed
    node_that_is_no_object: int  # status of the answer to {"prompt": {"1": [1, 2]}}
    # /ws
    reports_every_step: bool  # or leaves out steps that follow within a tenth of a second
    # /object_info
    outputs: Mapping[str, list[str]]  # of core nodes


_SINCE: dict[tuple[int, ...], Behaviour] = {
    (0, 8, 0): Behaviour(
        takes_any_prompt_id=True,
        unknown_class="invalid_prompt",
        node_that_is_no_object=400,
        reports_every_step=True,
        outputs={"SaveImage": []},
    ),
    (0, 33, 0): Behaviour(
        takes_any_prompt_id=False,
        unknown_class="missing_node_type",
        node_that_is_no_object=500,
        reports_every_step=False,
        outputs={"SaveImage": ["IMAGE"]},
    ),
}


def behaviour_of(version: str) -> Behaviour:
    """The behaviour of the newest version that was checked and is not newer than this one."""
    numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
    return _SINCE[max((since for since in _SINCE if since <= numbers), default=min(_SINCE))]
