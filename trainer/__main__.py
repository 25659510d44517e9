"""The trainer's command line. `synthgrid --help` has examples; each command has a file in trainer/commands.

Results on stdout, progress and logs on stderr. Exit codes: 0 done, 1 failed (one clear line), 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from comfy_nodes.errors import SynthGridError
from trainer.commands import COMMANDS, EXAMPLES

logger = logging.getLogger("trainer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        code: int = options.command(options)
        return code
    except SynthGridError as error:
        logger.error("error: %s", error)
        return 1
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        logger.error("error: %s", error)
        return 1
    except KeyboardInterrupt:
        logger.error("interrupted; the same command takes up where this one stopped")
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `command` to a function from options to exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer",
        description="Do synthetic images make a small image classifier better? Train a grid and see.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for each in COMMANDS:
        each.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
