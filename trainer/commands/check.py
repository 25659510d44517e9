"""`check`: is each synthetic image what its label says, and usable?"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.parsing import add_embedder_options, embedder_for, new_parser

if TYPE_CHECKING:
    from trainer.quality.checking.check import Check

EXAMPLES = """  synthgrid check made --real photos
  synthgrid check made --real photos --reject label,copy,blank,outlier --quarantine
  synthgrid check made --real photos --embedder open_clip:ViT-B-32/laion2b_s34b_b79k --json

Scores and verdicts go to made.quality/ beside the folder; made itself stays as it is, unless
--quarantine moves the rejected images to made.quarantine/. Look at made.quality/report.html before
you believe it."""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "check", examples=EXAMPLES)
    add = parser.add_argument
    add("synthetic", type=Path, metavar="SYN", help="synthetic images: a folder, or tar shards")
    add_check_options(parser, required=True)
    add("--quarantine", action="store_true", help="move rejected images to SYN.quarantine/")
    add("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(command=show)


def add_check_options(parser: Any, *, required: bool = False) -> None:
    """By what images are judged; `checked` reads these options. --real may be `required`."""
    add = parser.add_argument
    add(
        "--real",
        required=required,
        metavar="DIR",
        help="real images: train/<class>/ with or without test/<class>/, or plain class folders",
    )
    add_embedder_options(parser)
    add(
        "--reject",
        default="label,copy,blank",
        metavar="LIST",
        help="reasons to reject an image: label, copy, blank, outlier, real (default: "
        "label,copy,blank); all scores are reported",
    )
    add(
        "--outlier",
        default="msp",
        metavar="SCORE",
        help="msp, energy, knn, mahalanobis, rmd or vos (default: msp)",
    )
    add("--seed", type=int, default=0, metavar="N", help="of the folds (default: 0)")


def show(options: argparse.Namespace) -> int:
    """Prints what the check found. The exit code is 0 either way."""
    if options.quarantine:
        _refuse_shards(options.synthetic)
    check = judge(options, as_json=options.json)
    if options.quarantine:
        _set_aside(options.synthetic, check)
    return 0


def judge(options: argparse.Namespace, *, as_json: bool = False) -> Check:
    """Checks, writes the report, and prints what was found. Raises as `checked` does."""
    # Read when torch loads: threads that spin while they wait slow a busy machine down.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from trainer.data.torchvision_sets import real_folder

    check = checked(options, real=real_folder(options.real))
    from trainer.report.check import write_check_report

    page = write_check_report(check.path, check.packed)
    if as_json:
        print(json.dumps(check.summary, indent=2, ensure_ascii=False))
    else:
        print("\n".join([*_lines(check), f"Look at it: {page}"]))
    return check


def checked(options: argparse.Namespace, *, real: Path) -> Check:
    """The check that the options ask for.

    Raises:
        SynthGridError: an option is wrong, or the images cannot be judged.
    """
    from trainer.quality.checking.check import run_check
    from trainer.quality.checking.judging import CheckConfig
    from trainer.quality.images import load_made, load_real

    reasons = tuple(each.strip() for each in options.reject.split(",") if each.strip())
    config = CheckConfig(options.outlier, reasons, options.seed)
    embedder, images = embedder_for(options, load_real(real))
    return run_check(images, load_made(options.synthetic, images.classes), embedder, config)


def _refuse_shards(folder: Path) -> None:
    from comfy_nodes.labelset.shards import holds_shards
    from trainer.errors import ConfigError

    if holds_shards(folder):
        raise ConfigError(
            f"--quarantine moves image files, and {folder} has tar shards; make a labelled folder "
            f"of them with: synthgrid export-data {folder} --to folder --out DIR, or leave it out"
        )


def _set_aside(folder: Path, check: Check) -> None:
    from comfy_nodes.labelset.quality.quarantine import set_aside

    moved = set_aside(folder, check.verdicts, scorer=check.path.name)
    print(f"{len(moved.records)} images moved to {moved.folder}", file=sys.stderr)


def _lines(check: Check) -> list[str]:
    from trainer.report.check import group_line

    found = check.summary
    label, outlier = found["thresholds"]["label"], found["outlier"]
    told = found["real_or_synthetic"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in found["by_reason"].items())
    lines = [
        f"{found['images']} images, {found['rejected']} rejected" + f" ({reasons})" * bool(reasons),
        *(
            f"  {each['name']}: {each['rejected']} of {each['images']}"
            for each in found["by_class"]
            if each["rejected"]
        ),
        f"label: below {label['threshold']:.3f}; the same rule rejects {label['real']:.1%} of the "
        "real images",
    ]
    if outlier["auroc"] is not None:
        lines.append(
            f"outlier ({outlier['kind']}): tells real classes that it has never seen with AUROC "
            f"{outlier['auroc']:.2f} (0.50 is chance)"
        )
    lines.append(
        f"real or synthetic: AUC {told['auc']:.2f} ({told['low']:.2f} to {told['high']:.2f}; 0.50 "
        "is no difference)"
    )
    lines += [f"look at: {group_line(each)}" for each in found["groups"]]
    lines += [
        f"not judged: {count} images of '{label}', of which there are no real ones"
        for label, count in found["not_judged"].items()
    ]
    return [*lines, f"Scores: {check.path}"]
