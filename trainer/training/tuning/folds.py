"""Cross-validation inside the real training images: what a choice of hyper-parameters is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import f1_score

from trainer.config import TrainingConfig
from trainer.data.samples import Sample
from trainer.data.splits.folds import fold_splits, group_numbers, group_of
from trainer.errors import DataError
from trainer.models.registry import model_spec
from trainer.models.weights import Weights
from trainer.training.batches.inputs import ModelInputs, needed_samples, prepare_inputs
from trainer.training.classifier import head_path, new_network
from trainer.training.compute import predict
from trainer.training.engine import fit
from trainer.training.fits import LabelledTensors

_CHECKPOINT_FOLDS = 5  # a fifth of a fold's training images chooses the checkpoint


@dataclass(frozen=True)
class Folds:
    """Inputs and labels [n] of the real training images, and the folds over them.

    `inner` means that a recipe which keeps its best checkpoint chooses it on a part of the fold's
    training images. Otherwise it is chosen on those held out, which flatters such recipes, all
    alike.
    """

    model: str
    image_size_px: int
    num_classes: int
    inputs: ModelInputs
    rows: torch.Tensor
    labels: torch.Tensor
    splits: Sequence[tuple[np.ndarray, np.ndarray]]
    seed: int
    device: torch.device
    samples: Sequence[Sample]
    inner: bool = False

    def score(
        self, training: TrainingConfig, *, after_fold: Callable[[float, int], None] | None = None
    ) -> float:
        """Macro F1, in 0..1, over the predictions of all folds, each made by a network that did
        not see its image. `after_fold` is told the score so far and the fold's number.

        Raises:
            RunError: a training diverged.
        """
        true, guessed, score = [], [], 0.0
        for number, (train, held) in enumerate(self.splits):
            guessed.append(self._guesses(training, train, held))
            true.append(self.labels[held].numpy())
            score = float(
                f1_score(
                    np.concatenate(true), np.concatenate(guessed), average="macro", zero_division=0
                )
            )
            if after_fold is not None:
                after_fold(score, number)
        return score

    def _guesses(self, training: TrainingConfig, train: np.ndarray, held: np.ndarray) -> np.ndarray:
        """Trains on the images `train` as a grid's run does, and predicts `held`."""
        checked = held if training.keep == "best" else held[:0]
        if self.inner and training.keep == "best":
            train, checked = self._checkpoint_split(train)
        network = new_network(
            self.model,
            self.num_classes,
            seed=self.seed,
            image_size_px=self.image_size_px,
            inputs=self.inputs,
            head=training.head,
            drop_path=training.drop_path,
            standardise_on=self.rows[train],
        )
        fit(
            network,
            self.inputs.on(self.device),
            train=LabelledTensors(
                self._train_rows(training, train), self.labels[train], groups=self.groups[train]
            ),
            validation=LabelledTensors(self.rows[checked], self.labels[checked]),
            config=training,
            seed=self.seed,
            device=self.device,
            head=head_path(self.model),
        )
        probabilities = predict(
            network, self.inputs.on(self.device), self.rows[held], device=self.device
        )
        return np.asarray(probabilities.argmax(axis=1))

    def _checkpoint_split(self, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A fold's training images without about a fifth, in whole groups, and that fifth."""
        samples = [self.samples[each] for each in train]
        groups = Counter(label for label, _ in {(each.label, group_of(each)) for each in samples})
        parts = min(_CHECKPOINT_FOLDS, *groups.values())
        if parts < 2:  # the only group of a class can be spared by nobody
            return train, train
        kept, out = fold_splits(samples, parts, seed=self.seed)[0]
        return train[kept], train[out]

    @cached_property
    def groups(self) -> torch.Tensor:
        """The group that each image belongs to, int64 [n]."""
        return torch.tensor(group_numbers(self.samples))

    def _train_rows(self, training: TrainingConfig, train: np.ndarray) -> torch.Tensor:
        return self.inputs.train_rows(self.model, training, [self.samples[each] for each in train])


def prepare_folds(
    samples: Sequence[Sample],
    classes: Sequence[str],
    *,
    model: str,
    folds: int,
    seed: int,
    image_size_px: int,
    weights: Mapping[str, Weights],
    trainings: Sequence[TrainingConfig],
    cache: Path,
    device: torch.device,
    inner: bool = False,
) -> Folds:
    """Decodes the images, once for all `trainings`, and draws stratified folds of whole groups.

    Raises:
        DataError: a class has too few images for the folds, or one cannot be decoded.
        WeightsError: the weights do not fit.
    """
    check_folds(samples, classes, folds)
    needed = [each for one in trainings for each in needed_samples(model, one, samples, ())]
    inputs = prepare_inputs(
        {model: needed},
        sizes_px={model: image_size_px},
        weights=weights,
        cache=cache,
        device=device,
    )[model]
    labels = np.array([classes.index(each.label) for each in samples])
    splits = fold_splits(samples, folds, seed=seed)
    return Folds(
        model_spec(model).name,
        image_size_px,
        len(classes),
        inputs,
        inputs.index(samples),
        torch.from_numpy(labels),
        splits,
        seed,
        device,
        samples,
        inner,
    )


def check_folds(samples: Sequence[Sample], classes: Sequence[str], folds: int) -> None:
    """Raises DataError if a class has fewer images than there are folds."""
    counts = {label: sum(each.label == label for each in samples) for label in classes}
    least = min(counts, key=lambda label: counts[label])
    if counts[least] < folds:
        raise DataError(
            f"class '{least}' has {counts[least]} training images for {folds} folds; use fewer "
            "--folds"
        )
