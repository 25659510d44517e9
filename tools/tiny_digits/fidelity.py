"""Measure a checkpoint: does it draw what the prompt says, does it copy, how fast is it?

    python -m tools.tiny_digits.fidelity --checkpoint client/embedded/checkpoint/tiny-digits \
        --images data/set-aside --exclude data/digits --write

`--images` are the digits that the generator was trained on, `--exclude` those of the demo, which it
has never seen. The judge is an SVM trained only on the latter. Takes about four minutes on two free
cores. `--write` stores the numbers in the checkpoint's training_data.json, which its README quotes.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.svm import SVC

from comfy_nodes.errors import SynthGridError

from .checkpoint import TRAINING_DATA_FILE, write_json
from .grammar import BOARDS, CHALKS, DIGIT_WORDS, INKS, PAPERS, Description, random_description
from .images import IMAGE_SIZE_PX, Digit, read_digits, refuse_overlap, render
from .sampling import Checkpoint, load_checkpoint, sample

logger = logging.getLogger(__name__)

# 2 gives a little more variety, but fewer blackboards; see the checkpoint's README.
DEFAULT_CFG = 3.0
GUIDANCES = (2.0, 3.0, 4.0, 7.0)
_BATCH = 50
_GRID = 8  # the judge sees what load_digits sees: 8x8 cells of ink, 0 to 16
_WORDINGS = (
    "a photo of a {word}",
    "a photo of a handwritten digit {word}",
    "handwritten {numeral}",
    "a handwritten {word}",
    "digit {numeral}",
    "{numeral}",
    "a professional photo of a {numeral}, studio lighting, high quality",
    "a photo of a {numeral}, 4k",  # shows a weak spot: any number is read as a digit
)
_STYLES = (
    *({"context": context} for context in (*PAPERS, *BOARDS)),
    *({"stroke": stroke} for stroke in INKS),
    *({"context": "a blackboard", "stroke": stroke} for stroke in CHALKS),
    {"context": "a green board", "stroke": "yellow chalk"},
    {"context": "a blueprint", "stroke": "white chalk"},
    {"context": "yellow paper", "stroke": "blue ink"},
    {"context": "pink paper", "stroke": "red ink"},
    {"weight": "bold strokes"},
    {"weight": "thin strokes"},
    {"stroke": "blue ink", "weight": "thin strokes"},
    {"tilt": "tilted left"},
    {"tilt": "tilted right"},
)


class Judge:
    """An SVM trained on real digits that the generator never saw, rendered in every style."""

    def __init__(self, unseen: list[Digit], *, seed: int = 0) -> None:
        rng = random.Random(seed)
        images = [digit_image(digit) for digit in unseen]
        labels = [digit.label for digit in unseen]
        for digit in unseen:
            for share in (1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0):
                description = random_description(digit.label, rng, plain_share=share)
                images.append(render(digit.ink, description, rng))
                labels.append(digit.label)
        self._model = SVC(C=10.0, gamma="scale").fit(ink_cells(np.stack(images)), labels)

    def read(self, images: np.ndarray) -> np.ndarray:
        """The digit 0..9 read from each of uint8 [N,64,64,3]."""
        return self._model.predict(ink_cells(images))


def ink_cells(images: np.ndarray) -> np.ndarray:
    """uint8 [N,64,64,3] to float [N,64]: 8x8 cells of ink from 0 to 16, for any colours.

    Ink is the distance from the colour of the paper, which is the median colour along the border.
    """
    pixels = images.astype(np.float32)
    distance = np.abs(pixels - _paper_colour(images)[:, None, None, :]).mean(axis=3)
    darkest = np.percentile(distance.reshape(len(pixels), -1), 98, axis=1)[:, None, None]
    ink = np.clip(distance / np.maximum(darkest, 1.0), 0.0, 1.0)
    cell = IMAGE_SIZE_PX // _GRID
    cells = ink.reshape(-1, _GRID, cell, _GRID, cell).mean(axis=(2, 4))
    return 16.0 * cells.reshape(len(pixels), -1)


def digit_image(digit: Digit) -> np.ndarray:
    """The real image as it is, uint8 [64,64,3]."""
    return np.repeat(np.round(255.0 * (1.0 - digit.ink)).astype(np.uint8)[..., None], 3, axis=2)


def measure(
    checkpoint: Checkpoint, learnt: list[Digit], unseen: list[Digit], *, per_class: int = 30
) -> dict[str, object]:
    """All measurements as JSON values; shares are from 0 to 1."""
    judge = Judge(unseen)
    real = judge.read(np.stack([digit_image(digit) for digit in learnt]))
    wanted = np.array([digit.label for digit in learnt])
    result: dict[str, object] = {"judge_on_real_digits": _share(real == wanted)}
    logger.info("judge reads %.1f%% of real digits", 100 * _share(real == wanted))
    result["guidance"] = {
        str(cfg): measure_default(checkpoint, judge, learnt, per_class, cfg=cfg)
        for cfg in GUIDANCES
    }
    result["steps"] = {
        str(steps): measure_default(checkpoint, judge, learnt, 10, steps=steps)
        for steps in (10, 40)
    }
    result["real_unseen"] = variety(
        learnt, [d.label for d in unseen], np.stack([digit_image(d) for d in unseen])
    )
    result["wordings"] = {
        wording: _fidelity_of_wording(checkpoint, judge, wording) for wording in _WORDINGS
    }
    result["styles"] = {
        _phrase(style): measure_style(checkpoint, judge, learnt, style) for style in _STYLES
    }
    result["images_per_second"] = images_per_second(checkpoint)
    return result


def measure_default(
    checkpoint: Checkpoint,
    judge: Judge,
    learnt: list[Digit],
    per_class: int,
    *,
    cfg: float = DEFAULT_CFG,
    steps: int = 20,
) -> dict[str, object]:
    """Fidelity, copying and spread of `a photo of a {class}`."""
    labels = [digit for _ in range(per_class) for digit in range(10)]
    prompts = [f"a photo of a {label}" for label in labels]
    images = sample(checkpoint, prompts, range(len(prompts)), cfg=cfg, steps=steps, batch=_BATCH)
    right = judge.read(images) == np.array(labels)
    per_label = {str(digit): _share(right[np.array(labels) == digit]) for digit in range(10)}
    logger.info("cfg %g, %d steps: %.1f%% %s", cfg, steps, 100 * _share(right), per_label)
    return {"fidelity": _share(right), "per_class": per_label, **variety(learnt, labels, images)}


def variety(learnt: list[Digit], labels: list[int], images: np.ndarray) -> dict[str, float]:
    """How near images are to the training digits, and how far apart within a class.

    "nearest_learnt" is the distance to the nearest training digit, also shifted by 2 pixels;
    "spread" is the mean distance to the class's mean. Distances are Euclidean over 8x8 cells of
    0 to 16. A generator that copies is nearer to its training digits than unseen real digits are.
    """
    known = np.stack([digit_image(digit) for digit in learnt])
    shifted = [
        ink_cells(np.roll(known, (down, right), axis=(1, 2)))
        for down in (-2, 0, 2)
        for right in (-2, 0, 2)
    ]
    cells, known_cells = ink_cells(images), np.concatenate(shifted)
    squares = (
        (cells**2).sum(axis=1)[:, None] - 2.0 * cells @ known_cells.T + (known_cells**2).sum(axis=1)
    )
    nearest = np.sqrt(np.maximum(squares.min(axis=1), 0.0))
    spread = []
    for digit in range(10):
        rows = cells[np.array(labels) == digit]
        spread += list(np.linalg.norm(rows - rows.mean(axis=0), axis=1))
    return {
        "nearest_learnt_median": round(float(np.median(nearest)), 2),
        "nearest_learnt_5th_percentile": round(float(np.percentile(nearest, 5)), 2),
        "spread": round(float(np.mean(spread)), 2),
    }


def measure_style(
    checkpoint: Checkpoint,
    judge: Judge,
    learnt: list[Digit],
    style: dict[str, str],
    *,
    per_class: int = 5,
) -> dict[str, float]:
    """Three shares for a style: how often images and rendered real digits are read correctly, and
    how often the colours are those asked for.
    """
    labels = np.array([digit for _ in range(per_class) for digit in range(10)])
    phrase = _phrase(style)
    prompts = [f"a photo of a {label}, {phrase}" for label in labels]
    images = sample(
        checkpoint, prompts, range(1000, 1000 + len(prompts)), cfg=DEFAULT_CFG, batch=_BATCH
    )
    description = _describe(style)
    rng = random.Random(0)
    real = [rng.choice([d for d in learnt if d.label == label]) for label in labels]
    rendered = np.stack([render(digit.ink, description, rng) for digit in real])
    result = {
        "fidelity": _share(judge.read(images) == labels),
        "judge_on_real_digits": _share(judge.read(rendered) == labels),
        "colours_as_said": _share(_colours_as_said(images, description)),
    }
    logger.info("%s: %s", phrase, result)
    return result


def images_per_second(checkpoint: Checkpoint, *, batch: int = 16) -> float:
    """The best of three batches with the workflow's defaults, on all of torch's threads."""
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        sample(checkpoint, ["a photo of a 3"] * batch, range(batch), cfg=DEFAULT_CFG, batch=batch)
        best = min(best, time.perf_counter() - started)
    return round(batch / best, 1)


def _fidelity_of_wording(
    checkpoint: Checkpoint, judge: Judge, wording: str, *, per_class: int = 5
) -> float:
    labels = np.array([digit for _ in range(per_class) for digit in range(10)])
    prompts = [wording.format(word=DIGIT_WORDS[label], numeral=label) for label in labels]
    images = sample(
        checkpoint, prompts, range(2000, 2000 + len(prompts)), cfg=DEFAULT_CFG, batch=_BATCH
    )
    return _share(judge.read(images) == labels)


def _phrase(style: dict[str, str]) -> str:
    context, stroke = style.get("context"), style.get("stroke")
    where = f"on {context}" if context else None
    first = f"{stroke} {where}" if stroke and where else stroke or where
    return ", ".join(part for part in (first, style.get("weight"), style.get("tilt")) if part)


def _describe(style: dict[str, str]) -> Description:
    stroke = "white chalk" if style.get("context") in BOARDS else "black ink"
    return Description(None, **{"stroke": stroke, **style})


def _colours_as_said(images: np.ndarray, description: Description) -> np.ndarray:
    """Per image: are the nearest known colours of border and strongest stroke those asked for?"""
    paper = _paper_colour(images)
    flat = images.reshape(len(images), -1, 3).astype(np.float32)
    farthest = np.argsort(-np.abs(flat - paper[:, None]).sum(axis=2), axis=1)[:, :80]
    stroke = np.take_along_axis(flat, farthest[..., None], axis=1).mean(axis=1)
    strokes = CHALKS if description.context in BOARDS else INKS
    return (_nearest(paper, {**PAPERS, **BOARDS}) == description.context) & (
        _nearest(stroke, strokes) == description.stroke
    )


def _paper_colour(images: np.ndarray) -> np.ndarray:
    """The median colour of the outermost pixels, float [N,3]."""
    edges = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    return np.median(np.concatenate(edges, axis=1), axis=1)


def _nearest(colours: np.ndarray, known: dict[str, tuple[int, int, int]]) -> np.ndarray:
    table = np.array(list(known.values()), dtype=np.float32)
    return np.array(list(known))[((colours[:, None] - table) ** 2).sum(axis=2).argmin(axis=1)]


def _share(right: np.ndarray) -> float:
    return round(float(np.mean(right)), 4)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.tiny_digits.fidelity", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        help="class folders that the generator was trained on",
    )
    parser.add_argument(
        "--exclude",
        type=Path,
        required=True,
        help="the demo's folder, with train/ and test/, which the generator has never seen",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"store the numbers in the checkpoint's {TRAINING_DATA_FILE}",
    )
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    try:
        learnt = read_digits(options.images)
        refuse_overlap(learnt, options.exclude)
        unseen = read_digits(options.exclude / "train") + read_digits(options.exclude / "test")
    except SynthGridError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    measured = measure(load_checkpoint(options.checkpoint), learnt, unseen)
    if options.write:
        path = options.checkpoint / TRAINING_DATA_FILE
        record = json.loads(path.read_text(encoding="utf-8"))
        record["measured"].update(measured)
        write_json(path, record)
    print(json.dumps(measured, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
