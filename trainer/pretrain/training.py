"""The loop: draw, change, compare, update; a curve and checkpoints while it goes.

Several processes (see trainer.pretrain.processes) share the views of each update; the first of them
writes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.nn import functional

from trainer.errors import RunError
from trainer.pretrain.checkpoint import Position, read_checkpoint, write_checkpoint
from trainer.pretrain.config import CLASS, SIMCLR, SUPERVISED, PretrainConfig
from trainer.pretrain.loss import image_text_loss, multi_positive_loss
from trainer.pretrain.networks import Learner, Outputs, new_optimiser
from trainer.pretrain.processes import (
    check_shares,
    count,
    gathered,
    rank,
    share_of,
    shared,
    with_joint_norms,
)
from trainer.pretrain.source import Pixels, Source
from trainer.pretrain.text import word_numbers
from trainer.pretrain.views import Changes, change, draw_rows, generator_at
from trainer.progress import Progress
from trainer.training.compute import deterministic
from trainer.training.optimisation import learning_rate_at

_PROBED, _NEIGHBOURS, _TEMPERATURE = 1000, 20, 0.07  # as in DINO's evaluation


def pretrain(
    config: PretrainConfig,
    source: Source,
    out: Path,
    *,
    device: torch.device,
    checkpoint_every: int = 100,
    curve_every: int = 50,
    on_update: Callable[[int], None] = lambda update: None,
) -> tuple[Learner, Position]:
    """Trains to the end, from `out`'s checkpoint if it has one. `on_update` hears of every update.

    On one machine, torch version and number of threads, the weights are the same to the bit
    wherever the run was stopped.

    Raises:
        ConfigError: the processes cannot share a step evenly.
        RunError: the loss is no longer a number.
        DataError: an image or the checkpoint cannot be read.
    """
    check_shares(config.drawn)
    with torch.random.fork_rng(), deterministic():
        torch.manual_seed(config.seed)
        learner = Learner(config, len(source.classes))
        with_joint_norms(learner, device)
        optimiser = new_optimiser(learner.to(device), config)
        position = read_checkpoint(out, learner, optimiser)
        step = _Step(config, source, device, learner, optimiser)
        first = rank() == 0
        bar = Progress("pretraining", total=config.updates, unit="updates") if first else None
        with bar or nullcontext():
            if bar is not None:
                bar.advance(position.update)
            while position.update < config.updates:
                loss = step.take(position.update)
                position.update += 1
                position.losses.append(loss)
                if position.update % curve_every == 0 or position.update == config.updates:
                    _extend_curve(position, learner, source, step.pixels, device)
                due = position.update % checkpoint_every == 0 or position.update == config.updates
                if due and first:
                    write_checkpoint(out, learner, optimiser, position)
                if bar is not None:
                    bar.advance(note=f"loss {loss:.3f}")
                on_update(position.update)
    return learner.eval(), position


class _Step:
    """One update after the other."""

    def __init__(
        self,
        config: PretrainConfig,
        source: Source,
        device: torch.device,
        learner: Learner,
        optimiser: torch.optim.Optimizer,
    ) -> None:
        self.config, self.source, self.device = config, source, device
        self.learner, self.optimiser = learner, optimiser
        self.called = shared(learner, device)
        self.pixels = Pixels(source.samples, config.image_size_px)
        self.words = None if learner.alignment is None else word_numbers(source.captions)
        places = [share_of(config.each, config.drawn, number) for number in range(count())]
        self.own, self.joint = places[rank()], torch.cat(places)

    def take(self, step: int) -> float:
        """Update `step`; returns its loss."""
        config = self.config
        rows, ids = batch_of(config, self.source, step)
        views = change(
            self.pixels.take(rows[self.own]).to(self.device),
            Changes(crop=config.crop, mirror=config.mirror),
            generator_at(config.seed, "views", step),
            part=self.own,
            of=len(rows),
        )
        torch.manual_seed(
            int(torch.randint(2**31, (), generator=generator_at(config.seed, "net", step)))
        )
        rate = learning_rate_at(step, config.updates, peak=config.rate, warmup=config.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.learner.train()
        loss = self._loss(self.called(views, config.each, self._words_of(rows)), rows, ids)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        if self.learner.alignment is not None:
            self.learner.alignment.limit()
        value = loss.item()
        if value != value:
            raise RunError(
                f"the loss became NaN at update {step + 1}; use a lower --base-rate than "
                f"{config.base_rate:g}"
            )
        return value

    def _words_of(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Of the captions that this process has drawn."""
        if self.words is None:
            return None
        first_view = rows[self.own[: len(self.own) // self.config.each]]
        return self.words[self.source.caption_ids[first_view]].to(self.device)

    def _loss(self, found: Outputs, rows: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Of the joint batch, whose order is that of the gathered projections."""
        own = ids[self.joint].to(self.device)
        projected = gathered(found.projected)
        if self.config.method == SUPERVISED:
            return functional.cross_entropy(projected.float(), own)
        loss = multi_positive_loss(projected, own, temperature=self.config.temperature)
        if found.images is None or found.texts is None or found.scale is None:
            return loss
        captions = self.source.caption_ids[rows]
        firsts = [captions[part[: len(part) // self.config.each]] for part in self._shares()]
        return loss + image_text_loss(
            gathered(found.images),
            captions[self.joint].to(self.device),
            gathered(found.texts),
            torch.cat(firsts).to(self.device),
            scale=found.scale,
        )

    def _shares(self) -> tuple[torch.Tensor, ...]:
        return self.joint.chunk(count())


def batch_of(
    config: PretrainConfig, source: Source, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows of a step and their ids, both int64 [views x drawn], a view after the other. Rows
    with one id are positives of each other."""
    if config.by_caption:
        groups, each = source.groups, config.each
    else:  # every image by itself, twice
        groups, each = tuple((row,) for row in range(len(source.samples))), 2
    rows = draw_rows(groups, step=step, seed=config.seed, captions=config.drawn, each=each)
    rows = rows.flatten()
    if config.method == SIMCLR:
        return rows, rows
    by_class = config.method == SUPERVISED or config.positives == CLASS
    return rows, source.ids_of(rows, step, by_class=by_class)


def _extend_curve(
    position: Position, learner: Learner, source: Source, pixels: Pixels, device: torch.device
) -> None:
    mean = sum(position.losses) / len(position.losses)
    knn = own_neighbours(learner, source, pixels, device) if rank() == 0 else None
    position.curve.append({"update": position.update, "loss": mean, "knn": knn})
    position.losses.clear()


@torch.no_grad()
def own_neighbours(
    learner: Learner, source: Source, pixels: Pixels, device: torch.device
) -> float | None:
    """How often the nearest others of an image, by cosine, vote for its class: a share, over up to
    1,000 of the images that are learnt from. None with a single class. It tells that training goes
    on, not how good the features are for real images: `probe` does."""
    if len(source.classes) < 2:
        return None
    order = torch.randperm(len(source.samples), generator=generator_at(0, "probe", 0))
    rows = order[:_PROBED]
    learner.eval()
    blocks = [
        learner.features(pixels.take(part).to(device).float() / 255.0)
        for part in torch.split(rows, 64)
    ]
    unit = functional.normalize(torch.cat(blocks).float().cpu(), dim=1)
    cosines = (unit @ unit.T).fill_diagonal_(-2.0)
    near = cosines.topk(min(_NEIGHBOURS, len(rows) - 1), dim=1)
    labels = source.class_ids[rows]
    of_class = functional.one_hot(labels[near.indices], len(source.classes)).float()
    votes = ((near.values / _TEMPERATURE).softmax(dim=1)[:, :, None] * of_class).sum(dim=1)
    return (votes.argmax(dim=1) == labels).float().mean().item()
