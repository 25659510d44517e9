"""Trained once: a small grid of two runs, and the export of one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.__main__ import main
from trainer.config import GridConfig
from trainer.grid.grid import run_grid


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, make_shapes: Callable[..., Path]) -> Path:
    """real/ and a grid/ of a CNN and a frozen ResNet18, a run each."""
    root = tmp_path_factory.mktemp("trained")
    make_shapes(root / "real" / "train", per_class=6, seed=1)
    make_shapes(root / "real" / "test", per_class=5, seed=2)
    run_grid(
        GridConfig(
            str(root / "real"),
            str(root / "grid"),
            models=("cnn", "resnet18"),
            ratios=(0.0,),
            seeds=1,
            image_size_px=32,
            updates=8,
            quick=True,
            device="cpu",
            allow_untrained=True,
        )
    )
    return root


@pytest.fixture(scope="session")
def run(folders: Path) -> Path:
    """The CNN's run."""
    (found,) = (folders / "grid").glob("cnn-*")
    return found


@pytest.fixture(scope="session")
def frozen_run(folders: Path) -> Path:
    """The ResNet's run."""
    (found,) = (folders / "grid").glob("resnet18-*")
    return found


@pytest.fixture(scope="session")
def exported(run: Path) -> Path:
    """The export of the CNN's run, with ONNX and a licence."""
    out = run.parent.parent / "model"
    command = ["export", str(run), "--out", str(out), "--license", "apache-2.0"]
    assert main(command) == 0
    return out
