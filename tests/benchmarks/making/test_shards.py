"""The benchmark of tar shards runs and prints what it measured."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "making" / "shards.py"


def test_the_benchmark_prints_both_times_their_ratio_and_the_growth(tmp_path):
    command = [sys.executable, str(SCRIPT), "--images", "300", "--rounds", "1"]
    out = subprocess.run(
        [*command, "--folder", str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    found = re.findall(
        r"(\w+) +([\d,]+) images: (tar|folder) +[\d.]+ s, shards +[\d.]+ s, shards / \3: [\d.]+, "
        r"\+-?[\d.]+ and \+-?[\d.]+ MiB",
        out,
    )
    tasks = (("write", "tar"), ("read", "tar"), ("list", "folder"))
    assert found == [(task, count, rival) for count in ("30", "300") for task, rival in tasks]
    assert not list(tmp_path.iterdir())
