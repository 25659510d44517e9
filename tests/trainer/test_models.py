"""Every model of the registry builds, takes its input sizes, and can be trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from trainer.config import GridConfig
from trainer.engine import pick_device
from trainer.errors import ConfigError, WeightsError
from trainer.features import Backbone
from trainer.models import MODELS, model_spec
from trainer.models.cnn import build_cnn
from trainer.weights import UNTRAINED, Weights, find_weights, load_backbone


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_a_logit_a_class_and_a_gradient(name: str) -> None:
    spec = model_spec(name)
    network = spec.build(3)
    logits = network(torch.rand(2, 3, 64, 64))
    assert logits.shape == (2, 3)
    logits.sum().backward()
    if spec.frozen:
        head = getattr(network, spec.head)
        assert (head.in_features, head.out_features) == (spec.feature_dim, 3)


@pytest.mark.parametrize("name", MODELS)
def test_a_models_defaults_make_a_config(name: str) -> None:
    assert GridConfig("r", "o", "s", models=(name,)).training_for(name, train_images=100).updates


@pytest.mark.parametrize("size_px", [32, 33, 64, 100])
def test_the_cnn_takes_any_size_from_32_on(size_px: int) -> None:
    assert build_cnn(7)(torch.rand(2, 3, size_px, size_px)).shape == (2, 7)


def test_the_cnn_is_five_pooled_convolutions_dropout_and_one_connected_layer() -> None:
    kinds = [type(module) for module in build_cnn(4).modules()]
    assert [kinds.count(kind) for kind in (nn.Conv2d, nn.MaxPool2d, nn.Dropout, nn.Linear)] == [5, 5, 1, 1]


def test_an_unknown_model_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="choose from cnn, resnet50"):
        model_spec("alexnet")


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
    assert torch.equal(load_backbone("resnet50", weights).state_dict()["conv1.weight"], state["conv1.weight"])


def test_weights_that_do_not_fit_or_are_no_weights_are_named(tmp_path: Path) -> None:
    save_file({"blocks.0.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "text.pth").write_text("hello", encoding="utf-8")
    (tmp_path / "text.safetensors").write_text("hello", encoding="utf-8")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, message in (
        ("other.safetensors", "does not fit resnet50"),
        ("text.pth", "cannot be read|cannot read"),
        ("text.safetensors", "cannot read"),
        ("list.pth", "no state dict"),
    ):
        with pytest.raises(WeightsError, match=message) as caught:
            load_backbone("resnet50", find_weights("resnet50", given=tmp_path / name, allow_untrained=False))
        assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match=r"gone\.pth is not there"):
        find_weights("resnet50", given=tmp_path / "gone.pth", allow_untrained=True)


def test_an_untrained_backbone_is_the_same_each_time_and_gives_finite_distinct_features() -> None:
    untrained = Weights(UNTRAINED, "seed0", None)
    pixels = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    first, again = (Backbone("resnet50", untrained, device=pick_device("cpu"))(pixels) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (3, 2048)
    assert first.isfinite().all()
    assert (first.std(dim=0) > 0).float().mean() > 0.5


def test_folding_batch_norm_changes_nothing() -> None:
    untrained = Weights(UNTRAINED, "seed0", None)
    network = load_backbone("resnet50", untrained)
    spec = model_spec("resnet50")
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    scaled = (pixels / 255.0 - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1)
    with torch.inference_mode():
        plain = network(scaled)
    fused = Backbone("resnet50", untrained, device=pick_device("cpu"))(pixels)
    assert torch.allclose(plain, fused, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))
