"""The estimate for millions of images runs and prints what it measured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "making" / "millions.py"


@pytest.mark.slow
def test_the_benchmark_prints_bytes_speeds_days_and_dollars(tmp_path):
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "a.png")
    command = [sys.executable, str(SCRIPT), "--images", str(tmp_path), "--size", "16"]
    command += ["--rows", "100", "--count", "1000000", "--dollars-per-hour", "A100=2"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert len(re.findall(r"(?:PNG|JPEG) +[\d,]+ bytes +x 1,000,000 = [\d.]+ TB", out)) == 2
    names = ("plan", "check", "save", "save 64", "scan", "shards")
    steps = "  ".join(f"{each} [\\d,]+" for each in names)
    assert len(re.findall(steps, out)) == 2
    assert "A100      1.50  8 GPU days  $371 at $2 an hour" in out
