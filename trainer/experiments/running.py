"""What the experiments share: their options, and running their grid."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from comfy_nodes.errors import SynthGridError
from trainer.arms import BUDGETS
from trainer.commands.report import print_results
from trainer.config import DEVICES, RECIPES, GridConfig
from trainer.report import write_report
from trainer.runs import Grid

logger = logging.getLogger("trainer")
_GIVEN = ("redraw", "updates", "image_size_px", "threads")  # as in GridConfig, None for its default


def new_parser(module: str, docstring: str, *, recipe: str = "classic") -> argparse.ArgumentParser:
    """The options of every experiment, with the file's docstring as description."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=docstring,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--real",
        required=True,
        metavar="DIR",
        help="train/<class>/ and test/<class>/, or torchvision:NAME",
    )
    add(
        "--out",
        required=True,
        metavar="DIR",
        help="the grid's folder; finished runs in it are not trained again",
    )
    add(
        "--seeds",
        type=int,
        metavar="N",
        help="repetitions of every cell (default 5; with --quick 1)",
    )
    add(
        "--tuned",
        action="append",
        default=[],
        metavar="FILE",
        help="a model's hyper-parameters, from tune; repeat for more models",
    )
    add(
        "--weights",
        action="append",
        metavar="[MODEL=]FILE",
        help="a pretrained model's weights; repeat for more models",
    )
    add("--allow-untrained", action="store_true", help="continue without pretrained weights")
    add(
        "--recipe",
        choices=tuple(RECIPES),
        default=recipe,
        help=f"how models are trained (default {recipe})",
    )
    add("--models", metavar="A,B", help="other models than the experiment's")
    add("--redraw", type=int, metavar="N", help="draw N real training images per class and seed")
    add("--budgets", metavar="A,B", help="updates, epochs or both (default updates,epochs)")
    add("--updates", type=int, metavar="N", help="of the baseline (default: the experiment's)")
    add("--image-size", dest="image_size_px", type=int, metavar="PX", help="of the models' input")
    add("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    add("--device", choices=DEVICES, default="auto", help="default auto: CUDA if available")
    add(
        "--quick",
        action="store_true",
        help="smoke run in minutes; its numbers are not comparable with the paper's",
    )
    add("--json", action="store_true", help="print the results as JSON instead of a table")
    return parser


def shared_values(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of GridConfig that the shared options set."""
    return {
        "real": options.real,
        "out": options.out,
        "seeds": options.seeds or (1 if options.quick else 5),
        "recipe": options.recipe,
        "tuned": tuple(options.tuned),
        "weights": tuple(options.weights) if options.weights else None,
        "allow_untrained": options.allow_untrained or options.quick,
        "device": options.device,
        "budgets": tuple(options.budgets.split(",")) if options.budgets else BUDGETS,
        **{name: getattr(options, name) for name in _GIVEN},
    }


def run_experiment(
    parser: argparse.ArgumentParser,
    build: Callable[[argparse.Namespace], GridConfig],
    arguments: Sequence[str] | None = None,
    *,
    conclude: Callable[[Grid], list[str]] | None = None,
) -> int:
    """Runs the grid that `build` makes from the options, writes its report and prints the table,
    and what `conclude` says about it. Returns the exit code."""
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the grid command
    from trainer.grid.sequential import run_whole_grid

    try:
        grid = run_whole_grid(build(options))
        print_results(grid, write_report(grid.root), as_json=options.json)
        if conclude is not None and not options.json:
            print("\n".join(conclude(grid)))
    except (SynthGridError, OSError) as error:
        logger.error("error: %s", error)
        return 1
    except KeyboardInterrupt:
        logger.error("interrupted; the same command resumes where this one stopped")
        return 130
    for run in grid.failed():
        logger.error("failed: %s: %s", run.run_id, run.error)
    return 1 if grid.failed() else 0
