"""Seconds for a row of a grid (3 ratios x 5 seeds): SynthGrid and a course tutorial's loop on the
same images.

    python benchmarks/training/grid.py [--quick] [--rows cnn,resnet50] [--data DIR] [--weights FILE]
    [--epochs N]

The tutorial's way: ImageFolder, DataLoader with two workers, a torchvision model, Adam, cell by
cell; and the same with Lightning's Trainer, where Lightning is installed. Both are measured on one
seed of each ratio for the cnn row, on the middle ratio's cell alone for the resnet50 row, and
scaled by the number of images; they use the test images once and at no validation images, which
favours them. All ways train for the same number of passes over the same files, from the same
weights. Half of the training images stand in for synthetic ones: this is about time.

--data takes train/ and test/ with class folders, or class folders in which files named test* are
the test images. Without it the sample digits are used. Without --weights the frozen backbone is
untrained, on both sides, and the others get our normalisation of its features as well, since such
features are nearly constant; this is not timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchvision import datasets, transforms  # noqa: E402

from trainer.arms import arm_of_ratio  # noqa: E402
from trainer.config import GridConfig  # noqa: E402
from trainer.data.cells import CellImages, cell_images  # noqa: E402
from trainer.data.dataset import load_dataset  # noqa: E402
from trainer.data.sample_data import write_sample_data  # noqa: E402
from trainer.grid.grid import run_grid  # noqa: E402
from trainer.models.registry import model_spec  # noqa: E402
from trainer.models.weights import UNTRAINED, find_weights, given_weights, load_backbone  # noqa: E402
from trainer.runs import Grid  # noqa: E402
from trainer.training.engine import Standardise  # noqa: E402

RATIOS = (0.0, 0.5, 1.0)
WORKERS = 2
# Network, images, epochs, learning rate, L2.
Loop = Callable[[nn.Module, DataLoader, int, float, float], None]
MEASURED = {"cnn": RATIOS, "resnet50": (0.5,)}  # the tutorial's cells, at one seed


@dataclass(frozen=True)
class Size:
    """Size of a row: images per class to train on (half of them "synthetic") and to test on; side
    in pixels."""

    train: int
    test: int
    epochs: int
    seeds: int
    px: int


SIZES = {"cnn": Size(30, 30, 15, 5, 64), "resnet50": Size(20, 10, 8, 5, 224)}
QUICK = {"cnn": Size(8, 4, 3, 2, 32), "resnet50": Size(8, 4, 3, 2, 64)}


@dataclass(frozen=True)
class TutorialCell:
    """Time and accuracy of one cell of the tutorial's loop."""

    images: int
    train_s: float
    test_s: float
    accuracy: float


def prepare(data: Path | None, where: Path, size: Size) -> tuple[Path, Path]:
    """Links (copies, where links are not allowed) into real/train, real/test and synthetic; the
    first and the last."""
    if data is None:
        data = where / "digits"
        write_sample_data(data, train_per_class=size.train, test_per_class=size.test)
    split = (data / "train").is_dir()
    for folder in sorted(
        path for path in (data / "train" if split else data).iterdir() if path.is_dir()
    ):
        files = sorted(path for path in folder.iterdir() if path.is_file())
        test = (
            sorted((data / "test" / folder.name).iterdir())
            if split
            else [p for p in files if p.name.startswith("test")]
        )
        train = [path for path in files if path not in test][: size.train]
        half = len(train) // 2
        for part, paths in (
            ("real/train", train[:half]),
            ("synthetic", train[half:]),
            ("real/test", test[: size.test]),
        ):
            _link(paths, where / part / folder.name)
    return where / "real", where / "synthetic"


def _link(paths: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True)
    for path in paths:
        try:
            (folder / path.name).symlink_to(path.resolve())
        except OSError:
            (folder / path.name).write_bytes(path.read_bytes())


