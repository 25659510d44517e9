"""Pretrained weights: where they come from, whom they are for, and whether they fit.

Covers: trainer.models.published, trainer.models.state.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from trainer.config import GridConfig
from trainer.errors import WeightsError
from trainer.grid.grid import run_grid
from trainer.models.published import Published, cached_weights, published_weights
from trainer.models.registry import MODELS, model_spec
from trainer.models.state import match_in_order
from trainer.models.weights import (
    Weights,
    find_weights,
    given_weights,
    load_backbone,
    load_pretrained,
)

TINY = "timm:test_resnet.r160_in1k"


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("cnn", "lite0")])
def test_every_architecture_knows_where_its_weights_are_and_how_their_hash_begins(
    name: str,
) -> None:
    found = published_weights(f"{name}:finetune")
    assert re.fullmatch(
        rf"https://download\.pytorch\.org/models/{name}-[0-9a-f]{{8}}\.pth", found.url
    )
    assert found.sha256_start in found.file_name
    assert len(found.sha256_start) == 8
    assert found.source in ("ImageNet-1k V1", "ImageNet-1k V2")


def test_timm_weights_are_safetensors_and_the_small_cnn_has_none() -> None:
    assert published_weights(TINY).url.endswith(
        "timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
    )
    with pytest.raises(WeightsError, match="no pretrained weights are published for cnn"):
        find_weights("cnn:finetune", given=None, allow_untrained=False)


@pytest.mark.parametrize(
    ("options", "models", "expected"),
    [
        ("w.pth", ("cnn", "resnet50"), {"resnet50": "w.pth"}),
        (("resnet50=a.pth", "resnet18=b=c.pth"), ("resnet50", "cnn", "resnet18:finetune"), None),
        (
            ("resnet50=a.pth", "resnet18=b.pth"),
            ("resnet50", "cnn", "resnet18:finetune"),
            {"resnet50": "a.pth", "resnet18:finetune": "b.pth"},
        ),
        (
            ("resnet18:finetune=b.pth",),
            ("resnet18", "resnet18:finetune"),
            {"resnet18:finetune": "b.pth"},
        ),
        (("resnet18=b.pth",), ("resnet18", "resnet18:finetune"), {"resnet18": "b.pth"}),
        ((f"{TINY}=t.safetensors",), (TINY, "resnet50"), {TINY: "t.safetensors"}),
        ("w.pth", ("resnet18", "resnet50"), None),
        (("resnet34=w.pth",), ("resnet18", "resnet50"), None),
        (("resnet18=a.pth", "resnet18=b.pth"), ("resnet18", "resnet50"), None),
        ("w.pth", ("cnn",), None),
        (None, ("resnet50",), {}),
    ],
)
def test_a_weights_file_goes_to_the_model_it_is_for(
    options: str | tuple[str, ...] | None, models: tuple[str, ...], expected: dict[str, str] | None
) -> None:
    if expected is not None:
        assert given_weights(options, models) == {
            name: Path(file) for name, file in expected.items()
        }
        return
    with pytest.raises(
        WeightsError, match="does not say which model it is for; write NAME=FILE"
    ) as caught:
        given_weights(options, models)
    assert "\n" not in str(caught.value)


def test_a_densenet_file_under_torchvisions_old_names_is_read(tmp_path: Path) -> None:
    state = model_spec("densenet121").build(3).state_dict()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", name): value
        for name, value in state.items()
    }
    assert set(old) != set(state)
    torch.save(old, tmp_path / "old.pth")
    backbone = load_backbone("densenet121", Weights("old", "x", tmp_path / "old.pth"))
    name = "features.denseblock1.denselayer1.norm1.weight"
    assert torch.equal(backbone.state_dict()[name], state[name])
    assert torch.equal(
        backbone.state_dict()["features.conv0.weight"], state["features.conv0.weight"]
    )


@pytest.mark.slow
def test_a_vision_transformers_positions_are_interpolated_to_another_image_size(
    tmp_path: Path,
) -> None:
    state = model_spec("vit_b_16").build(3, image_size_px=64).state_dict()
    save_file(state, tmp_path / "vit.safetensors")
    weights = Weights("vit", "x", tmp_path / "vit.safetensors")
    backbone = load_backbone("vit_b_16", weights, image_size_px=96)
    assert backbone(torch.rand(2, 3, 96, 96)).shape == (2, 768)
    positions = backbone.state_dict()["encoder.pos_embedding"]
    assert torch.equal(positions[:, 0], state["encoder.pos_embedding"][:, 0])
    assert positions.shape == (1, 1 + 6 * 6, 768)


def test_fine_tuning_starts_from_the_weights_under_a_new_last_layer_and_trains_all(
    real: Path, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    path = tmp_path / "tiny.safetensors"
    state = model_spec(TINY).build(1000).state_dict()
    save_file(state, path)
    config = GridConfig(
        str(real),
        str(tmp_path / "grid"),
        models=(f"{TINY}:finetune",),
        ratios=(0.0,),
        seeds=1,
        image_size_px=32,
        updates=1,
        quick=True,
        learning_rate=1e-9,
        weights=(f"{TINY}={path}",),
        device="cpu",
    )
    (run,) = run_grid(config).runs
    assert run.config["weights"] == "tiny.safetensors"
    trained = load_file(tmp_path / "grid" / run.run_id / "model.safetensors")
    assert torch.allclose(
        trained["1.conv1.0.weight" if "1.conv1.0.weight" in trained else "1.conv1.weight"],
        state["conv1.0.weight" if "conv1.0.weight" in state else "conv1.weight"],
        atol=1e-7,
    )
    assert trained["1.fc.weight"].shape[0] == 3
    (moved,) = run_grid(replace(config, learning_rate=1e-2, updates=5)).runs
    after = load_file(tmp_path / "grid" / moved.run_id / "model.safetensors")
    weights = [name for name in trained if name.endswith("weight")]
    assert all(not torch.equal(after[name], trained[name]) for name in weights)


def test_a_file_that_does_not_fit_a_fine_tuned_model_ends_the_grid_before_anything_is_trained(
    real: Path, tmp_path: Path
) -> None:
    save_file({"blocks.0.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    config = GridConfig(
        str(real),
        str(tmp_path / "grid"),
        models=("cnn", f"{TINY}:finetune"),
        ratios=(0.0,),
        seeds=1,
        updates=1,
        image_size_px=32,
        weights=str(tmp_path / "other.safetensors"),
        device="cpu",
    )
    with pytest.raises(WeightsError, match=r"other\.safetensors does not fit timm:test_resnet"):
        run_grid(config)
    assert not list((tmp_path / "grid").glob("*/DONE"))


def test_a_finished_runs_own_file_can_be_started_from(real: Path, tmp_path: Path) -> None:
    """So that a network can be trained on one set of images and fine-tuned on another."""
    config = GridConfig(
        str(real),
        str(tmp_path / "grid"),
        models=("cnn",),
        ratios=(0.0,),
        seeds=1,
        image_size_px=32,
        updates=3,
        quick=True,
        device="cpu",
    )
    (run,) = run_grid(config).runs
    path = tmp_path / "grid" / run.run_id / "model.safetensors"
    network = model_spec("cnn:finetune").build(7, image_size_px=32)
    load_pretrained(
        network, "cnn:finetune", find_weights("cnn:finetune", given=path, allow_untrained=False)
    )
    name = "blocks.0.0.weight"
    assert torch.equal(network.state_dict()[name], load_file(path)[f"1.{name}"])
    assert network.get_parameter("fc.weight").shape[0] == 7


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A web server over tmp_path/www, reached without the proxy that refuses."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "www").mkdir()
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "www")
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_a_download_is_kept_whole_or_not_at_all(server: str, tmp_path: Path) -> None:
    data = b"weights" * 1000
    (tmp_path / "www" / "net.pth").write_bytes(data)
    right = Published("x", f"{server}/net.pth", "net.pth", hashlib.sha256(data).hexdigest()[:8])
    with pytest.raises(WeightsError, match=r"is damaged.*try again"):
        cached_weights(replace(right, sha256_start="00000000"), timeout_s=5)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    assert not list(folder.iterdir())
    assert cached_weights(right, timeout_s=5).read_bytes() == data
    with pytest.raises(WeightsError, match="cannot be reached"):
        cached_weights(Published("x", f"{server}/gone.pth", "gone.pth", ""), timeout_s=5)


class _Named(nn.Module):
    """Two convolutions of one shape with their norms, and a last layer, under given names."""

    def __init__(self, *names: str, classes: int = 3) -> None:
        super().__init__()
        layers = (nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        for name, layer in zip(names, (*layers, nn.Linear(4, classes)), strict=True):
            self.add_module(name, layer)


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


OURS = ("conv1", "bn1", "conv2", "bn2", "fc")
THEIRS = ("_stem", "_norm", "_block_conv", "_block_norm", "_fc")


def test_tensors_under_other_names_are_matched_by_order_and_shape_whatever_the_classes() -> None:
    built, given = shapes(_Named(*OURS)), shapes(_Named(*THEIRS, classes=1000))
    names, _ = match_in_order(built, given, head="fc")
    assert names["_stem.weight"] == "conv1.weight"
    assert names["_block_norm.running_var"] == "bn2.running_var"
    assert names["_fc.bias"] == "fc.bias"
    without_head = {name: shape for name, shape in given.items() if not name.startswith("_fc")}
    assert len(match_in_order(built, without_head, head="fc")[0]) == len(names) - 2


def swapped(given: dict[str, torch.Size], one: str, other: str) -> dict[str, torch.Size]:
    change = {one: other, other: one}
    return {change.get(name, name): shape for name, shape in given.items()}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"_stem.weight": torch.Size((4, 4, 1, 1))}, "has 1 tensors, the model 14"),
        (shapes(_Named(*THEIRS)) | {"_norm.weight": torch.Size((5,))}, "'_norm.weight' is 5 where"),
        (
            swapped(shapes(_Named(*THEIRS)), "_norm.bias", "_norm.weight"),
            "stands where 'bn1.weight",
        ),
        (swapped(shapes(_Named(*THEIRS)), "_norm.bias", "_block_norm.bias"), "would go to both"),
        (shapes(_Named("conv2", "bn2", "conv1", "bn1", "fc")), "'conv2.weight' stands where"),
        (
            {
                name.replace("_block_conv", "_stem"): s
                for name, s in shapes(_Named(*THEIRS)).items()
            },
            "'_block_norm.weight' is 4 where",
        ),
        (
            {
                name.replace("_stem.bias", "_other.bias"): s
                for name, s in shapes(_Named(*THEIRS)).items()
            },
            "two of its layers would go to one",
        ),
        (shapes(_Named(*THEIRS)) | {"_fc.weight": torch.Size((3, 5))}, "'_fc.weight' is 3x5"),
        (shapes(_Named(*THEIRS)) | {"_norm.weight": torch.Size(())}, "is a number where"),
    ],
)
def test_doubtful_tensors_are_refused_with_the_reason(
    given: dict[str, torch.Size], reason: str
) -> None:
    names, why_not = match_in_order(shapes(_Named(*OURS)), given, head="fc")
    assert not names
    assert reason in why_not


def test_a_file_under_other_names_is_loaded_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(3)
    state = model_spec("cnn").build(9).state_dict()
    theirs = {f"net._{name.replace('blocks', 'stage')}": value for name, value in state.items()}
    torch.save(theirs, tmp_path / "theirs.pth")
    weights = find_weights("cnn:frozen", given=tmp_path / "theirs.pth", allow_untrained=False)
    with caplog.at_level("INFO"):
        for _ in range(2):
            backbone = load_backbone("cnn:frozen", weights)
    assert torch.equal(backbone.state_dict()["blocks.4.0.weight"], state["blocks.4.0.weight"])
    (said,) = [each.message for each in caplog.records if "matched by order" in each.message]
    assert "27 tensors" in said
    assert "net._stage.0.0.weight = blocks.0.0.weight" in said


def test_safetensors_under_other_names_are_refused_since_they_keep_no_order(tmp_path: Path) -> None:
    theirs = {f"x.{name}": value for name, value in model_spec("cnn").build(9).state_dict().items()}
    save_file(theirs, tmp_path / "theirs.safetensors")
    weights = Weights("theirs", "x", tmp_path / "theirs.safetensors")
    with pytest.raises(WeightsError, match=r"do not keep the order of layers; give a \.pth file"):
        load_backbone("cnn:frozen", weights)
