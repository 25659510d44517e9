"""The folders that a grid names, checked before any is read: whether they exist is seen then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trainer.arms import SOURCE_NAME
from trainer.errors import ConfigError


def check_folders(real: Any, out: Any, *, synthetic: Any, more_real: Any) -> None:
    """Raises ConfigError unless each names a folder. `synthetic` may be several, by name; it and
    `more_real` may be None."""
    for name, folder in (("real", real), ("out", out)):
        if not _names_a_folder(folder):
            raise ConfigError(f"{name} must name a folder, not {folder!r}")
    folders: list[Any] = [] if more_real is None else [more_real]
    if isinstance(synthetic, Mapping):
        folders += synthetic.values()
    elif synthetic is not None:
        folders.append(synthetic)
    for folder in folders:
        if not _names_a_folder(folder):
            raise ConfigError(f"synthetic and more_real must name folders, not {folder!r}")


def check_tests(tests: Any) -> None:
    """Raises ConfigError unless `tests` are folders by name, with names that a report can have."""
    if not isinstance(tests, Mapping):
        raise ConfigError(f"tests must be folders by name, not {tests!r}")
    for name, folder in tests.items():
        if not SOURCE_NAME.fullmatch(name):
            raise ConfigError(
                f"test set '{name}' does not have a valid name; use letters, digits, '_', '-' "
                "and '.', as in --test sketch=DIR"
            )
        if not _names_a_folder(folder):
            raise ConfigError(f"test set '{name}' must name a folder, not {folder!r}")
    if len({name.casefold() for name in tests}) < len(tests):
        raise ConfigError("two test sets have the same name, but for upper and lower case")


def check_outside(out: str, folders: Iterable[Path]) -> None:
    """Raises ConfigError if `out` is one of these folders of images, or inside of one."""
    for folder in folders:
        if Path(out).resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                f"--out {out} is among the images of {folder}; choose a folder outside of it"
            )


def _names_a_folder(value: Any) -> bool:
    return isinstance(value, str) and bool(value)
