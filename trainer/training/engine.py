"""Training over tensors in memory. Independent of folders and grids."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from trainer.arms import AUX, SHARED
from trainer.config import TrainingConfig
from trainer.errors import RunError
from trainer.training.batches.augmentation import augment
from trainer.training.batches.mixing import mixed
from trainer.training.batches.order import shuffled_batches, stratified_batches
from trainer.training.compute import (
    autocast,
    is_out_of_memory,
    logits,
    pick_dtype,
    place,
    sent,
    take,
)
from trainer.training.fits import Fit, LabelledTensors, accuracy_of, is_guessing
from trainer.training.fitted import fit_features, fit_head_first
from trainer.training.norms import paired_norms, route_of
from trainer.training.optimisation import (
    averaged,
    interpolate,
    learning_rate_at,
    new_optimiser,
    training_mode,
)

logger = logging.getLogger(__name__)
_SMALLEST_MICRO_BATCH = 2  # batch normalisation cannot be trained on a single image
_SLOWER = 1 / 3  # of the learning rate, for a training that is started again
_LOSS_CHECK_EVERY = 25  # updates; reading the loss makes a GPU wait


class Standardise(nn.Module):
    """(x - mean) / std with constants that are saved with the network, so that its file holds its
    preprocessing."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return (values.float() - self.mean) / self.std


@dataclass
class _Best:
    """The best checkpoint so far: (mistakes, loss) on the validation images, its update, its
    weights."""

    score: tuple[float, float] = (math.inf, math.inf)
    update: int = 0
    state: dict[str, torch.Tensor] | None = None


def fit(
    network: nn.Module,
    inputs: torch.Tensor,
    *,
    train: LabelledTensors,
    validation: LabelledTensors,
    config: TrainingConfig,
    seed: int,
    device: torch.device,
    head: str | None = None,
) -> Fit:
    """Trains `network` in place and leaves it at its best or last checkpoint.

    A training that diverges, or whose training accuracy is no better than always guessing the most
    frequent class, starts again with a third of the learning rate, at most `config.retries` times;
    one that still guesses is `collapsed`. This looks at training images only, and is the same for
    all arms. `head` is the path of the last layer in the network, for fine-tuning.

    With norms other than shared, or an end on real images, `train.judged` says which rows are real.

    Raises:
        RunError: the loss became infinite or NaN, or not even two images at once fit into memory.
    """
    if config.head != "linear" and inputs.ndim == 2:
        return fit_features(network, inputs, train, validation, config, seed, device)
    if (config.norms != SHARED or config.real_last) and train.judged is None:
        wanted = "real_last needs" if config.real_last else f"norms '{config.norms}' need"
        raise RunError(f"{wanted} both real and synthetic images")
    with paired_norms(network) if config.norms == AUX else nullcontext():
        return _tried(network, inputs, train, validation, config, seed, device, head)


def _tried(
    network: nn.Module,
    inputs: torch.Tensor,
    train: LabelledTensors,
    validation: LabelledTensors,
    config: TrainingConfig,
    seed: int,
    device: torch.device,
    head: str | None,
) -> Fit:
    """Trainings until one is neither diverged nor guessing: see `fit`."""
    start = _copied(network)
    for attempt in range(config.retries + 1):
        network.load_state_dict(start)
        slower = replace(config, learning_rate=config.learning_rate * _SLOWER**attempt)
        last = attempt == config.retries
        try:
            found = _fit(network, inputs, train, validation, slower, seed, device, head)
        except RunError as error:
            if last:
                raise
            logger.warning("%s: starting again with a third of the learning rate", error)
            continue
        accuracy = accuracy_of(network, inputs, train, device=device, dtype=found.dtype)
        found = replace(found, train_accuracy=accuracy, retries=attempt)
        if not is_guessing(accuracy, train.labels):
            return found
        if not last:
            logger.warning("a training stayed at chance: starting again with a third of the rate")
    logger.warning("a training stayed at chance; its numbers say nothing about its images")
    return replace(found, collapsed=True)


