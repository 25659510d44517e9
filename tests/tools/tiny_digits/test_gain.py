"""The small classifier of the quick check learns what is easy to learn."""

import pytest
import torch

pytest.importorskip("diffusers")

from tools.tiny_digits.gain import accuracy, small_cnn


def test_the_classifier_has_ten_outputs_and_about_thirty_thousand_parameters() -> None:
    model = small_cnn().eval()
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 10)
    assert 25_000 < sum(each.numel() for each in model.parameters()) < 35_000


def test_it_tells_light_from_dark_images() -> None:
    labels = torch.tensor([0, 1] * 8)
    images = (labels.float() * 2 - 1)[:, None, None, None].expand(-1, 3, 64, 64)
    images = images + 0.1 * torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert accuracy((images, labels), (images, labels), seed=0, updates=30, batch=8) == 1.0
