"""What a model costs in use is counted and measured, once."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from trainer.models import cost
from trainer.models.cost import cost_texts, measured_cost
from trainer.models.registry import model_spec

CPU = torch.device("cpu")


def measure(model: str, *, size_px: int = 32, **options: object) -> dict[str, object]:
    found = measured_cost(model, classes=3, image_size_px=size_px, device=CPU, **options)  # type: ignore[arg-type]
    assert found
    return found


def test_multiply_adds_of_the_small_cnn_are_those_of_its_layers() -> None:
    found = measure("cnn")
    widths, side, expected = (3, 16, 32, 64, 96, 128), 32, 0
    for before, after in pairwise(widths):
        expected += 9 * before * after * side**2
        side //= 2
    assert found["multiply_adds"] == expected + 128 * 3
    assert found["parameters"] == sum(
        each.numel() for each in model_spec("cnn").build(3).parameters()
    )


@pytest.mark.parametrize(
    ("model", "millions", "giga"),
    [
        ("resnet18", 11.7, 1.81),
        ("lite0", 4.65, 0.385),
        pytest.param("vit_b_16", 86.6, 17.6, marks=pytest.mark.slow),
    ],
)
def test_counts_are_the_published_ones(model: str, millions: float, giga: float) -> None:
    """torchvision's tables, and those of EfficientNet-Lite (407 M with all operations)."""
    network = model_spec(model).build(1000)
    assert sum(each.numel() for each in network.parameters()) / 1e6 == pytest.approx(
        millions, rel=0.01
    )
    assert cost._multiply_adds(network.eval(), 224) / 1e9 == pytest.approx(giga, rel=0.02)


def test_a_batch_of_slow_images_takes_longer_and_is_counted_per_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = iter(range(1000))
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(now) / 10)
    found = measure("cnn")
    assert found["ms_alone"] == pytest.approx(100)
    assert found["ms_in_batch"] == pytest.approx(100 / 16)


def test_it_is_measured_again_only_for_another_network_or_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = measure("cnn")
    state = torch.random.get_rng_state()
    other = measure("cnn", size_px=64, before=first)
    assert other["multiply_adds"] == pytest.approx(4 * int(str(first["multiply_adds"])), rel=0.01)
    assert torch.equal(state, torch.random.get_rng_state())
    monkeypatch.setattr(cost, "_measure", lambda *_: pytest.fail("measured again"))
    assert measure("cnn", before=first) == first


def test_a_device_that_is_too_small_costs_the_grid_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(cost, "_measure", fails)
    assert measured_cost("cnn", classes=3, image_size_px=32, device=CPU) is None
    assert "the cost of cnn could not be measured: out of memory" in caplog.text


def test_costs_are_told_in_a_tables_units() -> None:
    texts = cost_texts(measure("cnn"))
    assert texts["Parameters"] == "0.19 M"
    assert list(texts)[1:3] == ["Multiply-adds", "ms per image alone"]
    assert cost_texts(None) == {}
