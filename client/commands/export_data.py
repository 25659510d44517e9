"""`export-data`: a labelled folder for other tools, and tar shards back into a labelled folder."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FolderError
from .options import new_parser

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

HF, PARQUET, WEBDATASET, COCO, FOLDER = "hf", "parquet", "webdataset", "coco-cls", "folder"
WITH_CARD = (HF, PARQUET, COCO)  # where classes have numbers and a licence has a place
EXAMPLES = """\
  synthgrid export-data data/synthetic --to hf --out data/synthetic-hf --license cc0-1.0
  synthgrid export-data data/synthetic --to parquet --out data/synthetic-parquet
  synthgrid export-data data/synthetic --to coco-cls --out data/synthetic-coco
  synthgrid export-data data/synthetic --to webdataset --out data/shards
  synthgrid export-data data/shards --to folder --out data/again

hf and parquet are what datasets.load_dataset reads; nothing is uploaded. To number the classes as
your real images do, give their folder with --classes. Exit code 1: nothing was written, or a shard
was set aside, which is then named."""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "export-data", examples=EXAMPLES)
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="a labelled folder; with --to folder, shards"
    )
    parser.add_argument(
        "--to", required=True, choices=(HF, PARQUET, WEBDATASET, COCO, FOLDER), help="the format"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--license",
        metavar="ID",
        help=f"the licence that the card names, such as cc0-1.0 ({', '.join(WITH_CARD)}; "
        "default: unknown)",
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="PATH",
        help="number the classes as in this file of class names or folder of class folders "
        f"({', '.join(WITH_CARD)}; default: sorted)",
    )
    parser.add_argument(
        "--shard-images",
        type=_count,
        metavar="N",
        help="images per tar file at most (webdataset; default: 10000)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=export_data)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:10]) <= 10**9:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of images from 1 to 1000000000")
    return int(text)


def export_data(args: argparse.Namespace) -> int:
    """Writes the folder and says what is in it; returns 1 if shards were set aside."""
    from ..folder.exports.place import new_folder
    from .console import image_bar

    _check_options(args)
    source, out = args.folder.expanduser(), args.out.expanduser()
    if not source.is_dir():
        raise FolderError(f"{source} is not a folder; give a labelled folder")
    with new_folder(out, apart_from=source) as part, image_bar() as progress:
        images, set_aside = _WRITERS[args.to](args, source, part, progress)
    for file, reason in set_aside:
        log.error("set aside: %s: %s", file, reason)
    result = {
        "out": str(out),
        "format": args.to,
        "images": images,
        "set_aside": [{"file": file, "reason": reason} for file, reason in set_aside],
    }
    print(
        json.dumps(result, indent=1, ensure_ascii=False)
        if args.json
        else f"{out}: {images} images as {args.to}"
        + (f", {len(set_aside)} files set aside" if set_aside else "")
    )
    return 1 if set_aside else 0


def _check_options(args: argparse.Namespace) -> None:
    """Refuses an option that the format has no use for."""
    homes = {"license": WITH_CARD, "classes": WITH_CARD, "shard_images": (WEBDATASET,)}
    for name, formats in homes.items():
        if getattr(args, name) is not None and args.to not in formats:
            raise FolderError(
                f"--{name.replace('_', '-')} has no effect with --to {args.to}; it is for "
                f"{', '.join(formats)}"
            )


_Result = tuple[int, tuple[tuple[str, str], ...]]


def _with_card(
    args: argparse.Namespace, root: Path, part: Path, progress: Callable[[int, int], None]
) -> _Result:
    from ..folder.exports import coco, hub_folder, parquet
    from ..folder.exports.columns import UNKNOWN_LICENSE, class_names
    from ..folder.exports.source import Source

    write = {HF: hub_folder.write, PARQUET: parquet.write, COCO: coco.write}[args.to]
    source = Source(root, progress)
    classes = class_names(source.tally, args.classes)
    write(source, part, classes=classes, license_id=args.license or UNKNOWN_LICENSE)
    return source.images, ()


def _to_shards(
    args: argparse.Namespace, root: Path, part: Path, progress: Callable[[int, int], None]
) -> _Result:
    from ..folder.exports import shards
    from ..folder.exports.source import Source

    source = Source(root, progress)
    shards.write(source, part, most_images=args.shard_images or shards.MOST_IMAGES)
    return source.images, ()


def _from_shards(
    args: argparse.Namespace, root: Path, part: Path, progress: Callable[[int, int], None]
) -> _Result:
    from ..folder.exports.unpack import unpack

    found = unpack(root, part, on_progress=progress)
    return found.images, found.set_aside


_WRITERS = {
    HF: _with_card,
    PARQUET: _with_card,
    COCO: _with_card,
    WEBDATASET: _to_shards,
    FOLDER: _from_shards,
}
