"""`python -m trainer COMMAND ...`: the trainer's half of the command `synthgrid`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from synthgrid.__main__ import GROUPS
from synthgrid.__main__ import main as run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one of the trainer's commands; returns the exit code."""
    groups = {title: commands for title, commands in GROUPS.items() if title == "train and report"}
    return run_command(arguments, prog="python -m trainer", groups=groups)


if __name__ == "__main__":
    sys.exit(main())
