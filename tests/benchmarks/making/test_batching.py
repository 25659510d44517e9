"""The batching benchmark runs and prints what it measured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "making" / "batching.py"


@pytest.mark.slow
def test_the_benchmark_prints_both_rates_and_their_ratio(tmp_path):
    command = [sys.executable, str(SCRIPT), "--images", "4", "--steps", "2", "--rounds", "1"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert re.search(r"1 x 4: +[\d.]+ images/s\n +4 x 1: +[\d.]+ images/s", out)
    assert re.search(r"one call of 4 compared with 4 calls: [\d.]+ times as fast", out)
