"""A frozen backbone's features are those of its network, whatever images are beside an image."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.models import backbone as backbone_module
from trainer.models.backbone import Backbone
from trainer.models.weights import UNTRAINED, Weights

CPU = torch.device("cpu")
UNTRAINED_WEIGHTS = Weights(UNTRAINED, "seed0", None)


@pytest.mark.parametrize(
    "model",
    [
        "resnet18",
        pytest.param("resnet50", marks=pytest.mark.slow),
        pytest.param("vit_b_16", marks=pytest.mark.slow),
    ],
)
def test_an_images_features_do_not_depend_on_the_images_beside_it(model: str) -> None:
    backbone = Backbone(model, UNTRAINED_WEIGHTS, image_size_px=64, device=CPU)
    pixels = torch.randint(
        0, 256, (37, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    order = torch.randperm(37, generator=torch.Generator().manual_seed(1))
    together = backbone(pixels)
    assert torch.equal(together[order], backbone(pixels[order]))
    assert torch.equal(together[5:6], backbone(pixels[5:6]))


class _RunsOtherwise(nn.Module):
    """Two convolutions and a norm, used in another order than they are registered in."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.side = nn.Conv2d(3, 3, 1)
        with torch.random.fork_rng():
            torch.manual_seed(3)
            for values in (self.norm.running_mean, self.norm.running_var, self.norm.weight.data):
                assert values is not None
                values.uniform_(0.5, 2.0)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(pixels) + self.side(pixels)).mean(dim=(2, 3))


class _RunsInOrder(_RunsOtherwise):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (self.norm(self.conv(pixels)) + self.side(pixels)).mean(dim=(2, 3))


def test_batch_norm_is_folded_only_where_that_changes_nothing() -> None:
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    for kind, is_folded in ((_RunsOtherwise, False), (_RunsInOrder, True)):
        network = kind().eval()
        ready = backbone_module.fused(network, image_size_px=32)
        assert (ready is not network) == is_folded
        with torch.inference_mode():
            assert torch.allclose(ready(pixels), network(pixels), rtol=1e-4, atol=1e-5)


def test_a_backbone_that_cannot_be_folded_gives_the_features_that_an_export_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = _RunsOtherwise().eval()
    monkeypatch.setattr(backbone_module, "load_backbone", lambda *_, **__: network)
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    backbone = Backbone("cnn", UNTRAINED_WEIGHTS, image_size_px=32, device=CPU)
    with torch.inference_mode():
        expected = network((pixels / 255.0 - 0.5) / 0.5)
    assert torch.allclose(backbone(pixels), expected, rtol=1e-4, atol=1e-5)
