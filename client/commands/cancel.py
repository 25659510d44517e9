"""`cancel`: stops the run of a folder from another terminal, and cancels its jobs on servers."""

from __future__ import annotations

import argparse
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .options import new_parser
from .servers import access_of, add_fleet_options, fleet_of

log = logging.getLogger(__name__)

EXAMPLES = """  synthgrid cancel data/synthetic
  synthgrid cancel data/synthetic --servers servers.json
  synthgrid cancel data/synthetic --server https://gpu.example --token-env COMFY_TOKEN

Finished images stay; the same run continues later. Only jobs of this folder are cancelled, even if
their client was killed. A token goes only to the --server that it is given with, never to one that
the folder names."""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(
        commands,
        "cancel",
        examples=EXAMPLES,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a labelled folder that run made")
    add_fleet_options(parser, required=False)
    parser.set_defaults(command=stop)


def stop(args: argparse.Namespace) -> int:
    """Cancels; returns 1 if a server could not be reached, and may still have jobs."""
    from ..run.cancel import cancel
    from ..server.fleet import ServerSpec

    with ExitStack() as stack:
        servers = [each for each in fleet_of(args, stack) if isinstance(each, ServerSpec)]
    done = cancel(args.folder.expanduser(), servers, access=access_of(args))
    print("the client has stopped" if done.stopped else "no client is writing the folder")
    for name, count in done.jobs.items():
        print(f"{name}: {count} jobs cancelled" if count else f"{name}: no jobs of this folder")
    for reason in done.unreached.values():
        log.error(
            "error: %s; it may still have jobs of this folder: cancel again once it answers", reason
        )
    return 1 if done.unreached else 0
