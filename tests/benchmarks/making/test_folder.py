"""The folder's benchmark runs and prints what it measured."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "making" / "folder.py"


def test_the_benchmark_prints_seconds_and_memory_of_scan_and_plan(tmp_path):
    command = [sys.executable, str(SCRIPT), "--images", "200", "--rows", "300", "--rounds", "1"]
    command += ["--folder", str(tmp_path), "--only", "resume", "plan, one template"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    line = r"(.+?) +([\d,]+) in +[\d.]+ s \([\d.]+ s CPU\) +\+ *[\d.]+ MiB"
    assert re.findall(line, out) == [("resume", "200"), ("plan, one template", "300")]
    assert not list(tmp_path.iterdir())
