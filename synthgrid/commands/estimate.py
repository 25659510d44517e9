"""`estimate` of the trainer; with --sweep, the client makes the samples first."""

from __future__ import annotations

import argparse
from typing import Any

from client.commands import sweeping
from trainer.commands import estimate

EXAMPLES = """
  synthgrid estimate --real data/animals --sweep sd15_class_prompts --server URL \\
      --classes data/animals/train --vary cfg=2,4,7.5 --vary steps=15,30 --out data/animals-sweep"""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = estimate.add_parser(commands, more_examples=EXAMPLES)
    sweeping.add_sweep_options(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Judges a sample, or makes samples with several settings and compares them.

    Raises:
        SystemExit: wrong usage: neither or both of --synthetic and --sweep, no --out, or options
            that mean nothing beside --by or --sweep.
    """
    if (args.synthetic is None) == (args.workflow is None):
        args.wrong_usage("give a sample, --synthetic DIR, or a workflow that makes some, --sweep")
    if args.workflow is None:
        if args.by and (args.plan_per_class is not None or args.images_per_s is not None):
            args.wrong_usage(
                "--by says nothing of a plan's cost; leave --plan-per-class and --images-per-s out"
            )
        return estimate.run(args)
    if args.by:
        args.wrong_usage("--by divides a sample, --synthetic DIR; with --sweep leave it out")
    if args.out is None or not args.vary:
        args.wrong_usage("--sweep needs --vary NAME=VALUE,VALUE and --out DIR")
    return estimate.run_sweep(args, args.out.expanduser(), sweeping.make_samples(args))
