"""The client's benchmark runs and prints what it measured."""

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "making" / "client.py"


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=True
    ).stdout


def test_the_benchmark_prints_busy_share_overhead_and_scaling():
    out = run(
        "idle", "scaling", "--service", "0.05", "--jobs", "3", "--rounds", "1", "--servers", "1,2"
    )
    for name in ("post and wait", "run_plan"):
        assert re.search(rf"{name} +server busy +[\d.]+%, +[\d.]+ ms a job", out)
    assert len(re.findall(r"\d servers: +[\d.]+ images/s, efficiency +[\d.]+%", out)) == 2


def test_the_memory_of_the_bookkeeping_is_flat():
    sizes = [
        float(each)
        for each in re.findall(r"images: +([\d.]+) MiB", run("memory", "--images", "1000,20000"))
    ]
    assert len(sizes) == 2
    assert sizes[1] < sizes[0] + 8
