"""`predict`: the classes of images, from a trained run or an exported model."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.parsing import new_parser

if TYPE_CHECKING:
    from trainer.shipping.predict import ImagePrediction

logger = logging.getLogger(__name__)

EXAMPLES = """  synthgrid predict runs/digits/cnn-add1-seed0-1a2b3c4d photo.jpg
  synthgrid predict models/digits photos/ --top 3 --json"""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "predict", examples=EXAMPLES)
    parser.add_argument(
        "model", type=Path, metavar="RUN", help="a run's folder, or an exported model's"
    )
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGES", help="image files, or folders of them"
    )
    parser.add_argument(
        "--top",
        type=int,
        default=1,
        metavar="K",
        help="show the K most probable classes (default 1)",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="the frozen backbone's weights, if they have moved",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one object per image")
    parser.set_defaults(command=predict)


def predict(options: argparse.Namespace) -> int:
    """Prints one line per image; exit code 1 if a file could not be read."""
    from trainer.shipping.predict import find_images, predict_images
    from trainer.training.classifier import load_classifier

    paths = find_images(options.images)
    classifier = load_classifier(options.model, weights=options.weights)
    found = predict_images(classifier, paths, top=max(1, options.top))
    if options.json:
        print(json.dumps([_values(each) for each in found], indent=1, ensure_ascii=False))
    else:
        _print_lines(found)
    for each in found:
        if each.error:
            logger.error("error: %s", each.error)
    return 1 if any(each.error for each in found) else 0


def _print_lines(found: Sequence[ImagePrediction]) -> None:
    for each in found:
        if not each.error:
            print(f"{each.path}: " + ", ".join(f"{label} {share:.1%}" for label, share in each.top))


def _values(found: ImagePrediction) -> dict[str, Any]:
    if found.error:
        return {"file": str(found.path), "error": found.error}
    return {
        "file": str(found.path),
        "top": [{"class": label, "probability": round(share, 6)} for label, share in found.top],
    }
