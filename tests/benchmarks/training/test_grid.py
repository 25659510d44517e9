"""The grid's benchmark runs and prints what it measured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "training" / "grid.py"


@pytest.mark.slow
def test_the_benchmark_prints_seconds_ratios_and_accuracies_of_both_rows(tmp_path):
    command = [sys.executable, str(SCRIPT), "--quick"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    models = re.findall(r"^(cnn|resnet50): 3 ratios x 2 seeds, 3 epochs", out, re.MULTILINE)
    assert models == ["cnn", "resnet50"]
    assert len(re.findall(r"^ *SynthGrid +[\d.]+ s", out, re.MULTILINE)) == 2
    row = r"tutorial loop +[\d.]+ s +SynthGrid is [\d.]+ times as fast .*accuracy [\d.]+%"
    assert len(re.findall(row, out)) == 2
    assert len(re.findall(r"images, SynthGrid +[\d.]+ s per cell, accuracy +[\d.]+%", out)) == 6
    assert not list(tmp_path.iterdir())