def _fit(
    network: nn.Module,
    inputs: torch.Tensor,
    train: LabelledTensors,
    validation: LabelledTensors,
    config: TrainingConfig,
    seed: int,
    device: torch.device,
    head: str | None,
) -> Fit:
    """One training. If memory runs out, it starts again with half as many images at once; each
    update still takes the mean gradient over a whole batch. (Batch normalisation then sees the
    smaller groups.) So the result depends only on the final size, not on when memory ran out.
    """
    # A head on features costs next to nothing, so it keeps full precision.
    dtype = pick_dtype(config.dtype, device) if inputs.ndim == 4 else "float32"
    if config.head_first and head is not None:
        fit_head_first(
            network,
            inputs,
            train,
            head,
            penalty=config.head_penalty,
            device=device,
            dtype=dtype,
        )
    start = _copied(network)
    micro_batch = config.batch_size
    while True:
        training = _Training(
            network, inputs, train, validation, config, seed, device, dtype, micro_batch, head
        )
        try:
            return training.run()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        training.forget()  # outside the handler, whose traceback keeps the activations alive
        if micro_batch <= _SMALLEST_MICRO_BATCH:
            raise RunError(
                f"out of memory with {micro_batch} images at once; use smaller images, a smaller "
                "model, or a device with more memory"
            )
        micro_batch = math.ceil(micro_batch / 2)
        logger.warning(
            "out of memory: starting again with %d images at once; still %d images per update",
            micro_batch,
            config.batch_size,
        )
        network.load_state_dict(start)


