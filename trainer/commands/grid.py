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

from trainer.arms import BUDGETS, NORMS, SOURCE_NAME
from trainer.commands.parsing import named_folders, names, new_parser, numbers
from trainer.commands.report import print_results
from trainer.config import (
    AUGMENTATIONS,
    AUTO,
    DEFAULT_RECIPE,
    DEVICES,
    DTYPES,
    EXECUTORS,
    HEADS,
    PILOT_SEEDS,
    RECIPES,
    VALIDATIONS,
    GridConfig,
    read_json,
    renamed,
)
from trainer.errors import ConfigError
from trainer.models.registry import MODELS, default_models
from trainer.runs import read_json_file
from trainer.tracking import KINDS, Tracked, open_tracker

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
    _add_data_options(parser)
    _add_cell_options(parser)
    _add_weights_options(parser)
    _add_training_options(parser)
    _add_machine_options(parser)
    parser.set_defaults(command=run)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--real",
        metavar="DIR",
        help="real images: train/<class>/ and test/<class>/, or torchvision:CIFAR10",
    )
    add(
        "--synthetic",
        action="append",
        metavar="[NAME=]DIR",
        help="labelled folder of synthetic images; repeat for more",
    )
    add(
        "--more-real",
        metavar="DIR",
        help="additional real images in class folders, for arms more:AMOUNT",
    )
    add(
        "--select",
        action="append",
        metavar="NAME=SOURCE:TERMS",
        help=(
            "a source of the images that a check keeps, for arms such as add:1@NAME; TERMS are "
            "label, copy, blank, outlier, real, or SCORE>=NUMBER; as many images at random are "
            "trained beside it"
        ),
    )
    add(
        "--redraw",
        type=int,
        metavar="N",
        help=(
            "draw N real training images per class anew for each seed, from train and --more-real, "
            "so that intervals cover their choice; more:AMOUNT takes from the rest"
        ),
    )
    add(
        "--test",
        dest="tests",
        action="append",
        metavar="[NAME=]DIR",
        help=(
            "a further test set in class folders, such as sketches beside photos; repeat for more; "
            "every comparison is made on each, and corrected for all"
        ),
    )
    add(
        "--test-share",
        type=float,
        metavar="X",
        help=(
            "--real has class folders without train and test: each seed splits them anew and "
            "tests on this share"
        ),
    )
    add(
        "--drop-leaks",
        action="store_true",
        default=None,
        help="leave out training images that leak",
    )
    add(
        "--cap-amounts",
        action="store_true",
        default=None,
        help="where an arm asks for more images of a class than there are, take those there are",
    )
    add("--out", metavar="DIR", help="the grid's folder; finished runs in it are not trained again")
    add(
        "--config",
        type=Path,
        metavar="FILE",
        help="JSON file with these options; the command line takes precedence",
    )


def _add_cell_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--models",
        type=names,
        metavar="A,B",
        help=(
            f"NAME[:frozen|finetune|scratch] from {', '.join(MODELS)}, timm:ARCH "
            f"(default {','.join(default_models())})"
        ),
    )
    add(
        "--ratios",
        type=numbers,
        metavar="0,R,...",
        help="synthetic images for each real one (default 0,0.5,1)",
    )
    add(
        "--arms",
        type=names,
        metavar="ARM,...",
        help="what cells train on, in addition to --ratios; see below",
    )
    add(
        "--budgets",
        type=names,
        metavar="A,B",
        help=f"{' or '.join(BUDGETS)} or both (default {','.join(BUDGETS)})",
    )
    add(
        "--norms",
        type=names,
        metavar="A,B",
        help=(
            f"{', '.join(NORMS)} (default {NORMS[0]}); with aux, arms of real and synthetic images "
            "are also trained with batch normalisation of their own for the synthetic ones, and "
            "on the same stratified batches without it, its control"
        ),
    )
    add(
        "--synthetic-weight",
        type=float,
        metavar="X",
        help="weight of the synthetic images' loss beside that of the real ones, with --norms "
        "(default 1)",
    )
    add(
        "--then-real",
        action="store_true",
        default=None,
        help="also train arms of real and synthetic images with the second half of their updates "
        "on the real ones alone",
    )
    add(
        "--seeds",
        type=seed_count,
        metavar="N",
        help=(
            f"repetitions of every cell (default 3); auto: {PILOT_SEEDS} first, then as many as "
            "find the change --detect, fewer if the answer is clear before"
        ),
    )
    add(
        "--detect",
        type=float,
        metavar="POINTS",
        help="change of macro F1 to find in 80%% of such grids, for --seeds auto and the report",
    )
    add("--most-seeds", type=int, metavar="N", help="limit of --seeds auto (default 20)")
    add(
        "--meaningful",
        type=float,
        metavar="POINTS",
        help='smallest change of interest, for the verdict "no change larger than" (default 1)',
    )
    add(
        "--quick",
        action="store_true",
        default=None,
        help="smoke run: few and small images, few updates",
    )
    add("--json", action="store_true", help="print the results as JSON instead of a table")
    add(
        "--live",
        action="store_true",
        help="while the grid trains, report.html shows how far it is and loads itself again",
    )
    add(
        "--log",
        choices=KINDS,
        help="hand finished runs with configuration and scores, and the report, to a tracker",
    )


