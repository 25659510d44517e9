"""The benchmark of check runs and prints what it measured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "training" / "check.py"


@pytest.mark.slow
def test_the_benchmark_prints_both_times_and_their_ratio(tmp_path):
    command = [sys.executable, str(SCRIPT), "--quick", "--embedder", "pixels"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    bare, check = (
        float(re.search(rf"^{name} +([\d.]+) s", out, re.MULTILINE)[1])
        for name in ("bare pass", "check")
    )
    ratio = float(re.search(r"check / bare pass: ([\d.]+)", out)[1])
    assert abs(ratio - check / bare) < 0.5 * ratio
    assert not list(tmp_path.iterdir())
