"""A pretraining run's folder.

<out>/config.json              the request, versions, and fingerprints of the image folders
<out>/checkpoint.safetensors   where to go on from
<out>/curve.json               loss and kNN while it trained
<out>/model.safetensors        the backbone without its last layer, for --weights MODEL=<out>
<out>/README.md                model card
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save

from comfy_nodes.labelset import try_lock
from comfy_nodes.labelset.files import write_atomically
from trainer.errors import ConfigError, DataError
from trainer.models.weights import WEIGHTS_FILE
from trainer.pretrain.checkpoint import CHECKPOINT, Position
from trainer.pretrain.config import PretrainConfig, new_config
from trainer.pretrain.networks import Learner
from trainer.pretrain.source import Source
from trainer.runs import read_json_file, to_json
from trainer.training.run import versions

CONFIG, CURVE, CARD = "config.json", "curve.json", "README.md"
_LOCK = ".pretrain.lock"
_FORMAT = 1


@dataclass(frozen=True)
class Finished:
    """A finished run as its folder tells it; `images` are fingerprints of what it has seen."""

    config: PretrainConfig
    weights: Path
    images: tuple[str, ...] = ()


def open_out(out: Path, config: PretrainConfig, source: Source) -> bool:
    """Makes the folder, or recognises it as this run's; True if the run is already finished.

    Raises:
        ConfigError: `out` holds something else, or a run with another request.
    """
    asked = {"config": config.as_dict(), "images": sorted(source.fingerprints.values())}
    path = out / CONFIG
    if path.is_file():
        stored = read_json_file(path)
        if stored.get("kind") != "pretrain" or not isinstance(stored.get("config"), dict):
            raise ConfigError(f"{out} is not a pretraining run; choose another --out")
        differing = _differing(stored, asked)
        if differing:
            raise ConfigError(
                f"{out} is a run with another request ({', '.join(differing)}); repeat that "
                "request to go on with it, or choose another --out"
            )
        return is_finished(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} already exists and is left as it is; choose another --out")
    values = {
        "kind": "pretrain",
        "format": _FORMAT,
        **asked,
        "folders": source.fingerprints,
        "captions": len(source.captions),
        "classes": list(source.classes),
        "samples": len(source.samples),
        "versions": versions(),
    }
    write_atomically(path, to_json(values))
    return False


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """One process at a time trains in `out`, which exists; the lock ends with its process.

    Raises:
        ConfigError: another one does.
    """
    with (out / _LOCK).open("ab") as file:
        if not try_lock(file):
            raise ConfigError(f"{out} is being trained by another process; wait for it")
        yield


def _differing(stored: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    old, new = stored["config"], asked["config"]
    found = [
        f"{name} {old.get(name)} there, {new.get(name)} here"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    return found + ["other images"] * (stored.get("images") != asked["images"])


def write_result(
    out: Path, config: PretrainConfig, source: Source, learner: Learner, position: Position
) -> None:
    """Writes the curve and the card, and last the weights, which make the run a finished one."""
    write_atomically(out / CURVE, to_json(position.curve))
    write_atomically(out / CARD, model_card(config, source, position).encode())
    state = {
        name: value.detach().cpu().contiguous()
        for name, value in learner.backbone.state_dict().items()
    }
    # One entry only: safetensors writes several in random order, and the same weights would be
    # another file.
    write_atomically(out / WEIGHTS_FILE, save(state, metadata={"format": "pt"}))


def read_finished(out: Path) -> Finished:
    """Raises DataError if `out` is not a finished pretraining run."""
    if not (out / CONFIG).is_file():
        raise DataError(f"{out} is not a pretraining run; make one with: synthgrid pretrain")
    stored = read_json_file(out / CONFIG)
    if stored.get("kind") != "pretrain":
        raise DataError(f"{out} is not a pretraining run; make one with: synthgrid pretrain")
    if not (out / WEIGHTS_FILE).is_file():
        raise DataError(f"{out} is not finished; give the same synthgrid pretrain line again")
    try:
        config = new_config(**stored["config"])
    except (TypeError, KeyError) as error:
        raise DataError(f"{out / CONFIG} is damaged: {error}; pretrain again") from error
    return Finished(config, out / WEIGHTS_FILE, tuple(stored.get("images", ())))


def model_card(config: PretrainConfig, source: Source, position: Position) -> str:
    """What the weights are, what they have seen, and how to use them; Markdown."""
    last = position.curve[-1]
    knn = "" if last["knn"] is None else f" and kNN {last['knn']:.1%} among its own images"
    positives = f", positives by {config.positives}" if config.positives else ""
    return f"""# {config.spec.line.title}, pretrained without real images

A backbone without its last layer, trained by SynthGrid, method {config.method}{positives}, on
{len(source.samples)} images of {len(source.captions)} captions and {len(source.classes)} classes,
{config.image_size_px} pixels wide. {position.update} updates of {config.drawn * config.each} views;
at the end loss {last["loss"]:.3f}{knn}.

It has only seen the images that it was given: what is missing or wrong in them is missing or wrong
here. Measure it on real images before you use it:

    synthgrid probe RUN --real DIR
    synthgrid grid --models {config.model}:finetune --weights {config.model}=RUN ...

`config.json` has every setting, the versions, and fingerprints of the images.
"""


def is_finished(out: Path) -> bool:
    """Whether a run has written its weights, which it does last."""
    return (out / WEIGHTS_FILE).is_file()


def has_checkpoint(out: Path) -> bool:
    """Whether a stopped run can go on."""
    return (out / CHECKPOINT).is_file()
