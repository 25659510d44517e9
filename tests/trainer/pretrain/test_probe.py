"""What frozen features are worth for a few images.

Covers: trainer.pretrain.probe, trainer.commands.probe.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from synthgrid.__main__ import main
from trainer.pretrain.probe import HEADS, Features, Score, draw_shots, interval_of, probe


def features_of(labels: torch.Tensor, apart: float, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    centres = torch.eye(3, 8) * apart
    return centres[labels] + torch.randn(len(labels), 8, generator=random)


LABELS = torch.arange(3).repeat(20)


def test_shots_are_balanced_and_fewer_are_among_more() -> None:
    few, more = (draw_shots(LABELS, shots=count, draw=2, classes=3) for count in (2, 6))
    assert torch.bincount(LABELS[few]).tolist() == [2, 2, 2]
    assert set(few.tolist()) < set(more.tolist())
    assert few.tolist() != draw_shots(LABELS, shots=2, draw=3, classes=3).tolist()


def test_good_features_score_higher_than_noise_with_both_heads() -> None:
    backbones = {
        "good": Features(features_of(LABELS, 8.0, 0), features_of(LABELS, 8.0, 1)),
        "noise": Features(features_of(LABELS, 0.0, 0), features_of(LABELS, 0.0, 1)),
    }
    scores = probe(backbones, LABELS, LABELS, shots=(1, 5), draws=3)
    found = {(each.backbone, each.head, each.shots): each for each in scores}
    assert len(found) == 2 * 2 * 2
    for head in HEADS:
        good, noise = found["good", head, 5], found["noise", head, 5]
        assert good.mean > 0.9
        assert abs(noise.mean - 1 / 3) < 0.2
        step, within = good.above(noise)
        assert step == pytest.approx(good.mean - noise.mean)
        assert within is not None
        assert within[0] > 0.2


@pytest.mark.parametrize("head", HEADS)
def test_features_that_hardly_vary_do_not_drown_the_others(head: str) -> None:
    random = torch.Generator().manual_seed(7)
    parts = [
        torch.cat([features_of(LABELS, 8.0, seed), 1e-3 * noise], dim=1)
        for seed in (0, 1)
        for noise in [torch.randn(len(LABELS), 400, generator=random)]
    ]
    scores = probe({"a": Features(*parts)}, LABELS, LABELS, shots=(2,), draws=3)
    assert {each.head: each.mean for each in scores}[head] > 0.75


def test_scores_do_not_hang_on_the_unit_of_the_features() -> None:
    train, test = features_of(LABELS, 2.0, 0), features_of(LABELS, 2.0, 1)
    backbones = {"a": Features(train, test), "b": Features(1024 * train + 3, 1024 * test + 3)}
    scores = probe(backbones, LABELS, LABELS, shots=(1, 5), draws=2)
    half = len(scores) // 2
    assert [s.accuracies for s in scores[:half]] == [s.accuracies for s in scores[half:]]


def test_shots_that_are_all_images_are_drawn_once() -> None:
    part = features_of(LABELS, 8.0, 0)
    scores = probe({"a": Features(part, part)}, LABELS, LABELS, shots=(19, 20), draws=3)
    assert [len(each.accuracies) for each in scores] == [3, 3, 1, 1]


def test_the_interval_is_students_t_over_draws() -> None:
    # mean 2, standard error 1/sqrt(3), t(0.975, 2) = 4.3027
    low, high = interval_of((1.0, 2.0, 3.0)) or (0, 0)
    assert (low, high) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-3)
    assert Score("a", "knn", 1, (0.5,)).interval is None


def test_the_command_sets_the_run_beside_random_weights(
    captioned: Path,
    tmp_path: Path,
    make_shapes: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainer.models.registry.default_models", lambda: ("cnn", "resnet50"))
    run, real = tmp_path / "pre", tmp_path / "real"
    make_shapes(real / "train", per_class=4, seed=1)
    make_shapes(real / "test", per_class=5, seed=2)
    given = ["--updates", "2", "--batch", "12", "--image-size", "32", "--out", str(run)]
    assert main(["probe", str(run), "--real", str(real)]) == 1
    assert "is not a pretraining run" in capsys.readouterr().err
    main(["pretrain", "--images", str(captioned), *given])
    capsys.readouterr()
    line = ["probe", str(run), "--real", str(real), "--draws", "2"]
    assert main([*line, "--shots", "9"]) == 1
    assert "has 4 training images" in capsys.readouterr().err
    assert main([*line, "--shots", "1,3", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values == json.loads((run / "probe.json").read_text())
    assert {each["backbone"] for each in values["scores"]} == {"pre", "random initialisation"}
    assert {each["shots"] for each in values["scores"]} == {1, 3}
    assert main([*line, "--shots", "1"]) == 0
    table = capsys.readouterr().out
    assert "random initialisation" in table
    assert "1 shots" in table


def test_further_runs_stand_beside_the_first(
    captioned: Path,
    tmp_path: Path,
    make_shapes: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainer.models.registry.default_models", lambda: ("cnn", "resnet50"))
    real = tmp_path / "real"
    for part, seed in (("train", 1), ("test", 2)):
        make_shapes(real / part, per_class=3, seed=seed)
    given = ["--updates", "1", "--batch", "12", "--image-size", "32"]
    for name, images, method in (
        ("pre", captioned, "stablerep"),
        ("classes", captioned, "supervised"),
        ("others", real / "train", "supervised"),
        ("deep/pre", captioned, "simclr"),
    ):
        out = ["--out", str(tmp_path / name)]
        (tmp_path / name).parent.mkdir(exist_ok=True)
        assert main(["pretrain", "--images", str(images), "--method", method, *given, *out]) == 0
    capsys.readouterr()
    line = ["probe", str(tmp_path / "pre"), "--real", str(real), "--draws", "2", "--shots", "1"]
    assert main([*line, "--json", "--beside", str(tmp_path / "classes")]) == 0
    values = json.loads(capsys.readouterr().out)
    names = [each["backbone"] for each in values["scores"] if each["head"] == "knn"]
    assert names == ["pre", "classes", "random initialisation"]
    assert "other images" not in caplog.text
    assert main([*line, "--beside", str(tmp_path / "others")]) == 0
    assert f"{tmp_path / 'others'} has seen other images" in caplog.text
    assert main([*line, "--beside", str(tmp_path / "deep" / "pre")]) == 1
    assert "the same name" in capsys.readouterr().err
