"""The decoder's benchmark runs and prints what it measured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "training" / "decode.py"


@pytest.mark.slow
def test_the_benchmark_prints_the_rate_of_every_way(tmp_path):
    command = [sys.executable, str(SCRIPT), "--quick", "--size", "64"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    names = re.findall(
        r"^  (.+?) +[\d.]+ images/s   SynthGrid is [\d.]+ times as fast$", out, re.MULTILINE
    )
    assert names == [
        "Pillow, one thread",
        "torchvision.io, one thread",
        "SynthGrid",
        "upper limit: all cores",
    ]
    assert not list(tmp_path.iterdir())
