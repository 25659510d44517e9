"""Samples of one plan with several settings, for whoever judges them."""

from __future__ import annotations

import argparse
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_image_options, add_plan_options, workflow_of
from .run import make
from .servers import add_fleet_options, fleet_of, object_info_of, replacements_of

if TYPE_CHECKING:
    from ..run.sweep import Setting
    from ..workflow.graph import Workflow

log = logging.getLogger(__name__)
SAMPLE_PER_CLASS = 8


def add_sweep_options(parser: argparse.ArgumentParser) -> None:
    """What is varied, and everything that a run takes."""
    group = parser.add_argument_group("sweep: make samples with several settings and compare them")
    group.add_argument(
        "--sweep",
        type=Path,
        dest="workflow",
        metavar="WORKFLOW",
        help="a workflow, as for run; the other options below are run's",
    )
    group.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="NAME=VALUE,VALUE",
        help="cfg, steps, size, sampler, scheduler, strength, or NODE.INPUT; repeat for every "
        "combination",
    )
    group.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="a labelled folder per setting in it; run again to complete them",
    )
    add_plan_options(parser)
    add_image_options(parser)
    add_fleet_options(parser, required=False)


def make_samples(args: argparse.Namespace) -> dict[str, Path]:
    """{setting: labelled folder}; makes what is missing, by default eight images per class, or one
    per caption.

    Raises:
        ClientError: a setting that the workflow does not take, or an image that was not made.
    """
    from ..run.sweep import settings_of

    settings = settings_of(args.vary)
    args.servers_required = True
    if args.captions is None:
        args.per_class = args.per_class or SAMPLE_PER_CLASS
    out = args.out.expanduser()
    with ExitStack() as stack:
        servers = fleet_of(args, stack)

        def workflow(each: Setting) -> Workflow:
            values = vars(args) | each.options | {"set": [*args.set, *each.sets]}
            return workflow_of(
                argparse.Namespace(**values),
                lambda: object_info_of(servers),
                lambda: replacements_of(servers),
            )

        # All of them first: a misspelt name shows before the first image.
        workflows = [workflow(each) for each in settings]
        for number, (each, patched) in enumerate(zip(settings, workflows, strict=True), 1):
            log.info("setting %d of %d: %s", number, len(settings), each.name)
            make(patched, servers, out / each.name, args, quiet=True)
    return {each.name: out / each.name for each in settings}
