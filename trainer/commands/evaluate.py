"""`evaluate`: how well a trained run or an exported model does on labelled images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.parsing import new_parser

if TYPE_CHECKING:
    from trainer.shipping.predict import Evaluation

EXAMPLES = """  synthgrid evaluate runs/digits/cnn-add1-seed0-1a2b3c4d new-photos/
  synthgrid evaluate models/digits new-photos/ --json"""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "evaluate", examples=EXAMPLES)
    parser.add_argument(
        "model", type=Path, metavar="RUN", help="a run's folder, or an exported model's"
    )
    parser.add_argument("images", type=Path, metavar="DIR", help="folder of class folders")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="the frozen backbone's weights, if they have moved",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=evaluate)


def evaluate(options: argparse.Namespace) -> int:
    """Prints metrics and each class's recall."""
    from trainer.shipping.predict import evaluate_folder
    from trainer.training.classifier import load_classifier

    found = evaluate_folder(load_classifier(options.model, weights=options.weights), options.images)
    if options.json:
        print(json.dumps(_values(found), indent=1, ensure_ascii=False))
    else:
        print(_table(found))
    return 0


def _values(found: Evaluation) -> dict[str, Any]:
    return {
        "images": found.images,
        "metrics": found.metrics,
        "recall_by_class": found.recalls,
        "classes": list(found.classes),
        "confusion": found.confusion.tolist(),
    }


def _table(found: Evaluation) -> str:
    width = max(len(name) for name in (*found.metrics, *found.recalls))
    lines = [f"{found.images} images"]
    lines += [f"{name:<{width}}  {value:.4f}" for name, value in found.metrics.items()]
    lines += ["", "recall by class"]
    lines += [
        f"{label:<{width}}  {value:.3f}  of {found.confusion[found.classes.index(label)].sum()}"
        for label, value in found.recalls.items()
    ]
    return "\n".join(lines)
