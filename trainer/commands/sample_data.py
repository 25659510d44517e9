"""`sample-data`: real handwritten digits as class folders, for a first grid."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from trainer.commands.parsing import new_parser

EXAMPLES = "  synthgrid sample-data --out data/digits --train 5 --test 30"


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(
        commands,
        "sample-data",
        examples=EXAMPLES,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder for train/ and test/")
    add(
        "--train",
        type=int,
        default=5,
        metavar="N",
        help="training images per class, 1 to 30 (default 5)",
    )
    add(
        "--test",
        type=int,
        default=30,
        metavar="N",
        help="test images per class, 1 to 30 (default 30)",
    )
    add(
        "--set-aside",
        type=Path,
        metavar="DIR",
        help="also write all remaining digits to this folder",
    )
    parser.set_defaults(command=write)


def write(options: argparse.Namespace) -> int:
    """Writes the folders and says what is in them."""
    from trainer.data.sample_data import write_sample_data

    done = write_sample_data(
        options.out,
        train_per_class=options.train,
        test_per_class=options.test,
        set_aside=options.set_aside,
    )
    aside = (
        f", {done.set_aside_total} set aside in {options.set_aside}" if options.set_aside else ""
    )
    print(
        f"{done.out}: {done.train_total} training and {done.test_total} test images of 10 "
        f"classes{aside}"
    )
    return 0
