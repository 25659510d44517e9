"""Last layers that are fitted instead of trained: of a frozen network, and before fine-tuning."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from trainer.config import TrainingConfig
from trainer.errors import RunError
from trainer.training.compute import logits, place
from trainer.training.fits import Fit, LabelledTensors, accuracy_of, is_guessing
from trainer.training.heads import fit_head, fit_logistic


def fit_features(
    network: nn.Module,
    inputs: torch.Tensor,
    train: LabelledTensors,
    validation: LabelledTensors,
    config: TrainingConfig,
    seed: int,
    device: torch.device,
) -> Fit:
    """A frozen model's head without an optimiser. Several views of an image are as many rows."""
    assert isinstance(network, nn.Sequential)
    rows = train.rows if train.rows.ndim == 2 else train.rows[:, None]
    views = rows.shape[1]
    judged = None if train.judged is None else train.judged.repeat_interleave(views)
    groups = torch.arange(len(rows)) if train.groups is None else train.groups
    place(network, inputs, torch.device("cpu"))
    fit_head(
        config.head,
        network,
        inputs[rows.flatten().to(inputs.device)].cpu(),
        train.labels.repeat_interleave(views),
        judged=judged,
        groups=groups.repeat_interleave(views),
        seed=seed,
    )
    place(network, inputs, device)
    accuracy = accuracy_of(network, inputs, train, device=device, dtype="float32")

    def loss(of: LabelledTensors) -> float:
        found = logits(network, inputs, of.rows, device=device, dtype="float32").cpu()
        return functional.cross_entropy(found, of.labels).item()

    return Fit(
        updates=0,
        epochs=0.0,
        best_update=0,
        train_loss=loss(LabelledTensors(rows[:, 0], train.labels)),
        validation_loss=loss(validation) if len(validation) else None,
        batch_size=len(rows),
        micro_batch=len(rows),
        dtype="float32",
        train_accuracy=accuracy,
        collapsed=is_guessing(accuracy, train.labels),
    )


def fit_head_first(
    network: nn.Module,
    inputs: torch.Tensor,
    train: LabelledTensors,
    head: str,
    *,
    penalty: float = 0.0,
    device: torch.device,
    dtype: str,
) -> None:
    """Puts a logistic regression on the network's own features into its last layer, so that
    fine-tuning starts from the frozen model (Kumar et al. 2022, "linear probing then
    fine-tuning"). `penalty` is its L2 penalty, as `strength` of `fit_logistic`; 0 for one chosen by
    cross-validation."""
    parent, _, name = head.rpartition(".")
    owner, last = network.get_submodule(parent), network.get_submodule(head)
    if not isinstance(last, nn.Linear):
        raise RunError(f"the last layer {head} is a {type(last).__name__}, not a Linear")
    setattr(owner, name, nn.Identity())
    try:
        features = logits(network, inputs, train.rows, device=device, dtype=dtype).cpu()
    finally:
        setattr(owner, name, last)
    std, mean = torch.std_mean(features, dim=0, correction=0)
    std = torch.where(std > 1e-6 * std.max().clamp(min=1e-12), std, torch.ones_like(std))
    found = fit_logistic(
        (features - mean) / std,
        train.labels,
        num_classes=last.out_features,
        judged=train.judged,
        groups=train.groups,
        strength=penalty or None,
    )
    with torch.no_grad():
        weight = found.weight / std
        last.weight.copy_(weight)
        last.bias.copy_(found.bias - weight @ mean)
