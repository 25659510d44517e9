"""Real images that cannot make a difference: how the halves are drawn, and that the script runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evidence import real_nulls as nulls

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "evidence" / "real_nulls.py"


def test_halves_share_no_image_and_each_cell_has_as_many() -> None:
    pool = nulls.as_dataset([np.arange(40), np.arange(100, 140)])
    halves = nulls.draw_halves(pool, 15, 0)
    real, made = (set(np.concatenate(half).tolist()) for half in halves)
    assert (len(real), len(made), real & made) == (30, 30, set())
    assert set(nulls.mixed(halves, 0.0).tolist()) == real
    assert set(nulls.mixed(halves, 1.0).tolist()) == made
    part = nulls.mixed(halves, 0.5).tolist()
    assert len(set(part)) == 30
    assert 14 <= len(real & set(part)) <= 16


def test_each_seed_splits_the_folder_anew_and_shares_no_image() -> None:
    labels = np.repeat(np.arange(10), 60)
    setup = nulls.Setup(seeds=3, half=15)
    drawn = list(nulls.drawn_for(setup, labels, 0, "one folder"))
    folders = set()
    for (train, other), tested in drawn:
        real, made = (set(np.concatenate(half).tolist()) for half in (train, other))
        assert (len(real), len(made), len(tested)) == (150, 150, 50)
        assert not real & made
        assert not set(tested.tolist()) & (real | made)
        assert (labels[tested] == np.repeat(np.arange(10), 5)).all()
        folders.add(frozenset(real | set(tested.tolist())))
    assert len(folders) == 1
    assert len({tuple(tested) for _, tested in drawn}) == 3


def test_gradients_are_the_derivatives_of_the_cross_entropy() -> None:
    random = np.random.RandomState(1)
    images, wanted = random.rand(2, 6, 8), np.eye(10)[random.randint(0, 10, (2, 6))]
    shapes = ((2, 8, 32), (2, 1, 32), (2, 32, 10), (2, 1, 10))
    network = [random.normal(0, 0.5, shape) for shape in shapes]

    def loss() -> float:
        logits = nulls.scores(network, images)[0]
        chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        return float(-(wanted * np.log(chances)).sum() / 6)

    for part, slope in zip(network, nulls.gradients(network, images, wanted), strict=True):
        place, before = (1, 0, 3), loss()
        part[place] += 1e-6
        assert slope[place] == pytest.approx((loss() - before) / 1e-6, rel=1e-3, abs=1e-6)
        part[place] -= 1e-6


def test_a_seed_gives_the_same_network_in_whatever_company() -> None:
    random = np.random.RandomState(0)
    images, labels = random.rand(3, 20, 8), random.randint(0, 10, (3, 20))
    together = nulls.fitted(images, labels, seeds=[4, 5, 6], passes=2)
    alone = nulls.fitted(images[1:2], labels[1:2], seeds=[5], passes=2)
    assert [part[1] for part in together] == [pytest.approx(part[0]) for part in alone]


@pytest.mark.slow
def test_the_script_prints_all_rates_with_an_interval(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--quick"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    found = re.findall(
        r"^(?:halves redrawn|halves fixed|one folder) .*of 10 grids .*\(95% [\d.]+ to", out, re.M
    )
    assert len(found) == 3
