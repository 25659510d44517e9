"""Sources are ranked by distance only where their difference is clear, beside real against real.

Covers: trainer.commands.distance, trainer.quality.embedding.sets.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from comfy_nodes.labelset import ImageRecord, LabelledFolder, encode_image
from synthgrid.__main__ import main
from trainer.commands.parsing import named_folders
from trainer.errors import ConfigError, DataError
from trainer.quality.distances.distance import (
    CANNOT_TELL,
    CLOSER,
    FURTHER,
    REAL_HALF,
    REAL_TEST,
    compare,
)
from trainer.quality.embedding.sets import LabelledFeatures, SeenSets

CLASSES = ("ant", "bee", "cat")
_CENTRES = 3.0 * np.random.default_rng(99).normal(size=(3, 12))


def features(
    seed: int, per_class: int, *, shift: float = 0.0, wrong: float = 0.0
) -> LabelledFeatures:
    """Three classes in 12 dimensions; a share of `wrong` labels, a shift of all rows."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), per_class)
    shown = np.where(random.random(len(labels)) < wrong, (labels + 1) % 3, labels)
    rows = _CENTRES[shown] + random.normal(size=(len(labels), 12)) + shift * np.eye(12)[0]
    return LabelledFeatures(rows.astype(np.float32), labels)


def sets(made: dict[str, LabelledFeatures], *, train: int = 24, test: int = 20) -> SeenSets:
    none = LabelledFeatures(np.zeros((0, 1), np.float32), np.zeros(0, np.int64))
    held = features(2, test) if test else none
    return SeenSets(CLASSES, features(1, train), held, made, 32)


def test_the_closest_source_comes_first_and_equal_ones_are_not_ranked() -> None:
    far, near, same = features(3, 20, shift=2.5), features(4, 20), features(5, 15)
    found = compare(sets({"far": far, "near": near, "same": same}), embedder="lite0")
    assert found.sources[-1].name == "far"
    assert found.verdict("far", "near") == FURTHER
    assert found.verdict("same", "far") == CLOSER
    assert found.verdict("near", "same") == found.verdict("same", "near") == CANNOT_TELL
    with pytest.raises(KeyError):
        found.verdict("near", "none")


def test_real_images_stand_beside_it() -> None:
    made = {"far": features(3, 20, shift=2.5)}
    for test, name in ((20, REAL_TEST), (0, REAL_HALF)):
        found = compare(sets(made, test=test), embedder="lite0")
        assert found.real is not None
        assert found.real.name == name
        assert not found.real.distance.excludes_zero
        assert found.sources[0].distance.low > found.real.distance.value
        assert found.real.agreement.value > 0.9
    assert compare(sets(made, train=7, test=0), embedder="lite0").real is None
    assert compare(sets(made, train=7, test=3), embedder="lite0").real is None
    assert compare(sets(made, train=8, test=0), embedder="lite0").real is not None


def test_wrong_labels_show_in_the_agreement_and_in_the_distance_of_a_class() -> None:
    found = compare(
        sets({"right": features(3, 30), "wrong": features(4, 30, wrong=0.5)}), embedder="lite0"
    )
    right, wrong = found.sources
    assert (right.name, wrong.name) == ("right", "wrong")
    assert right.agreement.low > 0.9
    assert 0.3 < wrong.agreement.value < 0.7
    assert all(wrong.by_class[label].value > right.by_class[label].value for label in CLASSES)
    assert set(wrong.agreement_by_class) == set(CLASSES)


def test_density_and_coverage_are_compared_at_equal_counts() -> None:
    made = {"few": features(3, 9), "many": features(3, 40)}
    found = compare(sets(made, train=30, test=20), embedder="lite0")
    assert found.equal_counts == 9
    assert all(each.coverage is not None and each.coverage > 0.8 for each in found.sources)


def test_the_kernel_is_that_of_a_clip_for_a_clip() -> None:
    made = {"a": features(3, 10)}
    assert compare(sets(made), embedder="open_clip:x").kernel == "CMMD"
    kid = compare(sets(made), embedder="lite0")
    assert kid.kernel == "KID"
    assert kid.sources[0].no_frechet.startswith("needs at least 2000")


