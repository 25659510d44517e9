"""Every arm through a whole grid: its images, and how long it trains."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trainer.config import GridConfig
from trainer.data.copies import copies_of, turned
from trainer.data.dataset import load_dataset
from trainer.errors import RunError
from trainer.grid.grid import run_grid
from trainer.runs import Grid
from trainer.training.batches.inputs import prepare_inputs
from trainer.training.fits import LabelledTensors

UPDATES = 3


@pytest.fixture(scope="module")
def all_arms(tmp_path_factory: pytest.TempPathFactory, make_shapes: Callable[..., Path]) -> Grid:
    """Every regime, two sources, both budgets, one seed: a finished grid."""
    root = tmp_path_factory.mktemp("arms")
    sizes = {"real/train": 6, "real/test": 5, "syn1": 12, "syn2": 8, "more": 8}
    for seed, (name, per_class) in enumerate(sizes.items()):
        make_shapes(root / name, per_class=per_class, seed=seed)
    arms = (
        "add:1@syn2",
        "add:2@syn1+syn2",
        "swap:0.5",
        "fewer:0.5",
        "only:1",
        "augment",
        "copies:1",
        "more:1",
    )
    return run_grid(
        GridConfig(
            str(root / "real"),
            str(root / "grid"),
            {name: str(root / name) for name in ("syn1", "syn2")},
            models=("cnn",),
            recipe="classic",
            ratios=(0.0, 1.0),
            arms=arms,
            more_real=str(root / "more"),
            seeds=1,
            image_size_px=32,
            updates=UPDATES,
            device="cpu",
        )
    )


def test_every_arm_goes_through_and_the_baseline_is_shared_by_both_budgets(all_arms: Grid) -> None:
    grid = all_arms
    assert [run.status for run in grid.runs] == ["done"] * len(grid.runs)
    entries = [(run.arm, run.regime, run.ratio, run.source, run.budget) for run in grid.runs]
    assert entries[:3] == [
        ("real", "real", 0.0, "", "both"),
        ("add:1", "add", 1.0, "syn1", "updates"),
        ("add:1", "add", 1.0, "syn1", "epochs"),
    ]
    assert ("add:2@syn1+syn2", "add", 2.0, "syn1+syn2", "epochs") in entries
    assert {run.arm for run in grid.runs if run.budget == "both"} == {"real", "swap:0.5", "augment"}
    assert len({run.run_id for run in grid.runs}) == len(grid.runs) == 3 + 2 * 7
    assert grid.of("cnn", "real", "updates") == grid.of("cnn", "real", "epochs") != []
    assert [len(grid.of("cnn", "only:1", budget)) for budget in ("updates", "epochs")] == [1, 1]
    for run in grid.runs:
        assert run.metrics["dtype"] == "float32"
        assert 0 <= run.metrics["precision"] <= 1


def test_a_budget_is_as_many_updates_or_as_many_passes_as_the_baseline(all_arms: Grid) -> None:
    grid = all_arms
    baseline = grid.of("cnn", "real")[0].metrics
    assert baseline["updates"] == UPDATES
    for run in grid.runs:
        images = sum(
            run.metrics[f"{kind}_images"] for kind in ("real", "synthetic", "copied", "more")
        )
        if run.budget == "epochs":
            assert run.metrics["updates"] == int(UPDATES * images / 15 + 0.5), run.run_id
        else:
            assert run.metrics["updates"] == UPDATES, run.run_id
        assert run.budget != "both" or images == 15
    matched = grid.of("cnn", "copies:1")[0].metrics
    assert (
        matched["real_images"] + matched["copied_images"]
        == 15 + grid.of("cnn", "add:1")[0].metrics["synthetic_images"]
    )


def test_training_images_say_where_each_is_from(all_arms: Grid) -> None:
    grid = all_arms
    sources = {}
    for run in grid.runs:
        rows = csv.DictReader(
            (grid.root / run.run_id / "training_images.csv")
            .read_text(encoding="utf-8")
            .splitlines()
        )
        sources[run.arm] = {row["source"] for row in rows if row["use"] == "train"}
    assert sources == {
        "real": {"real"},
        "add:1": {"real", "syn1"},
        "add:1@syn2": {"real", "syn2"},
        "swap:0.5": {"real", "syn1"},
        "add:2@syn1+syn2": {"real", "syn1", "syn2"},
        "fewer:0.5": {"real"},
        "only:1": {"syn1"},
        "augment": {"real"},
        "copies:1": {"real", "copy"},
        "more:1": {"real", "more"},
    }


def test_a_training_is_told_which_images_are_copies_of_one(
    config: GridConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[list[int]] = []

    def refuse(*_: object, train: LabelledTensors, **__: object) -> None:
        assert train.groups is not None
        groups.append(train.groups.tolist())
        raise RunError("seen enough")

    monkeypatch.setattr("trainer.training.run.fit", refuse)
    run_grid(replace(config, ratios=(0.0,), arms=("copies:1",)))
    real, copies = groups
    assert sorted(real) == list(range(len(real)))
    assert copies[: len(real)] == real
    assert set(copies[len(real) :]) == set(real)


def test_a_copy_is_the_turned_pixels_of_its_original(config: GridConfig) -> None:
    sample = load_dataset(Path(config.real), None).train[4]
    copies = copies_of([sample], 7)
    inputs = prepare_inputs(
        {"cnn": [sample, *copies]},
        sizes_px={"cnn": 32},
        weights={},
        cache=Path(config.out),
        device=torch.device("cpu"),
    )["cnn"]
    original, *made = inputs.values[inputs.index([sample, *copies])].permute(0, 2, 3, 1).numpy()
    for copy, pixels in zip(copies, made, strict=True):
        assert np.array_equal(pixels, turned(original, copy.turn)), copy.turn


def test_arms_of_one_seed_start_from_the_same_weights_and_other_seeds_do_not(
    tmp_path: Path, make_shapes: Callable[..., Path]
) -> None:
    for seed, (name, per_class) in enumerate({"real/train": 4, "real/test": 1, "made": 4}.items()):
        make_shapes(tmp_path / name, per_class=per_class, seed=seed)
    grid = run_grid(
        GridConfig(
            str(tmp_path / "real"),
            str(tmp_path / "grid"),
            str(tmp_path / "made"),
            models=("cnn",),
            recipe="classic",
            arms=("real", "add:1", "swap:0.5", "fewer:0.5", "augment"),
            budgets=("updates",),
            seeds=2,
            image_size_px=32,
            updates=1,
            learning_rate=1e-12,  # so that the trained weights are those it started from
            device="cpu",
        )
    )
    starts: dict[int, list[torch.Tensor]] = {0: [], 1: []}
    for run in grid.runs:
        weights = load_file(grid.root / run.run_id / "model.safetensors")
        starts[run.seed].append(next(each for each in weights.values() if each.dim() == 4))
    assert all(len(each) == 5 for each in starts.values())
    assert all(torch.allclose(one, same[0], atol=1e-9) for same in starts.values() for one in same)
    assert not torch.allclose(starts[0][0], starts[1][0], atol=1e-3)
