"""`grid`: models x arms x budgets x seeds, and the report."""

from __future__ import annotations

import argparse
import logging
import os
import re
from contextlib import ExitStack
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.arms import SOURCE_NAME
from trainer.commands.grid_options import add_grid_options
from trainer.commands.parsing import named_folders, new_parser
from trainer.commands.report import print_results
from trainer.config import GridConfig, read_json, renamed
from trainer.errors import ConfigError
from trainer.runs import read_json_file
from trainer.tracking import Tracked, open_tracker

if TYPE_CHECKING:
    from trainer.grid.watching import Watcher

logger = logging.getLogger(__name__)
SOURCE_GIVEN = re.compile(rf"{SOURCE_NAME.pattern}=")

EXAMPLES = """\
  synthgrid grid --real data/digits --synthetic data/digits-synthetic --ratios 0,1,6 \\
      --out runs/digits
  synthgrid grid --real photos --synthetic made --models cnn --seeds 5 --epochs 40 --out runs/photos
  synthgrid grid --real photos --synthetic a=made-a --synthetic b=made-b --out runs/arms \\
      --models cnn --arms real,add:1,add:1@b,add:2@a+b,swap:0.5,fewer:0.5,only:1,augment,copies:1
  synthgrid grid --real photos --synthetic made --models cnn --ratios 0,1 --seeds auto --detect 2 \\
      --more-real photos-left-over --redraw 30 --out runs/two-points
  synthgrid grid --config grid.json --quick --out runs/smoke

--real contains train/<class>/ and test/<class>/; --synthetic contains <class>/, with or without
metadata.jsonl.
Running the same command again trains only what is not done yet.

arms, each trained on the same validation and test images:
  real         all real training images: the baseline
  add:1        plus one synthetic image for each real one; --ratios 0,1 means --arms real,add:1
  swap:0.5     half of the real images replaced by synthetic ones
  fewer:0.5    half of the real ones
  only:1       synthetic ones only, one for each real one
  augment      the real ones, shifted and mirrored at random; augment:KIND, as with --augment, or
               augment:mixup, augment:cutmix
  add:1+augment:KIND    any arm with another augmentation than the grid's
  balance      synthetic images fill every class up to the size of the largest
  fill:50      synthetic images fill every class up to 50 images
  copies:1     plus a rotated or mirrored copy of each real one
  more:1       plus an additional real image for each real one, from --more-real
  add:1@b      from the synthetic source b; add:2@a+b from both in turn
  add:1@clean  from those that a check keeps: --select clean=b:label,real>=0.1

budgets: with "updates" every cell gets as many optimiser updates as the baseline, with "epochs" as
many passes over its own images. Arms with as many images as the baseline are trained once for
both."""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "grid", examples=EXAMPLES)
    add_grid_options(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Trains what is missing, writes the report and prints the table; 1 if a run failed."""
    config = _config(options)
    # Read when torch loads. Threads that spin while they wait made a grid on a busy machine four
    # times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # It imports torch, which the other commands do not need.
    from trainer.grid.sequential import run_whole_grid
    from trainer.report import JSON_FILE, write_report

    with ExitStack() as stack:
        watchers: list[Watcher] = _live(options, Path(config.out), stack)
        tracked = _tracked(options, Path(config.out))
        grid = run_whole_grid(config, [*watchers, *tracked])
        path = write_report(grid.root)
    for tracker in tracked:
        found = read_json_file(grid.root / JSON_FILE)
        tracker.report(path, "\n".join([*found["answers"], "", found["tables"]["text"]]))
    print_results(grid, path, as_json=options.json)
    failed = grid.failed()
    for each in failed:
        logger.error("failed: %s: %s", each.run_id, each.error)
    return 1 if failed else 0


def _live(options: argparse.Namespace, out: Path, stack: ExitStack) -> list[Watcher]:
    """The page of --live, if asked for."""
    if not options.live:
        return []
    from trainer.report import REPORT_FILE
    from trainer.report.live import LiveReport

    logger.info("%s shows how far the grid is; open it in a browser", out / REPORT_FILE)
    return [stack.enter_context(LiveReport(out))]


def _tracked(options: argparse.Namespace, out: Path) -> list[Tracked]:
    """What hands runs to the tracker of --log, if asked for; refuses one that is not installed."""
    if options.log is None:
        return []
    import_module(options.log)
    return [Tracked(options.log, lambda: open_tracker(options.log, out))]


def _config(options: argparse.Namespace) -> GridConfig:
    values = renamed(read_json(options.config)) if options.config else {}
    if options.synthetic is not None:
        options.synthetic = named_sources(options.synthetic)
    if options.tests is not None:
        folders = named_folders(options.tests, option="--test")
        options.tests = {name: str(folder) for name, folder in folders.items()}
    for field in fields(GridConfig):
        given = getattr(options, field.name, None)
        if given is not None:
            values[field.name] = given
    for name in ("real", "out"):
        if name not in values:
            raise ConfigError(
                f"--{name} is missing; give --{name} DIR or set it in the --config file"
            )
    return GridConfig.from_dict(values)


def named_sources(given: list[str]) -> str | dict[str, str]:
    """--synthetic DIR, or --synthetic NAME=DIR any number of times."""
    if len(given) == 1 and not SOURCE_GIVEN.match(given[0]):
        return given[0]
    found: dict[str, str] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals or not folder or not SOURCE_GIVEN.match(text):
            raise ConfigError(
                f"--synthetic {text} has no name; with several sources each needs one, as in "
                "--synthetic a=DIR"
            )
        if name in found:
            raise ConfigError(f"--synthetic names '{name}' twice; give each source its own name")
        found[name] = folder
    return found
