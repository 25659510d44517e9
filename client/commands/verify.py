"""`verify`: compares a labelled folder with its files and its plan; `--repair` repairs it."""

from __future__ import annotations

import argparse
import json
import logging
import re
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import new_parser
from .servers import add_fleet_options, fleet_of

if TYPE_CHECKING:
    from ..folder.verify import Report

log = logging.getLogger(__name__)

MOST_FILES = 10  # named for each kind of problem; --json names all
EXAMPLES = """  synthgrid verify data/synthetic
  synthgrid verify data/synthetic --json > report.json
  synthgrid verify data/synthetic --sample 5%
  synthgrid verify data/synthetic --repair
  synthgrid verify data/synthetic --repair --server http://127.0.0.1:8188

Exit code 0: every planned image exists once and every record is true. 1: something is wrong or
missing."""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(
        commands,
        "verify",
        examples=EXAMPLES,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a labelled folder")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--sample",
        type=_share,
        default=1.0,
        metavar="PERCENT",
        help="read only this part of the images, such as 5%%, drawn anew each time; of the others, "
        "only records, places and empty files are checked",
    )
    how.add_argument(
        "--repair",
        action="store_true",
        help="move what is wrong to DIR.quarantine/<time>, restore records from inside images, "
        "and, with a server, make the missing images; nothing is deleted",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_fleet_options(parser, required=False)
    parser.set_defaults(command=check)


def _share(text: str) -> float:
    """ "5%" -> 0.05."""
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)%", text)
    if match is None or not 0 < float(match[1]) <= 100:
        raise argparse.ArgumentTypeError(f"'{text}' is no share of the images; give one like 5%")
    return float(match[1]) / 100


def check(args: argparse.Namespace) -> int:
    """Reports what is wrong, or was; returns 0 if nothing is wrong any more."""
    from ..folder.repair import repair
    from ..folder.run_folder import is_locked
    from ..folder.verify import verify
    from .console import image_bar

    folder = args.folder.expanduser()
    if not args.repair and is_locked(folder):
        log.warning(
            "warning: a client is writing %s now; what it has half done may look wrong", folder
        )
    with image_bar() as progress:
        report = (
            repair(folder, on_progress=progress)
            if args.repair
            else verify(folder, on_progress=progress, share=args.sample)
        )
    if args.repair and report.missing and (args.server or args.servers):
        _refill(folder, args)
        with image_bar() as progress:
            report = replace(
                verify(folder, on_progress=progress),
                mended=report.mended,
                quarantine=report.quarantine,
            )
    print(
        json.dumps(report.to_dict(), indent=1, ensure_ascii=False)
        if args.json
        else text_of(report, args.repair)
    )
    return 0 if report.sound else 1


def _refill(folder: Path, args: argparse.Namespace) -> None:
    """Makes the missing images, with the folder's own workflow."""
    from ..folder.run_folder import read_generation
    from .run import make

    with ExitStack() as stack:
        make(
            read_generation(folder).workflow_for(), fleet_of(args, stack), folder, args, quiet=True
        )


def text_of(report: Report, repaired: bool = False) -> str:
    """The report as text."""
    from ..folder.verify import KINDS

    lines = []
    for kind, count in report.counts.items():
        lines.append(f"{kind}: {count} {KINDS[kind]}")
        named = [each for each in report.problems if each.kind == kind]
        lines += [f"  {each.file}: {each.detail}" for each in named[:MOST_FILES]]
        lines += [f"  and {count - MOST_FILES} more (--json names all)"] * (count > MOST_FILES)
    if report.quarantine is not None:
        lines.append(
            f"repaired: {report.mended} problems; what was moved out is in {report.quarantine}"
        )
    if report.missing:
        lines.append(f"missing: {sum(report.missing.values())} planned images must be made")
        named_classes = [f"  {label}: {count}" for label, count in report.missing.items()]
        lines += named_classes[:MOST_FILES]
        lines += [f"  and {len(named_classes) - MOST_FILES} more classes"] * (
            len(named_classes) > MOST_FILES
        )
    return "\n".join([*lines, _last_line(report, repaired)])


def _last_line(report: Report, repaired: bool) -> str:
    planned = "" if report.planned is None else f", of {report.planned} planned"
    drawn = f" at random, {report.unread} only looked at" if report.unread else ""
    held = f"{report.images} images read{drawn}{planned}"
    if report.other_plans:
        held += f", {report.other_plans} of other plans"
    if report.sound and report.unread:
        return f"no problem found: {held}: {report.folder}"
    if report.sound:
        return f"sound: {held}: {report.folder}"
    if report.problems:
        return f"not sound: {held}; repair it with: synthgrid verify {report.folder} --repair"
    return (
        f"incomplete: {held}; make the missing images with the same `synthgrid run ...` as before, "
        f"or: synthgrid verify {report.folder} --repair --server URL"
    )
