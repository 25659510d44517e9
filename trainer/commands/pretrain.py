"""`pretrain`: a backbone from synthetic images alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from trainer.commands.parsing import new_parser

EXAMPLES = """  synthgrid pretrain --images data/digits-synthetic --model cnn --out runs/pre
  synthgrid probe runs/pre --real data/digits
  synthgrid grid --real data/digits --models cnn:finetune --weights cnn=runs/pre --out runs/tuned"""


def add_parser(commands: Any) -> None:
    """Declares the command."""
    parser = new_parser(commands, "pretrain", examples=EXAMPLES)
    add = parser.add_argument
    add(
        "--images",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="labelled folders; the prompts of their images are the captions",
    )
    add("--model", default="cnn", metavar="NAME", help="cnn, resnet18, vit_s, timm:ARCH, ...")
    add("--out", type=Path, required=True, metavar="DIR", help="the run; again to go on with it")
    add(
        "--method",
        default="stablerep",
        help="stablerep (images of a caption belong together, the default), stablerep+ (they also "
        "belong to its words), simclr (two changes of an image), supcon (two changes each, all of "
        "a class), or supervised (classes, to compare)",
    )
    add("--positives", default="", help="caption or class: what belongs together")
    _add_training_options(parser)
    parser.set_defaults(command=pretrain)


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training (defaults: StableRep's, but for updates and batch)")
    for option, kind, default, text in (
        ("--updates", int, 1000, "updates"),
        ("--batch", int, 240, "changed images per update, over all processes"),
        ("--per-caption", int, 6, "images drawn of each caption"),
        ("--temperature", float, 0.1, "of the softmax over similarities"),
        ("--base-rate", float, 2e-4, "learning rate per 512 changed images"),
        ("--weight-decay", float, 0.1, "of AdamW"),
        ("--warmup", float, 0.05, "share of the updates in which the rate rises"),
        ("--text-width", int, 256, "of stablerep+'s text tower, a multiple of 64"),
        ("--text-layers", int, 4, "of stablerep+'s text tower"),
        ("--crop", float, 0.08, "smallest share of the area that a crop keeps"),
        ("--image-size", int, 0, "side in pixels, 0 for the model's own"),
        ("--seed", int, 0, "of everything random"),
        ("--checkpoint-every", int, 100, "updates between checkpoints"),
        ("--curve-every", int, 50, "updates between points of the curve"),
    ):
        group.add_argument(
            option, type=kind, default=default, metavar="N", help=f"{text} (default {default})"
        )
    group.add_argument("--no-mirror", action="store_true", help="never mirror images")
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def pretrain(options: argparse.Namespace) -> int:
    """Trains, or goes on, and says what came of it."""
    from trainer.errors import ConfigError
    from trainer.grid.lock import refuse_unfinished
    from trainer.pretrain.config import new_config
    from trainer.pretrain.output import has_checkpoint, locked, open_out, write_result
    from trainer.pretrain.source import read_source
    from trainer.pretrain.training import pretrain as train
    from trainer.training.compute import pick_device

    config = new_config(
        **{
            name: getattr(options, name)
            for name in ("model", "method", "positives", "updates", "per_caption", "temperature")
        },
        **{name: getattr(options, name) for name in ("base_rate", "weight_decay", "warmup")},
        **{name: getattr(options, name) for name in ("text_width", "text_layers")},
        batch_views=options.batch,
        crop=options.crop,
        image_size_px=options.image_size,
        mirror=not options.no_mirror,
        seed=options.seed,
    )
    if min(options.checkpoint_every, options.curve_every) < 1:
        raise ConfigError("--checkpoint-every and --curve-every must be at least 1")
    for folder in options.images:
        refuse_unfinished(folder)
    source = read_source(options.images)
    if open_out(options.out, config, source):
        print(f"{options.out} is finished; nothing to do")
        return 0
    if has_checkpoint(options.out):
        print(f"going on with {options.out}")
    with locked(options.out):
        learner, position = train(
            config,
            source,
            options.out,
            device=pick_device(options.device),
            checkpoint_every=options.checkpoint_every,
            curve_every=options.curve_every,
        )
        write_result(options.out, config, source, learner, position)
    last = position.curve[-1]
    knn = "" if last["knn"] is None else f", kNN {last['knn']:.1%} among its own images"
    print(
        f"{options.out}: {config.model} after {position.update} updates on {len(source.samples)} "
        f"images of {len(source.captions)} captions: loss {last['loss']:.3f}{knn}"
    )
    return 0
