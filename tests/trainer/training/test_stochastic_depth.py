"""Stochastic depth: on in training, off otherwise, and only where it can be set.

Covers: trainer.models.timm_models, trainer.models.registry, trainer.config.run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers.drop import DropPath
from torch import nn

from trainer.config import RECIPES, GridConfig, RunConfig, TrainingConfig
from trainer.errors import ConfigError
from trainer.grid.sequential import run_whole_grid
from trainer.models.registry import MODELS, model_spec
from trainer.training.classifier import new_network

RESNET, VIT, VGG = "timm:test_resnet.r160_in1k", "timm:test_vit", "timm:vgg11:scratch"
RUN = RunConfig(
    model="lite0:scratch",
    arm="add:1",
    budget="updates",
    seed=0,
    image_size_px=32,
    training=TrainingConfig(),
    validation_share=0.0,
    classes=("a", "b"),
    data_fingerprint="f",
)


def rates(model: str, drop_path: float) -> list[float]:
    network = model_spec(model).build(2, image_size_px=64, drop_path=drop_path)
    return [each.drop_prob for each in network.modules() if isinstance(each, DropPath)]


@pytest.mark.parametrize("model", ["lite0:scratch", RESNET])
def test_blocks_are_skipped_more_often_the_deeper_they_are(model: str) -> None:
    assert rates(model, 0.0) == []
    found = rates(model, 0.3)
    assert found == sorted(found)
    assert len(found) > 1
    assert 0 < found[0] < 0.2 < found[-1] <= 0.3


def test_skipping_is_off_in_evaluation_and_on_in_training() -> None:
    torch.manual_seed(0)
    plain = model_spec("lite0").build(2, image_size_px=32).eval()
    torch.manual_seed(0)
    skipping = model_spec("lite0").build(2, image_size_px=32, drop_path=0.5).eval()
    pixels = torch.rand(4, 3, 32, 32)
    assert torch.equal(plain(pixels), skipping(pixels))  # and the start is the same
    assert torch.equal(plain(pixels), plain(pixels))
    for module in skipping.modules():
        module.training = isinstance(module, DropPath)
    assert not torch.allclose(skipping(pixels), skipping(pixels))


def test_a_saved_network_loads_without_the_rate_that_it_was_trained_with() -> None:
    trained = model_spec(RESNET).build(2, image_size_px=64, drop_path=0.2)
    model_spec(RESNET).build(2, image_size_px=64).load_state_dict(trained.state_dict())


@pytest.mark.parametrize("model", ["cnn", "resnet18:scratch", "swin_t:scratch", VGG])
def test_models_without_it_refuse_a_rate(model: str) -> None:
    spec = model_spec(model)
    with pytest.raises(ConfigError, match=r"drop_path is 0\.1, but stochastic depth cannot be set"):
        spec.build(2, image_size_px=64, drop_path=0.1)
    training = TrainingConfig(drop_path=0.1)
    with pytest.raises(ConfigError, match="drop_path"):
        replace(RUN, model=spec.name, training=training)


def test_a_grid_gives_the_rate_to_the_models_that_take_it() -> None:
    models = ("cnn", "lite0", "lite0:finetune", "timm:test_vit:scratch")
    config = GridConfig("r", "o", "s", models=models, drop_path=0.2)
    found = [config.training_for(name, train_images=60).drop_path for name in models]
    assert found == [0.0, 0.0, 0.2, 0.2]
    with pytest.raises(ConfigError, match="drop_path"):
        replace(config, drop_path=1.0)


def test_a_run_without_it_has_the_identity_it_had_before_and_one_with_it_another() -> None:
    skipping = replace(RUN, training=TrainingConfig(drop_path=0.1))
    assert RUN.run_id == "lite0-scratch-add-1-updates-seed0-35c11fc9"
    assert skipping.run_id != RUN.run_id


def test_classic_never_skips_a_block() -> None:
    for name in (*MODELS, VIT):
        spec = model_spec(f"{name}:scratch")
        assert "drop_path" not in RECIPES["classic"].schedule(spec).training


def spy(built: list[list[float]]) -> Callable[..., nn.Sequential]:
    """Builds networks as training does, and notes their rates."""

    def build(*positional: Any, **named: Any) -> nn.Sequential:
        network = new_network(*positional, **named)
        built.append([each.drop_prob for each in network.modules() if isinstance(each, DropPath)])
        return network

    return build


def test_runs_and_folds_train_with_the_rate(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, list[list[float]]] = {"run": [], "tuning.folds": []}
    for home in found:
        monkeypatch.setattr(f"trainer.training.{home}.new_network", spy(found[home]))
    out, model = str(tmp_path / "grid"), f"{RESNET}:scratch"
    config = GridConfig(str(real), out, models=(model,), arms=("real",), seeds=1, updates=1)
    config = replace(
        config, quick=True, image_size_px=32, device="cpu", drop_path=0.2, validation="kfold"
    )
    run_whole_grid(config)
    assert len(found["run"]) == 1
    assert len(found["tuning.folds"]) > 1
    highest = [max(rates, default=0.0) for each in found.values() for rates in each]
    assert highest == pytest.approx([0.2] * len(highest))
