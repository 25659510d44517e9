"""--norms and --then-real in a grid: which arms they train beside the plain ones, and what they
leave alone.

Covers: trainer.config.apart.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from trainer.config import GridConfig
from trainer.data.dataset import load_dataset
from trainer.errors import ConfigError
from trainer.grid.grid import run_grid
from trainer.grid.planning import plan_runs, training_configs
from trainer.report import write_report
from trainer.runs import read_predictions
from trainer.shipping.export import export_run
from trainer.shipping.predict import predict_images


def planned(config: GridConfig) -> dict[str, str]:
    """Run ids by arm and seed."""
    dataset = load_dataset(Path(config.real), Path(str(config.synthetic)))
    runs = plan_runs(config, dataset, training_configs(config, dataset, {}), {})
    return {f"{run.config.arm} {run.config.seed}": run.run_id for run in runs}


def test_arms_of_real_and_synthetic_images_get_the_pair_and_its_control(config: GridConfig) -> None:
    arms = ("only:1", "swap:1", "swap:0.5", "augment", "copies:1", "add:1+augment")
    both = replace(config, arms=arms, norms=("shared", "aux"))
    names = [arm.name for arm in both.used_arms]
    assert names[:8] == ["real", "add:2", *arms]
    assert names[8:] == [
        f"{arm}+norms:{norms}"
        for arm in ("add:2", "swap:0.5", "add:1+augment")
        for norms in ("stratified", "aux")
    ]
    alone = replace(both, norms=("shared", "stratified"))
    assert [arm.norms for arm in alone.used_arms if arm.norms] == ["stratified"] * 3


def test_plain_runs_keep_their_ids_whatever_is_trained_beside_them(config: GridConfig) -> None:
    before = planned(config)
    beside = planned(replace(config, norms=("shared", "aux"), synthetic_weight=0.5))
    assert len(beside) == len(before) + 2
    assert {name: beside[name] for name in before} == before
    assert "cnn-add-2+norms-aux-updates-seed0-" in beside["add:2+norms:aux 0"]
    heavier = planned(replace(config, norms=("shared", "aux")))
    changed = {name for name in beside if beside[name] != heavier[name]}
    assert changed == set(beside) - set(before)


def test_frozen_statistics_are_trained_in_the_pair_and_in_its_control(config: GridConfig) -> None:
    tuned = replace(config.training_for("cnn", train_images=30), freeze_norms=True)
    both = replace(config, norms=("shared", "aux"))
    found = {arm.name: tuned.changed_by(arm).freeze_norms for arm in both.used_arms}
    assert [name for name, frozen in found.items() if not frozen] == [
        "add:2+norms:stratified",
        "add:2+norms:aux",
    ]


def test_arms_that_end_on_real_images_stand_beside_the_plain_ones(config: GridConfig) -> None:
    both = replace(config, arms=("only:1", "swap:0.5"), then_real=True)
    names = [arm.name for arm in both.used_arms]
    assert names == ["real", "add:2", "only:1", "swap:0.5", "add:2+then:real", "swap:0.5+then:real"]
    tuned = config.training_for("cnn", train_images=30)
    shares = {arm.name: tuned.changed_by(arm).real_last for arm in both.used_arms}
    assert {name for name, share in shares.items() if share == 0.5} == set(names[4:])
    assert {shares[name] for name in names[:4]} == {0.0}
    before, beside = planned(config), planned(replace(config, then_real=True))
    assert {name: beside[name] for name in before} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ("lite0",)}, "trains its last layer only, so --then-real means nothing"),
        ({"ratios": (0.0,), "arms": ("only:1",)}, "so --then-real means nothing; add one"),
        ({"arms": ("add:1+then:real",)}, "is made by the grid, with its control"),
    ],
)
def test_an_end_on_real_images_that_means_nothing_is_refused(
    config: GridConfig, changes: dict[str, object], message: str
) -> None:
    given = {"then_real": True, "image_size_px": None} | changes
    with pytest.raises(ConfigError, match=message):
        replace(config, **given)  # type: ignore[arg-type]


def test_a_grid_compares_an_end_on_real_images_with_none(config: GridConfig) -> None:
    grid = run_grid(replace(config, then_real=True))
    assert {(run.arm, run.status, run.metrics["updates"]) for run in grid.runs} == {
        (arm, "done", 6) for arm in ("real", "add:2", "add:2+then:real")
    }
    page = write_report(grid.root).read_text(encoding="utf-8")
    assert "Ending on the real images alone changed the macro F1 of the small CNN at add:2" in page
    assert "synthetic, then real alone" in page
    assert "Then real alone:" in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ("vit_b_16:scratch",)}, "'vit_b_16:scratch' trains no batch normalisation"),
        ({"models": ("resnet18:frozen",)}, "trains no batch normalisation"),
        ({"models": ("vgg16:finetune",)}, "leave the model out, or --norms"),
        ({"norms": ("aux",)}, "norms are aux; they must include shared"),
        ({"norms": ("shared", "shared")}, "name each once"),
        ({"norms": ("shared", "split")}, "norms 'split'"),
        ({"norms": ("shared",), "synthetic_weight": 2.0}, "is for --norms shared,aux"),
        ({"synthetic_weight": 0.0}, "synthetic_weight"),
        ({"batch_size": 3}, "needs at least 4: two real and two synthetic images"),
        ({"ratios": (0.0,), "arms": ("only:1",)}, "no arm trains on both real and synthetic"),
        ({"arms": ("add:1+norms:aux",)}, "is made by the grid, with its control"),
    ],
)
def test_norms_that_mean_nothing_are_refused_in_one_line(
    config: GridConfig, changes: dict[str, object], message: str
) -> None:
    given = {"norms": ("shared", "aux"), "image_size_px": None} | changes
    with pytest.raises(ConfigError, match=message) as caught:
        replace(config, **given)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_whole_grid_compares_pair_and_control_and_saves_main_layers_only(
    config: GridConfig, tmp_path: Path
) -> None:
    plain = run_grid(replace(config, out=str(tmp_path / "plain")))
    grid = run_grid(replace(config, norms=("shared", "aux")))
    assert [run.status for run in grid.runs] == ["done"] * 4
    for run in plain.runs:  # off is what it was, to the bit
        for name in ("model.safetensors", "predictions.csv", "training_images.csv"):
            one, other = (root / run.run_id / name for root in (plain.root, grid.root))
            assert one.read_bytes() == other.read_bytes()
    folders = {(run.arm, run.seed): grid.root / run.run_id for run in grid.runs}
    aux, control, shared = (
        folders[f"add:2{end}", 0] for end in ("+norms:aux", "+norms:stratified", "")
    )
    states = [load_file(each / "model.safetensors") for each in (aux, control, shared)]
    assert states[0].keys() == states[1].keys() == states[2].keys()
    trained = [(each / "training_images.csv").read_bytes() for each in (aux, control, shared)]
    assert trained[0] == trained[1] == trained[2]
    weights = [state["1.fc.weight"].numpy() for state in states]
    assert not np.allclose(weights[0], weights[1])
    assert not np.allclose(weights[1], weights[2])

    recorded = read_predictions(grid.root, aux.name)
    exported = export_run(aux, tmp_path / "exported", with_onnx=False)
    assert not any("auxiliary" in name for name in exported.network.state_dict())
    found = predict_images(exported, [Path(config.real) / "test" / each.file for each in recorded])
    assert [each.top[0][0] for each in found] == [each.predicted for each in recorded]
    assert [each.top[0][1] for each in found] == pytest.approx(
        [each.p_predicted for each in recorded], abs=2e-6
    )

    page = write_report(grid.root).read_text(encoding="utf-8")
    assert "Auxiliary batch normalisation changed the macro F1 of the small CNN at add:2" in page
    assert "auxiliary batch norm" in page
    assert "real images plus 1 times that of the synthetic ones" in page
    assert "Stratified batches" not in write_report(plain.root).read_text(encoding="utf-8")
    found_json = json.loads((grid.root / "results.json").read_text(encoding="utf-8"))
    assert "Stratified batches and their loss changed the macro F1 of the small CNN" in page
    assert [
        (duel["cell"]["arm"], duel["rival"]["arm"]) for duel in found_json["direct_comparisons"]
    ] == [("add:2+norms:stratified", "add:2"), ("add:2+norms:aux", "add:2+norms:stratified")]
    assert [cell["arm"] for cell in found_json["cells"] if cell.get("headline")] == ["add:2"]
