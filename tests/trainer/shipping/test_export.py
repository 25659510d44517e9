"""An exported folder explains itself to those who have only that folder: the card's own code gives
what `predict` gives, and each weights file says what goes in and what comes out.

Covers: trainer.shipping.card.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from trainer.__main__ import main
from trainer.models.registry import IMAGENET_MEAN, IMAGENET_STD, model_spec
from trainer.shipping.export import _difference, export_run, file_metadata
from trainer.shipping.predict import predict_images
from trainer.training.classifier import Classifier, load_classifier

CLASSES = ["circle", "cross", "square"]


def card(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def front_matter(folder: Path) -> dict:
    return yaml.safe_load(card(folder).split("---\n")[1])


def code(folder: Path, language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", card(folder), re.DOTALL | re.MULTILINE)
    return found


def photo(kind: str) -> Image.Image:
    """A noisy picture that is not square; `kind` says what is special about it."""
    noise = np.random.RandomState(3).randint(0, 256, (61, 90, 4)).astype(np.uint8)
    image = Image.fromarray(noise)
    return {"transparent": image, "grey": image.convert("L")}.get(kind, image.convert("RGB"))


def save(kind: str, path: Path) -> None:
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by 90 degrees
        photo(kind).save(path, format="PNG", exif=exif)
    else:
        photo(kind).save(path, format="PNG" if kind != "jpeg" else "JPEG")


@pytest.mark.parametrize("kind", ["jpeg", "transparent", "turned", "grey"])
def test_the_cards_own_code_gives_what_predict_gives(
    exported: Path, kind: str, tmp_path: Path
) -> None:
    for name in ("model.onnx", "README.md"):  # what an outsider has taken
        shutil.copy(exported / name, tmp_path / name)
    save(kind, tmp_path / "photo.jpg")
    (tmp_path / "use.py").write_text(code(tmp_path, "python"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "use.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = dict(reversed(line.split()) for line in done.stdout.splitlines())
    (expected,) = predict_images(load_classifier(exported), [tmp_path / "photo.jpg"], top=3)
    assert list(found) == [name for name, _ in expected.top]
    for name, probability in expected.top:
        assert float(found[name]) == pytest.approx(probability, abs=6e-4)


class Constant(nn.Module):
    """A network that gives these logits."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.logits = torch.from_numpy(logits)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.logits


class Runtime:
    """An ONNX Runtime session that gives these logits."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = logits

    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [self.logits]


def test_logits_that_differ_are_seen_where_every_probability_is_0_or_1(exported: Path) -> None:
    classifier = load_classifier(exported)
    logits = np.array([[-300.0, 0.0, 300.0]], np.float32)
    other = np.array([[-300.0, 3.0, 300.0]], np.float32)
    classifier = replace(classifier, network=Constant(logits))
    pixels = np.zeros((1, 3, 32, 32), np.uint8)
    assert _difference(classifier, Runtime(logits), pixels) == 0
    assert _difference(classifier, Runtime(other), pixels) == pytest.approx(0.01)


def test_logits_that_are_all_0_are_no_difference(exported: Path) -> None:
    logits = np.zeros((1, 3), np.float32)
    classifier = replace(load_classifier(exported), network=Constant(logits))
    pixels = np.zeros((1, 3, 32, 32), np.uint8)
    assert _difference(classifier, Runtime(logits), pixels) == 0


def test_the_cards_own_command_works(
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(exported, tmp_path / "model")
    photo("jpeg").save(tmp_path / "model" / "photo.jpg")
    monkeypatch.chdir(tmp_path / "model")
    first, *arguments = code(exported, "").split()
    assert first == "synthgrid"
    assert main(arguments) == 0
    assert any(name in capsys.readouterr().out for name in CLASSES)


def test_the_cards_front_matter_is_what_the_hub_reads(run: Path, exported: Path) -> None:
    assert front_matter(exported) == {
        "license": "apache-2.0",
        "library_name": "synthgrid",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "synthgrid", "safetensors", "onnx"],
        "metrics": ["accuracy", "precision", "recall", "f1"],
    }
    card_data = pytest.importorskip("huggingface_hub").ModelCard(card(exported)).data
    assert card_data.pipeline_tag == "image-classification"
    assert card_data.license == "apache-2.0"


def test_without_onnx_or_licence_the_card_promises_neither(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "model", with_onnx=False)
    front = front_matter(tmp_path / "model")
    assert "license" not in front
    assert "onnx" not in front["tags"]
    assert "onnx" not in card(tmp_path / "model").lower()


def test_each_weights_file_says_what_goes_in_and_what_comes_out(exported: Path) -> None:
    import onnxruntime
    from safetensors import safe_open

    with safe_open(exported / "model.safetensors", framework="pt") as file:
        inside = file.metadata()
    assert inside.pop("format") == "pt"
    session = onnxruntime.InferenceSession(
        exported / "model.onnx", providers=["CPUExecutionProvider"]
    )
    told = session.get_modelmeta().custom_metadata_map
    assert inside.items() <= told.items()
    assert json.loads(inside["classes"]) == CLASSES
    assert inside["image_size_px"] == "32"
    spec = model_spec("cnn")
    assert json.loads(inside["mean"]) == list(spec.mean)
    assert json.loads(inside["std"]) == list(spec.std)
    assert "largest centred square, resized to 32 x 32" in inside["preprocessing"]


def test_mean_and_std_are_not_mistaken_for_each_other() -> None:
    frozen = Classifier("run", "resnet50", ("a", "b"), 64, nn.Sequential())
    said = file_metadata(frozen)
    assert json.loads(said["mean"]) == list(IMAGENET_MEAN)
    assert json.loads(said["std"]) == list(IMAGENET_STD)


def test_the_recorded_mean_and_std_are_those_of_the_network(exported: Path) -> None:
    from safetensors.torch import load_file

    with_names = load_file(exported / "model.safetensors")
    values = json.loads((exported / "model.json").read_text(encoding="utf-8"))
    assert values["classes"] == CLASSES
    spec = model_spec("cnn")
    mean, std = (
        next(value for name, value in with_names.items() if name == f"0.{each}")
        for each in ("mean", "std")
    )
    np.testing.assert_allclose(mean.flatten(), 255 * np.array(spec.mean), rtol=1e-6)
    np.testing.assert_allclose(std.flatten(), 255 * np.array(spec.std), rtol=1e-6)
