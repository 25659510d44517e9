"""Training and prediction over tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.config import TrainingConfig
from trainer.engine import Labelled, deterministic, fit, learning_rate_at, pick_device, predict
from trainer.engine import _batches as batches
from trainer.errors import ConfigError, RunError

CPU = torch.device("cpu")


def blobs() -> tuple[torch.Tensor, Labelled, Labelled]:
    """Two classes of points, far apart."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(40, 4, generator=generator)
    labels = torch.arange(40) % 2
    points[labels == 1] += 4
    rows = torch.arange(40)
    return points, Labelled(rows[:30], labels[:30]), Labelled(rows[30:], labels[30:])


def test_it_learns_and_the_same_seed_learns_the_same() -> None:
    points, train, validation = blobs()
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(9)
        network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        torch.seed()  # what came before must not matter
        with deterministic():
            outcome = fit(
                network, points, train=train, validation=validation, config=TrainingConfig(updates=60, learning_rate=0.03),
                seed=seed, device=CPU,
            )  # fmt: skip
        states.append(network.state_dict())
        assert outcome.updates == 60
        assert outcome.epochs == pytest.approx(60 * 32 / 30)
        probabilities = predict(network, points, validation.rows, device=CPU)
        assert (probabilities.argmax(axis=1) == validation.labels.numpy()).all()
        assert probabilities.sum(axis=1) == pytest.approx([1.0] * 10)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["0.weight"], states[2]["0.weight"])


def test_a_loss_that_is_not_finite_ends_the_run_with_its_update() -> None:
    points, train, validation = blobs()
    points[3] = float("nan")
    with pytest.raises(RunError, match=r"became nan at update \d+ of 20"):
        fit(
            nn.Linear(4, 2), points, train=train, validation=validation, config=TrainingConfig(updates=20), seed=0,
            device=CPU,
        )  # fmt: skip


def test_the_checkpoint_that_validates_best_is_kept() -> None:
    """Validation labels are the wrong way round, so that every update makes it worse: the first look is the best."""
    points, train, validation = blobs()
    wrong = Labelled(validation.rows, 1 - validation.labels)
    outcome = fit(
        nn.Linear(4, 2), points, train=train, validation=wrong, seed=0, device=CPU,
        config=TrainingConfig(updates=100, learning_rate=0.1, checkpoints=10),
    )  # fmt: skip
    assert outcome.best_update == 10


def test_batches_are_full_and_go_through_every_image_before_repeating() -> None:
    stream = batches(10, batch_size=4, seed=0)
    drawn = torch.cat([next(stream) for _ in range(5)])
    assert sorted(drawn[:10].tolist()) == list(range(10))
    assert sorted(drawn[10:].tolist()) == list(range(10))


def test_the_learning_rate_falls_from_its_peak_to_zero() -> None:
    rates = [learning_rate_at(update, 100, peak=0.5) for update in range(101)]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[-1]) == (0.5, 0.0)


@pytest.mark.parametrize("augment", ["none", "standard"])
def test_augmentation_changes_pixels_in_training_only(augment: str) -> None:
    seen: list[torch.Tensor] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3 * 32 * 32, 2)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            seen.append(pixels.float() if self.training else torch.empty(0))
            return self.fc(pixels.float().flatten(1) / 255)

    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    part = Labelled(torch.arange(4), torch.arange(4) % 2)
    config = TrainingConfig(updates=3, batch_size=4, augment=augment)
    fit(Spy(), pixels, train=part, validation=part, config=config, seed=0, device=CPU)
    shown = [row for batch in seen for row in batch]
    same = [any(torch.equal(row, image.float()) for image in pixels) for row in shown]
    assert len(same) == 12
    assert all(same) == (augment == "none")


def test_cuda_is_not_promised_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == CPU
    with pytest.raises(ConfigError, match="use --device cpu"):
        pick_device("cuda")
