"""The published experiments as grids: which cells they have, and that they run from one command.

Covers: trainer.experiments.overchuk_grid, trainer.experiments.paulsen_cifar10,
trainer.experiments.running.
"""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from trainer.experiments import overchuk_grid, paulsen_cifar10
from trainer.runs import read_grid


def options(**changed: Any) -> Namespace:
    values = {
        "real": "real",
        "out": "out",
        "seeds": None,
        "tuned": [],
        "weights": None,
        "allow_untrained": False,
        "device": "cpu",
        "recipe": "classic",
        "quick": False,
        "models": None,
        "synthetic": ["syn1=a", "syn2=b"],
        **dict.fromkeys(("redraw", "budgets", "updates", "image_size_px", "threads")),
        "figures": "2,3,4,5,6,7",
    }
    return Namespace(**{**values, **changed})


def test_overchuks_grid_is_three_models_by_0_15_and_30_synthetic_images_of_30_real_ones() -> None:
    config = overchuk_grid.grid_config(options(synthetic="made"))
    assert config.models == ("cnn", "resnet50", "vit_b_16")
    assert [arm.name for arm in config.used_arms] == ["real", "add:0.5", "add:1"]
    assert config.budgets == ("updates", "epochs")
    assert len(config.used_seeds) == 5


def test_paulsens_figures_share_one_grid_and_each_can_be_had_alone() -> None:
    every = paulsen_cifar10.grid_config(options())
    assert {model.split(":")[0] for model in every.models} == {
        "resnet18",
        "resnet34",
        "resnet50",
        "vgg16",
        "densenet121",
    }
    assert {arm.regime for arm in every.used_arms} == {
        "real",
        "add",
        "swap",
        "fewer",
        "only",
        "copies",
    }
    assert every.epochs == 250
    seventh = paulsen_cifar10.grid_config(options(figures="7"))
    assert seventh.models == ("resnet18:scratch",)
    assert [arm.name for arm in seventh.used_arms] == [
        "real",
        "copies:1",
        "add:1@syn1",
        "fewer:0.5",
    ]


def test_arms_of_a_source_that_is_not_there_are_left_out_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = paulsen_cifar10.grid_config(options(synthetic=["syn1=a"], figures="2"))
    assert [arm.name for arm in config.used_arms] == ["real", "add:1@syn1"]
    assert "add:1@syn2, add:2@syn1+syn2" in caplog.text


def test_a_figure_that_is_not_in_the_paper_is_refused(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    arguments = [
        "--real",
        "r",
        "--synthetic",
        "syn1=s",
        "--out",
        str(tmp_path / "out"),
        "--figures",
        "1",
    ]
    assert paulsen_cifar10.main(arguments) == 1
    assert "--figures has '1'; choose from 2, 3, 4, 5, 6, 7" in caplog.text


def test_it_runs_from_one_command(
    real: Path, synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    arguments = ["--real", str(real), "--synthetic", str(synthetic), "--out", str(out)]
    assert (
        overchuk_grid.main([*arguments, "--models", "cnn", "--quick", "--updates", "4", "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["report"] == str(out / "report.html")
    grid = read_grid(out)
    assert {(run.arm, run.budget) for run in grid.runs} == {
        ("real", "both"),
        ("add:0.5", "updates"),
        ("add:0.5", "epochs"),
        ("add:1", "updates"),
        ("add:1", "epochs"),
    }
    assert all(run.metrics for run in grid.runs)
