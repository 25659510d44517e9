"""A helpful sample helps, a mislabelled one hurts, and what changes nothing stays undecided.

Covers: trainer.commands.estimate.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from comfy_nodes.labelset import ImageRecord, LabelledFolder, encode_image
from synthgrid.__main__ import main
from trainer.analysis.tracing import FIELDS
from trainer.commands.parsing import BY
from trainer.data.samples import Sample
from trainer.errors import ConfigError, DataError
from trainer.quality.embedding.embedders import load_embedder
from trainer.quality.embedding.sets import LabelledFeatures, see_sets
from trainer.quality.estimating.estimate import (
    HELPS,
    HURTS,
    UNDECIDED,
    Estimate,
    EstimateConfig,
    derived_pairs,
    estimate,
)
from trainer.quality.images import load_made, load_real

CLASSES = ("ant", "bee", "cat")


@pytest.fixture(autouse=True)
def _one_fit_chooses_the_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.quality.estimating.gain._CHOOSING", 1)


def features(
    seed: int, per_class: int, *, wrong: float = 0.0, reach: float = 1.6
) -> LabelledFeatures:
    """Three classes that overlap, in eight dimensions; a share of labels that are wrong."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), per_class)
    shown = np.where(random.random(len(labels)) < wrong, (labels + 1) % 3, labels)
    rows = reach * np.eye(3, 8)[shown] + random.normal(size=(len(labels), 8))
    return LabelledFeatures(rows.astype(np.float32), labels)


def judged(
    real: LabelledFeatures,
    made: LabelledFeatures,
    *,
    ks: tuple[int, ...] = (4, 8),
    derived: np.ndarray | None = None,
    per_class: int | None = None,
    seed: int = 0,
) -> Estimate:
    files = [Sample(Path("x"), f"{n}", CLASSES[label], "") for n, label in enumerate(real.labels)]
    config = EstimateConfig(ks=ks, repeats=2, real_per_class=per_class, seed=seed)
    return estimate(files, real, made, config, classes=CLASSES, derived=derived)


def test_a_good_sample_helps_and_a_mislabelled_one_hurts() -> None:
    real = features(1, 30)
    good = judged(real, features(2, 16), per_class=2)
    assert good.verdict == HELPS
    assert good.last.accuracy - good.accuracy == pytest.approx(good.last.gain.value, abs=0.02)
    bad = judged(real, features(3, 16, wrong=1.0), per_class=4)
    assert bad.verdict == HURTS
    assert bad.last.k == 8
    assert bad.reach == 32
    assert bad.real_per_class == 4
    assert bad.held_out == 90
    assert judged(real, features(3, 16)).real_per_class == pytest.approx(24)


def test_copies_of_real_images_change_nothing_and_are_never_judged_by_themselves() -> None:
    """Were they not left out, each held-out image would be known."""
    real = features(4, 12, reach=0.7)
    rows = np.arange(36).reshape(3, 12)[:, :8].ravel()
    copies, derived = real.take(rows), np.stack([np.arange(24), rows], axis=1)
    found = judged(real, copies, derived=derived, ks=(4,))
    assert found.verdict == UNDECIDED
    assert found.derived == 24
    leaky = judged(real, copies, ks=(8,))
    assert leaky.last.gain.value > found.last.gain.value + 0.1


def test_a_sample_that_changes_nothing_is_hardly_ever_decided() -> None:
    """A tenth more images like 30 real ones, and every fourth label wrong."""
    found = [
        judged(features(seed, 20), features(100 + seed, 4, wrong=0.25), ks=(2,), seed=seed)
        for seed in range(6)
    ]
    assert sum(each.verdict != UNDECIDED for each in found) <= 1
    assert abs(np.mean([each.last.gain.value for each in found])) < 0.05


