"""`grid`: models x synthetic ratios x seeds, and the report."""

from __future__ import annotations

import argparse
import logging
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from trainer.commands.parsing import names, new_parser, numbers
from trainer.commands.report import print_results
from trainer.config import AUGMENTATIONS, DEVICES, GridConfig, read_json
from trainer.errors import ConfigError
from trainer.models import MODELS
from trainer.report import write_report

logger = logging.getLogger(__name__)

EXAMPLES = """  python -m trainer grid --real data/digits --synthetic data/digits-synthetic --ratios 0,1,6 --out runs/digits
  python -m trainer grid --real photos --synthetic made --models cnn --seeds 5 --epochs 40 --out runs/photos
  python -m trainer grid --config grid.json --quick --out runs/smoke

--real holds train/<class>/ and test/<class>/; --synthetic holds <class>/, with metadata.jsonl or without.
The same command again trains only what is not done yet."""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "grid", help="train models x synthetic ratios x seeds, and report", examples=EXAMPLES)
    add = parser.add_argument
    add("--real", metavar="DIR", help="real images: train/<class>/ and test/<class>/")
    add("--synthetic", metavar="DIR", help="labelled folder of synthetic images")
    add("--out", metavar="DIR", help="the grid's folder; finished runs in it are kept")
    add("--config", type=Path, metavar="FILE", help="JSON with these options; the command line wins")
    add("--models", type=names, metavar="A,B", help=f"from {', '.join(MODELS)} (default cnn,resnet50)")
    add("--ratios", type=numbers, metavar="0,R,...", help="synthetic images for each real one (default 0,0.5,1)")
    add("--seeds", type=int, metavar="N", help="repetitions of every cell (default 3)")
    add("--quick", action="store_true", default=None, help="smoke run: small images, few of them, few updates")
    add("--json", action="store_true", help="print the results as JSON instead of a table")
    frozen = parser.add_argument_group("frozen backbones")
    frozen.add_argument("--weights", metavar="FILE", help="pretrained weights: safetensors or a state dict")
    frozen.add_argument("--allow-untrained", action="store_true", default=None, help="go on without pretrained weights")
    _add_training_options(parser)
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", choices=DEVICES, help="default auto: CUDA where there is one")
    machine.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    parser.set_defaults(command=run)


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training, the same in all cells (default: each model's own)")
    length = group.add_mutually_exclusive_group()
    length.add_argument(
        "--updates", type=int, metavar="N", help="optimiser updates of every run (default grows with the largest cell)"
    )
    length.add_argument("--epochs", type=int, metavar="N", help="passes over a run's own images, instead of updates")
    group.add_argument("--batch-size", type=int, metavar="N")
    group.add_argument("--learning-rate", type=float, metavar="X")
    group.add_argument("--l2", type=float, metavar="X", help="L2 penalty")
    group.add_argument("--augment", choices=AUGMENTATIONS, help="standard: random shift and mirror (default none)")
    group.add_argument("--validation-share", type=float, metavar="X", help="of the real training images (default 0.2)")
    group.add_argument("--image-size", dest="image_size_px", type=int, metavar="PX", help="side of the model's input")


def run(options: argparse.Namespace) -> int:
    """Trains what is missing, writes the report, and prints the table; 1 where a run failed."""
    config = _config(options)
    # Read when torch loads. Threads that spin while they wait made a grid on a busy machine four times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from trainer.grid import run_grid  # torch, which the other commands do without

    grid = run_grid(config)
    path = write_report(grid.root)
    print_results(grid, path, as_json=options.json)
    failed = grid.failed()
    for each in failed:
        logger.error("failed: %s: %s", each.run_id, each.error)
    return 1 if failed else 0


def _config(options: argparse.Namespace) -> GridConfig:
    values = read_json(options.config) if options.config else {}
    for field in fields(GridConfig):
        given = getattr(options, field.name)
        if given is not None:
            values[field.name] = given
    for name in ("real", "out"):
        if name not in values:
            raise ConfigError(f"--{name} is missing; say where with --{name} DIR or in the --config file")
    return GridConfig.from_dict(values)
