"""`status`: the state of a labelled folder, during a run or afterwards."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import new_parser

if TYPE_CHECKING:
    from ..run.status import RunState, Status

EXAMPLES = """  synthgrid status data/synthetic
  synthgrid status data/synthetic --json
  watch synthgrid status data/synthetic"""
MOST_CLASSES = 40


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(
        commands,
        "status",
        examples=EXAMPLES,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a labelled folder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=show)


def show(args: argparse.Namespace) -> int:
    """Prints the status; returns 0 in any case."""
    from ..run.status import status

    found = status(args.folder.expanduser())
    print(
        json.dumps(found.to_dict(), indent=1, ensure_ascii=False) if args.json else text_of(found)
    )
    return 0


def text_of(found: Status) -> str:
    """The status as text."""
    rows: list[tuple[str, ...]] = [("class", "images", "planned")]
    rows += [
        (label, str(done), "?" if planned is None else str(planned))
        for label, (done, planned) in found.classes.items()
    ]
    lines = _table(rows[: MOST_CLASSES + 1])
    lines += [f"... and {len(rows) - MOST_CLASSES - 1} more classes"] * (
        len(rows) > MOST_CLASSES + 1
    )
    if found.state is not None and found.state.servers:
        rows = [("server", "state", "images", "images/s", "jobs", "")]
        rows += [
            (
                each.name,
                each.state,
                str(each.images),
                f"{each.images_per_s:.2f}",
                str(len(each.jobs)),
                each.reason,
            )
            for each in found.state.servers
        ]
        lines += ["", *_table(rows)]
    return "\n".join([*lines, "", _sentence(found)])


def _sentence(found: Status) -> str:
    held = (
        f"{found.done} images"
        if found.planned is None
        else f"{found.done} of {found.planned} images"
    )
    held += f" ({found.rejected} rows had a rejected one)" if found.rejected else ""
    state = found.state
    if state is None:
        return f"{held} in {found.folder}; no run is known"
    if found.running:
        where = f"running on {state.host} (process {state.pid})"
        return f"{held} in {found.folder}; {where}{_speed(state)}"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(state.updated))
    if found.outcome == "killed":
        jobs = sum(len(each.jobs) for each in state.servers)
        left = "; it may have left jobs on the servers: synthgrid cancel DIR" if jobs else ""
        return f"{held} in {found.folder}; the last run was cut off about {when}{left}"
    reason = f": {state.reason}" if state.reason else ""
    return f"{held} in {found.folder}; the last run ended {when}, {found.outcome}{reason}"


def _speed(state: RunState) -> str:
    from .console import duration

    rate = f", {state.images_per_s:.2f} images/s" if state.images_per_s else ""
    return rate + (f", about {duration(state.eta_s)} left" if state.eta_s is not None else "")


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
