"""An update never waits for the device: a GPU would stand still meanwhile.

The device here is PyTorch's "meta", whose tensors have no values: whatever needs one, such as
`.item()`, `.cpu()` or a mask as an index, fails. Copies to the device that wait for it are noted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from trainer.arms import AUX
from trainer.config import TrainingConfig
from trainer.training import engine
from trainer.training.engine import Standardise, _Training
from trainer.training.fits import LabelledTensors
from trainer.training.norms import paired_norms

META = torch.device("meta")
IMAGES, CLASSES, PX = 128, 4, 16
COPIES = (torch.Tensor.to, torch.Tensor.copy_, torch.tensor, torch.as_tensor)


class WaitingCopies(TorchFunctionMode):
    """Notes the shapes of what is copied from the CPU while the CPU waits."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if func in COPIES and found.device == META and not kwargs.get("non_blocking"):
            there = [isinstance(each, torch.Tensor) and each.device == META for each in args]
            source = there[1] if func is torch.Tensor.copy_ else there[0]
            if not source:
                self.shapes.append(tuple(found.shape))
        return found


def training(config: TrainingConfig) -> _Training:
    """A training on the device, with its pixels there."""
    pixels = torch.zeros(IMAGES, PX, PX, 3, dtype=torch.uint8, device=META).permute(0, 3, 1, 2)
    network = nn.Sequential(
        Standardise(torch.zeros(3, 1, 1), torch.ones(3, 1, 1)),
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(4, CLASSES),
    )
    if config.norms == AUX:
        paired_norms(network).__enter__()  # for as long as the network lives
    rows = torch.arange(IMAGES)
    train = LabelledTensors(rows, rows % CLASSES, rows < IMAGES // 2)
    none = LabelledTensors(rows[:0], rows[:0])
    return _Training(network, pixels, train, none, config, 0, META, "float32", IMAGES // 2)


MODERN = {"optimiser": "adamw", "label_smoothing": 0.1, "mixup": 0.2, "average": 0.5}


@pytest.mark.parametrize(
    "choices",
    [
        {"augment": "standard"},
        {"augment": "rand", **MODERN},
        {"augment": "trivial", **MODERN, "cutmix": 1.0, "batch_size": IMAGES},
        {"augment": "crop", **MODERN, "freeze_norms": True},
        {"optimiser": "sgd", "norms": AUX, "batch_size": IMAGES},
    ],
    ids=lambda choices: choices.get("augment", "pairs"),
)
def test_updates_do_not_wait_for_the_device(
    choices: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "autocast", lambda device, dtype: nullcontext())  # it has none
    config = TrainingConfig(**{"keep": "last", "updates": 2, "batch_size": 64, **choices})
    found = training(config)
    with WaitingCopies() as copies:
        for update, batch in zip((1, 2), found._batches(), strict=False):
            found._update(update, batch)
    assert copies.shapes == []


@pytest.mark.parametrize(
    "wait", [torch.Tensor.cpu, torch.Tensor.nonzero, torch.Tensor.tolist, torch.Tensor.__bool__]
)
def test_the_device_of_these_tests_has_no_values(wait: Callable[[torch.Tensor], Any]) -> None:
    with pytest.raises((NotImplementedError, RuntimeError)):
        wait(torch.zeros(1, device=META))


def test_copies_that_wait_are_noticed() -> None:
    there = torch.zeros(3, device=META)
    with WaitingCopies() as copies:
        torch.arange(1).to(META)
        torch.tensor([1.0, 2.0], device=META)
        there.copy_(torch.zeros(3))
        torch.arange(4).to(META, non_blocking=True)
        there.to(torch.float64)
    assert copies.shapes == [(1,), (2,), (3,)]
