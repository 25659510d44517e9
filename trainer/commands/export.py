"""`export`: a trained run as a self-contained folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from trainer.commands.parsing import new_parser

EXAMPLES = """\
  synthgrid export runs/digits/cnn-real-seed0-1a2b3c4d --format onnx --out models/digits
  synthgrid predict models/digits photo.jpg"""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "export", examples=EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run's folder")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--format",
        choices=("onnx", "safetensors"),
        default="onnx",
        help="onnx writes model.onnx beside model.safetensors (default: %(default)s)",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="the frozen backbone's weights, if they have moved",
    )
    parser.add_argument(
        "--license",
        metavar="ID",
        help="the licence that the model card names, such as apache-2.0 (default: none)",
    )
    parser.set_defaults(command=export)


def export(options: argparse.Namespace) -> int:
    """Writes the folder and says what is in it."""
    from trainer.shipping.export import export_run

    classifier = export_run(
        options.run,
        options.out,
        with_onnx=options.format == "onnx",
        weights=options.weights,
        license_id=options.license,
    )
    print(
        f"{options.out}: {classifier.model}, {len(classifier.classes)} classes, run "
        f"{classifier.name}"
    )
    return 0
