"""python -m trainer: sample-data, grid, report. Results on stdout, progress and logs on stderr.

Exit codes: 0 done, 1 failed (one clear line), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from comfy_nodes.errors import SynthGridError
from trainer.config import AUGMENTATIONS, DEVICES, GridConfig, read_json
from trainer.errors import ConfigError
from trainer.models import MODELS
from trainer.report import write_report
from trainer.results import results_json, table_text
from trainer.runs import Grid, read_grid

logger = logging.getLogger("trainer")

_EXAMPLES = """examples:
  python -m trainer sample-data --out data/digits --train 5 --test 30
  python -m trainer grid --real data/digits --synthetic data/digits-synthetic \\
      --models cnn,resnet50 --ratios 0,1,6 --seeds 3 --out runs/digits
  python -m trainer report runs/digits
"""
_GRID_EXAMPLES = """examples:
  python -m trainer grid --real data/digits --synthetic data/digits-synthetic --ratios 0,1,6 --out runs/digits
  python -m trainer grid --real photos --synthetic made --models cnn --seeds 5 --epochs 40 --out runs/photos
  python -m trainer grid --config grid.json --quick --out runs/smoke

--real holds train/<class>/ and test/<class>/; --synthetic holds <class>/, with metadata.jsonl or without.
The same command again trains only what is not done yet."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        code: int = options.command(options)
        return code
    except SynthGridError as error:
        logger.error("error: %s", error)
        return 1
    except OSError as error:
        logger.error("error: %s", error)
        return 1
    except KeyboardInterrupt:
        logger.error("interrupted; the same command takes up where this one stopped")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer",
        description="Do synthetic images make a small image classifier better? Train a grid and see.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_sample_data(commands)
    _add_grid(commands)
    _add_report(commands)
    return parser


def _add_sample_data(commands: Any) -> None:
    command = commands.add_parser(
        "sample-data",
        help="write real handwritten digits as class folders",
        epilog="example:\n  python -m trainer sample-data --out data/digits --train 5 --test 30",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets train/ and test/")
    command.add_argument(
        "--train", type=int, default=5, metavar="N", help="training images a class, 1 to 30 (default 5)"
    )
    command.add_argument("--test", type=int, default=30, metavar="N", help="test images a class, 1 to 30 (default 30)")
    command.add_argument("--set-aside", type=Path, metavar="DIR", help="write all other digits there")
    command.set_defaults(command=_sample_data)


def _add_grid(commands: Any) -> None:
    command = commands.add_parser(
        "grid",
        help="train models x synthetic ratios x seeds, and report",
        epilog=_GRID_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add("--real", metavar="DIR", help="real images: train/<class>/ and test/<class>/")
    add("--synthetic", metavar="DIR", help="labelled folder of synthetic images")
    add("--out", metavar="DIR", help="the grid's folder; finished runs in it are kept")
    add("--config", type=Path, metavar="FILE", help="JSON with these options; the command line wins")
    add("--models", type=_names, metavar="A,B", help=f"from {', '.join(MODELS)} (default cnn,resnet50)")
    add("--ratios", type=_numbers, metavar="0,R,...", help="synthetic images for each real one (default 0,0.5,1)")
    add("--seeds", type=int, metavar="N", help="repetitions of every cell (default 3)")
    add("--quick", action="store_true", default=None, help="smoke run: small images, few of them, few updates")
    frozen = command.add_argument_group("frozen backbones")
    frozen.add_argument("--weights", metavar="FILE", help="pretrained weights: safetensors or a state dict")
    frozen.add_argument("--allow-untrained", action="store_true", default=None, help="go on without pretrained weights")
    training = command.add_argument_group("training, the same in all cells (default: each model's own)")
    length = training.add_mutually_exclusive_group()
    length.add_argument(
        "--updates", type=int, metavar="N", help="optimiser updates of every run (default grows with the largest cell)"
    )
    length.add_argument("--epochs", type=int, metavar="N", help="passes over a run's own images, instead of updates")
    training.add_argument("--batch-size", type=int, metavar="N")
    training.add_argument("--learning-rate", type=float, metavar="X")
    training.add_argument("--l2", type=float, metavar="X", help="L2 penalty")
    training.add_argument("--augment", choices=AUGMENTATIONS, help="standard: random shift and mirror (default none)")
    training.add_argument(
        "--validation-share", type=float, metavar="X", help="of the real training images (default 0.2)"
    )
    training.add_argument(
        "--image-size", dest="image_size_px", type=int, metavar="PX", help="side of the model's input"
    )
    machine = command.add_argument_group("machine")
    machine.add_argument("--device", choices=DEVICES, help="default auto: CUDA where there is one")
    machine.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    add("--json", action="store_true", help="print the results as JSON instead of a table")
    command.set_defaults(command=_grid)


def _add_report(commands: Any) -> None:
    command = commands.add_parser(
        "report",
        help="make results.csv and report.html anew from the runs alone",
        epilog="example:\n  python -m trainer report runs/digits",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("grid", type=Path, metavar="DIR", help="a grid's folder")
    command.add_argument("--json", action="store_true", help="print the results as JSON instead of a table")
    command.set_defaults(command=_report)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers with commas between them, as in 0,0.5,1, not '{text}'"
        ) from None


def _sample_data(options: argparse.Namespace) -> int:
    from trainer.sample_data import write_sample_data

    done = write_sample_data(
        options.out, train_per_class=options.train, test_per_class=options.test, set_aside=options.set_aside
    )
    aside = f", {done.set_aside_total} set aside in {options.set_aside}" if options.set_aside else ""
    print(f"{done.out}: {done.train_total} training and {done.test_total} test images of 10 classes{aside}")
    return 0


def _grid(options: argparse.Namespace) -> int:
    config = _grid_config(options)
    # Read when torch loads. Threads that spin while they wait made a grid on a busy machine four times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from trainer.grid import run_grid  # torch, which the other commands do without

    grid = run_grid(config)
    path = write_report(grid.root)
    _print_results(grid, path, as_json=options.json)
    failed = grid.failed()
    for run in failed:
        logger.error("failed: %s: %s", run.run_id, run.error)
    return 1 if failed else 0


def _grid_config(options: argparse.Namespace) -> GridConfig:
    values = read_json(options.config) if options.config else {}
    for field in fields(GridConfig):
        given = getattr(options, field.name, None)
        if given is not None:
            values[field.name] = given
    for name in ("real", "out"):
        if name not in values:
            raise ConfigError(f"--{name} is missing; say where with --{name} DIR or in the --config file")
    return GridConfig.from_dict(values)


def _report(options: argparse.Namespace) -> int:
    path = write_report(options.grid)
    _print_results(read_grid(options.grid), path, as_json=options.json)
    return 0


def _print_results(grid: Grid, report: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(results_json(grid) | {"report": str(report)}, indent=2, ensure_ascii=False))
        return
    print(table_text(grid))
    print(f"\nPercent, mean ± standard deviation over seeds. Report: {report}")


if __name__ == "__main__":
    sys.exit(main())
