"""`validate`: everything that can be checked before the first job is."""

from __future__ import annotations

import argparse
import logging
from contextlib import ExitStack
from typing import Any

from ..options import add_image_options, add_plan_options, add_server_options, new_parser, server_of, workflow_of

log = logging.getLogger(__name__)

EXAMPLES = "  python -m client validate workflows/api/sd15_class_prompts.json --server http://127.0.0.1:8188"


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "validate", help="check a workflow against a server", examples=EXAMPLES)
    add_server_options(parser)
    add_plan_options(parser)
    add_image_options(parser)
    parser.set_defaults(command=check)


def check(args: argparse.Namespace) -> int:
    """Says in one line what can run where."""
    from ..validation import validate, warnings

    workflow = workflow_of(args)
    plan = workflow.plan()
    with ExitStack() as stack:
        server = server_of(args, stack).open()
        validate(workflow, server.object_info())
        url = server.url
    for warning in warnings(workflow):
        log.warning("warning: %s", warning)
    print(f"{workflow.source} can run on {url}: {len(plan)} images in {plan.batch_count(workflow.batch_size)} batches")
    return 0