def _add_weights_options(parser: argparse.ArgumentParser) -> None:
    pretrained = parser.add_argument_group("pretrained models")
    pretrained.add_argument(
        "--weights",
        action="append",
        metavar="[MODEL=]FILE",
        help="safetensors, a state dict, or the folder of a pretrain run; repeat for each "
        "pretrained model",
    )
    pretrained.add_argument(
        "--allow-untrained",
        action="store_true",
        default=None,
        help="continue without pretrained weights",
    )


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "training, the same in all cells (defaults depend on recipe and model)"
    )
    group.add_argument(
        "--recipe",
        choices=tuple(RECIPES),
        help="; ".join(f"{each.name}: {each.summary}" for each in RECIPES.values())
        + f" (default {DEFAULT_RECIPE})",
    )
    length = group.add_mutually_exclusive_group()
    length.add_argument(
        "--updates",
        type=int,
        metavar="N",
        help="optimiser updates of the baseline (default: the recipe's)",
    )
    length.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="as many updates as N passes over the real images take",
    )
    group.add_argument(
        "--tuned",
        action="append",
        metavar="FILE",
        help="a model's hyper-parameters, from tune; repeat for more models",
    )
    group.add_argument("--batch-size", type=int, metavar="N")
    group.add_argument("--learning-rate", type=float, metavar="X")
    group.add_argument("--weight-decay", type=float, metavar="X", help="L2 penalty")
    group.add_argument("--l2", dest="weight_decay", type=float, help=argparse.SUPPRESS)
    group.add_argument(
        "--augment",
        choices=AUGMENTATIONS,
        help=(
            "standard: shift and mirror; crop: random crops; trivial, rand: crops, and colours "
            "and geometry of TrivialAugment or RandAugment (default: the recipe's)"
        ),
    )
    group.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="mirror images at random; --no-mirror for digits and letters (default: mirror)",
    )
    group.add_argument(
        "--head",
        choices=HEADS,
        help="how a frozen backbone's last layer is fitted (default: the recipe's)",
    )
    group.add_argument(
        "--drop-path",
        type=float,
        metavar="RATE",
        help="stochastic depth, for models of timm that have it (default: the recipe's)",
    )
    group.add_argument(
        "--validation",
        choices=VALIDATIONS,
        help=(
            "holdout: hold real images out; none: train on all; kfold: choose the learning rate by "
            "cross-validation, then train on all (default: the recipe's)"
        ),
    )
    group.add_argument(
        "--validation-share",
        type=float,
        metavar="X",
        help="of the real training images, with --validation holdout (default 0.2)",
    )
    group.add_argument(
        "--image-size",
        dest="image_size_px",
        type=int,
        metavar="PX",
        help="side of the model's input",
    )


def _add_machine_options(parser: argparse.ArgumentParser) -> None:
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", choices=DEVICES, help="default auto: CUDA if available")
    machine.add_argument(
        "--devices",
        type=names,
        metavar="D,...",
        help="one process per device, as in cuda:0,cuda:1 (default: every GPU)",
    )
    machine.add_argument(
        "--executor",
        choices=EXECUTORS,
        help="ray: spread the runs over a Ray cluster (default local)",
    )
    machine.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="address of the Ray cluster, or ray://HOST:PORT (default: start Ray on this machine)",
    )
    machine.add_argument(
        "--dtype", choices=DTYPES, help="number format (default auto: 16 bits on CUDA, 32 on a CPU)"
    )
    machine.add_argument("--precision", dest="dtype", choices=DTYPES, help=argparse.SUPPRESS)
    machine.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)"
    )


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


def seed_count(text: str) -> int | str:
    """A number of seeds, or "auto"."""
    return AUTO if text == AUTO else int(text)


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
