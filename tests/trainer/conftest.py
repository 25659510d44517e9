"""Small real image folders, and a world without the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from comfy_nodes.labelset import ImageRecord, LabelledFolder, encode_image, image_file_name

SHAPES = ("circle", "cross", "square")
_HOMES = count()  # a folder name a test, of folders that only a download would make


def draw_shape(
    label: str, random: np.random.RandomState, *, size_px: int = 48, hard: bool = False
) -> Image.Image:
    """One coloured shape at a random place. `hard` ones vary in colour and size, so that few
    examples are too few."""
    paper = tuple(int(value) for value in random.randint(170, 256, 3))
    ink = tuple(int(value) for value in random.randint(0, 110, 3))
    image = Image.new("RGB", (size_px, size_px), paper)
    radius = random.randint(size_px // 6, size_px // 3) if hard else size_px // 4
    x, y = random.randint(radius, size_px - radius, 2)
    draw = ImageDraw.Draw(image)
    if label == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    elif label == "square":
        draw.rectangle((x - radius, y - radius, x + radius, y + radius), fill=ink)
    else:
        draw.line((x - radius, y, x + radius, y), fill=ink, width=5)
        draw.line((x, y - radius, x, y + radius), fill=ink, width=5)
    return image


def write_shapes(root: Path, *, per_class: int, seed: int, hard: bool = False) -> Path:
    """`root/<shape>/<number>.png`."""
    random = np.random.RandomState(seed)
    for label in SHAPES:
        (root / label).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            draw_shape(label, random, hard=hard).save(root / label / f"{number:03d}.png")
    return root


def write_labelled(root: Path, images: Mapping[str, list[Image.Image]]) -> Path:
    """A labelled folder as the generator writes it, labels verbatim in its records."""
    folder = LabelledFolder(root)
    for label, pictures in images.items():
        for index, picture in enumerate(pictures):
            record = ImageRecord(
                image_file_name(label, "plan", index), label, "a prompt", "", index, index, "plan"
            )
            folder.add(record, encode_image(picture, record))
    return root


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """Three classes of shapes, 6 to train and 5 to test on, each."""
    write_shapes(tmp_path / "real" / "train", per_class=6, seed=1)
    write_shapes(tmp_path / "real" / "test", per_class=5, seed=2)
    return tmp_path / "real"


@pytest.fixture
def synthetic(tmp_path: Path) -> Path:
    """12 more of each class, in plain class folders."""
    return write_shapes(tmp_path / "synthetic", per_class=12, seed=3)


@pytest.fixture(scope="session")
def make_shapes() -> Callable[..., Path]:
    return write_shapes


@pytest.fixture(scope="session")
def make_labelled() -> Callable[..., Path]:
    return write_labelled


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., Image.Image]:
    return draw_shape


@pytest.fixture(autouse=True)
def no_network(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights in the cache, and a proxy that refuses: a download fails at once, as it does
    offline."""
    home = tmp_path_factory.getbasetemp() / "torch-home" / str(next(_HOMES))
    monkeypatch.setenv("TORCH_HOME", str(home))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def _write_made_up_run(
    root: Path, run_id: str, hit: np.ndarray, scores: Mapping[str, float]
) -> None:
    """A run's files; `hit` says which test images, sorted by class, are classified correctly."""
    from trainer.runs import DONE, to_csv, to_json, write_run

    classes, per_class = list(SHAPES), len(hit) // len(SHAPES)
    rows = [
        (
            f"{classes[row // per_class]}/{row % per_class:03d}.png",
            classes[row // per_class],
            classes[(row // per_class + (not ok)) % len(classes)],
            "0.900000",
            "0.500000",
        )
        for row, ok in enumerate(hit)
    ]
    metrics = {"accuracy": hit.mean(), "precision": 0.5, "recall": 0.5, "f1": 0.5}
    metrics |= {"ece": 0.1, "nll": 1.5} | scores
    files = {
        "config.json": b"{}",
        "metrics.json": to_json(metrics),
        "predictions.csv": to_csv(("file", "true", "predicted", "p_predicted", "p_true"), rows),
        "training_images.csv": to_csv(("file", "label", "source", "use"), []),
        DONE: b"",
    }
    write_run(root, run_id, files)


def write_grid(
    root: Path,
    right: Mapping[str, list[float]],
    *,
    per_class: int = 100,
    models: tuple[str, ...] = ("cnn",),
    seed: int = 0,
    real_images: Mapping[str, int] | None = None,
    f1: Mapping[str, list[float]] | None = None,
    **info: object,
) -> Path:
    """A finished grid that nobody trained: for each "arm/budget" (or "model/arm/budget") a share of
    right answers per seed, and if given real training images and stored macro F1 scores.

    Which images are right is drawn; a share of None leaves that run out. Files are those of a real
    grid.
    """
    from trainer.arms import parse_arm
    from trainer.runs import to_json, write_file

    classes, runs = list(SHAPES), []
    for cell, shares in right.items():
        model, arm, budget = [models[0], *cell.split("/")][-3:]
        spec = parse_arm(arm)
        source = (spec.source or "synthetic") if spec.is_synthetic else ""
        for number, share in enumerate(shares):
            run_id = f"{model}-{arm}-{budget}-seed{number}".replace(":", "-")
            entry = {
                "run_id": run_id,
                "model": model,
                "arm": arm,
                "regime": spec.group,
                "ratio": spec.amount,
            }
            runs.append(entry | {"source": source, "budget": budget, "seed": number})
            if share is None:
                continue
            scores = {"real_images": real_images[cell]} if real_images else {}
            scores |= {"f1": f1[cell][number]} if f1 else {}
            hit = np.random.RandomState([seed, number, *cell.encode()]).rand(3 * per_class) < share
            _write_made_up_run(root, run_id, hit, scores)
    entry = {
        "title": "Small CNN",
        "noun": "the small CNN",
        "frozen": False,
        "weights": "",
        "weights_fingerprint": "",
    }
    entry |= {"image_size_px": 32, "training": {"updates": 8, "epochs": None}}
    counts = {"train": [30] * 3, "test": [per_class] * 3, "synthetic": [60] * 3, "more": [0] * 3}
    grid = {
        "config": {"quick": False, "validation_share": 0.2},
        "classes": classes,
        "images_per_class": counts,
        "fingerprints": {"train": "a1", "test": "b2"},
        "models": {
            model: entry | ({} if model == "cnn" else {"title": model, "noun": model})
            for model in models
        },
        "samples": {"classes": classes, "tile_px": 8, "real": 1, "synthetic": 1},
        "device": "cpu",
        "versions": {"python": "3"},
        "sources": {"synthetic": "made"},
        "runs": runs,
    }
    write_file(root / "grid.json", to_json(grid | info))
    Image.new("RGB", (16, 24)).save(root / "samples.png")
    return root


@pytest.fixture(scope="session")
def make_grid() -> Callable[..., Path]:
    return write_grid