def our_way(
    model: str, real: Path, synthetic: Path, out: Path, size: Size, weights: str | None
) -> tuple[Grid, float]:
    """The whole row, decoding and files included."""
    started = time.perf_counter()
    grid = run_grid(_config(model, real, synthetic, out, size, weights))
    return grid, time.perf_counter() - started


def _config(
    model: str, real: Path, synthetic: Path, out: Path, size: Size, weights: str | None
) -> GridConfig:
    return GridConfig(
        str(real),
        str(out),
        str(synthetic),
        models=(model,),
        recipe="classic",  # as the tutorial trains
        ratios=RATIOS,
        budgets=("epochs",),
        seeds=size.seeds,
        epochs=size.epochs,
        image_size_px=size.px,
        weights=weights if model_spec(model).pretrained else None,
        allow_untrained=weights is None,
        device="cpu",
    )


def tutorial_way(
    config: GridConfig, cell: CellImages, folder: Path, grid: Grid, train_loop: Loop
) -> TutorialCell:
    """One cell as a course would train it, with this loop."""
    (model,) = config.models
    spec, px = model_spec(model), config.image_size_for(model)
    training = config.training_for(model, train_images=len(cell.train))
    for part, samples in (("train", cell.train), ("test", cell.test)):
        for sample in samples:
            target = folder / part / sample.label / f"{sample.source}-{sample.path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(sample.path.read_bytes())
    transform = transforms.Compose(
        [
            transforms.Resize(px),
            transforms.CenterCrop(px),
            transforms.ToTensor(),
            transforms.Normalize(spec.mean, spec.std),
        ]
    )
    train, test = (
        DataLoader(
            datasets.ImageFolder(
                str(folder / part), transform, loader=lambda path: Image.open(path).convert("RGB")
            ),
            batch_size=training.batch_size,
            shuffle=part == "train",
            num_workers=WORKERS,
        )
        for part in ("train", "test")
    )
    torch.manual_seed(0)
    network = spec.build(len(train.dataset.classes), image_size_px=px)
    if spec.frozen:
        weights = find_weights(
            model,
            given=given_weights(config.weights, config.models).get(model),
            allow_untrained=True,
        )
        network.load_state_dict(
            load_backbone(model, weights, image_size_px=px).state_dict(), strict=False
        )
        _freeze(network, grid if weights.source == UNTRAINED else None)
    started = time.perf_counter()
    train_loop(network, train, config.epochs or 1, training.learning_rate, training.weight_decay)
    trained = time.perf_counter()
    accuracy = _accuracy(network, test)
    return TutorialCell(len(cell.train), trained - started, time.perf_counter() - trained, accuracy)


def _freeze(network: nn.Module, grid: Grid | None) -> None:
    """Freezes all but the last layer, with our normalisation of its input if a grid is given."""
    network.requires_grad_(False)
    network.fc.requires_grad_(True)
    if grid is not None:
        ours = load_file(grid.root / grid.runs[0].run_id / "model.safetensors")
        network.fc = nn.Sequential(Standardise(ours["0.mean"], ours["0.std"]), network.fc)


def _training_mode(network: nn.Module) -> None:
    """A frozen backbone stays in evaluation mode."""
    network.train(all(parameter.requires_grad for parameter in network.parameters()))


def plain_loop(network: nn.Module, loader: DataLoader, epochs: int, rate: float, l2: float) -> None:
    """The loop itself."""
    parameters = [each for each in network.parameters() if each.requires_grad]
    optimiser, criterion = (
        torch.optim.Adam(parameters, lr=rate, weight_decay=l2),
        nn.CrossEntropyLoss(),
    )
    for _ in range(epochs):
        _training_mode(network)
        for images, labels in loader:
            optimiser.zero_grad()
            loss = criterion(network(images), labels)
            loss.backward()
            optimiser.step()


