"""A trained classifier as one network, from a run or an export: 8-bit pixels in, logits out.

A run of a frozen backbone stores only its head; the backbone is found by the fingerprint that the
run recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from trainer.config.run import check_image_size
from trainer.errors import ConfigError, ReportError, RunError, WeightsError
from trainer.models.published import cached_weights, published_weights
from trainer.models.registry import ModelSpec, model_spec
from trainer.models.weights import (
    UNTRAINED,
    Weights,
    file_fingerprint,
    given_weights,
    load_backbone,
    load_pretrained,
    weights_file,
)
from trainer.runs import DONE, GRID_FILE, read_json_file
from trainer.training.batches.inputs import ModelInputs
from trainer.training.engine import Standardise
from trainer.training.heads import new_head

MODEL_FILE = "model.json"
STATE_FILE = "model.safetensors"
_RUN_FILE = "config.json"
_BATCH = 64


@dataclass(frozen=True)
class Classifier:
    """`network` takes uint8 or float pixels 0..255, RGB, [N, 3, image_size_px, image_size_px], to
    [N, classes] logits.

    `details` says what it was made from: the run's config and, from an exported folder, its
    metrics.
    """

    name: str
    model: str
    classes: tuple[str, ...]
    image_size_px: int
    network: nn.Sequential
    details: Mapping[str, Any] = field(default_factory=dict)

    @torch.inference_mode()
    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [N, S, S, 3] to float64 [N, classes], each row summing to 1."""
        rows = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).split(_BATCH)
        return torch.cat(
            [torch.softmax(self.network(each).double(), dim=1) for each in rows]
        ).numpy()


def load_classifier(folder: Path, *, weights: Path | None = None) -> Classifier:
    """The classifier in a run's folder, or in one that `export` wrote. `weights` is the file of a
    run's frozen backbone.

    Raises:
        ReportError: the folder holds neither, or a file in it is damaged.
        RunError: the run is not done.
        WeightsError: the backbone's weights are not available, or are not those the run was trained
            with.
    """
    if (folder / MODEL_FILE).is_file():
        return _exported(folder)
    if (folder / _RUN_FILE).is_file():
        return _from_run(folder, weights)
    if (folder / GRID_FILE).is_file():
        entries = read_json_file(folder / GRID_FILE).get("runs", ())
        done = [each["run_id"] for each in entries if (folder / each["run_id"] / DONE).is_file()]
        listed = ", ".join(done[:3]) + (f" and {len(done) - 3} more" if len(done) > 3 else "")
        raise ReportError(
            f"{folder} is a whole grid; name one of its runs: {listed or 'none is finished yet'}"
        )
    raise ReportError(
        f"{folder} contains neither a run nor an exported model; give a folder such as "
        "runs/digits/<run id>"
    )


def head_path(model: str) -> str:
    """The path of the last layer in a network that `new_network` builds for training."""
    spec = model_spec(model)
    return "" if spec.frozen else f"1.{spec.head}"


def skeleton(
    model: str, num_classes: int, *, image_size_px: int, head: str = "linear"
) -> nn.Sequential:
    """The network of a model with weights still to be loaded: normalisation, then the model, or
    backbone and head. `head` is how a frozen model's head was fitted."""
    spec = model_spec(model)
    if not spec.frozen:
        return nn.Sequential(_normalise(spec), spec.build(num_classes, image_size_px=image_size_px))
    width = spec.feature_dim
    layers = new_head(head, width, num_classes)
    backbone = load_backbone(model, Weights(UNTRAINED, "", None), image_size_px=image_size_px)
    last = nn.Sequential(Standardise(torch.zeros(width), torch.ones(width)), *layers)
    return nn.Sequential(_normalise(spec), backbone, last)


