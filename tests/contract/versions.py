"""What servers of different versions do differently: the one place where tests branch on it.

docs/reference/comfyui-contract.md is the same in words, as a table by version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Behaviour:
    """How one server answers where versions differ; the tests ask for it as `behaviour`."""

    # POST /prompt
    takes_any_prompt_id: bool  # or canonical UUIDs only
    unknown_class: str  # type of the error for a class_type that is missing or not installed
    node_that_is_no_object: int  # status of the answer to {"prompt": {"1": [1, 2]}}
    # /ws
    reports_every_step: bool  # or leaves out steps that follow within a tenth of a second
    # /api/jobs
    stopped_job: str  # the state of a job that was interrupted
    cancels_jobs: bool  # has the routes to cancel them
    # /object_info
    outputs: Mapping[str, list[str]]  # of core nodes


# The embedded engine says that it is 0.8.0, and does these as a later version.
_ENGINE: dict[str, Any] = {"stopped_job": "cancelled", "cancels_jobs": True}
_SINCE: dict[tuple[int, ...], Behaviour] = {
    (0, 8, 0): Behaviour(
        takes_any_prompt_id=True,
        unknown_class="invalid_prompt",
        node_that_is_no_object=400,
        reports_every_step=True,
        stopped_job="failed",
        cancels_jobs=False,
        outputs={"SaveImage": []},
    ),
    (0, 33, 0): Behaviour(
        takes_any_prompt_id=False,
        unknown_class="missing_node_type",
        node_that_is_no_object=500,
        reports_every_step=False,
        stopped_job="cancelled",
        cancels_jobs=True,
        outputs={"SaveImage": ["IMAGE"]},
    ),
}


def behaviour_of(version: str, *, engine: bool = False) -> Behaviour:
    """The behaviour of the newest version that was checked and is not newer than this one.

    `engine` says whether it is the embedded engine that calls itself this version.
    """
    numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
    found = _SINCE[max((since for since in _SINCE if since <= numbers), default=min(_SINCE))]
    return replace(found, **_ENGINE) if engine else found
