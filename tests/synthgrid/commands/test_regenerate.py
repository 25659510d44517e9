"""regenerate --until-full puts the trainer's check between the client's rounds."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import synthgrid.commands.regenerate as command
from synthgrid.__main__ import main

SERVER = ["--server", "http://127.0.0.1:9"]


def test_until_full_hands_the_check_with_its_options_to_the_client(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[argparse.Namespace] = []

    def judge(options: argparse.Namespace) -> Any:
        seen.append(options)
        print("found")
        return SimpleNamespace(path=Path("verdicts.csv"))

    def regenerate(args: argparse.Namespace, check: Any = None) -> int:
        assert check(Path("the folder")) == Path("verdicts.csv")
        return 7

    monkeypatch.setattr(command.check, "judge", judge)
    monkeypatch.setattr(command.regenerate, "regenerate", regenerate)
    told = ["--until-full", "--real", "photos", "--reject", "label", "--embedder", "pixels"]
    assert main(["regenerate", str(tmp_path), *told, *SERVER]) == 7
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "found\n")
    (options,) = seen
    assert (options.synthetic, options.real) == (Path("the folder"), "photos")
    assert (options.reject, options.embedder, options.outlier) == ("label", "pixels", "msp")


def test_without_until_full_nothing_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command.regenerate, "regenerate", lambda args, check=None: 3 + bool(check))
    assert main(["regenerate", str(tmp_path), *SERVER]) == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--until-full"], "needs real images"), (["--real", "photos"], "add --until-full")],
)
def test_one_of_both_options_alone_is_wrong_usage(
    tmp_path: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["regenerate", str(tmp_path), *options, *SERVER])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
