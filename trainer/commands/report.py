"""`report`: results.csv and report.html again, from the runs alone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from trainer.commands.parsing import new_parser
from trainer.config.fields import check_number
from trainer.runs import Grid, read_grid, read_json_file

EXAMPLES = """\
  synthgrid report runs/digits
  synthgrid report runs/digits --meaningful 2 --detect 2"""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(
        commands,
        "report",
        examples=EXAMPLES,
    )
    parser.add_argument("grid", type=Path, metavar="DIR", help="a grid's folder")
    parser.add_argument(
        "--meaningful",
        type=float,
        metavar="POINTS",
        help="smallest change of interest in points of macro F1 (default: the grid's, 1)",
    )
    parser.add_argument(
        "--detect",
        type=float,
        metavar="POINTS",
        help="say how many seeds would find a change of so many points",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the results as JSON instead of a table"
    )
    parser.set_defaults(command=report)


def report(options: argparse.Namespace) -> int:
    """Writes the report of an existing grid and prints its table."""
    from trainer.report import write_report  # imports scipy and pandas, which help does not need

    path = write_report(
        options.grid,
        meaningful=_share("meaningful", options.meaningful),
        detect=_share("detect", options.detect),
    )
    print_results(read_grid(options.grid), path, as_json=options.json)
    return 0


def _share(name: str, points: float | None) -> float | None:
    if points is None:
        return None
    check_number(name, points, low=0.0, low_excluded=True, high=100.0)
    return points / 100


def print_results(grid: Grid, path: Path, *, as_json: bool) -> None:
    """What the report in `path` says, as a table or as JSON, on standard output."""
    from trainer.report import JSON_FILE

    found = read_json_file(grid.root / JSON_FILE)
    if as_json:
        costs = {model: info.get("cost") for model, info in grid.info["models"].items()}
        found |= {"report": str(path), "costs": costs}
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    parts = ("short_verdicts", "answers", "positive_controls", "plans")
    print("\n".join(sentence for part in parts for sentence in found[part]) + "\n")
    print(found["tables"]["text"])
    print(
        "\n"
        "Percent, mean over seeds ± half the width of a 95% interval; p corrected by family. "
        f"Report: {path}"
    )
