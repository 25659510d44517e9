"""The loop: draw, change, compare, update; a curve and checkpoints while it goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional

from trainer.errors import RunError
from trainer.pretrain.checkpoint import Position, read_checkpoint, write_checkpoint
from trainer.pretrain.config import CLASS, SIMCLR, STABLEREP, PretrainConfig
from trainer.pretrain.loss import multi_positive_loss
from trainer.pretrain.networks import Learner, new_optimiser
from trainer.pretrain.source import Pixels, Source
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
        RunError: the loss is no longer a number.
        DataError: an image or the checkpoint cannot be read.
    """
    with torch.random.fork_rng(), deterministic():
        torch.manual_seed(config.seed)
        learner = Learner(config)
        optimiser = new_optimiser(learner.to(device), config)
        position = read_checkpoint(out, learner, optimiser)
        pixels = Pixels(source.samples, config.image_size_px)
        with Progress("pretraining", total=config.updates, unit="updates") as progress:
            progress.advance(position.update)
            while position.update < config.updates:
                loss = _update(learner, optimiser, config, source, pixels, position.update, device)
                position.update += 1
                position.losses.append(loss)
                if position.update % curve_every == 0 or position.update == config.updates:
                    _extend_curve(position, learner, source, pixels, device)
                if position.update % checkpoint_every == 0 or position.update == config.updates:
                    write_checkpoint(out, learner, optimiser, position)
                progress.advance(note=f"loss {loss:.3f}")
                on_update(position.update)
    return learner.eval(), position


def _update(
    learner: Learner,
    optimiser: torch.optim.Optimizer,
    config: PretrainConfig,
    source: Source,
    pixels: Pixels,
    step: int,
    device: torch.device,
) -> float:
    rows, ids = batch_of(config, source, step)
    changes = Changes(crop=config.crop, mirror=config.mirror)
    views = change(pixels.take(rows).to(device), changes, generator_at(config.seed, "views", step))
    torch.manual_seed(
        int(torch.randint(2**31, (), generator=generator_at(config.seed, "net", step)))
    )
    rate = learning_rate_at(step, config.updates, peak=config.rate, warmup=config.warmup)
    for group in optimiser.param_groups:
        group["lr"] = rate
    projected = learner.train()(views, config.each)
    loss = multi_positive_loss(projected, ids.to(device), temperature=config.temperature)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    value = loss.item()
    if value != value:
        raise RunError(
            f"the loss became NaN at update {step + 1}; use a lower --base-rate than "
            f"{config.base_rate:g}"
        )
    return value


def batch_of(
    config: PretrainConfig, source: Source, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows of a step and their ids, both int64 [views x drawn], a view after the other. Rows
    with one id are positives of each other."""
    if config.method == STABLEREP:
        groups, each = source.groups, config.each
    else:  # every image by itself, twice
        groups, each = tuple((row,) for row in range(len(source.samples))), 2
    rows = draw_rows(groups, step=step, seed=config.seed, captions=config.drawn, each=each)
    rows = rows.flatten()
    if config.method == SIMCLR:
        return rows, rows
    ids = source.class_ids if config.positives == CLASS else source.caption_ids
    return rows, ids[rows]


def _extend_curve(
    position: Position, learner: Learner, source: Source, pixels: Pixels, device: torch.device
) -> None:
    mean = sum(position.losses) / len(position.losses)
    knn = own_neighbours(learner, source, pixels, device)
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
