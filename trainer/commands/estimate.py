"""`estimate`: whether more synthetic images will help, from a small sample of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.parsing import (
    BY,
    add_embedder_options,
    embedder_for,
    new_parser,
    text_table,
)

if TYPE_CHECKING:
    from trainer.quality.embedding.embedder import Embedder
    from trainer.quality.estimating.cost import Cost
    from trainer.quality.estimating.estimate import Estimate, EstimateConfig
    from trainer.quality.estimating.sweep import Judged
    from trainer.quality.images import MadeImages, RealImages

EXAMPLES = """  synthgrid run sd15_class_prompts --server URL --classes data/animals/train \\
      --per-class 16 --out data/animals-sample
  synthgrid estimate --real data/animals --synthetic data/animals-sample --plan-per-class 60
  synthgrid estimate --real data/animals --synthetic data/from-photos --by strength"""
NOTE = """

Only training images are used: some learn, the others judge. The answer is also written to
DIR.quality/estimate.json, or estimate-by-FIELD.json."""

FILE, SWEEP_FILE = "estimate.json", "sweep.json"


def add_parser(commands: Any, *, more_examples: str = "") -> argparse.ArgumentParser:
    """Declares the command; returns its parser, to which more may be added."""
    parser = new_parser(commands, "estimate", examples=EXAMPLES + more_examples + NOTE)
    add = parser.add_argument
    add(
        "--real",
        type=Path,
        required=True,
        metavar="DIR",
        help="real images: train/<class>/, or <class>/; test/<class>/ is never looked at",
    )
    add("--synthetic", type=Path, metavar="DIR", help="the sample")
    add(
        "--by",
        choices=BY,
        help="compare the images of each template, context, style or strength in the sample",
    )
    add(
        "--k",
        type=_whole_numbers,
        default=(1, 2, 4, 8, 16),
        metavar="K,K,...",
        help="synthetic images per class to try (default 1,2,4,8,16)",
    )
    add(
        "--real-per-class",
        type=int,
        metavar="N",
        help="learn from N real images of each class and judge by all others (default: learn from "
        "four fifths)",
    )
    add("--repeats", type=int, default=5, metavar="N", help="of five folds (default 5)")
    add_embedder_options(parser)
    add("--seed", type=int, default=0, metavar="N", help="of every random choice (default 0)")
    group = parser.add_argument_group("what the whole plan costs")
    group.add_argument(
        "--plan-per-class",
        type=int,
        metavar="N",
        help="synthetic images per class of the plan (default: what the sample's folder says)",
    )
    group.add_argument(
        "--images-per-s",
        type=float,
        metavar="X",
        help="speed of all servers together (default: what the sample's run measured)",
    )
    add("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(command=run)
    return parser


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected comma-separated whole numbers, as in 1,2,4, not '{text}'"
        ) from None


def run(options: argparse.Namespace) -> int:
    """Prints the curve and the verdict, or JSON; exit code 0 whatever the verdict."""
    from comfy_nodes.labelset.quality.verdicts import quality_folder
    from trainer.quality.estimating.cost import cost_of
    from trainer.quality.images import load_made

    config = _config(options)
    embedder, real = embedder_for(options, _real(options))
    made = load_made(options.synthetic.expanduser(), real.classes)
    if options.by:
        file = quality_folder(made.root) / f"estimate-by-{options.by}.json"
        return _compare(options, real, made.by(options.by), embedder, file)
    found = _estimate(real, made, embedder, config)
    cost = cost_of(
        made.root,
        len(real.classes),
        per_class=options.plan_per_class,
        images_per_s=options.images_per_s,
    )
    values = _values(found, cost) | _origin(real, {made.root.name: made}, embedder, config)
    text = _write(quality_folder(made.root) / FILE, values)
    print(text if options.json else "\n".join([*_curve(found), "", *_answer(found, cost)]))
    return 0


def run_sweep(options: argparse.Namespace, out: Path, folders: Mapping[str, Path]) -> int:
    """Prints how settings compare, from samples in `folders`; writes sweep.json into `out`."""
    from trainer.quality.images import load_made

    embedder, real = embedder_for(options, _real(options))
    made = {name: load_made(folder, real.classes) for name, folder in folders.items()}
    return _compare(options, real, made, embedder, out / SWEEP_FILE)


def _compare(
    options: argparse.Namespace,
    real: RealImages,
    made: Mapping[str, MadeImages],
    embedder: Embedder,
    file: Path,
) -> int:
    """Prints how sets of images compare, and writes it."""
    from trainer.progress import Progress
    from trainer.quality.embedding.sets import see_sets
    from trainer.quality.estimating.sweep import judge

    config = _config(options)
    sets = see_sets(real, made, embedder)
    with Progress("judging settings", total=len(made), unit="settings") as progress:
        found, compared = judge(
            real,
            made,
            sets,
            config,
            embedder=embedder.name,
            on_setting=lambda name: progress.advance(note=name),
        )
    settings = [each.to_dict() for each in found]
    values = {"settings": settings, "kernel": compared.kernel}
    text = _write(file, values | _origin(real, made, embedder, config))
    print(text if options.json else "\n".join(_front(found)))
    return 0


def _config(options: argparse.Namespace) -> EstimateConfig:
    from trainer.quality.estimating.estimate import EstimateConfig

    return EstimateConfig(
        ks=options.k,
        repeats=options.repeats,
        real_per_class=options.real_per_class,
        seed=options.seed,
    )


def _real(options: argparse.Namespace) -> RealImages:
    """Real training images with their groups: test images are never looked at."""
    from trainer.data.group_table import GROUPS_FILE, with_groups
    from trainer.quality.images import RealImages, load_real

    folder = options.real.expanduser()
    real = load_real(folder)
    return RealImages(real.classes, with_groups(real.train, folder / GROUPS_FILE, part="train"))


def _write(path: Path, values: dict[str, Any]) -> str:
    """The values as JSON, which is written whole or not at all."""
    from comfy_nodes.labelset import write_atomically

    text = json.dumps(values, indent=1, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode("utf-8", errors="surrogatepass"))
    return text


def _estimate(
    real: RealImages, made: MadeImages, embedder: Embedder, config: EstimateConfig
) -> Estimate:
    """Sees the images and fits the heads, with progress."""
    from trainer.progress import Progress
    from trainer.quality.embedding.sets import see_sets
    from trainer.quality.estimating.estimate import derived_pairs, estimate

    name = made.root.name
    sets = see_sets(real, {name: made}, embedder)
    derived = derived_pairs(real, made, (sets.thumbs[""], sets.thumbs[name]))
    with Progress("fitting heads", total=0, unit="heads") as progress:
        return estimate(
            real.train,
            sets.train,
            sets.made[name],
            config,
            classes=real.classes,
            derived=derived,
            on_plan=progress.expect,
            on_fit=progress.advance,
        )


def _values(found: Estimate, cost: Cost | None) -> dict[str, Any]:
    plan = None
    if cost is not None:
        plan = asdict(cost) | {"hours": cost.hours, "gpu_hours": cost.gpu_hours}
    return found.to_dict() | {"plan": plan}


def _origin(
    real: RealImages, made: Mapping[str, MadeImages], embedder: Embedder, config: EstimateConfig
) -> dict[str, Any]:
    """What the numbers were made from and with."""
    from trainer.data.samples import fingerprint
    from trainer.training.run import versions

    return {
        "classes": list(real.classes),
        "config": asdict(config) | {"embedder": embedder.name},
        "fingerprints": {
            "real": fingerprint(real.train),
            "synthetic": {name: fingerprint(each.samples) for name, each in made.items()},
            "embedder": embedder.fingerprint,
        },
        "versions": versions(),
    }


def _curve(found: Estimate) -> list[str]:
    lines = [
        f"learned from {found.real_per_class:.4g} real images per class, judged by "
        f"{found.held_out} real images that the head had not seen",
        "",
        "synthetic per class  accuracy  change in points",
        f"{0:>19}  {_percent(found.accuracy)}",
    ]
    for each in found.curve:
        change, low, high = (
            f"{100 * value:+.1f}" for value in (each.gain.value, each.gain.low, each.gain.high)
        )
        lines.append(f"{each.k:>19}  {_percent(each.accuracy)}  {change} ({low} to {high})")
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:7.1f}%"


def _answer(found: Estimate, cost: Cost | None) -> list[str]:
    """The verdict, how far it goes, and what the plan costs."""
    from trainer.quality.estimating.estimate import UNDECIDED

    last = found.last
    lines = []
    if found.verdict == UNDECIDED:
        lines.append(
            f"undecided: make {2 * found.sample} images per class (synthgrid extend), then "
            "estimate again"
        )
        if last.gain.from_images > last.gain.from_sample:
            lines.append(
                f"most of the interval comes from the {found.held_out} real images that judge: "
                "more of those would narrow it, more synthetic images hardly do"
            )
    else:
        lines.append(f"{found.verdict}, at {last.k} synthetic images per class")
    if found.derived:
        lines.append(
            f"{found.derived} synthetic images show a real training image and were left out "
            "wherever it judged"
        )
    if found.verdict != UNDECIDED or (cost is not None and cost.per_class > found.reach):
        lines.append(_reach(found, cost))
    if cost is not None:
        lines.append(_cost(cost))
    return lines


def _reach(found: Estimate, cost: Cost | None) -> str:
    text = f"a verdict holds for up to {found.reach} synthetic images per class"
    if cost is None or cost.per_class <= found.reach:
        return text
    needed = -(-cost.per_class // 4)
    return (
        f"{text}, and the plan has {cost.per_class}: for an answer about it, make {needed} per "
        "class first"
    )


def _cost(cost: Cost) -> str:
    text = f"the whole plan: {cost.images} images, {cost.per_class} per class"
    hours = cost.gpu_hours
    if hours is None:
        return f"{text}; give --images-per-s for the time it takes"
    on = f" on {cost.servers} servers" if cost.servers > 1 else ""
    time = f"{hours:.3g} GPU hours" if hours >= 1 else f"{60 * hours:.3g} GPU minutes"
    return f"{text}, {time} at {cost.images_per_s:.3g} images/s{on}"


def _front(found: Sequence[Judged]) -> list[str]:
    """The table of a sweep, the settings that nothing beats with a star."""
    rows = [("", "setting", "change in points", "distance", "label agreement", "images/s")]
    for each in found:
        gain = each.last.gain
        change, low, high = (f"{100 * value:+.1f}" for value in (gain.value, gain.low, gain.high))
        rows.append(
            (
                "*" if each.best else "",
                each.name,
                f"{change} ({low} to {high})",
                f"{each.distance.value:.2f}",
                f"{100 * each.agreement.value:.1f}%",
                "-" if each.images_per_s is None else f"{each.images_per_s:.3g}",
            )
        )
    return [
        *text_table(rows),
        "",
        f"* no other is at least as good in everything; change at {found[0].last.k} synthetic "
        "images per class. Where intervals overlap, the order may be luck.",
    ]
