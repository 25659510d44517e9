"""Real images that cannot make a difference: how the halves are drawn, and that the script runs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "real_nulls.py"


@pytest.fixture(scope="module")
def nulls() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_nulls", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_halves_share_no_image_and_each_cell_has_as_many(nulls: ModuleType) -> None:
    pool = [np.arange(40), np.arange(100, 140)]
    halves = nulls.draw_halves(pool, 15, np.random.RandomState(0))
    real, made = (set(np.concatenate(half).tolist()) for half in halves)
    assert (len(real), len(made), real & made) == (30, 30, set())
    assert set(nulls.mixed(halves, 0.0).tolist()) == real
    assert set(nulls.mixed(halves, 1.0).tolist()) == made
    part = nulls.mixed(halves, 0.5).tolist()
    assert len(set(part)) == 30
    assert 14 <= len(real & set(part)) <= 16


@pytest.mark.slow
def test_the_script_prints_both_rates_with_an_interval(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--quick"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    found = re.findall(r"^halves (?:drawn anew|fixed) .*of 10 grids .*\(95% [\d.]+ to", out, re.M)
    assert len(found) == 2
