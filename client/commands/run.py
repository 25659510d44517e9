"""`run`: makes the missing images of a plan."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .options import (
    add_image_options,
    add_plan_options,
    add_rows_option,
    new_parser,
    rows_of,
    workflow_of,
)
from .servers import (
    add_event_options,
    add_executor_options,
    add_fleet_options,
    engines_of,
    object_info_of,
    replacements_of,
)

if TYPE_CHECKING:
    from ..run.cluster import RayCluster
    from ..run.events import AnyEvent
    from ..run.runner import RunProgress, RunSummary
    from ..server.fleet import AnyServer
    from ..workflow.graph import Workflow

EXAMPLES = """  synthgrid run workflows/api/sd15_class_prompts.json --server embedded \\
      --classes data/digits/train --per-class 30 --batch-size 16 --out data/digits-synthetic
  synthgrid run workflows/api/sd15_class_prompts.json --server http://127.0.0.1:8188 \\
      --classes classes.txt --template "a photo of a {class}, {context}" \\
      --contexts contexts.txt --steps 30 --out data/synthetic
  synthgrid run workflows/api/sd15_class_prompts.json --server http://10.0.0.5:8188 \\
      --server http://10.0.0.6:8188 --classes classes.txt --out data/synthetic \\
      --json-events > events.jsonl
  synthgrid run sd15_class_prompts --executor ray --address 10.0.0.1:6379 \\
      --checkpoint-dir /shared/models --checkpoint sd15 --classes classes.txt \\
      --out data/synthetic"""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "run", examples=EXAMPLES)
    parser.add_argument(
        "workflow", type=Path, metavar="WORKFLOW", help="a workflow, in API or editor format"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="the labelled folder; run again to complete it",
    )
    add_event_options(parser)
    add_fleet_options(parser)
    add_executor_options(parser)
    add_plan_options(parser)
    add_rows_option(parser)
    add_image_options(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Runs the plan and reports the result in one line."""
    with ExitStack() as stack:
        engines = engines_of(args, stack)
        workflow = workflow_of(
            args, lambda: object_info_of(engines), lambda: replacements_of(engines)
        )
        return make(workflow, engines, args.out, args)


def make(
    workflow: Workflow,
    servers: Sequence[AnyServer] | RayCluster,
    out: Path,
    args: argparse.Namespace,
    *,
    quiet: bool = False,
) -> int:
    """Makes what `out` lacks, as `generate`, and prints the result as `tell_result`."""
    tell_result(generate(workflow, servers, out, args), args, quiet=quiet)
    return 0


def generate(
    workflow: Workflow,
    servers: Sequence[AnyServer] | RayCluster,
    out: Path,
    args: argparse.Namespace,
    *,
    attempts: int | None = None,
) -> RunSummary:
    """Makes what `out` lacks, with progress, state file and, if asked for, events.

    `attempts` is how often a rejected image is made again, by default without a limit.
    """
    from ..run.runner import run_plan
    from ..run.status import StateKeeper
    from ..server.fleet import ServersFile
    from .console import ProgressBar

    json_events = getattr(args, "json_events", False)
    rows = rows_of(getattr(args, "rows", None), workflow.plan())
    events_to = sys.stdout
    # Ray writes notes of its own to standard output, which belongs to our events and results.
    on_ray = getattr(args, "executor", None) == "ray"
    aside = redirect_stdout(sys.stderr) if on_ray else nullcontext()
    with aside, ProgressBar() as bar, StateKeeper(out) as keeper:

        def show(progress: RunProgress) -> None:
            keeper.see(progress)
            bar(progress)

        def tell(event: AnyEvent) -> None:
            keeper.take(event)
            if json_events:
                _print_event(event, events_to)

        return run_plan(
            workflow,
            servers,
            out,
            on_progress=show,
            on_event=tell,
            attempts=attempts,
            rows=rows,
            listed=ServersFile(args.servers) if getattr(args, "servers", None) else None,
        )


def tell_result(summary: RunSummary, args: argparse.Namespace, *, quiet: bool = False) -> None:
    """Prints the result in one line: to standard error if events are printed or `quiet`."""
    held = summary.total - len(summary.used_up)
    if summary.used_up:
        text = f"{held} of {summary.total} images, {summary.made} of them new: {summary.folder}"
    elif summary.made == 0:
        text = f"all {summary.total} images already exist: {summary.folder}"
    else:
        speed = summary.made / summary.seconds
        new = f"{summary.made} of them new at {speed:.1f} images/s"
        text = f"{summary.total} images, {new}: {summary.folder}"
    print(text, file=sys.stderr if getattr(args, "json_events", False) or quiet else sys.stdout)


def _print_event(event: AnyEvent, to: TextIO) -> None:
    from ..run.events import as_dict

    print(json.dumps(as_dict(event), ensure_ascii=False), file=to, flush=True)
