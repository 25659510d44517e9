"""`python -m client COMMAND ...`: the client's half of the command `synthgrid`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from synthgrid.__main__ import GROUPS
from synthgrid.__main__ import main as run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one of the client's commands; returns the exit code."""
    groups = {title: commands for title, commands in GROUPS.items() if title == "make images"}
    return run_command(arguments, prog="python -m client", groups=groups)


if __name__ == "__main__":
    sys.exit(main())
