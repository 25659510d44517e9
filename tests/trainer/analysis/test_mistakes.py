"""The worst mistakes beside the synthetic images like them: found while the images are there, shown
when they are gone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from trainer.analysis import tracing
from trainer.analysis.mistakes import write_mistakes
from trainer.data.dataset import Dataset, load_dataset
from trainer.report import write_report
from trainer.runs import read_grid, to_csv


def colour_folder(root: Path, colours: dict[str, list[tuple[int, int, int]]]) -> None:
    """Images with a coloured left half."""
    for label, each in colours.items():
        (root / label).mkdir(parents=True)
        for number, colour in enumerate(each):
            image = Image.new("RGB", (24, 24), "white")
            image.paste(colour, (0, 0, 12, 24))
            image.save(root / label / f"{number:03d}.png")


RED, GREEN, BLUE = (220, 30, 20), (20, 200, 40), (10, 40, 230)


@pytest.fixture
def world(
    tmp_path: Path, make_grid: Callable[..., Path], make_labelled: Callable[..., Path]
) -> tuple[Path, Dataset]:
    """A grid in which circle/001.png, which is blue, is taken for a cross by all seeds; one
    synthetic square is blue."""
    real = {"circle": [RED, BLUE], "cross": [GREEN, GREEN], "square": [BLUE, RED]}
    colour_folder(tmp_path / "real" / "train", real)
    colour_folder(tmp_path / "real" / "test", real)

    def picture(colour: tuple[int, int, int]) -> Image.Image:
        image = Image.new("RGB", (24, 24), "white")
        image.paste(colour, (0, 0, 12, 24))
        return image

    made = {"circle": [picture(RED)], "cross": [picture(GREEN)], "square": [picture((12, 42, 225))]}
    make_labelled(tmp_path / "made", made)
    root = make_grid(
        tmp_path / "grid", {"real/both": [1.0] * 2, "add:1/updates": [1.0] * 2}, per_class=2
    )
    dataset = load_dataset(tmp_path / "real", tmp_path / "made")
    drawn = [(each.file, each.label, each.source, "train") for each in dataset.synthetic]
    for run in read_grid(root).runs:
        if run.regime == "add":
            path = root / run.run_id / "predictions.csv"
            text = path.read_text(encoding="utf-8")
            wrong = "circle/001.png,circle,cross,0.800000,0.100000"
            path.write_text(
                text.replace("circle/001.png,circle,circle,0.900000,0.500000", wrong),
                encoding="utf-8",
            )
            (root / run.run_id / "training_images.csv").write_bytes(
                to_csv(("file", "label", "source", "use"), drawn)
            )
    return root, dataset


def stored(root: Path) -> dict[str, Any]:
    (cell,) = json.loads((root / "mistakes.json").read_text(encoding="utf-8"))["cells"]
    return cell


def test_a_mistake_has_the_synthetic_image_most_like_it_with_prompt_and_seed(
    world: tuple[Path, Dataset],
) -> None:
    root, dataset = world
    write_mistakes(root, dataset, read_grid(root))
    (mistake,) = stored(root)["mistakes"]
    assert (mistake["file"], mistake["true"], mistake["predicted"]) == (
        "circle/001.png",
        "circle",
        "cross",
    )
    assert (mistake["wrong"], mistake["baseline_wrong"], mistake["p_true"]) == (2, 0, 0.1)
    first, *others = mistake["nearest"]
    assert (first["label"], first["prompt"], first["seed"]) == ("square", "a prompt", 0)
    assert first["likeness"] > 0.99 > max(each["likeness"] for each in others)
    assert "colour pixels" in stored(root)["features"]


def test_a_frozen_backbones_features_come_first(world: tuple[Path, Dataset]) -> None:
    """Features that call the green cross most like the mistake are believed."""
    root, dataset = world
    rows = {
        each.sha256: [1.0, 0.0] if each.label == "square" else [0.0, 1.0]
        for each in (*dataset.test, *dataset.synthetic)
    }
    blue_circle = next(each for each in dataset.test if each.file == "circle/001.png")
    green = next(each for each in dataset.synthetic if each.label == "cross")
    rows[blue_circle.sha256] = rows[green.sha256] = [0.6, 0.8]
    (root / "features").mkdir()
    hashes = np.stack([np.frombuffer(bytes.fromhex(digest), dtype=np.uint8) for digest in rows])
    save_file(
        {"features": np.array(list(rows.values()), dtype=np.float32), "sha256": hashes},
        root / "features" / "cnn-32px-0.safetensors",
    )
    write_mistakes(root, dataset, read_grid(root))
    assert stored(root)["features"] == "features of the frozen backbone"
    assert stored(root)["mistakes"][0]["nearest"][0]["label"] == "cross"


def test_the_same_grid_gives_the_same_bytes(world: tuple[Path, Dataset]) -> None:
    root, dataset = world
    found = []
    for _ in range(2):
        write_mistakes(root, dataset, read_grid(root))
        found.append([(root / name).read_bytes() for name in ("mistakes.json", "mistakes.png")])
    assert found[0] == found[1]


def test_the_report_shows_them_when_the_images_are_gone(
    world: tuple[Path, Dataset], tmp_path: Path
) -> None:
    root, dataset = world
    write_mistakes(root, dataset, read_grid(root))
    shutil.rmtree(tmp_path / "real")
    shutil.rmtree(tmp_path / "made")
    text = write_report(root).read_text(encoding="utf-8")
    assert "<b>circle</b> mistaken for <b>cross</b>" in text
    assert "“a prompt”, seed 0" in text
    assert "wrong in 2 of 2 seeds, real only in 0 of 2" in text


def test_a_prompt_behind_wrong_answers_is_traced_and_shown(
    world: tuple[Path, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, dataset = world
    asked: dict[str, Any] = {}

    def named(
        wrong: np.ndarray, predicted: np.ndarray, nearest: np.ndarray, origins: list[dict[str, str]]
    ) -> list[tracing.Traced]:
        asked.update(wrong=wrong.tolist(), predicted=predicted.tolist(), nearest=nearest.tolist())
        asked["origins"] = origins
        return [tracing.Traced("style", "<ink>", 5, 9, 1.25, 0.004)]

    monkeypatch.setattr("trainer.analysis.mistakes.trace", named)
    records = tmp_path / "made" / "metadata.jsonl"
    lines = [json.loads(line) | {"strength": 1.0} for line in records.read_text().splitlines()]
    records.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    write_mistakes(root, dataset, read_grid(root))
    # circle/001.png is taken for a cross, and the only synthetic cross stands behind that.
    assert sum(asked["wrong"]) == 1
    place = asked["wrong"].index(True)
    assert asked["predicted"][place] == 1
    assert asked["nearest"][place] == 1
    assert asked["origins"] == [dict.fromkeys(tracing.FIELDS, "") | {"strength": "1"}] * 3
    page = write_report(root).read_text()
    assert "style “&lt;ink&gt;”: behind 5 of 9 wrong answers, 1.2 expected (p 0.004)" in page


def test_an_image_that_is_gone_costs_the_mistakes_and_not_the_grid(
    world: tuple[Path, Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    root, dataset = world
    dataset.synthetic[0].path.unlink()
    write_mistakes(root, dataset, read_grid(root))
    assert not (root / "mistakes.json").exists()
    assert "the report will show no mistakes" in caplog.text
