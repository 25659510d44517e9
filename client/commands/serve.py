"""`serve`: runs the embedded engine as a server."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from .options import new_parser

EXAMPLES = "  synthgrid serve --port 8188 --base-directory data/engine"


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "serve", examples=EXAMPLES)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=8188, help="port, 0 for a free one (default: %(default)s)")
    add(
        "--base-directory",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for output, input and models",
    )
    add(
        "--checkpoint-dir",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of further checkpoints (repeatable)",
    )
    add(
        "--input-directory",
        type=Path,
        metavar="DIR",
        help="where real images are (default: BASE_DIRECTORY/input)",
    )
    add(
        "--device",
        default="",
        metavar="cpu|cuda|cuda:N",
        help="where models run (default: a GPU, if there is one)",
    )
    add(
        "--node-pack",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a folder or .py file of ComfyUI nodes to load as well (repeatable). Its code runs "
        "with your rights: name only packs that you trust",
    )
    add("--exit-with-parent", action="store_true", help="exit when standard input closes")
    add(
        "--temporary",
        action="store_true",
        help="remove the base directory when the server exits normally",
    )
    parser.set_defaults(command=serve)


def serve(args: argparse.Namespace) -> int:
    """Serves until it is interrupted."""
    # Before torch is loaded: threads that spin while they wait slow a busy machine down tenfold.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from ..embedded.api.server import serve as serve_engine

    serve_engine(
        host=args.host,
        port=args.port,
        base_directory=args.base_directory,
        checkpoint_directories=tuple(args.checkpoint_dir),
        input_directory=args.input_directory,
        node_packs=tuple(args.node_pack),
        device=args.device,
        exit_with_parent=args.exit_with_parent,
        temporary=args.temporary,
    )
    return 0
