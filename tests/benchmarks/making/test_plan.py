"""The benchmark of large plans runs and prints what it measured."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "making" / "plan.py"


def test_the_benchmark_prints_both_rates_and_their_ratio():
    command = [sys.executable, str(SCRIPT), "--quick"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert len(re.findall(r" 400 rows in +[\d.]+ s, +[\d,]+ rows/s", out)) == 2
    assert re.search(r"own / shared: [\d.]+", out)
