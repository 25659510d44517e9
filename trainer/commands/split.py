"""`split`: a few images a class to train on and to test on, out of class folders."""

from __future__ import annotations

import argparse
from typing import Any

from trainer.commands.parsing import new_parser

EXAMPLES = """  synthgrid split --images animals --out data/animals --train 30 --test 30
  synthgrid split --images frames --out data/frames --train 30 --test 30 --group-by prefix
  synthgrid split --images photos --out data/photos --train 20 --test 40 --val 10 --group-by similar

--group-by keeps together, on one side of the split:
  prefix   frames of a video: names that differ in their last number only, as clip7_0012.jpg
  similar  near-copies of one photograph, by what they show (not for drawings, digits and the like)
  FILE     what a CSV (columns image,group) or a JSON object {image: group} says
Files of equal content always stay together. The source is only read."""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(
        commands,
        "split",
        help="make train and test folders of a few images a class",
        examples=EXAMPLES,
    )
    add = parser.add_argument
    add(
        "--images",
        required=True,
        metavar="DIR",
        help="<class>/ folders, or torchvision:CIFAR10 (its train part)",
    )
    add(
        "--out",
        required=True,
        metavar="DIR",
        help="gets train/, test/ and split.json; must be empty or new",
    )
    add("--train", type=int, default=30, metavar="N", help="training images a class (default 30)")
    add("--test", type=int, default=30, metavar="N", help="test images a class (default 30)")
    add(
        "--val",
        type=int,
        default=0,
        metavar="N",
        help="images a class to set aside in val/ (default 0)",
    )
    add("--seed", type=int, default=0, metavar="N", help="another seed, another split (default 0)")
    add(
        "--group-by",
        metavar="RULE",
        help="prefix, similar, or a CSV or JSON file: what must not be parted",
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--copy", dest="link", action="store_false", help="copy the files (default)")
    way.add_argument(
        "--link", action="store_true", help="hard links: no space taken, and a change shows in both"
    )
    parser.set_defaults(command=write, link=False)


def write(options: argparse.Namespace) -> int:
    """Writes the folders and says what is in them."""
    from trainer.data.split import SplitConfig, write_split

    split = write_split(
        SplitConfig(
            images=options.images,
            out=options.out,
            train=options.train,
            test=options.test,
            val=options.val,
            seed=options.seed,
            group_by=options.group_by,
            link=options.link,
        )
    )
    counts = ", ".join(f"{len(samples)} {part}" for part, samples in split.parts.items())
    print(
        f"{options.out}: {counts} images of {len(split.classes)} classes; {split.left_out} of {split.images} left out"
    )
    return 0
