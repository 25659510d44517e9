"""One run: from its images to the files of its folder, independent of where it is trained.

build -> fit -> predict -> files
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch
from safetensors.torch import save

from trainer.analysis.metrics import classification_metrics
from trainer.config import RunConfig
from trainer.data.cells import CellImages
from trainer.data.copies import COPY
from trainer.data.samples import MORE, REAL, Sample
from trainer.data.splits.folds import group_numbers
from trainer.errors import RunError
from trainer.runs import DONE, ERROR_FILE, predictions_file, to_csv, to_json
from trainer.training.batches.inputs import ModelInputs, needed_samples
from trainer.training.classifier import head_path, new_network
from trainer.training.compute import predict
from trainer.training.engine import fit
from trainer.training.fits import Fit, LabelledTensors

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedRun:
    """One run and the images it uses."""

    config: RunConfig
    images: CellImages

    @property
    def run_id(self) -> str:
        """The run's name and folder."""
        return self.config.run_id

    @property
    def needed_samples(self) -> list[Sample]:
        """All samples that the run needs rows for: its images, and their views for a frozen
        backbone."""
        return needed_samples(
            self.config.model,
            self.config.training,
            self.images.train,
            self.images.seen_whole,
        )


def train(run: PlannedRun, inputs: ModelInputs, *, device: torch.device) -> dict[str, bytes]:
    """The files of a run's folder: its results and DONE, or the reason why it failed, which is not
    raised."""
    files = {"config.json": to_json({**asdict(run.config), "versions": versions()})}
    try:
        return {**files, **train_run(run.config, run.images, inputs, device=device), DONE: b""}
    except RunError as error:
        return {**files, **failure(run, str(error))}
    except (RuntimeError, MemoryError) as error:  # torch reports a lack of memory as a RuntimeError
        logger.exception("run %s failed", run.run_id)
        return {**files, **failure(run, f"{type(error).__name__}: {error}")}


def failure(run: PlannedRun, reason: str) -> dict[str, bytes]:
    """The file that says why a run has no results."""
    logger.error("run %s failed: %s", run.run_id, reason)
    return {ERROR_FILE: f"{reason}\n".encode(errors="replace")}


def train_run(
    config: RunConfig, images: CellImages, inputs: ModelInputs, *, device: torch.device
) -> dict[str, bytes]:
    """Trains, then predicts each test set once: the files of a finished run, without DONE.

    Raises:
        RunError: the training diverged.
    """
    started_s = time.perf_counter()
    number = {label: position for position, label in enumerate(config.classes)}

    def labels(samples: Sequence[Sample]) -> torch.Tensor:
        return torch.tensor([number[sample.label] for sample in samples])

    values = inputs.on(device)
    network = new_network(
        config.model,
        len(config.classes),
        seed=config.seed,
        image_size_px=config.image_size_px,
        inputs=inputs,
        head=config.training.head,
        drop_path=config.training.drop_path,
        standardise_on=inputs.index(
            images.real or images.train
        ),  # `train` for an arm without any real ones
    )
    fitted = fit(
        network,
        values,
        train=LabelledTensors(
            inputs.train_index(config, images.train),
            labels(images.train),
            _judged(images.train),
            torch.tensor(group_numbers(images.train)),
        ),
        validation=LabelledTensors(inputs.index(images.validation), labels(images.validation)),
        config=config.training,
        seed=config.seed,
        device=device,
        head=head_path(config.model),
    )

    def tested(samples: Sequence[Sample]) -> tuple[dict[str, float], bytes]:
        found = predict(network, values, inputs.index(samples), device=device, dtype=fitted.dtype)
        true = labels(samples).numpy()
        metrics = classification_metrics(true, found, len(config.classes))
        return metrics, _predictions_csv(config, samples, true, found)

    metrics, predictions = tested(images.test)
    further = {name: tested(samples) for name, samples in images.tests.items()}
    counted = _metrics(images, fitted, metrics, time.perf_counter() - started_s)
    if further:
        counted["tests"] = {name: found for name, (found, _) in further.items()}
    return {
        "metrics.json": to_json(counted),
        predictions_file(): predictions,
        **{predictions_file(name): rows for name, (_, rows) in further.items()},
        "training_images.csv": _training_images_csv(images),
        "model.safetensors": save(
            {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
        ),
    }


def _judged(samples: Sequence[Sample]) -> torch.Tensor | None:
    """The real ones among the training images, by which choices are judged; None if all or none
    are."""
    real = torch.tensor([sample.source in (REAL, COPY, MORE) for sample in samples])
    return real if bool(real.any()) and not bool(real.all()) else None


def _metrics(
    images: CellImages, fitted: Fit, metrics: Mapping[str, float], seconds: float
) -> dict[str, object]:
    return {
        **metrics,
        **asdict(fitted),
        "real_images": len(images.real),
        "synthetic_images": len(images.synthetic),
        "copied_images": images.count(COPY),
        "more_images": images.count(MORE),
        "validation_images": len(images.validation),
        "test_images": len(images.test),
        "seconds": round(seconds, 3),
    }


def _predictions_csv(
    config: RunConfig, samples: Sequence[Sample], true: np.ndarray, probabilities: np.ndarray
) -> bytes:
    predicted = probabilities.argmax(axis=1)
    rows = [
        (sample.file, sample.label, config.classes[guess], f"{row[guess]:.6f}", f"{row[right]:.6f}")
        for sample, row, guess, right in zip(samples, probabilities, predicted, true, strict=True)
    ]
    return to_csv(("file", "true", "predicted", "p_predicted", "p_true"), rows)


def _training_images_csv(images: CellImages) -> bytes:
    parts = (("train", images.train), ("validation", images.validation))
    rows = [(each.file, each.label, each.source, use) for use, samples in parts for each in samples]
    return to_csv(("file", "label", "source", "use"), rows)


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    found = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    packages = ("synthgrid", "torch", "torchvision", "timm", "numpy", "scikit-learn", "pillow")
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found | {"threads": str(torch.get_num_threads())}
