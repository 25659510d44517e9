"""The wheel works without the checkout: installed into a fresh environment, from class names to a
report.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder / "dist"),
        str(ROOT),
    ]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A fresh environment with the wheel alone; other packages are borrowed from the environment
    that runs the tests.
    """
    environment = wheel.parents[1] / "env"
    venv.create(environment, with_pip=False)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(scripts / "python"),
        "install",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True, text=True)
    own = subprocess.run(
        [str(scripts / "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    # A path in a .pth file: the .pth files of that folder, which lead to the checkout, are not
    # read.
    Path(own.stdout.strip(), "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


def run(folder: Path, *command: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=clean, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for package in ("comfy_nodes", "client", "trainer", "synthgrid")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        assert files <= set(archive.namelist())


def test_the_console_command_is_there_and_runs_what_was_installed(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "classes.txt").write_text("bat\ncat\n", encoding="utf-8")
    plan = ("plan", "--classes", "classes.txt", "--per-class", "5")
    assert "10 images" in run(tmp_path, str(installed / "synthgrid"), *plan)
    code = (
        "import client, trainer, comfy_nodes, synthgrid\n"
        "for each in (client, trainer, comfy_nodes, synthgrid): print(each.__file__)"
    )
    assert str(ROOT) not in run(tmp_path, str(installed / "python"), "-c", code)


FROM_NAMES_TO_A_REPORT = """
from synthgrid.__main__ import main

MADE = "--classes digits/train --per-class 1 --batch-size 10 --steps 2 --out made"
for line in (
    "sample-data --out digits --train 2 --test 2",
    f"run sd15_class_prompts --server embedded {MADE}",
    "grid --real digits --synthetic made --models cnn --ratios 0,0.5 --image-size 32 --updates 4 "
    "--seeds 1 --out runs",
):
    assert main(line.split()) == 0, line
"""


@pytest.mark.slow
def test_from_class_names_to_a_report_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    """In one process: what is imported once serves every command."""
    run(tmp_path, str(installed / "python"), "-c", FROM_NAMES_TO_A_REPORT)
    records = (tmp_path / "made" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(records) == 10
    assert json.loads((tmp_path / "runs" / "results.json").read_text(encoding="utf-8"))
    assert (tmp_path / "runs" / "report.html").stat().st_size > 10_000


def test_every_workflow_is_found_by_its_name(installed: Path, tmp_path: Path) -> None:
    code = (
        "from client.workflow import load_workflow\n"
        "from client.workflow.library import bundled_names\n"
        "print(*(name for name in bundled_names() if load_workflow(name).graph))"
    )
    found = run(tmp_path, str(installed / "python"), "-c", code)
    names = {path.stem for path in (ROOT / "workflows" / "api").glob("*.json")}
    assert set(found.split()) == names