def new_network(
    model: str,
    num_classes: int,
    *,
    seed: int,
    image_size_px: int,
    inputs: ModelInputs,
    standardise_on: torch.Tensor,
    head: str = "linear",
    drop_path: float = 0.0,
) -> nn.Sequential:
    """The part of a model that is trained: normalisation and the whole network, or a frozen model's
    standardisation and head.

    The start depends only on the seed. Features of different backbones differ widely in scale,
    those of untrained ones most, so they are standardised on the rows `standardise_on` [n]. If
    these are the real images, which all additive arms share at a seed, cells differ only in their
    images.
    """
    spec = model_spec(model)
    torch.manual_seed(seed)
    if not spec.frozen:
        network = spec.build(num_classes, image_size_px=image_size_px, drop_path=drop_path)
        if inputs.weights is not None:
            load_pretrained(network, model, inputs.weights)
        return nn.Sequential(_normalise(spec), network)
    features = inputs.values[standardise_on]
    std = features.std(dim=0, correction=0)
    std = torch.where(std > 1e-6 * std.max().clamp(min=1e-12), std, torch.ones_like(std))
    return nn.Sequential(
        Standardise(features.mean(dim=0), std), *new_head(head, spec.feature_dim, num_classes)
    )


def _normalise(spec: ModelSpec) -> Standardise:
    """Takes pixels of 0..255 to what the model's weights expect."""
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255.0 for values in (spec.mean, spec.std))
    return Standardise(mean, std)


def _exported(folder: Path) -> Classifier:
    empty = _described(folder / MODEL_FILE, remedy="export the run again")
    _load(empty.network, read_state(folder / STATE_FILE), folder / STATE_FILE)
    return replace(
        empty, name=str(empty.details.get("run", folder.name)), network=empty.network.eval()
    )


def _from_run(folder: Path, weights: Path | None) -> Classifier:
    if not (folder / DONE).is_file():
        raise RunError(f"run {folder.name} is not done; run the same grid command to finish it")
    empty = _described(folder / _RUN_FILE, remedy="train the run again")
    network, state = empty.network, read_state(folder / STATE_FILE)
    if model_spec(empty.model).frozen:
        found = backbone_weights(folder, empty.details, given=weights)
        network[1] = load_backbone(empty.model, found, image_size_px=empty.image_size_px)
        _load(network[2], state, folder / STATE_FILE)
    else:
        _load(network, state, folder / STATE_FILE)
    return replace(empty, network=network.eval())


def _described(path: Path, *, remedy: str) -> Classifier:
    """The classifier that a JSON file describes, its weights still to be loaded."""
    values = read_json_file(path)
    try:
        model, classes, size = (
            values["model"],
            tuple(values["classes"]),
            int(values["image_size_px"]),
        )
        check_image_size(size)
        network = skeleton(model, len(classes), image_size_px=size, head=_head_of(values))
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise ReportError(f"{path} is damaged ({error!r}); {remedy}") from error
    return Classifier(path.parent.name, model, classes, size, network, values)


def _head_of(values: Mapping[str, Any]) -> str:
    """How the head of a run, or of an exported one, was fitted."""
    training = values.get("training", {})
    training = training.get("training", training)
    return str(training.get("head", "linear"))


def backbone_weights(folder: Path, config: Mapping[str, Any], *, given: Path | None) -> Weights:
    """The weights that a run's frozen backbone had: `given`, the file of its grid, or
    torchvision's.

    Raises:
        WeightsError: they are not available, or the file has changed.
    """
    source, wanted = str(config.get("weights", "")), str(config.get("weights_fingerprint", ""))
    if source == UNTRAINED:
        return Weights(source, wanted, None)
    path = given or _weights_of_grid(folder.parent, str(config["model"]))
    if path is None:
        path = cached_weights(published_weights(str(config["model"])), timeout_s=5.0)
    path = weights_file(path)
    if not path.is_file():
        raise WeightsError(
            f"the backbone's weights {path} are missing; give their file with --weights FILE"
        )
    found = file_fingerprint(path)
    if found != wanted:
        raise WeightsError(
            f"{path} is not the file that run {folder.name} was trained with (fingerprint {found}, "
            f"expected {wanted}); give the right file with --weights FILE"
        )
    return Weights(source, found, path)


def _weights_of_grid(root: Path, model: str) -> Path | None:
    """The file given when the grid was trained; None if torchvision's was used."""
    if not (root / GRID_FILE).is_file():
        return None
    config = read_json_file(root / GRID_FILE).get("config") or {}
    return given_weights(config.get("weights"), config.get("models", ())).get(model)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises ReportError if it is damaged or missing."""
    try:
        state: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ReportError(
            f"{path} cannot be read ({error}); train or export the model again"
        ) from error
    return state


def _load(network: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).split("\n")[1].strip() if "\n" in str(error) else str(error)
        raise ReportError(
            f"{path} does not fit its model: {reason[:160]}; train or export it again"
        ) from error
