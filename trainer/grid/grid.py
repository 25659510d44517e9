"""A grid: every model, arm, budget and seed trained once, each into a run folder of its own.

load -> check -> plan -> prepare inputs -> train what is not done
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from trainer.analysis.mistakes import write_mistakes
from trainer.config import AUTO, KFOLD, GridConfig, TrainingConfig
from trainer.config.folders import check_outside
from trainer.data.cells import Shortage, check_counts
from trainer.data.contact_sheet import contact_sheet
from trainer.data.dataset import Dataset, load_dataset
from trainer.data.leaks.search import drop_leaks, refuse_spoilt_test, remembered_leaks
from trainer.data.torchvision_sets import real_folder
from trainer.errors import ConfigError
from trainer.grid.executors import Executor, executor_for
from trainer.grid.headlines import former_headlines, planned_headlines
from trainer.grid.kfold import chosen_rates
from trainer.grid.lock import grid_locked, refuse_unfinished
from trainer.grid.planning import images_of_seed, plan_runs, run_entry, training_configs
from trainer.grid.watching import Watcher
from trainer.models.cost import measured_cost
from trainer.models.registry import model_spec
from trainer.models.weights import Weights, check_fit, find_weights, given_weights
from trainer.progress import Progress
from trainer.quality.select import with_selections
from trainer.runs import (
    GRID_FILE,
    LEAKS_FILE,
    SAMPLES_FILE,
    Grid,
    clear_unfinished,
    is_done,
    read_grid,
    read_json_file,
    to_json,
    write_file,
    write_run,
)
from trainer.training.batches.inputs import prepare_inputs
from trainer.training.compute import deterministic, pick_device, pick_dtype
from trainer.training.run import PlannedRun, versions
from trainer.training.tuning.tuned import (
    TunedHyperparameters,
    read_tuned,
    refuse_other_recipes,
    refuse_test_images,
)

logger = logging.getLogger(__name__)
# Share of an arm's images of a class that may go with dropped leaks before the grid is refused: a
# few are lost by the way, many would make it another arm. Our choice.
_MAY_LACK = 0.1


@dataclass(frozen=True)
class PreparedGrid:
    """A grid whose input has been read and checked: what to train, on what, and how.

    `training` has each model's baseline hyper-parameters; `weights` and `tuned` have only the
    models that use them; `capped` says which arms get fewer images than they ask for.
    """

    config: GridConfig
    dataset: Dataset
    leaks: Mapping[str, Any]
    weights: Mapping[str, Weights]
    tuned: Mapping[str, TunedHyperparameters]
    training: Mapping[str, TrainingConfig]
    runs: Sequence[PlannedRun]
    capped: Sequence[Shortage] = ()


def run_grid(config: GridConfig, watchers: Sequence[Watcher] = ()) -> Grid:
    """Trains the runs of the grid that are not done yet, and returns the whole grid, read back from
    disk. `watchers` are told as runs end.

    All input is checked before anything is trained. A run that fails leaves error.txt, and the
    others continue.

    Raises:
        TrainerError: the data, the configuration or the weights are invalid, or another process
            holds the folder.
    """
    if config.seeds == AUTO:
        raise ConfigError("run_grid takes a number of seeds; run_whole_grid plans it")
    # Without it CUDA is not deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if config.threads:
        torch.set_num_threads(config.threads)
    out, device = Path(config.out), pick_device(config.device)
    pick_dtype(config.dtype, device)  # refuses what the device cannot do
    executor = executor_for(config, device)
    grid = prepare_grid(config)
    with grid_locked(out):
        if config.used_validation == KFOLD:
            grid = _with_chosen_rates(grid, device)
        _write_grid_files(grid, out, device)
        pending = [run for run in grid.runs if not is_done(out, run.run_id)]
        logger.info(
            "%d runs: %d done before, %d to train",
            len(grid.runs),
            len(grid.runs) - len(pending),
            len(pending),
        )
        for watcher in watchers:
            watcher.begins(out, [run.run_id for run in pending])
        if pending:
            _train_all(pending, executor, watchers, out=out, weights=grid.weights, device=device)
        finished = read_grid(out)
        if config.test_share is None:  # else every seed makes mistakes on other images
            write_mistakes(out, grid.dataset, finished)
        return finished


def prepare_grid(config: GridConfig) -> PreparedGrid:
    """Reads and checks everything that a grid needs, the quick checks first; writes nothing but
    what the search for leaks found.

    Raises:
        TrainerError: the data, the configuration or the weights are invalid.
    """
    _refuse_out_among_images(config)
    for folder in config.sources.values():
        refuse_unfinished(Path(folder))
    dataset = load_dataset(
        real_folder(config.real),
        {name: Path(folder) for name, folder in config.sources.items()},
        more=Path(config.more_real) if config.more_real is not None else None,
        tests={name: Path(folder) for name, folder in config.tests.items()},
        limit_per_class=config.limit_per_class,
        split=config.test_share is None,
    )
    folders = {name: Path(folder) for name, folder in config.sources.items()}
    dataset = with_selections(dataset, config.selections, folders)
    capped = _checked_counts(dataset, config, may_lack=0.0)
    tuned = read_tuned(config.tuned, models=config.models)
    refuse_other_recipes(tuned.values(), config.recipe)
    refuse_test_images(
        tuned.values(), (*dataset.test, *chain.from_iterable(dataset.tests.values()))
    )
    given = given_weights(config.weights, config.models)
    weights = {
        model: find_weights(model, given=given.get(model), allow_untrained=config.allow_untrained)
        for model in config.models
        if model_spec(model).pretrained
    }
    for model, each in weights.items():  # before the images are searched, which may take minutes
        check_fit(model, each, image_size_px=config.image_size_for(model))
    dataset, leaks, lost = _without_leaks(dataset, config)
    training = training_configs(config, dataset, tuned)
    runs = plan_runs(config, dataset, training, weights)
    capped = lost if config.drop_leaks else capped
    return PreparedGrid(config, dataset, leaks, weights, tuned, training, runs, capped)


def _with_chosen_rates(grid: PreparedGrid, device: torch.device) -> PreparedGrid:
    with deterministic():
        training = chosen_rates(
            grid.config,
            images_of_seed(grid.config, grid.dataset, 0),
            grid.training,
            grid.weights,
            device=device,
        )
    runs = plan_runs(grid.config, grid.dataset, training, grid.weights)
    return replace(grid, training=training, runs=runs)


def _refuse_out_among_images(config: GridConfig) -> None:
    """Run folders inside a folder of class folders would be taken for classes."""
    out, real = Path(config.out).resolve(), Path(config.real)
    more = [config.more_real] if config.more_real is not None else []
    parts = [real / "train", real / "test"] if config.test_share is None else [real]
    folders = [*parts, *map(Path, (*config.sources.values(), *more, *config.tests.values()))]
    check_outside(config.out, [*folders, *([real] if out == real.resolve() else [])])


def _without_leaks(
    dataset: Dataset, config: GridConfig
) -> tuple[Dataset, dict[str, Any], tuple[Shortage, ...]]:
    """The images to train and test on, the leaks between them as stored in grid.json, and which
    arms lack images without them."""
    searched = dataset if config.test_share is None else images_of_seed(config, dataset, 0)
    if not config.drop_leaks:
        refuse_spoilt_test(searched)
    leaks = remembered_leaks(searched, Path(config.out) / LEAKS_FILE)
    if leaks.two_labels:
        one, other = leaks.two_labels[0][0], leaks.two_labels[0][-1]
        logger.warning(
            "%d files occur under two labels, one of which must be wrong: %s/%s = %s/%s; all stay, "
            "`synthgrid leaks` lists them",
            *(len(leaks.two_labels), one.part, one.file, other.part, other.file),
        )
    if leaks.found:
        done = "left out" if config.drop_leaks else "kept; --drop-leaks leaves them out"
        logger.warning(
            "leaks: %d pair%s of images, %d test image%s among them; %s",
            len(leaks.found),
            "s" * (len(leaks.found) != 1),
            leaks.test_images(),
            "s" * (leaks.test_images() != 1),
            done,
        )
    lost: tuple[Shortage, ...] = ()
    if config.drop_leaks:
        dataset = drop_leaks(dataset, leaks)
        lost = _checked_counts(dataset, config, may_lack=_MAY_LACK)
    return dataset, leaks.to_dict(dropped=config.drop_leaks), lost


def _checked_counts(
    dataset: Dataset, config: GridConfig, *, may_lack: float
) -> tuple[Shortage, ...]:
    """Where arms get fewer images than they ask for, with a warning for each arm."""
    found = check_counts(
        images_of_seed(config, dataset, 0),
        config.used_arms,
        validation_share=config.held_out_share,
        may_lack=1.0 if config.cap_amounts else may_lack,
    )
    for arm in dict.fromkeys(each.arm for each in found):
        short = [each for each in found if each.arm == arm]
        worst = min(short, key=lambda each: each.there / each.wanted)
        logger.warning(
            "arm %s gets fewer images than it asks for in %d classes: %d instead of %d of '%s'",
            *(arm, len(short), worst.there, worst.wanted, worst.label),
        )
    return found


def _train_all(
    pending: Sequence[PlannedRun],
    executor: Executor,
    watchers: Sequence[Watcher],
    *,
    out: Path,
    weights: Mapping[str, Weights],
    device: torch.device,
) -> None:
    inputs = prepare_inputs(
        {
            model: [
                each for run in pending if run.config.model == model for each in run.needed_samples
            ]
            for model in dict.fromkeys(run.config.model for run in pending)
        },
        sizes_px={run.config.model: run.config.image_size_px for run in pending},
        weights=weights,
        cache=out / "features",
        device=device,
    )
    with Progress("runs", total=len(pending), unit="runs") as progress:
        for run, files in executor.finished(pending, inputs):
            write_run(out, run.run_id, files)
            progress.advance(note=run.run_id)
            for watcher in watchers:
                watcher.run_ended(run.run_id)


def _write_grid_files(grid: PreparedGrid, out: Path, device: torch.device) -> None:
    """Writes what the runs do not contain, before training, so that a kill loses nothing."""
    sheet, layout = contact_sheet(grid.dataset)
    config, dataset = grid.config, grid.dataset
    before = read_json_file(out / GRID_FILE) if (out / GRID_FILE).is_file() else {}
    entries = [run_entry(run.config, dataset.sources) for run in grid.runs]
    headlines = planned_headlines(entries)
    info = {
        "config": asdict(config),
        "classes": dataset.classes,
        "images_per_class": images_of_seed(config, dataset, 0).images_per_class(),
        "fingerprints": dataset.fingerprints(),
        "leaks": grid.leaks,
        "models": {
            model: _model_info(grid, model) | {"cost": _cost(grid, model, before, device)}
            for model in config.models
        },
        "samples": layout.to_dict(),
        "device": str(device),
        "versions": versions(),
        "arms": [arm.name for arm in config.used_arms],
        "capped": [asdict(each) for each in grid.capped],
        "sources": config.sources
        | {
            name: config.sources[each.source]
            for each in config.selections
            for name in (each.name, each.random)
        },
        "former_headlines": [asdict(key) for key in former_headlines(before, out, headlines)],
        "runs": entries,
    }
    clear_unfinished(out)
    write_file(out / SAMPLES_FILE, sheet)
    write_file(out / GRID_FILE, to_json(info))
    if headlines and headlines != planned_headlines(before.get("runs", ())):
        named = (f"{key.model} {key.arm} ({key.budget})" for key in headlines)
        logger.info("headlines, named before training: %s", ", ".join(named))


def _cost(grid: PreparedGrid, model: str, before: Mapping[str, Any], device: torch.device) -> Any:
    """What the model costs in use, measured once for a folder; None in a smoke run."""
    if grid.config.quick:
        return None
    return measured_cost(
        model,
        classes=len(grid.dataset.classes),
        image_size_px=grid.config.image_size_for(model),
        device=device,
        before=before.get("models", {}).get(model, {}).get("cost"),
    )


def _model_info(grid: PreparedGrid, model: str) -> dict[str, Any]:
    spec, weights, tuned = model_spec(model), grid.weights.get(model), grid.tuned.get(model)
    return {
        "title": spec.title,
        "noun": spec.noun,
        "frozen": spec.frozen,
        "weights": weights.source if weights else "",
        "weights_fingerprint": weights.fingerprint if weights else "",
        "image_size_px": grid.config.image_size_for(model),
        "training": asdict(grid.training[model]),
        "tuned": tuned.to_dict() if tuned else None,
    }
