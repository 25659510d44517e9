"""A sweep: one plan with several settings of the generator, each into its own folder. No I/O.

    settings_of(["cfg=2,7.5", "size=512,768x512", "Sampler.eta=0,1"])

gives 8 settings, named like "cfg2-size512-Sampler.eta0".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ..errors import WorkflowError

# What can be varied by a short name, and how its text is read; size is width x height.
NAMED = {"cfg": float, "steps": int, "sampler": str, "scheduler": str, "strength": float}
SIZE = "size"
MOST = 200  # settings


@dataclass(frozen=True)
class Setting:
    """One combination: a name that is a folder's, options by their names, and `--set` texts."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    sets: tuple[str, ...] = ()


def settings_of(varied: Sequence[str]) -> list[Setting]:
    """Every combination of what is varied, the last one fastest.

    Raises:
        WorkflowError: not NAME=VALUE,VALUE; a value that is not of its kind; a name twice; more
            than 200 combinations.
    """
    axes = [_axis(text) for text in varied]
    names = [name for name, _ in axes]
    if not names or len(set(names)) < len(names):
        raise WorkflowError(
            "a sweep varies something, each once; expected --vary NAME=VALUE,VALUE, such as "
            "--vary cfg=2,4,7.5"
        )
    combinations = list(product(*(settings for _, settings in axes)))
    if len(combinations) > MOST:
        raise WorkflowError(f"{len(combinations)} settings are too many; at most {MOST} are made")
    found = [_joined(each) for each in combinations]
    if len({each.name for each in found}) < len(found):
        raise WorkflowError("a sweep has the same value twice; remove one")
    return found


def _axis(text: str) -> tuple[str, list[Setting]]:
    name, equals, values = text.partition("=")
    name = name.strip()
    parts = [each.strip() for each in values.split(",")]
    if not equals or not name or not all(parts):
        raise WorkflowError(
            f"--vary '{text}': expected NAME=VALUE,VALUE, where NAME is "
            f"{', '.join([*NAMED, SIZE])}, or NODE.INPUT"
        )
    return name, [_setting(name, each) for each in parts]


def _setting(name: str, value: str) -> Setting:
    label = re.sub(r"[^\w.]+", "_", f"{name}{value}")
    if "." in name:
        return Setting(label, sets=(f"{name}={value}",))
    try:
        if name == SIZE:
            width, _, height = value.partition("x")
            return Setting(label, {"width": int(width), "height": int(height or width)})
        return Setting(label, {name: NAMED[name](value)})
    except KeyError:
        raise WorkflowError(
            f"--vary {name}: unknown; choose from {', '.join([*NAMED, SIZE])}, or NODE.INPUT as "
            "in --set"
        ) from None
    except ValueError:
        raise WorkflowError(f"--vary {name}: '{value}' is not a number") from None


def _joined(parts: Sequence[Setting]) -> Setting:
    options = {key: value for part in parts for key, value in part.options.items()}
    sets = tuple(text for part in parts for text in part.sets)
    return Setting("-".join(part.name for part in parts), options, sets)
