"""`regenerate` of the client; with --until-full, the trainer's check judges the new images too."""

from __future__ import annotations

import argparse
import contextlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

from client.commands import regenerate
from trainer.commands import check

EXAMPLES = """
  synthgrid regenerate data/synthetic --server http://127.0.0.1:8188 \\
      --until-full --real data/animals"""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = regenerate.add_parser(commands, more_examples=EXAMPLES)
    group = parser.add_argument_group("checking the new images too")
    group.add_argument(
        "--until-full",
        action="store_true",
        help="check, make again and check again, until nothing is rejected or every attempt is "
        "used up; needs --real",
    )
    check.add_check_options(group)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Makes rejected images again: once, or until a check accepts the whole folder.

    Raises:
        SystemExit: wrong usage: one of --until-full and --real without the other.
    """
    if not args.until_full:
        if args.real is not None:
            args.wrong_usage("--real is what --until-full checks by; add --until-full")
        return regenerate.regenerate(args)
    if args.real is None:
        args.wrong_usage("--until-full needs real images to check by: --real DIR")
    return regenerate.regenerate(args, partial(_checked, args))


def _checked(args: argparse.Namespace, folder: Path) -> Path:
    """The file of the verdicts of one check, which is told on standard error: on standard output
    comes the result alone, or events."""
    with contextlib.redirect_stdout(sys.stderr):
        path: Path = check.judge(argparse.Namespace(**vars(args), synthetic=folder)).path
    return path
