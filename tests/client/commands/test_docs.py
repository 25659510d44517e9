"""The commands of the pages on several machines and on millions of images are commands, and the
recipe for SLURM works."""

import os
import re
import shlex
import stat
import subprocess
import sys

import pytest

from client.__main__ import main
from synthgrid.__main__ import build_parser
from tests.client.helpers import ROOT, environment, read_records

PAGES = ("several-machines.md", "millions.md")
BLOCKS = [
    block
    for page in PAGES
    for block in re.findall(
        r"```(\w*)\n(.*?)```",
        (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8"),
        re.DOTALL,
    )
]


def commands():
    """The arguments of each `synthgrid` command of the pages, in their code blocks."""
    for _, block in BLOCKS:
        # In place of what the shell works out.
        plain = re.sub(r"\$\(\(.*?\)\)|\$\w+", "7", block.replace("\\\n", " "))
        for line in plain.splitlines():
            words = shlex.split(line, comments=True)
            if "synthgrid" in words[:2]:
                yield words[words.index("synthgrid") + 1 :]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_a_command_of_a_page_is_understood(words):
    assert callable(build_parser(words).parse_args(words).command)


def test_the_pages_have_their_commands():
    assert len(list(commands())) >= 8


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_the_parts_of_a_slurm_array_are_one_folder(tmp_path):
    script = next(block for language, block in BLOCKS if language == "bash")
    merge = next(block for _, block in BLOCKS if "verify data/synthetic --repair" in block)
    smaller = {  # the same script for two classes and the bundled checkpoint
        "ROWS=1000": "ROWS=3",
        "--checkpoint-dir models --checkpoint sd15": "--steps 1",
        "--per-class 2000": "--per-class 4 --batch-size 2",
    }
    for old, new in smaller.items():
        assert old in script
        script = script.replace(old, new)
    for name, body in {
        "srun": 'exec "$@"',
        "synthgrid": f'exec {sys.executable} -m synthgrid "$@"',
    }.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "classes.txt").write_text("3\n7\n", encoding="utf-8")
    (tmp_path / "data").mkdir()
    found = environment() | {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }

    def shell(text, **more):
        subprocess.run(["bash", "-c", text], cwd=tmp_path, env=found | more, check=False)

    for task in range(2):
        shell(script, SLURM_ARRAY_TASK_ID=str(task))
    shell(script.replace("FROM + ROWS", "FROM + 2"), SLURM_ARRAY_TASK_ID="2")
    shell(merge)
    assert [each["index"] for each in read_records(tmp_path / "data" / "synthetic")] == list(
        range(8)
    )
    assert main(["verify", str(tmp_path / "data" / "synthetic")]) == 0
