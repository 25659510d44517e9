"""The client's command line. `synthgrid --help` has examples; each command has a file in client/commands.

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 failed (one line says why),
2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from comfy_nodes.errors import SynthGridError

from .commands import COMMANDS, EXAMPLES

log = logging.getLogger("client")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    args = build_parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format="%(message)s",
        stream=sys.stderr,
        force=True,
    )
    if not args.verbose:
        logging.getLogger("urllib3").setLevel(logging.WARNING)
    _use_utf8()
    try:
        result: int = args.command(args)
        return result
    except SynthGridError as error:
        log.error("error: %s", error, exc_info=args.verbose)
        return 1
    except KeyboardInterrupt:
        log.error("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        sys.stderr.close()
        return 0


def _use_utf8() -> None:
    """Class names of any language can be shown on any terminal."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `command` to a function from arguments to exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m client",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLES,
        description="Class names and a workflow in, a folder of labelled images out.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for each in COMMANDS:
        each.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