def _copied(network: nn.Module) -> dict[str, torch.Tensor]:
    """The network's weights, for later."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


@dataclass
class _Training:
    """One attempt at a training, with `micro_batch` images through the network at once."""

    network: nn.Module
    inputs: torch.Tensor
    train: LabelledTensors
    validation: LabelledTensors
    config: TrainingConfig
    seed: int
    device: torch.device
    dtype: str
    micro_batch: int
    head: str | None = None

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)  # dropout and augmentation
        place(self.network, self.inputs, self.device)
        self.optimiser = new_optimiser(self.network, self.config, head=self.head)
        # float16 has a small exponent range: gradients are scaled up so that small ones do not
        # vanish.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == "float16")
        self.updates = self.config.total_updates(len(self.train))
        self.average = averaged(self.network, self.config, self.updates)
        self.start = _copied(self.network) if self.config.start_share else None
        self.random = np.random.default_rng(self.seed)  # mixing
        self.route = route_of(self.network)
        self.unseen: list[torch.Tensor] = []  # losses still on the device
        self.losses: list[float] = []

    def run(self) -> Fit:
        """Raises RunError when the loss is no longer a finite number."""
        looks = self._looks()
        batches = self._batches()
        best = _Best()
        for update in range(1, self.updates + 1):
            self.unseen.append(self._update(update, next(batches)))
            if update in looks or len(self.unseen) == _LOSS_CHECK_EVERY:
                self._check_losses()
            if update in looks:
                self._look(best, update)
        if self.config.keep == "best":
            if best.state is None:
                raise RunError(
                    f"the validation loss was never a finite number in {self.updates} updates; try "
                    "a lower learning rate"
                )
            self.network.load_state_dict(best.state)
        else:
            self._check_losses()
            best = self._last()
        recent = self.losses[-max(1, self.updates // self.config.checkpoints) :]
        return Fit(
            updates=self.updates,
            epochs=self.updates * self.config.batch_size / len(self.train),
            best_update=best.update,
            train_loss=float(np.mean(recent)),
            validation_loss=best.score[1] if math.isfinite(best.score[1]) else None,
            batch_size=self.config.batch_size,
            micro_batch=self.micro_batch,
            dtype=self.dtype,
        )

    def _batches(self) -> Iterator[torch.Tensor]:
        size = self.config.batch_size
        if self.config.norms == SHARED:
            found = shuffled_batches(len(self.train), batch_size=size, seed=self.seed)
            if not self.config.real_last:
                return found
            assert self.train.judged is not None
            real = self.train.judged.nonzero()[:, 0]
            last = shuffled_batches(len(real), batch_size=size, seed=self.seed)
            return chain(islice(found, self._real_from), (real[each] for each in last))
        assert self.train.judged is not None
        return stratified_batches(self.train.judged, batch_size=size, seed=self.seed)

    def _looks(self) -> set[int]:
        """The updates after which the validation images are looked at."""
        if self.config.keep == "last":
            return set()
        count = self.config.checkpoints
        found = {math.ceil(self.updates * (k + 1) / count) for k in range(count)}
        return {update for update in found if not self.config.real_last or update > self._real_from}

    @property
    def _real_from(self) -> int:
        """After how many updates the real images are alone."""
        return math.floor(self.updates * (1 - self.config.real_last))

    def _last(self) -> _Best:
        """Takes the final weights; how they validate, where there are images for that."""
        self.network.load_state_dict(self._usable().state_dict())
        found = _Best(update=self.updates)
        if len(self.validation):
            found.score = self._validated(self.network)
        return found

    def forget(self) -> None:
        """Frees what the attempt holds on the device."""
        self.optimiser.zero_grad(set_to_none=True)
        self.optimiser.state.clear()
        self.unseen.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _update(self, update: int, chosen: torch.Tensor) -> torch.Tensor:
        """One update at its learning rate; the loss of the batch, still on the device. Nothing here
        may wait for the device."""
        rate = learning_rate_at(
            update - 1, self.updates, peak=self.config.learning_rate, warmup=self.config.warmup
        )
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        loss = self._step(chosen)
        if self.average is not None:
            self.average.update(self.network)
        return loss

    def _step(self, chosen: torch.Tensor) -> torch.Tensor:
        """Gradients of the batch and a step along them; its loss."""
        training_mode(self.network, freeze_norms=self.config.freeze_norms)
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for groups in self._parts(chosen):
            part = torch.cat([rows for rows, _ in groups])
            batch = take(self.inputs, _one_view(self.train.rows[part]), self.device)
            if self.config.augment != "none" and batch.ndim == 4:
                batch = augment(batch, kind=self.config.augment, mirror=self.config.mirror)
            labels = sent(self.train.labels[part], self.device)
            sizes = [len(rows) for rows, _ in groups]
            blends = [
                mixed(pixels, own, self.config, self.random)
                for pixels, own in zip(batch.split(sizes), labels.split(sizes), strict=True)
            ]
            self.route.real = sizes[0]
            with autocast(self.device, self.dtype):
                found = self.network(_joined([blend.pixels for blend in blends]))
            losses = [
                blend.loss(own, smoothing=self.config.label_smoothing) * weight
                for blend, own, (_, weight) in zip(
                    blends, found.float().split(sizes), groups, strict=True
                )
            ]
            loss = torch.stack(losses).sum()
            self.scaler.scale(loss).backward()
            total += loss.detach()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return total

    def _parts(self, chosen: torch.Tensor) -> list[tuple[tuple[torch.Tensor, float], ...]]:
        """A batch in parts that go through the network one by one. Each has groups of rows, whose
        mean loss counts with a weight: one, or real and synthetic ones."""
        kinds = [(chosen, 1.0)]
        if self.config.norms != SHARED:
            assert self.train.judged is not None
            real = self.train.judged[chosen]
            kinds = [(chosen[real], 1.0), (chosen[~real], self.config.synthetic_weight)]
        # Never a group of one image: batch normalisation cannot be trained on it.
        most = min(max(1, len(rows) // 2) for rows, _ in kinds)
        count = min(math.ceil(len(chosen) / self.micro_batch), most)
        cut = [
            [(part, weight * (len(part) / len(rows))) for part in rows.tensor_split(count)]
            for rows, weight in kinds
        ]
        return list(zip(*cut, strict=True))

    def _check_losses(self) -> None:
        """Checks the losses since the last check, in one transfer from the device."""
        recent = torch.stack(self.unseen).tolist() if self.unseen else []
        self.unseen.clear()
        for loss in recent:
            self.losses.append(loss)
            update = len(self.losses)
            if not math.isfinite(loss):
                raise RunError(
                    f"the loss became {loss} at update {update} of {self.updates}; try a lower "
                    "learning rate"
                )

    def _look(self, best: _Best, update: int) -> None:
        """Keeps the network's weights if they validate better than any before."""
        network = self._usable()
        found = self._validated(network)
        if math.isfinite(found[1]) and found < best.score:
            best.score, best.update, best.state = found, update, _copied(network)

    def _usable(self) -> nn.Module:
        """The network as it would be used now: averaged, and mixed with its start."""
        found = self.network if self.average is None else self.average.module
        if self.start is not None:
            found = copy.deepcopy(found)
            interpolate(found, self.start, self.config.start_share)
        return found

    def _validated(self, network: nn.Module) -> tuple[float, float]:
        """(mistakes, loss) on the validation images."""
        found = logits(
            network, self.inputs, self.validation.rows, device=self.device, dtype=self.dtype
        )
        labels = self.validation.labels.to(self.device)
        mistakes = (found.argmax(dim=1) != labels).sum().item()
        return mistakes, functional.cross_entropy(found, labels).item()


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _one_view(rows: torch.Tensor) -> torch.Tensor:
    """Rows [n] unchanged; of [n,K] one of the K views each, drawn at random."""
    if rows.ndim == 1:
        return rows
    return rows[torch.arange(len(rows)), torch.randint(0, rows.shape[1], (len(rows),))]
