"""The benchmarks of recipes and of fine-tuning run, and print a line for each way."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.evidence.recipe import Task, Way, compared, timm_way, torchvision_way
from trainer.models.registry import model_spec

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks" / "evidence"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        for number, label in enumerate(("dark", "light")):
            folder = tmp_path / "made" / "real" / part / label
            folder.mkdir(parents=True)
            for each in range(4):
                Image.new("RGB", (32, 32), (120 * number + each,) * 3).save(folder / f"{each}.png")
    return tmp_path / "made" / "real"


def output(script: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_every_installed_way_gets_a_line_and_the_others_are_named(data: Path) -> None:
    out = output("recipe.py", "--data", str(data), "--quick", "--models", "cnn")
    for name in ("modern", "classic", "torchvision", "timm"):
        assert re.search(rf"5 per class  cnn +{name} +[\d.]+ \+- 0\.0 % .* to .*\) +[\d.]+ s", out)
    if importlib.util.find_spec("fastai") is None:
        assert "fastai is not installed, and left out" in out


@pytest.mark.slow
def test_frozen_mixed_and_tuned_networks_get_a_line_each(data: Path) -> None:
    given = ("--data", str(data), "--per-class", "3", "--size", "32", "--seeds", "1")
    out = output("finetune.py", *given, "--set", "updates=2", "--model", "lite0")
    names = re.findall(r"3 per class  (\S+) +[\d.]+ \+-", out)
    assert names == ["frozen", "0.25", "0.5", "0.75", "tuned"]


def test_a_difference_has_its_interval_over_the_test_images() -> None:
    base = [np.arange(100) < 50, np.arange(100) < 60]
    better = [np.arange(100) < 60, np.arange(100) < 60]
    assert compared(better, base) == " 60.0 +- 0.0 %   +5.0 (+2.0 to +8.0)"
    assert compared(base, base).endswith("+0.0 (+0.0 to +0.0)")


@pytest.mark.parametrize("way", [timm_way, torchvision_way])
@pytest.mark.parametrize("mode", ["scratch", "finetune"])
def test_others_fine_tune_from_a_small_last_layer_and_timm_keeps_the_statistics(
    way: Way, mode: str
) -> None:
    images, labels = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8) % 2
    task = Task(images, labels, images, labels, classes=2, size_px=32)
    net = nn.Sequential(nn.Identity(), model_spec("cnn").build(2, image_size_px=32))
    last = net.get_submodule(f"1.{model_spec('cnn').head}")
    nn.init.constant_(last.weight, 7.0)
    before = {name: value.clone() for name, value in net.named_buffers()}
    trained = way(net, task, f"cnn:{mode}", 0.1, 0)
    kept = {torch.equal(value, before[name]) for name, value in trained.named_buffers()}
    assert kept == {mode == "finetune" and way is timm_way}
    assert (last.weight.mean() < 1) == (mode == "finetune")
