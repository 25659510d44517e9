"""The adapter to AutoGluon writes what AutoGluon reads, trains for the time given, and takes over
what was trained; AutoGluon itself is not installed here."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.evidence import autogluon_learner
from benchmarks.evidence.recipe import cpu_s, ways

timm = pytest.importorskip("timm")
SIDE = 32


def pixels(count: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=random, dtype=torch.uint8)


def task() -> SimpleNamespace:
    return SimpleNamespace(train=pixels(4), train_labels=torch.tensor([0, 1, 2, 2]), size_px=SIDE)


class Predictor:
    """Stands in for MultiModalPredictor: reads the folder as it does; an epoch takes 3 seconds,
    a training 10 more."""

    clock = 0.0
    given: dict[str, Any]
    trained: nn.Module

    def __init__(self, **settings: Any) -> None:
        assert settings["label"] == "label"

    def fit(self, table: str, *, seed: int, hyperparameters: dict[str, Any]) -> None:
        checkpoint = Path(hyperparameters["model.timm_image.checkpoint_name"])
        config = json.loads((checkpoint / "config.json").read_text())
        body = timm.create_model(
            config["architecture"],
            checkpoint_path=str(checkpoint / "pytorch_model.bin"),
            num_classes=0,
        )
        head = nn.Linear(config["num_features"], 3)
        Predictor.trained = nn.Sequential(body, head)
        network = nn.Module()
        network.model, network.head = body, head
        self._learner = SimpleNamespace(_model=network)
        Predictor.clock += 10 + 3 * hyperparameters["optim.max_epochs"]
        with Path(table).open(newline="") as file:
            images = {row["image"]: row["label"] for row in csv.DictReader(file)}
        Predictor.given = {
            "labels": list(images.values()),
            "pixels": [np.asarray(Image.open(each)) for each in images],
            "epochs": hyperparameters["optim.max_epochs"],
            "config": config,
            "seed": seed,
        }


@pytest.fixture
def autogluon(monkeypatch: pytest.MonkeyPatch) -> type[Predictor]:
    """AutoGluon's stand-in, and its environment's Python run in this process."""
    module = types.ModuleType("autogluon.multimodal")
    module.MultiModalPredictor = Predictor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "autogluon.multimodal", module)
    monkeypatch.setattr(autogluon_learner.time, "process_time", lambda: Predictor.clock)

    def run(command: list[str], **_: Any) -> None:
        assert command[0] == "its-python"
        monkeypatch.setattr(sys, "argv", command[1:])
        autogluon_learner.main()

    monkeypatch.setattr(autogluon_learner.subprocess, "run", run)
    return Predictor


def tuned(network: nn.Module, seconds: float) -> nn.Module:
    spec = SimpleNamespace(head="classifier", mean=(0.5,) * 3, std=(0.25,) * 3)
    autogluon_learner.tune(network, task(), spec, python="its-python", seconds=seconds, seed=7)
    return network.eval()


def test_it_sees_the_same_pixels_labels_size_and_scale(autogluon: type[Predictor]) -> None:
    tuned(timm.create_model("test_efficientnet", num_classes=3), 1)
    assert autogluon.given["labels"] == ["0", "1", "2", "2"]
    assert (np.stack(autogluon.given["pixels"]) == task().train.permute(0, 2, 3, 1).numpy()).all()
    config = autogluon.given["config"]
    assert (config["input_size"], config["mean"], config["std"]) == (
        [3, SIDE, SIDE],
        [0.5] * 3,
        [0.25] * 3,
    )
    assert autogluon.given["seed"] == 7


def test_it_starts_from_our_weights_and_its_own_come_back(autogluon: type[Predictor]) -> None:
    network = timm.create_model("test_efficientnet", num_classes=3)
    batch = pixels(2).float()
    features = network.eval().forward_head(network.forward_features(batch), pre_logits=True)
    found = tuned(network, 1)(batch)
    torch.testing.assert_close(autogluon.trained.eval()[0](batch), features)
    torch.testing.assert_close(found, autogluon.trained.eval()(batch))


@pytest.mark.parametrize(("seconds", "epochs"), [(300, 100), (301, 101), (1, 20)])
def test_epochs_fill_the_time_and_are_never_fewer_than_its_default(
    autogluon: type[Predictor], seconds: float, epochs: int
) -> None:
    tuned(timm.create_model("test_efficientnet", num_classes=3), seconds)
    assert autogluon.given["epochs"] == epochs


def test_it_is_compared_only_if_its_python_is_given_and_a_network_is_fine_tuned() -> None:
    assert "autogluon" in [name for name, _ in ways(None, "lite0:finetune", "its-python")]
    assert "autogluon" not in [name for name, _ in ways(None, "cnn", "its-python")]
    assert "autogluon" not in [name for name, _ in ways(None, "lite0:finetune")]


def test_the_seconds_of_another_program_count() -> None:
    before, own = cpu_s(), time.process_time()
    subprocess.run([sys.executable, "-S", "-c", "sum(range(5_000_000))"], check=True)
    assert cpu_s() - before > time.process_time() - own + 0.03
