"""`pretrain`: a backbone from synthetic images alone."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.parsing import new_parser

if TYPE_CHECKING:
    import torch

    from trainer.pretrain.checkpoint import Position
    from trainer.pretrain.config import PretrainConfig
    from trainer.pretrain.source import Source

EXAMPLES = """  synthgrid pretrain --images data/digits-synthetic --model cnn --out runs/pre
  torchrun --nproc-per-node 4 -m synthgrid pretrain --images data/digits-synthetic --out runs/four
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
        help="labelled folders or tar shards; the prompts of their images are the captions",
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
    """Trains, or goes on, and says what came of it. One of several processes if torchrun started
    it."""
    from trainer.errors import ConfigError
    from trainer.grid.lock import refuse_unfinished
    from trainer.pretrain.processes import joined
    from trainer.pretrain.source import read_source
    from trainer.training.compute import pick_device

    config = _config(options)
    if min(options.checkpoint_every, options.curve_every) < 1:
        raise ConfigError("--checkpoint-every and --curve-every must be at least 1")
    for folder in options.images:
        refuse_unfinished(folder)
    source = read_source(options.images)
    with joined(pick_device(options.device)) as device:
        return _train(options, config, source, device)


def _config(options: argparse.Namespace) -> PretrainConfig:
    from trainer.pretrain.config import new_config

    return new_config(
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


def _train(
    options: argparse.Namespace, config: PretrainConfig, source: Source, device: torch.device
) -> int:
    from trainer.pretrain.output import has_checkpoint, is_finished, locked, open_out, write_result
    from trainer.pretrain.processes import check_shares, rank, wait
    from trainer.pretrain.training import pretrain as train

    check_shares(config.drawn)
    first = rank() == 0
    if first:
        open_out(options.out, config, source)
    wait()
    if is_finished(options.out):
        if first:
            print(f"{options.out} is finished; nothing to do")
        return 0
    if first and has_checkpoint(options.out):
        print(f"going on with {options.out}")
    with locked(options.out) if first else nullcontext():
        learner, position = train(
            config,
            source,
            options.out,
            device=device,
            checkpoint_every=options.checkpoint_every,
            curve_every=options.curve_every,
        )
        if first:
            write_result(options.out, config, source, learner, position)
    if first:
        print(_summary(options.out, config, source, position))
    return 0


def _summary(out: Path, config: PretrainConfig, source: Source, position: Position) -> str:
    last = position.curve[-1]
    knn = "" if last["knn"] is None else f", kNN {last['knn']:.1%} among its own images"
    return (
        f"{out}: {config.model} after {position.update} updates on {len(source.samples)} "
        f"images of {len(source.captions)} captions: loss {last['loss']:.3f}{knn}"
    )
