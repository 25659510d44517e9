"""`run`: makes the images of a plan that are missing."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..options import add_image_options, add_plan_options, add_server_options, new_parser, server_of, workflow_of

EXAMPLES = """  python -m client run workflows/api/sd15_class_prompts.json --server embedded --classes data/digits/train \\
      --per-class 30 --batch-size 16 --out data/digits-synthetic
  python -m client run workflows/api/sd15_class_prompts.json --server http://127.0.0.1:8188 --classes classes.txt \\
      --template "a photo of a {class}, {context}" --contexts contexts.txt --steps 30 --out data/synthetic"""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "run", help="make the images that are missing", examples=EXAMPLES)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="labelled folder; run again to complete it"
    )
    add_server_options(parser)
    add_plan_options(parser)
    add_image_options(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Runs the plan and says in one line how it went."""
    from ..console import ProgressBar
    from ..runner import run_plan

    workflow = workflow_of(args)
    with ExitStack() as stack:
        server = server_of(args, stack)
        progress = stack.enter_context(ProgressBar())
        summary = run_plan(workflow, server, args.out, on_progress=progress)
    if summary.made == 0:
        print(f"all {summary.total} images are there already: {summary.folder}")
    else:
        print(
            f"{summary.total} images, {summary.made} of them new at {summary.made / summary.seconds:.1f} images/s: "
            f"{summary.folder}"
        )
    return 0
