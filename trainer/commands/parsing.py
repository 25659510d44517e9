"""What the commands' parsers share."""

from __future__ import annotations

import argparse
from typing import Any

from trainer.commands import COMMANDS


def new_parser(commands: Any, name: str, *, examples: str) -> argparse.ArgumentParser:
    """A command's parser: what it does above the options, its examples below them."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        description=COMMANDS[name],
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
