"""fastai's Learner over pixels in memory, for benchmarks/evidence/recipe.py."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainer.training.optimisation import BATCH_NORM


class _Scaled(nn.Module):
    """The network on pixels of 0..1, which fastai's augmentation gives, instead of 0..255."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.network(pixels.as_subclass(torch.Tensor) * 255.0)
        return found


@contextmanager
def learner(network: nn.Module, task: Any, *, head: str | None, batch_size: int) -> Iterator[Any]:
    """A silent Learner that trains `network` in place on the training images of `task` alone.
    `head` is the path of the last layer of a pretrained network, None without: fastai's own head
    takes its place, as in its `vision_learner`, but on the network's own pooling."""
    vision = importlib.import_module("fastai.vision.all")
    norms = [each for each in network.modules() if isinstance(each, BATCH_NORM)]
    if head is not None:
        last = network.get_submodule(head)
        assert isinstance(last, nn.Linear)
        own = vision.create_head(last.in_features, task.classes, pool=False)
        vision.apply_init(own, nn.init.kaiming_normal_)
        network.set_submodule(head, own)

    class NoValidation(vision.Callback):
        """There are no images for it."""

        def before_validate(self) -> None:
            raise vision.CancelValidException

    class KeptStatistics(vision.Callback):
        """The pretrained network's batch normalisation keeps the statistics it has."""

        run_after = vision.TrainEvalCallback

        def before_train(self) -> None:
            for each in norms:
                each.eval()

    pixels = vision.TensorImage(task.train.float() / 255.0)
    pairs = [(pixels[each], int(label)) for each, label in enumerate(task.train_labels)]
    loaders = vision.DataLoaders.from_dsets(
        pairs,
        pairs[:1],
        bs=min(batch_size, len(pairs)),
        after_batch=vision.aug_transforms(size=task.size_px, min_scale=0.75),
        num_workers=0,
        device=torch.device("cpu"),
    )

    def parts(model: _Scaled) -> list[list[nn.Parameter]]:
        if head is None:
            return [list(model.parameters())]
        last = list(model.network.get_submodule(head).parameters())
        body = [each for each in model.parameters() if all(each is not one for one in last)]
        return [body, last]

    made = vision.Learner(
        loaders,
        _Scaled(network),
        loss_func=functional.cross_entropy,
        splitter=parts,
        cbs=[NoValidation()] if head is None else [NoValidation(), KeptStatistics()],
    )
    with made.no_bar(), made.no_logging():
        yield made
