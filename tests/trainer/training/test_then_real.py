"""A training whose last updates take real images alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from trainer.config import TrainingConfig
from trainer.errors import ConfigError, RunError
from trainer.training.engine import fit
from trainer.training.fits import Fit, LabelledTensors

CPU = torch.device("cpu")
ROWS = torch.arange(40)
VALUES = ROWS[:, None].float() / 40
TRAIN = LabelledTensors(ROWS[:30], ROWS[:30] % 2, ROWS[:30] >= 20)
CONFIG = TrainingConfig(updates=9, batch_size=8, keep="last", real_last=0.5)


class Spy(nn.Linear):
    """Remembers the numbers of the rows that it was trained on, by update."""

    def __init__(self) -> None:
        super().__init__(1, 2)
        self.seen: list[list[int]] = []

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append((values[:, 0] * 40).round().int().tolist())
        return super().forward(values)


def trained(network: nn.Module, config: TrainingConfig, train: LabelledTensors = TRAIN) -> Fit:
    validation = LabelledTensors(ROWS[30:], ROWS[30:] % 2)
    return fit(
        network, VALUES, train=train, validation=validation, config=config, seed=0, device=CPU
    )


def test_the_last_updates_take_all_real_images_and_no_others() -> None:
    plain, ended = Spy(), Spy()
    trained(plain, replace(CONFIG, real_last=0.0))
    assert trained(ended, CONFIG).updates == 9
    assert ended.seen[:4] == plain.seen[:4]  # four of nine: the larger half is real alone
    assert min(min(batch) for batch in ended.seen[:4]) < 20
    assert {row for batch in ended.seen[4:] for row in batch} == set(range(20, 30))
    assert [len(batch) for batch in ended.seen] == [8] * 9


def test_a_checkpoint_is_chosen_among_those_after_the_switch() -> None:
    """The labels that it is judged by are the wrong way round: the first look is the best."""
    best = replace(CONFIG, keep="best", checkpoints=9, learning_rate=0.1)
    wrong = LabelledTensors(TRAIN.rows, (ROWS[:30] >= 15).long(), TRAIN.judged)

    def found(config: TrainingConfig) -> int:
        judge = LabelledTensors(ROWS[:30], 1 - wrong.labels)
        return fit(
            nn.Linear(1, 2),
            VALUES,
            train=wrong,
            validation=judge,
            config=config,
            seed=0,
            device=CPU,
        ).best_update

    assert found(replace(best, real_last=0.0)) < 5
    assert found(best) >= 5


def test_it_needs_real_and_synthetic_images_and_shared_norms() -> None:
    with pytest.raises(RunError, match="real_last needs both real and synthetic images"):
        trained(Spy(), CONFIG, replace(TRAIN, judged=None))
    with pytest.raises(ConfigError, match="real_last is for shared norms"):
        replace(CONFIG, norms="aux")