def test_the_ks_are_those_that_the_sample_has() -> None:
    real = features(5, 6)
    assert [each.k for each in judged(real, features(6, 5), ks=(1, 4, 16)).curve] == [1, 4]
    assert [each.k for each in judged(real, features(6, 5), ks=(16,)).curve] == [5]
    assert judged(real, features(6, 5), ks=(16,)).last.gain.from_images > 0
    with pytest.raises(DataError, match="fewer than two synthetic images of 'bee'"):
        judged(real, features(6, 5).drawn([5, 1, 5], 0))
    derived = np.array([[number, number % 6] for number in range(5)])
    with pytest.raises(DataError, match="show a held-out real image"):
        judged(real, features(6, 2), derived=derived)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ks": (4, 2)}, "k is 4,2; expected rising"),
        ({"ks": (0, 1)}, "k is 0,1"),
        ({"repeats": 1}, "at least 2"),
        ({"real_per_class": 0}, "real_per_class is 0"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EstimateConfig(**wrong)  # type: ignore[arg-type]


def test_copies_and_sources_of_synthetic_images_are_found(
    photographs: Path, tmp_path: Path
) -> None:
    real = load_real(photographs)
    folder = LabelledFolder(tmp_path / "made")
    fresh = Image.effect_noise((64, 64), 90).convert("RGB")
    source, copied = real.train[3], real.train[4]
    for number, (picture, origin) in enumerate(
        [(fresh, source), (Image.open(copied.path).convert("RGB"), None)]
    ):
        record = ImageRecord(
            *(f"a/p-{number}.png", "a", "p", "", number, number, "p"),
            source_image=origin and f"train/{origin.file}",
            source_sha256=origin and origin.sha256,
        )
        folder.add(record, encode_image(picture, record))
    made = load_made(tmp_path / "made", real.classes)
    sets = see_sets(real, {"made": made}, load_embedder("pixels"))
    thumbs = (sets.thumbs[""], sets.thumbs["made"])
    assert derived_pairs(real, made, thumbs).tolist() == [[0, 3], [1, 4]]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    random = np.random.RandomState(0)
    for label in ("a", "b"):
        (tmp_path / "photos" / "train" / label).mkdir(parents=True)
        for number in range(6):
            rough = Image.fromarray(random.randint(0, 256, (8, 8, 3), dtype=np.uint8))
            rough.resize((64, 64), Image.Resampling.BICUBIC).save(
                tmp_path / "photos" / "train" / label / f"{number}.png"
            )
    return tmp_path / "photos"


def test_the_command_says_what_it_found_and_keeps_it(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photographs / "train", tmp_path / "made")
    (photographs / "test" / "a").mkdir(parents=True)
    (photographs / "test" / "a" / "1.png").write_bytes(b"never looked at")
    given = ["estimate", "--real", str(photographs), "--synthetic", str(tmp_path / "made")]
    given += ["--embedder", "pixels", "--k", "1,2", "--repeats", "2"]
    assert main([*given, "--plan-per-class", "40", "--images-per-s", "0.5"]) == 0
    shown = capsys.readouterr().out
    assert "learned from 4.8 real images per class, judged by 12 real images" in shown
    assert "undecided: make 12 images per class (synthgrid extend), then estimate again" in shown
    assert "12 synthetic images show a real training image" in shown
    assert "up to 8 synthetic images per class, and the plan has 40" in shown
    assert "make 10 per class first" in shown
    assert "the whole plan: 80 images, 40 per class, 2.67 GPU minutes at 0.5 images/s" in shown
    kept = json.loads((tmp_path / "made.quality" / "estimate.json").read_text("utf-8"))
    assert main([*given, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["curve"] == kept["curve"]
    assert (values["plan"], kept["plan"]["images"]) == (None, 80)
    assert values["config"]["seed"] == 0
    assert set(values["fingerprints"]) == {"real", "synthetic", "embedder"}


def test_the_command_compares_the_strengths_of_a_sample(
    photographs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = LabelledFolder(tmp_path / "made")
    random = np.random.RandomState(1)
    for label in ("a", "b"):
        for number, strength in enumerate([0.3] * 6 + [0.9] * 4):
            name = f"{label}/p-{number}.png"
            record = ImageRecord(name, label, "a", "", number, number, "p", strength=strength)
            picture = Image.fromarray(random.randint(0, 256, (64, 64, 3), dtype=np.uint8))
            folder.add(record, encode_image(picture, record))
    given = ["estimate", "--real", str(photographs), "--synthetic", str(tmp_path / "made")]
    given += ["--embedder", "pixels", "--repeats", "2", "--k", "1,3,6", "--by", "strength"]
    assert main(given) == 0
    assert "change at 3 synthetic images per class" in capsys.readouterr().out
    kept = json.loads((tmp_path / "made.quality" / "estimate-by-strength.json").read_text("utf-8"))
    assert {each["name"]: each["images"] for each in kept["settings"]} == {"0.3": 12, "0.9": 8}
    assert {each["last"]["k"] for each in kept["settings"]} == {3}  # of 0.9 there are four


def test_what_samples_may_be_divided_by_is_what_records_are_traced_by() -> None:
    assert BY == FIELDS


def test_the_command_refuses_what_is_no_list_of_numbers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["estimate", "--real", "x", "--synthetic", "y", "--k", "1,two"])
    assert ended.value.code == 2
    assert "as in 1,2,4, not '1,two'" in capsys.readouterr().err