def test_a_class_with_too_few_images_is_left_out_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = features(3, 10).drawn([10, 3, 10], 0)
    with caplog.at_level(logging.WARNING):
        found = compare(sets({"a": made}), embedder="lite0")
    assert found.left_out == ("bee",)
    assert found.classes == ("ant", "cat")
    assert "fewer than 4 images in one of the sets: 'bee'" in caplog.text
    assert found.sources[0].agreement.value > 0.9  # its labels still mean the right classes
    with pytest.raises(DataError, match="at least two classes"):
        compare(sets({"a": made.drawn([10, 3, 2], 0)}), embedder="lite0")


def test_a_large_set_is_sampled_for_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.quality.distances.distance._MOST_ROWS", 30)
    found = compare(sets({"a": features(3, 40, shift=2.5)}), embedder="lite0")
    assert found.sources[0].images == 120
    assert found.sources[0].distance.low > 0


def test_folders_are_named_and_names_are_taken_once(tmp_path: Path) -> None:
    assert named_folders(["a=x/y", "z/w/"]) == {"a": Path("x/y"), "w": Path("z/w")}
    with pytest.raises(ConfigError, match="the name 'w' is taken"):
        named_folders(["w=x", "z/w"])
    with pytest.raises(ConfigError, match="is empty"):
        named_folders(["=x"])


def blurred(source: Path, out: Path, radius: float) -> Path:
    for path in source.rglob("*.png"):
        (out / path.parent.name).mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            soft = image.convert("RGB").filter(ImageFilter.GaussianBlur(radius))
        soft.save(out / path.parent.name / path.name)
    return out


def test_the_command_prints_a_table_and_everything_as_json(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soft = blurred(real / "train", tmp_path / "soft", 4)
    shutil.copytree(real / "train", tmp_path / "sharp")
    given = ["distance", "--real", str(real), "--embedder", "pixels"]
    given += ["--synthetic", f"soft={soft}", "--synthetic", str(tmp_path / "sharp")]
    assert main(given) == 0
    shown = capsys.readouterr().out
    assert "KID x 1000 on pixels features, 3 classes" in shown
    assert [line.split()[0] for line in shown.splitlines()[3:6]] == ["real/test", "sharp", "soft"]
    assert "soft: no FID: it needs at least 2000 images on each side" in shown
    assert (tmp_path / "soft.quality" / "features").is_dir()
    assert main([*given, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["sources"][0]["name"] == "sharp"
    assert values["pairs"][0]["verdict"] in (CANNOT_TELL, FURTHER)
    assert values["embedder"] == "pixels"


def test_the_command_divides_a_source_by_style(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = styled(real / "train", tmp_path / "made")
    given = ["distance", "--real", str(real), "--embedder", "pixels", "--by", "style"]
    assert main([*given, "--synthetic", str(made), "--json"]) == 0
    sources = json.loads(capsys.readouterr().out)["sources"]
    assert [(each["name"], each["images"]) for each in sources] == [("sharp", 18), ("soft", 18)]
    given += ["--synthetic", f"a={made}", "--synthetic", f"b={made}"]
    assert main([*given, "--json"]) == 0
    sources = json.loads(capsys.readouterr().out)["sources"]
    assert {each["name"] for each in sources} == {"a: sharp", "a: soft", "b: sharp", "b: soft"}


def styled(images: Path, out: Path) -> Path:
    """A labelled folder of these images in the style "sharp", and blurred in the style "soft"."""
    folder = LabelledFolder(out)
    for radius, style in ((0, "sharp"), (4, "soft")):
        for path in sorted(images.rglob("*.png")):
            label = path.parent.name
            name = f"{label}/{style}-{int(path.stem)}.png"
            record = ImageRecord(name, label, "a prompt", "", 0, 0, "p", style=style)
            with Image.open(path) as image:
                picture = image.convert("RGB").filter(ImageFilter.GaussianBlur(radius))
            folder.add(record, encode_image(picture, record))
    return out


def test_the_command_says_what_is_wrong(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["distance", "--real", str(real), "--synthetic", str(tmp_path / "none")]
    assert main(given) == 1
    assert "none does not exist" in capsys.readouterr().err


def test_intervals_of_several_differences_hold_together() -> None:
    def width(names: str) -> float:
        made = {name: features(number, 20) for number, name in enumerate(names, 3)}
        first = compare(sets(made), embedder="lite0").pairs[0].distance
        return (first.high - first.value) / first.se

    assert width("ab") == pytest.approx(1.97, abs=0.03)  # 1 pair at 95%
    assert width("abc") == pytest.approx(2.42, abs=0.03)  # 3 pairs at 98.3%
