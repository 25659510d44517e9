"""The options of `grid`. Those that GridConfig has too are named like its fields."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.arms import BUDGETS, NORMS
from trainer.commands.parsing import names, numbers
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
)
from trainer.models.registry import MODELS, default_models
from trainer.tracking import KINDS


def add_grid_options(parser: argparse.ArgumentParser) -> None:
    """All of them, in the order of the help."""
    _add_data_options(parser)
    _add_cell_options(parser)
    _add_repetition_options(parser)
    _add_output_options(parser)
    _add_weights_options(parser)
    _add_training_options(parser)
    _add_machine_options(parser)


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


def _add_repetition_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
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


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
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
        help=(
            "one process per device, as in cuda:0,cuda:1; cuda:0,cuda:0 trains two runs at once on "
            "one card (default: every GPU)"
        ),
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


def seed_count(text: str) -> int | str:
    """A number of seeds, or "auto"."""
    return AUTO if text == AUTO else int(text)
