"""What the commands' parsers share."""

from __future__ import annotations

import argparse
from typing import Any


def new_parser(commands: Any, name: str, *, help: str, examples: str) -> argparse.ArgumentParser:
    """A command's parser, with its examples below the options."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def names(text: str) -> tuple[str, ...]:
    """The parts of "a,b"."""
    return tuple(name.strip() for name in text.split(","))


def numbers(text: str) -> tuple[float, ...]:
    """The numbers of "0,0.5,1". Raises argparse.ArgumentTypeError."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected comma-separated numbers, as in 0,0.5,1, not '{text}'"
        ) from None
