"""The saver's benchmark runs and prints what it measured."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "making" / "saver.py"


def test_the_benchmark_prints_both_rates_their_ratio_and_the_share_of_metadata(tmp_path):
    command = [sys.executable, str(SCRIPT), "--images", "4", "--size", "32", "--rounds", "1"]
    command += ["--folder", str(tmp_path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert len(re.findall(r"(SaveImage's way|Labelled Image Saver) +[\d.]+ images/s", out)) == 4
    assert len(re.findall(r"ratio [\d.]+", out)) == 2
    assert re.search(r"cost -?[\d.]+% of encoding", out)
    assert not list(tmp_path.iterdir())
