"""`leaks`: images shared by parts of a data set that must not share any."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.parsing import named_folders, new_parser

if TYPE_CHECKING:
    from trainer.data.leaks.search import Leak, Leaks

EXAMPLES = """  synthgrid leaks --real photos --synthetic made
  synthgrid leaks --real photos --synthetic syn1=made1 --synthetic syn2=made2 --json

Test images are compared with everything that can be trained on, training images with synthetic and
additional real ones. grid does the same before it trains; --drop-leaks leaves leaks out."""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(
        commands,
        "leaks",
        examples=EXAMPLES,
    )
    add = parser.add_argument
    add(
        "--real",
        required=True,
        metavar="DIR",
        help="real images: train/<class>/ and test/<class>/, or torchvision:CIFAR10",
    )
    add(
        "--synthetic",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="synthetic images; repeat for more",
    )
    add("--more-real", type=Path, metavar="DIR", help="additional real images: <class>/")
    add(
        "--test",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="a further test set in class folders; repeat for more",
    )
    add("--limit", type=int, default=20, metavar="N", help="how many pairs to list (default 20)")
    add("--json", action="store_true", help="print everything found as JSON")
    parser.set_defaults(command=show)


def show(options: argparse.Namespace) -> int:
    """Prints what leaks. The exit code is 0 either way."""
    from trainer.config import DEFAULT_SOURCE
    from trainer.data.dataset import load_dataset
    from trainer.data.leaks.search import find_leaks
    from trainer.data.torchvision_sets import real_folder

    named = [
        text.split("=", 1) if "=" in text else (DEFAULT_SOURCE, text) for text in options.synthetic
    ]
    synthetic = {name: Path(folder) for name, folder in named}
    tests = named_folders(options.test, option="--test")
    leaks = find_leaks(
        load_dataset(real_folder(options.real), synthetic, more=options.more_real, tests=tests)
    )
    if options.json:
        print(json.dumps(leaks.to_dict(listed=len(leaks.found)), indent=2, ensure_ascii=False))
        return 0
    for leak in leaks.found[: options.limit]:
        print(_line(leak))
    if len(leaks.found) > options.limit:
        print(f"... and {len(leaks.found) - options.limit} more; --limit N shows more, --json all")
    for places in leaks.two_labels[: options.limit]:
        print(f"2 labels         {'  '.join(f'{each.part}/{each.file}' for each in places)}")
    print(_summary(leaks))
    return 0


def _line(leak: Leak) -> str:
    sides = (f"{each.part}/{each.file}" for each in (leak.kept, leak.dropped))
    return f"{leak.kind:8}  {leak.distance:.3f}  {'  '.join(sides)}"


def _summary(leaks: Leaks) -> str:
    counts = (
        ", ".join(f"{count} {kind}" for kind, count in leaks.counts().items() if count) or "none"
    )
    checked = ", ".join(f"{count} {part}" for part, count in leaks.checked.items() if count)
    alike = (
        "; images of these classes look alike by nature, so near pairs had to correlate by at "
        f"least {leaks.threshold:.2f}"
        if leaks.alike
        else ""
    )
    count = len(leaks.two_labels)
    labels = f"; {count} files occur under two labels" if count else ""
    return (
        f"{len(leaks.found)} leaks ({counts}) among {checked} images; "
        f"{leaks.test_images()} test images leak{labels}{alike}"
    )
