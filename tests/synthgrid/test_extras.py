"""What a missing module's message says agrees with pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from synthgrid import extras

PYPROJECT = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
# module -> package that brings it, where the names differ
PACKAGES = {"sklearn": "scikit-learn", "ray": "ray[client]", "grpc": "ray[client]"}


@pytest.mark.parametrize(("module", "extra"), extras.EXTRAS.items())
def test_the_extra_brings_the_module(module: str, extra: str) -> None:
    section = PYPROJECT.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    brought = re.search(rf"^{extra} = \[(.*?)\]\s*$", section, re.DOTALL | re.MULTILINE)
    assert brought
    assert re.search(rf'"{re.escape(PACKAGES.get(module, module))}[>=!]', brought[1])


def test_a_checkout_is_installed_in_place_and_a_wheel_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert re.search(r'pip install -e ".*\[train\]"$', extras.what_to_install("torch.nn") or "")
    monkeypatch.setattr(extras, "_ROOT", tmp_path)
    assert (
        extras.what_to_install("ray") == 'install it with: python -m pip install "synthgrid[ray]"'
    )


def test_a_module_that_no_extra_has_is_nobodys_mistake() -> None:
    assert extras.what_to_install("no_such_module") is None
