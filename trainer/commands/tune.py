"""`tune`: hyper-parameters from the real training images."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, fields
from typing import Any

from trainer.commands.parsing import new_parser
from trainer.config import DEFAULT_RECIPE, DEVICES, RECIPES

EXAMPLES = """  synthgrid tune --real data/animals --model cnn --trials 40 --out runs/tuned-cnn.json
  synthgrid grid --real data/animals --synthetic made --tuned runs/tuned-cnn.json --out runs/animals

The test images are not used. The same command run again resumes; --trials is the total."""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "tune", examples=EXAMPLES)
    add = parser.add_argument
    add(
        "--real", required=True, metavar="DIR", help="real images: train/<class>/ and test/<class>/"
    )
    add(
        "--out",
        required=True,
        metavar="FILE",
        help="the JSON file to write; the study is kept next to it",
    )
    add("--model", default="cnn", metavar="NAME", help="default cnn")
    add(
        "--recipe",
        default=DEFAULT_RECIPE,
        choices=(*RECIPES, "any"),
        help=f"which recipe's hyper-parameters; any: the best of all (default {DEFAULT_RECIPE})",
    )
    add("--trials", type=int, default=30, metavar="N", help="total number of trials (default 30)")
    add("--minutes", type=float, metavar="N", help="start no trial after so many minutes")
    add("--folds", type=int, default=3, metavar="N", help="cross-validation folds (default 3)")
    add("--seed", type=int, default=0, metavar="N")
    add(
        "--image-size",
        dest="image_size_px",
        type=int,
        metavar="PX",
        help="side of the model's input",
    )
    add("--weights", metavar="FILE", help="pretrained weights of a frozen model")
    add("--allow-untrained", action="store_true", help="continue without pretrained weights")
    add("--device", choices=DEVICES, default="auto", help="default auto: CUDA if available")
    add("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    add("--quick", action="store_true", help="smoke run: few and small images, few updates")
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Tunes and prints what was found."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as for a grid: read when torch loads
    from trainer.training.tuning.tune import TuneConfig, tune

    found = tune(
        TuneConfig(**{each.name: getattr(options, each.name) for each in fields(TuneConfig)})
    )
    if options.json:
        print(json.dumps(asdict(found), default=str, indent=1))
        return 0
    settings = ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in found.training.items()
    )
    print(f"{found.path}: recipe {found.recipe}, {settings}")
    print(
        f"macro F1 {found.score:.3f} out of fold, {found.default_score:.3f} with the defaults, "
        f"{found.trials} trials"
    )
    return 0
