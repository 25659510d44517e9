"""`extend`: more images per class for a folder that `run` made."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .options import new_parser
from .run import make
from .servers import add_event_options, add_fleet_options, fleet_of

EXAMPLES = """  synthgrid extend data/synthetic --per-class 60 --server http://127.0.0.1:8188
  synthgrid extend data/digits-synthetic --per-class 60 --server embedded"""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(
        commands,
        "extend",
        examples=EXAMPLES,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a labelled folder that run made")
    count = parser.add_mutually_exclusive_group(required=True)
    count.add_argument(
        "--per-class",
        type=int,
        metavar="N",
        help="total images per class, including the existing ones",
    )
    count.add_argument(
        "--per-prompt",
        type=int,
        metavar="K",
        help="total images per caption, in a folder made with --captions",
    )
    add_event_options(parser)
    add_fleet_options(parser)
    parser.set_defaults(command=extend)


def extend(args: argparse.Namespace) -> int:
    """Makes the images that the longer plan adds, and missing ones; existing images stay."""
    from ..folder.run_folder import read_generation

    folder = args.folder.expanduser()
    with ExitStack() as stack:
        servers = fleet_of(args, stack)
        workflow = read_generation(folder).workflow_for(args.per_class, args.per_prompt)
        return make(workflow, servers, folder, args)
