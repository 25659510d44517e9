"""`convert`: turns a workflow saved in ComfyUI into one that a server runs, without a browser."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from comfy_nodes.labelset import write_atomically

from ..errors import WorkflowError
from .options import new_parser
from .servers import add_access_options, described_by, replaced_by, saved_object_info, server_of

log = logging.getLogger(__name__)

EXAMPLES = """  synthgrid convert my_workflow.json --server http://127.0.0.1:8188 \\
      --out my_workflow_api.json
  synthgrid convert my_workflow.json --server embedded
  synthgrid convert my_workflow.json --object-info object_info.json > my_workflow_api.json"""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(
        commands,
        "convert",
        examples=EXAMPLES,
    )
    parser.add_argument(
        "workflow", type=Path, metavar="WORKFLOW", help="a workflow in editor format"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="where to write (default: standard output)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--server", metavar="URL|embedded", help="the server whose nodes are used")
    group.add_argument(
        "--object-info",
        type=Path,
        metavar="FILE",
        help="a saved answer of a server to GET /object_info",
    )
    add_access_options(parser)
    parser.set_defaults(command=convert_file, checkpoint_dir=[], input_directory=None)


def convert_file(args: argparse.Namespace) -> int:
    """Writes the API format, and says on standard error what was left out."""
    from ..workflow.loading import load_for

    if args.out is not None and args.out.exists() and not args.overwrite:
        raise WorkflowError(f"{args.out} exists; choose another --out, or add --overwrite")
    with ExitStack() as stack:
        source = cache(lambda: server_of(args, stack))

        def object_info() -> Mapping[str, Any]:
            if args.object_info is None:
                return described_by(source().open())
            return saved_object_info(args.object_info)

        def replacements() -> Mapping[str, Any]:
            return {} if args.object_info else replaced_by(source().open())

        workflow, notes = load_for(args.workflow, object_info, replacements)
    for note in notes:
        log.warning("warning: %s", note)
    text = json.dumps(workflow.graph, indent=2, ensure_ascii=False) + "\n"
    if args.out is None:
        print(text, end="")
    else:
        write_atomically(args.out.expanduser(), text.encode("utf-8"))
        log.info("%d nodes: %s", len(workflow.graph), args.out)
    return 0
