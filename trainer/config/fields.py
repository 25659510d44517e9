"""Reading a config from JSON and checking its fields: strict about names, types and ranges."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from trainer.errors import ConfigError

T = TypeVar("T")
# Fields of TrainingConfig and GridConfig that older files call by another name.
OLD_NAMES = {"l2": "weight_decay", "precision": "dtype"}


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a config file.

    Raises:
        ConfigError: the file is missing or does not hold a JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise ConfigError(f"cannot read the config {path}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds a {type(values).__name__}; expected a JSON object of grid options"
        )
    return values


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored config under today's names: `l2` is `weight_decay` now.

    Raises:
        ConfigError: a field is given under both its old and its new name.
    """
    for old, new in OLD_NAMES.items():
        if old in values and new in values:
            raise ConfigError(f"'{old}' is the old name of '{new}'; leave '{old}' out")
    return {OLD_NAMES.get(name, name): value for name, value in values.items()}


def strict(kind: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass from a mapping, refusing fields that it does not have.

    Raises:
        ConfigError: a field is unknown (the nearest known one is named), missing, or out of range.
    """
    known = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"
            raise ConfigError(f"unknown field '{name}'{hint}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{kind.__name__}: {error}") from error


def to_list(name: str, kind: Callable[[Any], Any], value: Any) -> tuple[Any, ...]:
    """The list in the field `name` of a config file, each item converted by `kind`.

    A single weights file may be given without a list.

    Raises:
        ConfigError: the value is not a list, or an item cannot be converted.
    """
    if name == "weights" and isinstance(value, str):
        return (value,)
    try:
        if isinstance(value, str | Mapping):
            raise TypeError
        return tuple(kind(each) for each in value)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} must be a list, not {value!r}") from error


def check_whole(name: str, value: Any, *, low: int, high: int = 10**9) -> None:
    """Raises ConfigError unless `value` is an integer in low..high."""
    if type(value) is not int or value < low:
        raise ConfigError(f"{name} is {value!r}; expected a whole number of at least {low}")
    if value > high:
        raise ConfigError(f"{name} is {value}; expected at most {high}")


def check_number(
    name: str, value: Any, *, low: float, low_excluded: bool = False, high: float = math.inf
) -> None:
    """Raises ConfigError unless `value` is a finite number in low..high, or above `low`."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < low or value > high or (low_excluded and value == low):
        bound = f"above {low:g}" if low_excluded else f"of at least {low:g}"
        limit = f" and at most {high:g}" if math.isfinite(high) else ""
        raise ConfigError(f"{name} is {value!r}; expected a number {bound}{limit}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises ConfigError unless `value` is one of `choices`."""
    if value not in choices:
        raise ConfigError(f"{name} '{value}' is unknown; choose from {', '.join(choices)}")


def check_flag(name: str, value: Any) -> None:
    """Raises ConfigError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, not {value!r}")
