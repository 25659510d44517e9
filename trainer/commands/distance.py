"""`distance`: how far synthetic images are from real ones, and which source is closest."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.parsing import (
    BY,
    add_embedder_options,
    embedder_for,
    named_folders,
    new_parser,
    text_table,
)

if TYPE_CHECKING:
    from trainer.quality.distances.distance import Against, Comparison
    from trainer.quality.distances.fidelity import Share
    from trainer.quality.distances.mmd import Distance

EXAMPLES = """  synthgrid distance --real data/animals --synthetic data/animals-synthetic
  synthgrid distance --real data/animals --synthetic cfg2=made2 --synthetic cfg7=made7 --json
  synthgrid distance --real data/animals --synthetic data/animals-synthetic --by style

The distance is 0 where images are alike; real images against real ones stand beside it. It says how
alike images look, not how useful they are: `synthgrid estimate` answers that."""

_CLASSES_SHOWN = 20
_HEADER = ("", "images", "distance", "95% interval", "density", "coverage", "label agreement")


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "distance", examples=EXAMPLES)
    add = parser.add_argument
    add(
        "--real",
        type=Path,
        required=True,
        metavar="DIR",
        help="real images: train/<class>/, or <class>/; test/<class>/ stands beside them",
    )
    add(
        "--synthetic",
        action="append",
        required=True,
        metavar="[NAME=]DIR",
        help="synthetic images; repeat for more sources",
    )
    add("--by", choices=BY, help="divide each source by what its records say, into one per value")
    add_embedder_options(parser)
    add("--seed", type=int, default=0, metavar="N", help="of every random choice (default 0)")
    add("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(command=distance)


def distance(options: argparse.Namespace) -> int:
    """Prints a table, or JSON."""
    from trainer.quality.distances.distance import compare
    from trainer.quality.embedding.sets import see_sets
    from trainer.quality.images import load_made, load_real

    folders = named_folders(options.synthetic)
    real = load_real(options.real.expanduser())
    made = {name: load_made(folder, real.classes) for name, folder in folders.items()}
    if options.by:
        made = {
            value if len(made) == 1 else f"{name}: {value}": part
            for name, each in made.items()
            for value, part in each.by(options.by).items()
        }
    embedder, real = embedder_for(options, real)
    sets = see_sets(real, made, embedder)
    found = compare(sets, embedder=embedder.name, seed=options.seed)
    if options.json:
        values = {"embedder": embedder.name, "common_px": sets.common_px, "seed": options.seed}
        print(json.dumps(values | _values(found), indent=1, ensure_ascii=False))
    else:
        print(_text(found, embedder.name))
    return 0


def _values(found: Comparison) -> dict[str, Any]:
    values = asdict(found)
    for pair, text in zip(found.pairs, values["pairs"], strict=True):
        text["verdict"] = found.verdict(pair.first, pair.second)
    return values


def _text(found: Comparison, embedder: str) -> str:
    rows = [*([found.real] if found.real else []), *found.sources]
    lines = [f"{found.kernel} x 1000 on {embedder} features, {len(found.classes)} classes", ""]
    lines += text_table([_HEADER, *map(_row, rows)])
    lines += ["", *_ranking(found), "", *_by_class(found)]
    if found.real is None:
        lines.append(
            "no real images to compare real ones with: that takes 4 test images per class, or 8 "
            "in all"
        )
    lines += [_frechet(each) for each in found.sources]
    return "\n".join(lines)


def _row(each: Against) -> tuple[str, ...]:
    return (
        each.name,
        str(each.images),
        f"{each.distance.value:.2f}",
        _interval(each.distance),
        "-" if each.density is None else f"{each.density:.2f}",
        "-" if each.coverage is None else f"{each.coverage:.2f}",
        _share(each.agreement),
    )


def _interval(each: Distance) -> str:
    return f"{each.low:.2f} to {each.high:.2f}"


def _share(each: Share) -> str:
    return f"{100 * each.value:.1f}% ({100 * each.low:.0f} to {100 * each.high:.0f})"


def _ranking(found: Comparison) -> list[str]:
    """What the order of the sources rests on."""
    lines = []
    for pair in found.pairs:
        verdict = found.verdict(pair.first, pair.second)
        each = pair.distance
        numbers = f"(difference {each.value:.2f}, {each.low:.2f} to {each.high:.2f})"
        if verdict == "cannot tell":
            lines.append(f"cannot tell whether {pair.first} or {pair.second} is closer {numbers}")
        else:
            lines.append(f"{pair.first} is {verdict} than {pair.second} {numbers}")
    return lines


def _by_class(found: Comparison) -> list[str]:
    """The classes that are furthest away in any source."""

    def furthest(label: str) -> float:
        return max(each.by_class[label].value for each in found.sources)

    labels = sorted(found.classes, key=furthest, reverse=True)[:_CLASSES_SHOWN]
    rows = [*([found.real] if found.real else []), *found.sources]
    shown: list[tuple[str, ...]] = [("class", *(each.name for each in rows))]
    for label in labels:
        shown.append((label, *(_of_class(each, label) for each in rows)))
    more = len(found.classes) - len(labels)
    return [
        "distance and label agreement by class, the furthest first",
        *text_table(shown),
        *([f"... and {more} more classes; --json lists all"] if more else []),
    ]


def _of_class(each: Against, label: str) -> str:
    return f"{each.by_class[label].value:.1f}, {100 * each.agreement_by_class[label].value:.0f}%"


def _frechet(each: Against) -> str:
    if each.frechet is None:
        return f"{each.name}: no FID: it {each.no_frechet}"
    return f"{each.name}: Frechet distance {each.frechet:.1f} (FID on these features)"
