"""What a training takes and gives, whichever way it goes: labelled rows, and how it went."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from trainer.training.compute import logits


@dataclass(frozen=True)
class Fit:
    """How a training went. `best_update` is the checkpoint kept: the last, or the one with the
    fewest validation mistakes, among equals with the lowest loss (the loss alone would favour
    early, unsure networks). `validation_loss` is None without validation images. `micro_batch` is
    how many images went through the network at once: the batch size, or less if memory ran out.
    `dtype` is what the network computed in. `train_accuracy`, in 0..1, is on the training images as
    they are; `collapsed` means that it is no better than guessing. `retries` is how often the
    training was started again for that, or because it diverged.
    """

    updates: int
    epochs: float
    best_update: int
    train_loss: float
    validation_loss: float | None
    batch_size: int
    micro_batch: int
    dtype: str
    train_accuracy: float = math.nan
    collapsed: bool = False
    retries: int = 0


@dataclass(frozen=True)
class LabelledTensors:
    """Rows of an input tensor, int64 [n], with their classes, int64 [n].

    Rows of int64 [n,K] are K views of each image; whenever an image is trained on, one of them is
    drawn. A row may occur twice, even with different labels. `judged`, bool [n], marks those that a
    choice inside the training may be judged by: the real ones where there are any. None: all. They
    are also what norms other than shared tell apart (trainer.training.norms). Rows with one number
    in `groups`, int64 [n], show the same: such a choice learns from all of them or from none. None:
    each is a group of its own.
    """

    rows: torch.Tensor
    labels: torch.Tensor
    judged: torch.Tensor | None = None
    groups: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)


def accuracy_of(
    network: nn.Module,
    inputs: torch.Tensor,
    of: LabelledTensors,
    *,
    device: torch.device,
    dtype: str,
) -> float:
    """Share of these rows that the network gets right, seen as they are."""
    rows = of.rows if of.rows.ndim == 1 else of.rows[:, 0]
    guessed = logits(network, inputs, rows, device=device, dtype=dtype).argmax(dim=1)
    return float((guessed.cpu() == of.labels).double().mean())


def is_guessing(accuracy: float, labels: torch.Tensor) -> bool:
    """Whether an accuracy is within three standard errors of always guessing the most frequent
    class."""
    chance = float(labels.bincount().max()) / len(labels)
    return accuracy <= chance + 3 * math.sqrt(chance * (1 - chance) / len(labels))
