"""`validate`: checks everything that can be checked before the first job."""

from __future__ import annotations

import argparse
import json
import logging
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from .options import add_image_options, add_plan_options, new_parser, workflow_of
from .servers import add_server_options, described_by, replaced_by, server_of

log = logging.getLogger(__name__)

EXAMPLES = """  synthgrid validate workflows/api/sd15_class_prompts.json \\
      --server http://127.0.0.1:8188
  synthgrid validate my_workflow.json --server embedded --per-class 300 \\
      --out data/synthetic --json"""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "validate", examples=EXAMPLES)
    add_server_options(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="also check that the images fit on this folder's disk",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print every finding as JSON; exit code 1 if one is an error",
    )
    add_plan_options(parser)
    add_image_options(parser)
    parser.set_defaults(command=check_workflow)


def check_workflow(args: argparse.Namespace) -> int:
    """Says in one line what can run where, or prints every finding as JSON."""
    from ..workflow.preflight import ERROR, WARNING, check, refuse

    with ExitStack() as stack:
        source = server_of(args, stack)
        workflow = workflow_of(
            args,
            lambda: described_by(source.open()),
            lambda: replaced_by(source.open()),
        )
        plan, server = workflow.plan(), source.open()
        findings = [
            replace(each, message=server.shown(each.message))
            for each in check(
                workflow, server.object_info(), stats=server.system_stats(), out=args.out
            )
        ]
        url = server.url
    batches = plan.batch_count(workflow.batch_size)
    if args.json:
        valid = all(each.level != ERROR for each in findings)
        found = [each.to_dict() for each in findings]
        values = {
            "valid": valid,
            "server": url,
            "workflow": workflow.source,
            "images": len(plan),
            "batches": batches,
        }
        print(json.dumps({**values, "findings": found}, indent=1, ensure_ascii=False))
        return 0 if valid else 1
    for each in findings:
        if each.level == WARNING:
            log.warning("warning: %s", each.message)
    refuse(findings)
    print(f"{workflow.source} can run on {url}: {len(plan)} images in {batches} batches")
    return 0
