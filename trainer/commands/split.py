"""`split`: a few images per class to train and test on, from class folders."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.parsing import new_parser
from trainer.errors import ConfigError

if TYPE_CHECKING:
    from trainer.data.splits.split import Split

_TRAIN = 30

EXAMPLES = """  synthgrid split --images animals --out data/animals --train 30 --test 30
  synthgrid split --images frames --out data/frames --train 30 --test 30 --group-by prefix
  synthgrid split --images animals --out data/tail --train 50 --test 30 --long-tail 100
  synthgrid split --images animals --out data/few --low-data 1,5,10 --test 30
  synthgrid split --images photos --out data/photos --train 20 --test 40 --val 10 --group-by similar

--group-by keeps together, on one side of the split:
  prefix   frames of a video: names that differ only in their last number, like clip7_0012.jpg
  similar  near-copies of a photograph, by their content (not for drawings, digits and the like)
  FILE     groups from a CSV (columns image,group) or a JSON object {image: group}
Identical files always stay together. The source is only read."""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(
        commands,
        "split",
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
        help="folder for train/, test/ and split.json; must be empty or new",
    )
    add("--train", type=int, metavar="N", help=f"training images per class (default {_TRAIN})")
    add(
        "--low-data",
        type=counts,
        metavar="N,...",
        help="instead of --train: a split for each number, nested, in OUT/N",
    )
    add(
        "--long-tail",
        type=float,
        metavar="RHO",
        help="training images from N in the largest class down to N/RHO in the smallest",
    )
    add("--test", type=int, default=30, metavar="N", help="test images per class (default 30)")
    add(
        "--val",
        type=int,
        default=0,
        metavar="N",
        help="images per class for val/ (default 0)",
    )
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="a different seed gives a different split (default 0)",
    )
    add(
        "--group-by",
        metavar="RULE",
        help="prefix, similar, or a CSV or JSON file: what to keep together",
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--copy", dest="link", action="store_false", help="copy the files (default)")
    way.add_argument(
        "--link", action="store_true", help="hard links: take no space, but a change shows in both"
    )
    parser.set_defaults(command=write, link=False)


def counts(text: str) -> tuple[int, ...]:
    """The numbers of "1,5,10". Raises argparse.ArgumentTypeError."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers, as in 1,5,10, not '{text}'"
        ) from None


def write(options: argparse.Namespace) -> int:
    """Writes the folders and says what is in them."""
    from trainer.data.splits.low_data import write_low_data
    from trainer.data.splits.split import SplitConfig, write_split

    config = SplitConfig(
        images=options.images,
        out=options.out,
        train=_TRAIN if options.train is None else options.train,
        test=options.test,
        val=options.val,
        seed=options.seed,
        group_by=options.group_by,
        link=options.link,
        long_tail=options.long_tail,
    )
    if options.low_data is None:
        _say(options.out, write_split(config))
        return 0
    if options.train is not None:
        raise ConfigError("--train and --low-data both say how many to train on; choose one")
    for count, split in write_low_data(config, options.low_data).items():
        _say(str(Path(options.out) / str(count)), split)
    return 0


def _say(out: str, split: Split) -> None:
    parts = ", ".join(f"{len(samples)} {part}" for part, samples in split.parts.items())
    print(
        f"{out}: {parts} images of {len(split.classes)} classes; {split.left_out} of "
        f"{split.images} left out"
    )
