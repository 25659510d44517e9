"""Settings are judged by the same images, and the front is what nothing beats."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from trainer.errors import DataError
from trainer.quality.embedding.embedders import load_embedder
from trainer.quality.embedding.sets import see_sets
from trainer.quality.estimating.estimate import EstimateConfig
from trainer.quality.estimating.sweep import judge, pareto
from trainer.quality.images import load_made, load_real

PIXELS = load_embedder("pixels")


def test_the_front_is_what_no_other_row_beats() -> None:
    merits = np.array([[1, 5], [3, 3], [2, 3], [3, 2], [3, 3], [0, 6]], dtype=float)
    assert pareto(merits) == [True, True, False, False, True, True]


def test_every_setting_gets_its_change_distance_agreement_and_speed(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.quality.estimating.gain._CHOOSING", 1)
    for name, radius, rate in (("sharp", 1, 2.0), ("soft", 9, 1.0)):
        for path in (real / "test").rglob("*.png"):
            (tmp_path / name / path.parent.name).mkdir(parents=True, exist_ok=True)
            with Image.open(path) as image:
                soft = image.filter(ImageFilter.GaussianBlur(radius))
            soft.save(tmp_path / name / path.parent.name / path.name)
        servers = [{"name": "s", "images": 15, "images_per_s": rate}]
        state = tmp_path / name / ".synthgrid-state.json"
        state.write_text(json.dumps({"servers": servers}), encoding="utf-8")
    images = load_real(real)
    made = {name: load_made(tmp_path / name, images.classes) for name in ("soft", "sharp")}
    seen: list[str] = []
    config = EstimateConfig(ks=(2,), repeats=2)
    sets = see_sets(images, made, PIXELS)
    found, compared = judge(images, made, sets, config, embedder="pixels", on_setting=seen.append)
    assert seen == ["soft", "sharp"]
    by_name = {each.name: each for each in found}
    assert by_name["sharp"].distance.value < by_name["soft"].distance.value
    assert by_name["sharp"].images_per_s == 2.0
    assert by_name["sharp"].best
    assert {each.last.k for each in found} == {2}
    assert compared.kernel == "KID"
    assert json.loads(json.dumps(by_name["soft"].to_dict()))["images"] == 15


def test_a_setting_with_too_few_images_is_named(real: Path, tmp_path: Path) -> None:
    images = load_real(real)
    for name in ("whole", "poor"):
        shutil.copytree(real / "test", tmp_path / name)

    def judged() -> None:
        made = {name: load_made(tmp_path / name, images.classes) for name in ("whole", "poor")}
        config, sets = EstimateConfig(ks=(2,), repeats=2), see_sets(images, made, PIXELS)
        judge(images, made, sets, config, embedder="pixels")

    for path in sorted((tmp_path / "poor" / "circle").iterdir())[1:]:
        path.unlink()
    with pytest.raises(DataError, match=r"^'poor': fewer than two synthetic images of 'circle'"):
        judged()
    shutil.rmtree(tmp_path / "poor" / "cross")
    with pytest.raises(DataError, match=r"too few of: 'circle', 'cross', fewest in 'poor'$"):
        judged()
