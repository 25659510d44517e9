"""`probe`: what a pretrained backbone is worth for a few real images per class."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.parsing import new_parser

if TYPE_CHECKING:
    from trainer.pretrain.output import Finished
    from trainer.pretrain.probe import Features, Score
    from trainer.quality.images import RealImages

logger = logging.getLogger(__name__)

EXAMPLES = """  synthgrid probe runs/pre --real data/digits
  synthgrid probe runs/pre --beside runs/supervised runs/simclr --real data/digits
  synthgrid probe runs/pre --real data/digits --shots 1,5 --draws 10 --json"""
RANDOM = "random initialisation"


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "probe", examples=EXAMPLES)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a finished pretrain run")
    add("--real", type=Path, required=True, metavar="DIR", help="real images: train/ and test/")
    add(
        "--beside",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="further finished runs, such as one with --method supervised on the same images",
    )
    add("--shots", default="1,5,10,30", help="training images per class (default 1,5,10,30)")
    add("--draws", type=int, default=5, help="draws of the shots (default 5)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--json", action="store_true", help="print the results as JSON")
    parser.set_defaults(command=probe)


def probe(options: argparse.Namespace) -> int:
    """Prints a table, and writes probe.json beside the run's other files."""
    from trainer.errors import ConfigError, DataError
    from trainer.pretrain.output import read_finished
    from trainer.pretrain.probe import check_shots
    from trainer.pretrain.probe import probe as measure
    from trainer.quality.images import load_real
    from trainer.runs import to_json, write_file

    try:
        shots = tuple(sorted({int(each) for each in options.shots.split(",")}))
    except ValueError:
        raise ConfigError(f"--shots {options.shots} is not a list such as 1,5,10,30") from None
    if options.draws < 1:
        raise ConfigError(f"--draws must be at least 1, not {options.draws}")
    runs = {path: read_finished(path) for path in (options.run, *options.beside)}
    _check_beside(runs)
    real = load_real(options.real)
    if not real.test:
        raise DataError(f"{options.real} has no test/; make one with: synthgrid split")
    check_shots(shots, real.train)
    number_of = {label: number for number, label in enumerate(real.classes)}
    if unknown := sorted({each.label for each in real.test} - number_of.keys()):
        raise DataError(f"class '{unknown[0]}' is in {options.real}/test but not in train")
    labels = [[number_of[each.label] for each in part] for part in (real.train, real.test)]
    scores = _measured(measure, runs, real, labels, shots, options)
    written = _values(scores, options, real)
    write_file(options.run / "probe.json", to_json(written))
    print(to_json(written).decode() if options.json else _table(scores))
    return 0


def _measured(
    measure: Any,
    runs: dict[Path, Finished],
    real: RealImages,
    labels: list[list[int]],
    shots: tuple[int, ...],
    options: argparse.Namespace,
) -> list[Score]:
    import torch

    from trainer.training.compute import pick_device

    features = _features(runs, real, pick_device(options.device))
    train, test = (torch.tensor(each) for each in labels)
    found: list[Score] = measure(features, train, test, shots=shots, draws=options.draws)
    return found


def _check_beside(runs: dict[Path, Finished]) -> None:
    """Raises ConfigError if two runs have one name; warns if they have seen different images."""
    from trainer.errors import ConfigError

    names: dict[str, Path] = {}
    for path in runs:
        other = names.setdefault(path.resolve().name, path)
        if other is not path:
            raise ConfigError(f"{other} and {path} have the same name in the table; rename one")
    first, *others = runs
    for path in others:
        if runs[path].images != runs[first].images:
            logger.warning("%s has seen other images than %s", path, first)


def _features(runs: dict[Path, Finished], real: RealImages, device: Any) -> dict[str, Features]:
    """Of the runs, of the first one's network with random weights, and of lite0 if installed."""
    from trainer.models.backbone import Backbone
    from trainer.models.registry import LITE0, default_models, model_spec
    from trainer.models.weights import UNTRAINED, Weights, find_weights
    from trainer.pretrain.probe import Features
    from trainer.pretrain.source import Pixels
    from trainer.progress import Progress

    wanted = {}
    for path, run in runs.items():
        weights = find_weights(run.config.model, given=run.weights, allow_untrained=False)
        size_px = run.config.image_size_px
        wanted[path.resolve().name] = (run.config.model, weights, size_px)
    own = next(iter(runs.values())).config
    wanted[RANDOM] = (own.model, Weights(UNTRAINED, "seed0", None), own.image_size_px)
    if LITE0 in default_models():
        weights = find_weights(LITE0, given=None, allow_untrained=False)
        wanted[LITE0] = (LITE0, weights, model_spec(LITE0).image_size_px)
    found = {}
    total = len(wanted) * (len(real.train) + len(real.test))
    with Progress("features", total=total, unit="images") as progress:
        for title, (model, weights, side_px) in wanted.items():
            backbone = Backbone(model, weights, image_size_px=side_px, device=device)
            parts = []
            for samples in (real.train, real.test):
                pixels = Pixels(samples, side_px)
                parts.append(_by_blocks(backbone, pixels, len(samples), progress))
            found[title] = Features(*parts)
    return found


def _by_blocks(backbone: Any, pixels: Any, count: int, progress: Any) -> Any:
    import torch

    blocks = []
    for rows in torch.split(torch.arange(count), 64):
        blocks.append(backbone(pixels.take(rows)))
        progress.advance(len(rows))
    return torch.cat(blocks)


def _values(scores: list[Score], options: argparse.Namespace, real: RealImages) -> dict[str, Any]:
    from trainer.data.samples import fingerprint

    random = {(each.head, each.shots): each for each in scores if each.backbone == RANDOM}
    rows = []
    for each in scores:
        step, within = each.above(random[each.head, each.shots])
        rows.append(
            {
                "backbone": each.backbone,
                "head": each.head,
                "shots": each.shots,
                "accuracy": each.mean,
                "interval": each.interval,
                "draws": each.accuracies,
                "above_random": step,
                "above_random_interval": within,
            }
        )
    return {
        "run": options.run.resolve().name,
        "train": fingerprint(real.train),
        "test": fingerprint(real.test),
        "scores": rows,
    }


def _table(scores: list[Score]) -> str:
    """A line per backbone and head, a column per number of shots, in per cent."""
    shots = sorted({each.shots for each in scores})
    by_key = {(each.backbone, each.head, each.shots): each for each in scores}
    names = list(dict.fromkeys((each.backbone, each.head) for each in scores))
    width = max(len(backbone) for backbone, _ in names)
    lines = [f"{'':{width}}  {'head':8}" + "".join(f"{f'{n} shots':>22}" for n in shots)]
    for backbone, head in names:
        cells = "".join(f"{_cell(by_key[backbone, head, n]):>22}" for n in shots)
        lines.append(f"{backbone:{width}}  {head:8}{cells}")
    return "\n".join(
        [*lines, "Accuracy on the test images in %, with the 95 % interval over draws"]
    )


def _cell(score: Score) -> str:
    within = score.interval
    around = "" if within is None else f" ({100 * within[0]:.1f} to {100 * within[1]:.1f})"
    return f"{100 * score.mean:.1f}{around}"
