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
  synthgrid report runs/digits --meaningful 2"""


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
        "--json", action="store_true", help="print the results as JSON instead of a table"
    )
    parser.set_defaults(command=report)


def report(options: argparse.Namespace) -> int:
    """Writes the report of an existing grid and prints its table."""
    from trainer.report import write_report  # imports scipy and pandas, which help does not need

    meaningful = options.meaningful
    if meaningful is not None:
        check_number("meaningful", meaningful, low=0.0, low_excluded=True, high=100.0)
        meaningful /= 100
    path = write_report(options.grid, meaningful=meaningful)
    print_results(read_grid(options.grid), path, as_json=options.json)
    return 0


def print_results(grid: Grid, path: Path, *, as_json: bool) -> None:
    """What the report in `path` says, as a table or as JSON, on standard output."""
    from trainer.report import JSON_FILE

    found = read_json_file(grid.root / JSON_FILE)
    if as_json:
        print(json.dumps(found | {"report": str(path)}, indent=2, ensure_ascii=False))
        return
    sentences = (*found["short_verdicts"], *found["answers"], *found["positive_controls"])
    print("\n".join(sentences) + "\n")
    print(found["tables"]["text"])
    print(
        "\n"
        "Percent, mean over seeds ± half the width of a 95% interval; p corrected by family. "
        f"Report: {path}"
    )
