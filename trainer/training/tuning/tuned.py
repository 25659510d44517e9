"""Hyper-parameters from `tune`, held constant over all cells of a grid. No torch.

{"model": "cnn", "recipe": "modern", "training": {fields of TrainingConfig},
 "images": [sha256 of every image used], "study": {...}, "data_fingerprint": "..."}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from trainer.config import TrainingConfig, read_json, renamed
from trainer.data.samples import Sample
from trainer.errors import ConfigError
from trainer.models.registry import model_spec


@dataclass(frozen=True)
class TunedHyperparameters:
    """One model's tuned hyper-parameters: some fields of TrainingConfig. `images` are the hashes of
    those used for tuning."""

    path: Path
    model: str
    recipe: str
    training: Mapping[str, Any]
    images: frozenset[str]
    study: Mapping[str, Any]
    data_fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """The form in which grid.json stores it."""
        return {
            "file": self.path.name,
            "study": dict(self.study),
            "data_fingerprint": self.data_fingerprint,
        }


def read_tuned(paths: Iterable[str], *, models: Iterable[str]) -> dict[str, TunedHyperparameters]:
    """The tuned hyper-parameters by model.

    Raises:
        ConfigError: a file is damaged, names an unknown field, or is for a model that the grid does
            not train.
    """
    found: dict[str, TunedHyperparameters] = {}
    trained = list(models)
    for each in map(_read, map(Path, paths)):
        if each.model not in trained:
            raise ConfigError(
                f"{each.path} is for model {each.model}; the grid trains {', '.join(trained)}: "
                "leave the file out"
            )
        if each.model in found:
            raise ConfigError(
                f"{found[each.model].path} and {each.path} are both for model {each.model}; give "
                "one"
            )
        found[each.model] = each
    return found


def refuse_other_recipes(tuned: Iterable[TunedHyperparameters], recipe: str) -> None:
    """Makes sure that everything was tuned for the grid's recipe.

    Raises:
        ConfigError: a file was tuned for another one.
    """
    for each in tuned:
        if each.recipe != recipe:
            raise ConfigError(
                f"{each.path} was tuned for recipe {each.recipe}, and the grid has recipe "
                f"{recipe}; add --recipe {each.recipe}, or tune with --recipe {recipe}"
            )


def refuse_test_images(tuned: Iterable[TunedHyperparameters], test: Iterable[Sample]) -> None:
    """Makes sure that nothing was tuned on an image that the grid tests on.

    Raises:
        ConfigError: a file lists a test image among those it was tuned on.
    """
    tested = {sample.sha256: sample.file for sample in test}
    for each in tuned:
        shared = sorted(tested[digest] for digest in each.images & tested.keys())
        if shared:
            raise ConfigError(
                f"{each.path} was tuned on {len(shared)} test images, {shared[0]} "
                "among them; tune again on the training images alone"
            )


def _read(path: Path) -> TunedHyperparameters:
    values = read_json(path)
    try:
        training, images = renamed(values["training"]), frozenset(map(str, values["images"]))
        tuned = TunedHyperparameters(
            path,
            model_spec(str(values["model"])).name,
            str(values.get("recipe", "classic")),  # older files have none
            training,
            images,
            dict(values.get("study", {})),
            str(values["data_fingerprint"]),
        )
        known = {field.name for field in fields(TrainingConfig)}
        unknown = sorted(training.keys() - known)
        if unknown:
            raise ConfigError(
                f"{path} tunes '{unknown[0]}', which is not a hyper-parameter; known: "
                f"{', '.join(sorted(known))}"
            )
        if not images:
            raise ConfigError(
                f"{path} does not list the images it was tuned on; make it with: synthgrid tune"
            )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} is not a file of tuned hyper-parameters ({error!r}); make it with: synthgrid "
            "tune"
        ) from error
    return tuned
