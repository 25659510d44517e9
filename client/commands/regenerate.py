"""`regenerate`: sets aside the images that a check rejected, and makes them again."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import new_parser
from .run import generate, tell_result
from .servers import (
    add_event_options,
    add_executor_options,
    add_fleet_options,
    engines_of,
    object_info_of,
)

if TYPE_CHECKING:
    from ..folder.run_folder import Generation
    from ..run.cluster import RayCluster
    from ..run.runner import RunSummary
    from ..server.fleet import AnyServer

log = logging.getLogger(__name__)

MOST_SHOWN = 20  # classes and templates that cannot be made
EXAMPLES = """  synthgrid regenerate data/synthetic --server http://127.0.0.1:8188
  synthgrid regenerate data/synthetic --from data/synthetic.quality/lite0.csv \\
      --attempts 5 --server embedded
  synthgrid regenerate data/synthetic --executor ray --address 10.0.0.1:6379 \\
      --checkpoint-dir /shared/models"""
EFFECT = """

Rejected images are moved to DIR.quarantine, with the reason. Each row is made again with another
seed and the same prompt; all other images stay as they are. Exit code 0: every planned image
exists. 1: some were rejected in every attempt, or could not be made."""


def add_parser(commands: Any, *, more_examples: str = "") -> argparse.ArgumentParser:
    """Declares the command."""
    parser = new_parser(commands, "regenerate", examples=EXAMPLES + more_examples + EFFECT)
    parser.add_argument("folder", type=Path, metavar="DIR", help="a labelled folder that run made")
    parser.add_argument(
        "--from",
        type=Path,
        dest="verdicts",
        metavar="FILE",
        help="what a check says of each image (default: the newest in DIR.quality)",
    )
    parser.add_argument(
        "--attempts",
        type=_attempts,
        default=3,
        metavar="N",
        help="how often one image is made again at most, over all runs (default: 3)",
    )
    add_event_options(parser)
    add_fleet_options(parser)
    add_executor_options(parser)
    parser.set_defaults(command=regenerate)
    return parser


def _attempts(text: str) -> int:
    from comfy_nodes.plan import MOST_ATTEMPTS

    if not text.isdecimal() or not 1 <= int(text) <= MOST_ATTEMPTS:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1 to {MOST_ATTEMPTS}")
    return int(text)


def regenerate(args: argparse.Namespace, check: Callable[[Path], Path] | None = None) -> int:
    """Makes rejected images again, once; with a `check`, until it rejects nothing any more.

    `check` judges the labelled folder and returns the file of its verdicts.
    """
    from ..folder.run_folder import read_generation
    from ..run.regenerate import newest_check, until_full

    folder = args.folder.expanduser()
    generation = read_generation(folder)
    given = args.verdicts and args.verdicts.expanduser()
    if check is None and given is None:
        given = newest_check(folder)
        log.info("using the newest check: %s", given)
    with ExitStack() as stack:
        engines = engines_of(args, stack)
        _refuse_impossible(generation, engines)

        def make_again(verdicts: Path) -> RunSummary:
            _set_aside(folder, verdicts)
            workflow = generation.workflow_for()
            return generate(workflow, engines, folder, args, attempts=args.attempts)

        if check is None:
            summary = make_again(given)
        else:
            judge = check
            summary = until_full(lambda: judge(folder), make_again, given)
    tell_result(summary, args)
    if check is None and summary.made:
        log.info("the new images are not checked yet: synthgrid check %s --real DIR", folder)
    _tell_doubtful(generation, summary)
    if summary.used_up:
        _tell_failing(generation, summary)
    return 1 if summary.used_up else 0


def _refuse_impossible(generation: Generation, engines: list[AnyServer] | RayCluster) -> None:
    """Before anything is moved: an engine must answer and have the nodes."""
    from ..workflow.attempts import refuse_older_batcher
    from ..workflow.preflight import validate

    info = object_info_of(engines)
    validate(generation.workflow, info)
    refuse_older_batcher(info)


def _set_aside(folder: Path, verdicts: Path) -> None:
    from comfy_nodes.labelset import set_aside
    from comfy_nodes.labelset.quality.verdicts import read_verdicts

    def progress(done: int, total: int) -> None:
        if done < total:
            log.info("%d of %d rejected images moved", done, total)

    done = set_aside(folder, read_verdicts(verdicts), scorer=verdicts.name, on_progress=progress)
    if done.records:
        log.info("%d rejected images moved to %s", len(done.records), done.folder)
    if done.gone:
        log.info(
            "%d images that %s rejects are not in the folder any more", done.gone, verdicts.name
        )


def _tell_doubtful(generation: Generation, summary: RunSummary) -> None:
    from comfy_nodes.labelset.quality.quarantine import rejected_images

    from ..run.regenerate import doubtful

    rejected = rejected_images(summary.folder, generation.plan.plan_id)
    for each in doubtful(rejected, summary.classes)[:MOST_SHOWN]:
        log.warning(
            "warning: %s: %d of %d images made were rejected; those that passed may be wrong too: "
            "look at them",
            each.label,
            each.rejected,
            each.rejected + each.accepted,
        )


def _tell_failing(generation: Generation, summary: RunSummary) -> None:
    from ..run.regenerate import failing

    found = failing(generation.workflow_for().plan(), summary.used_up)
    log.error(
        "rejected in every attempt: %d of %d images; the folder has none in their place:",
        len(summary.used_up),
        summary.total,
    )
    for each in found[:MOST_SHOWN]:
        log.error(
            "  %s: %d of %d images, '%s'", each.label, each.images, each.planned, each.template
        )
    if len(found) > MOST_SHOWN:
        log.error("  and %d more classes and templates", len(found) - MOST_SHOWN)
    log.error(
        "the model does not make these classes from these prompts; try other wording, a definition "
        "('%s: what it is', with {definition} in the template), or another --cfg, in a new folder; "
        "or allow more --attempts",
        found[0].label,
    )
