"""What a trained classifier predicts for images, and its scores on labelled ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from comfy_nodes.labelset.images.to_rgb import IMAGE_SUFFIXES
from trainer.analysis.metrics import classification_metrics, confusion_matrix
from trainer.data.images import iter_pixels, read_image, square
from trainer.data.samples import Sample, read_class_folders
from trainer.errors import DataError
from trainer.progress import Progress
from trainer.training.classifier import Classifier


@dataclass(frozen=True)
class ImagePrediction:
    """`top` holds (class, probability) pairs, most probable first; empty with `error` for a file
    that is not an image."""

    path: Path
    top: tuple[tuple[str, float], ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Evaluation:
    """`metrics` as in a run's metrics.json; `confusion` counts [true, predicted] in the order of
    `classes`."""

    classes: tuple[str, ...]
    images: int
    metrics: dict[str, float]
    recalls: dict[str, float]
    confusion: np.ndarray


def find_images(paths: Iterable[Path]) -> list[Path]:
    """The files themselves, and every image below the folders among them, sorted.

    Raises:
        DataError: a path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                each
                for each in path.rglob("*")
                if each.suffix.lower() in IMAGE_SUFFIXES and each.is_file()
            )
            if not inside:
                raise DataError(
                    f"{path} has no images; supported extensions: {', '.join(IMAGE_SUFFIXES)}"
                )
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path} does not exist; give image files or folders of them")
    return found


def predict_images(
    classifier: Classifier, paths: Sequence[Path], *, top: int = 1
) -> list[ImagePrediction]:
    """The `top` classes of every image, in the order given; a file that cannot be read does not
    affect the others."""
    found = []
    with Progress("images", total=len(paths), unit="images") as progress:
        for path in paths:
            found.append(_predict(classifier, path, top))
            progress.advance()
    return found


def _predict(classifier: Classifier, path: Path, top: int) -> ImagePrediction:
    try:
        pixels = square(read_image(path), classifier.image_size_px)
    except DataError as error:
        return ImagePrediction(path, error=str(error))
    row = classifier.probabilities(pixels[None])[0]
    order = np.argsort(-row, kind="stable")[:top]
    return ImagePrediction(
        path, tuple((classifier.classes[each], float(row[each])) for each in order)
    )


def evaluate_folder(classifier: Classifier, folder: Path) -> Evaluation:
    """The metrics on class folders, whose names must be among the classifier's classes.

    Raises:
        DataError: there are no class folders, an unknown class, or a damaged image.
    """
    samples = read_class_folders(folder)
    _check_classes(classifier, samples, folder)
    probabilities = _all_probabilities(classifier, samples)
    number = {label: position for position, label in enumerate(classifier.classes)}
    true = np.array([number[each.label] for each in samples])
    counts = confusion_matrix(true, probabilities.argmax(axis=1), len(classifier.classes))
    present = [label for label in classifier.classes if counts[number[label]].sum()]
    recalls = {
        label: float(counts[number[label], number[label]] / counts[number[label]].sum())
        for label in present
    }
    metrics = classification_metrics(true, probabilities, len(classifier.classes))
    return Evaluation(classifier.classes, len(samples), metrics, recalls, counts)


def _check_classes(classifier: Classifier, samples: Sequence[Sample], folder: Path) -> None:
    unknown = sorted({each.label for each in samples} - set(classifier.classes))
    if unknown:
        raise DataError(
            f"{folder} has class folders that {classifier.name} does not know: "
            f"{', '.join(unknown[:5])}; it knows "
            f"{', '.join(classifier.classes[:10])}{' ...' if len(classifier.classes) > 10 else ''}"
        )


def _all_probabilities(classifier: Classifier, samples: Sequence[Sample]) -> np.ndarray:
    blocks, size = [], classifier.image_size_px
    with Progress("images", total=len(samples), unit="images") as progress:
        for chunk in iter_pixels([each.path for each in samples], [size]):
            blocks.append(classifier.probabilities(chunk[size]))
            progress.advance(len(chunk[size]))
    return np.concatenate(blocks)
