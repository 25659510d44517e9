"""The front door: one command with grouped, quick help, and one line for whatever goes wrong.

Covers: client.__main__, trainer.__main__, client.commands, trainer.commands, synthgrid.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

import client.__main__
import client.commands
import trainer.__main__
import trainer.commands
from comfy_nodes.errors import SynthGridError
from synthgrid.__main__ import GROUPS, main

ROOT = Path(__file__).resolve().parents[2]
EVERY = [
    (name, home)
    for home in ("client", "trainer")
    for name in sys.modules[f"{home}.commands"].COMMANDS
]
HELP_LIMIT_S = 0.5


def run(
    *arguments: str, code: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(["-c", code] if code else ["-m", "synthgrid"]), *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", env=env
    )


def test_help_groups_the_commands_of_both_halves(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    make, train = text.index("\nmake images:\n"), text.index("\ntrain and report:\n")
    for name, home in EVERY:
        position = text.index(f"\n  {name} ")
        assert (make < position < train) if home == "client" else (train < position)


@pytest.mark.parametrize(("name", "home"), EVERY)
def test_every_command_in_the_table_has_a_file_with_examples(
    name: str, home: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert text.startswith(f"usage: synthgrid {name} ")
    assert f"synthgrid {name}" in text.partition("examples:")[2]
    assert importlib.import_module(f"{home}.commands.{name.replace('-', '_')}").__doc__


def test_every_file_of_commands_is_in_the_table() -> None:
    helpers = {"__init__", "options", "servers", "console", "parsing", "grid_options", "sweeping"}
    for home, table in (
        ("client", client.commands.COMMANDS),
        ("trainer", trainer.commands.COMMANDS),
    ):
        files = {path.stem for path in (ROOT / home / "commands").glob("*.py")} - helpers
        assert files == {name.replace("-", "_") for name in table}


def test_help_is_quick_and_imports_no_heavy_library(tmp_path: Path) -> None:
    """First the general help, then that of every command in the same process: what one imports,
    the next ones have for nothing, so all together may take twice what one may.

    Time is measured as the processor's, the best of five, so that a busy machine does not fail it,
    with bytecode at hand, as after the first command on any machine.
    """
    code = (
        "import sys, time\n"
        "from synthgrid.__main__ import main\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'pandas', 'matplotlib'}\n"
        "heavy |= {'requests', 'aiohttp', 'optuna'}\n"
        "for command in [[], *([name] for name in sys.argv[1:])]:\n"
        "    try: main([*command, '--help'])\n"
        "    except SystemExit: pass\n"
        "    found = heavy & set(sys.modules)\n"
        "    assert not found, (command, found)\n"
        "    if not command: print(time.process_time(), file=sys.stderr)\n"
        "print(time.process_time(), file=sys.stderr)"
    )
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(tmp_path)
    first = all_together = math.inf
    for _ in range(5):
        done = run(*(name for name, _ in EVERY), code=code, env=env)
        assert done.returncode == 0, done.stderr
        seconds = [float(line) for line in done.stderr.split()]
        first, all_together = min(first, seconds[0]), min(all_together, seconds[1])
        if first < HELP_LIMIT_S and all_together < 2 * HELP_LIMIT_S:
            break
    assert first < HELP_LIMIT_S
    assert all_together < 2 * HELP_LIMIT_S


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("synthgrid ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gird"], "unknown command 'gird'; did you mean 'grid'?"),
        (["xyzzy"], "unknown command 'xyzzy'; see synthgrid --help"),
        ([], "required: COMMAND"),
        (["plan", "--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_wrong_usage_ends_with_code_2_and_one_clear_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_mistake_ends_with_code_1_and_one_line(tmp_path: Path) -> None:
    done = run("report", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_nothing_that_a_message_quotes_has_power_over_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hostile(options: object) -> int:
        logging.getLogger("client").warning("%s", "a \x1b]0;owned\x07\nsecond line")
        raise SynthGridError("no \x9b2J and no \u202egnp.exe")

    monkeypatch.setattr(
        "client.commands.plan.add_parser",
        lambda commands: commands.add_parser("plan").set_defaults(command=hostile),
    )
    assert main(["plan"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == r"a \x1b]0;owned\x07"
    assert lines[1] == "second line"
    assert lines[2] == r"error: no \x9b2J and no \u202egnp.exe"


def test_ctrl_c_ends_with_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("client.commands.plan.show_plan", interrupted)
    assert main(["plan"]) == 130
    assert "interrupted" in capsys.readouterr().err


NEEDED = {
    ("torch", "train"): (
        ["grid", "--real", "a", "--synthetic", "b", "--out", "c"],
        ["tune", "--real", "a", "--model", "cnn", "--out", "c"],
        ["predict", "a", "b"],
        ["evaluate", "a", "b"],
        ["export", "a", "--out", "b"],
    ),
    ("scipy", "train"): (["report", "a"],),
    ("sklearn", "train"): (["sample-data", "--out", "a"],),
    ("aiohttp", "embedded"): (["serve", "--base-directory", "a"],),
}


@pytest.mark.parametrize(("missing", "extra"), NEEDED)
def test_a_missing_extra_is_named_with_what_to_install(
    missing: str, extra: str, tmp_path: Path
) -> None:
    commands = NEEDED[missing, extra]
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if name.split('.')[0] == {missing!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        f"sys.meta_path.insert(0, Missing()); sys.path.insert(0, {str(ROOT)!r})\n"
        "from synthgrid.__main__ import main\n"
        f"print(*(main(arguments) for arguments in {commands!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split() == ["1"] * len(commands), done.stderr
    said = done.stderr.splitlines()
    assert len(said) == len(commands), done.stderr
    for (name, *_), line in zip(commands, said, strict=True):
        assert line.startswith(f"error: {name} needs {missing}")
        assert f'[{extra}]"' in line


@pytest.mark.parametrize("half", [client.__main__, trainer.__main__])
def test_each_half_runs_alone_too(half: object, capsys: pytest.CaptureFixture[str]) -> None:
    own, other = ("plan", "grid") if half is client.__main__ else ("grid", "plan")
    with pytest.raises(SystemExit):
        half.main(["--help"])  # type: ignore[attr-defined]
    text = capsys.readouterr().out
    assert f"\n  {own} " in text
    assert f"\n  {other} " not in text
    assert set(GROUPS) == {"make images", "train and report"}