def lightning_loop(
    network: nn.Module, loader: DataLoader, epochs: int, rate: float, l2: float
) -> None:
    """The same by Lightning's Trainer, without logger, bar and checkpoints."""
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def on_train_epoch_start(self) -> None:
            _training_mode(self.network)

        def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            parameters = [each for each in self.parameters() if each.requires_grad]
            return torch.optim.Adam(parameters, lr=rate, weight_decay=l2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(Module(), loader)


@torch.no_grad()
def _accuracy(network: nn.Module, loader: DataLoader) -> float:
    network.eval()
    right = [(network(images).argmax(dim=1) == labels) for images, labels in loader]
    return float(torch.cat(right).float().mean())


def row(
    model: str, real: Path, synthetic: Path, where: Path, size: Size, weights: str | None
) -> dict[str, float]:
    """Prints a row's comparison and returns by what factor SynthGrid is faster than each other
    method."""
    grid, ours_s = our_way(model, real, synthetic, where / "runs", size, weights)
    config = _config(model, real, synthetic, where / "runs", size, weights)
    dataset = load_dataset(real, {name: Path(folder) for name, folder in config.sources.items()})
    cells = {
        ratio: cell_images(
            dataset, arm=arm_of_ratio(ratio), seed=0, validation_share=config.validation_share
        )
        for ratio in RATIOS
    }
    print(f"{model}: {len(RATIOS)} ratios x {size.seeds} seeds, {size.epochs} epochs, {size.px} px")
    print(f"  SynthGrid     {ours_s:8.1f} s")
    ratios = {}
    for name, loop in loops().items():
        found = {
            ratio: tutorial_way(config, cells[ratio], where / f"{name}-{ratio}", grid, loop)
            for ratio in MEASURED[model]
        }
        per_image = sum(each.train_s for each in found.values()) / sum(
            each.images for each in found.values()
        )
        test_s = statistics.mean(each.test_s for each in found.values())
        theirs_s = size.seeds * sum(per_image * len(cell.train) + test_s for cell in cells.values())
        ratios[name] = theirs_s / ours_s
        scores = ", ".join(
            f"{100 * each.accuracy:.1f}% at ratio {ratio:g}" for ratio, each in found.items()
        )
        print(
            f"  {name:13} {theirs_s:8.1f} s   SynthGrid is {ratios[name]:.1f} times as fast"
            f" (scaled from {len(found)} of {len(RATIOS) * size.seeds} cells; accuracy {scores})"
        )
    for ratio in RATIOS:
        runs = grid.of(model, arm_of_ratio(ratio).name, "epochs")
        accuracies = [100 * run.metrics["accuracy"] for run in runs]
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        seconds = statistics.mean(run.metrics["seconds"] for run in runs)
        print(
            f"  ratio {ratio:3g}: {len(cells[ratio].train):5} images, "
            f"SynthGrid {seconds:6.2f} s per cell, "
            f"accuracy {statistics.mean(accuracies):5.1f}% (s.d. {spread:.1f})",
            flush=True,
        )
    return ratios


def loops() -> dict[str, Loop]:
    """The other methods that can be measured here."""
    found: dict[str, Loop] = {"tutorial loop": plain_loop}
    if importlib.util.find_spec("lightning") is not None:
        found["Lightning"] = lightning_loop
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="cnn,resnet50", help="cnn, resnet50 or both (default)")
    parser.add_argument("--data", type=Path, help="real images (default: the sample digits)")
    parser.add_argument("--weights", help="of ResNet50 (default: untrained, on both sides)")
    parser.add_argument(
        "--epochs", type=int, help="passes over a cell's images (default 15 and 8, quick 3)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and smaller images")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    sizes = QUICK if options.quick else SIZES
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads")
    for package in ("lightning", "fastai"):
        if importlib.util.find_spec(package) is None:
            print(f"{package}: not installed, left out")
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # imports a lot, once
    for model in options.rows.split(","):
        size = replace(sizes[model], epochs=options.epochs or sizes[model].epochs)
        with tempfile.TemporaryDirectory() as where:
            real, synthetic = prepare(options.data, Path(where), size)
            row(model, real, synthetic, Path(where), size, options.weights)


if __name__ == "__main__":
    main()
