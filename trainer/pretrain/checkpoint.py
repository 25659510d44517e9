"""Everything that a stopped run needs to go on to the same bits, in one safetensors file.

Random numbers follow from seed and step, so there is no state of them to keep.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from comfy_nodes.labelset.files import write_atomically
from trainer.errors import DataError
from trainer.pretrain.networks import Learner

CHECKPOINT = "checkpoint.safetensors"


@dataclass
class Position:
    """How far a run has come: updates done, rows of its curve, and the losses since the last."""

    update: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def write_checkpoint(
    folder: Path, learner: Learner, optimiser: torch.optim.Optimizer, position: Position
) -> None:
    """Writes the whole file or leaves the one before."""
    tensors = {f"network.{name}": value for name, value in learner.state_dict().items()}
    for number, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in values.items()}
    kept = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    told = {"position": json.dumps(vars(position))}
    write_atomically(folder / CHECKPOINT, save(kept, metadata=told))


def read_checkpoint(folder: Path, learner: Learner, optimiser: torch.optim.Optimizer) -> Position:
    """Puts the stopped run back; a new Position if there is no file.

    Raises:
        DataError: the file is damaged or another network's.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return Position()
    try:
        with safe_open(path, framework="pt") as file:
            position = Position(**json.loads(file.metadata()["position"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = {name[8:]: each for name, each in tensors.items() if name.startswith("network.")}
        learner.load_state_dict(network)
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).split("\n")[0][:120]
        raise DataError(
            f"cannot go on from {path}: {reason}; move that file away to start again"
        ) from error
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimiser":
            number, _, part = rest.partition(".")
            state.setdefault(int(number), {})[part] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    return position
