"""What a plan costs: read from what a run of the client left in the labelled folder.

generation.json          the plan: classes and images per class
.synthgrid-state.json    how fast the last run was, and on how many servers
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_nodes.labelset import read_regular

_GENERATION, _STATE = "generation.json", ".synthgrid-state.json"


@dataclass(frozen=True)
class Cost:
    """`images_per_s` is of all `servers` together; hours are None where the speed is unknown.

    A GPU hour is an hour of one server.
    """

    images: int
    per_class: int
    images_per_s: float | None
    servers: int

    @property
    def hours(self) -> float | None:
        """From the first image to the last."""
        return self.images / self.images_per_s / 3600 if self.images_per_s else None

    @property
    def gpu_hours(self) -> float | None:
        """Hours of all servers together."""
        return None if self.hours is None else self.hours * self.servers


def planned_per_class(root: Path) -> int | None:
    """How many images of each class the folder is planned to have; None if nobody says."""
    value = _read(root / _GENERATION).get("plan", {})
    count = value.get("images_per_class") if isinstance(value, dict) else None
    return count if isinstance(count, int) and count > 0 else None


def measured_speed(root: Path) -> tuple[float | None, int]:
    """(images/s of the last run, or None, servers that took part, at least 1)."""
    state = _read(root / _STATE)
    listed = state.get("servers")
    servers = (
        [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    )
    took_part = [each for each in servers if _number(each, "images") > 0]
    rate = sum(_number(each, "images_per_s") for each in took_part)
    if not rate:
        seconds = _number(state, "updated") - _number(state, "started")
        rate = _number(state, "made") / seconds if seconds > 0 else 0.0
    return (rate if rate > 0 else None), max(1, len(took_part))


def cost_of(
    root: Path, classes: int, *, per_class: int | None, images_per_s: float | None
) -> Cost | None:
    """The whole plan's cost; what is given counts more than what the folder says. None where
    neither says how many images there will be."""
    wanted = per_class or planned_per_class(root)
    if wanted is None:
        return None
    speed, servers = measured_speed(root)
    if images_per_s is not None:
        speed = images_per_s
    return Cost(wanted * classes, wanted, speed, servers)


def _read(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty without one that can be read."""
    try:
        value = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _number(value: dict[str, Any], name: str) -> float:
    found = value.get(name)
    return float(found) if isinstance(found, (int, float)) and found == found else 0.0
