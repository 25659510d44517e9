"""The benchmark of a grid's parts runs and prints what it measured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "training" / "grid_parts.py"


@pytest.mark.slow
def test_the_benchmark_prints_seconds_and_share_of_every_part():
    small = ["--classes", "4", "--seeds", "2", "--size", "32", "--updates", "3"]
    command = [sys.executable, str(SCRIPT), "--models", "cnn,resnet18", *small]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    shares = [float(each) for each in re.findall(r"[\d.]+ s +([\d.]+)%", out)]
    assert len(shares) == 14
    assert 99 < sum(shares) < 101
