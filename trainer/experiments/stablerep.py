"""Tian et al., StableRep (2023): several images of a caption as positives, against SimCLR and
supervised training on the same images; StableRep+ with the words; and controls without captions.

    python -m trainer.experiments.stablerep --images data/digits-synthetic --real data/digits \\
        --no-mirror --out runs/stablerep

Every run has the same images, updates, views per update, learning rate and changes of the images;
only --method differs. A fifth of the captions are held out of all runs: their words must find their
images among themselves (R-precision). Features are judged by a logistic head on --shots real images
per class, mean over five draws; differences are taken within a seed, with 95 % intervals over
seeds. Test images and real training images are the same for all seeds. Learning rate and crop suit
small images and few updates; they were chosen for StableRep, which may favour it over SimCLR.

Measured with --seeds 5 on 800 images of 100 captions (10 digits, 10 templates, 8 images each, by
the embedded engine and the bundled checkpoint at cfg 3), 300 real test images, accuracy in %:

                                   1 per class   5 per class
    supervised                            94.1          97.2
    stablerep+                            91.1          96.8
    supcon                                89.5          97.0
    stablerep                             87.1          96.6
    simclr                                67.4          89.9
    stablerep+, captions shuffled         62.1          86.8
    stablerep, captions shuffled          61.1          86.5
    stablerep, captions redealt           54.7          83.7
    stablerep, learning rate 0            52.8          81.2
    random initialisation                 55.9          82.4

StableRep against SimCLR +19.8 points (15.5 to 24.1) at 1 and +6.7 (4.9 to 8.4) at 5; against
supervised, which knows the classes that the test asks for, -6.9 (-9.0 to -4.8) and -0.6 (-1.2 to
0.1). StableRep+ against StableRep +4.0 (1.7 to 6.3) and +0.2 (-1.1 to 1.5). Words of held-out
captions find their images in 79.9 % (72.8 to 87.0; chance 5.0), after a shuffle in 5.4 % (3.8 to
7.0). What follows is over 8 seeds, unless it says otherwise.

What captions are worth is StableRep against its own shuffle: +25.9 points (23.6 to 28.3) at 1 and
+9.5 (8.0 to 11.0) at 5. A shuffle is not the same as no training. One that stays for a whole run is
a set of random groups, which can be learnt by heart: on views that the network has not seen they
fit by 0.048 nats (0.036 to 0.060) better than those of another shuffle. To know them it has to
recognise single images however they are changed, which is what SimCLR learns directly, and random
labels are known to teach something of the images (Maennel et al. 2020). Hence 6.0 points (2.2 to
9.9) at 1 and 4.4 (2.9 to 5.8) at 5 above random initialisation.

The control with nothing to learn deals the captions out anew in every update. It learns no groups:
-0.0002 nats (-0.0007 to 0.0003). From random initialisation it is -1.1 points (-4.8 to 2.7) at 1
and +1.6 (-0.5 to 3.7) at 5: within 3 points, as it should be, though 8 seeds cannot exclude 3.7.
With learning rate 0, where only batch normalisation sees the views, it is -3.2 (-8.9 to 2.5; 5
seeds) and -1.2 (-5.2 to 2.9).

A probe that divides every feature by its deviation in the shots would have said +0.6 (-3.7 to 4.9)
and +3.4 (1.0 to 5.8), which is mostly the probe's doing. Of the 128 features of a random network
10 % vary less than 0.3 times as much as the root mean square of all, and 2 % not at all; of
StableRep's, with its own, shuffled or redealt captions, 0 to 0.2 % do. Blown up to the size of the
others they cost a random network 2.6 points at 1 and 1.9 at 5, StableRep 0.6 and 0.2 (4 seeds), and
redealt captions 0.9 and 0.1. So the probe draws each variance halfway to the mean of all, which
moves the means on CIFAKE, below, by -0.3 to 1.1 for the random network and by -0.2 to 0.6 for
trained ones. (One deviation for all features was worse for shuffled captions.) Two other
explanations fail. The penalty is chosen well enough: any fixed one from 10 to 0.01 leaves +2.5 to
+3.4 at 5. And training does not spread the features more evenly, which would help any head: they
vary in 12 directions instead of 24 (participation ratio), and after whitening by the synthetic
images the gap is wider, +7.3 (5.5 to 9.0).

On 3,000 images of ten CIFAR-10 classes by Stable Diffusion 1.4 (CIFAKE, 300 a class), 32 px, with
class names as captions, `synthgrid pretrain --updates 150 --crop 0.3 --base-rate 4e-3` and `probe`
on 2,500 real test images, one training each, 95 % intervals over five draws of the shots:

                                   1 per class            5           10           30
    lite0                  33.3 (27.8 to 38.9)  52.7 (+-3.5)  60.6 (+-2.4)  67.4 (+-1.3)
    supervised             26.8 (23.4 to 30.2)  32.7 (+-3.1)  37.6 (+-2.5)  42.4 (+-1.5)
    stablerep              25.8 (23.5 to 28.1)  32.0 (+-2.8)  37.2 (+-2.1)  41.6 (+-1.2)
    simclr                 18.5 (16.0 to 21.1)  25.2 (+-3.3)  30.8 (+-2.9)  35.9 (+-2.2)
    random initialisation  15.2 (12.5 to 17.9)  19.4 (+-1.8)  22.6 (+-1.9)  27.9 (+-0.8)

lite0 was pretrained on ImageNet's real photographs and sees the images scaled up to 224 px; the
others have seen synthetic images alone, or none.

54 runs on the digits of about 70 s in one thread of a busy machine.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from comfy_nodes.errors import SynthGridError
from trainer.data.torchvision_sets import real_folder
from trainer.errors import ConfigError
from trainer.pretrain.config import METHODS, PretrainConfig, new_config
from trainer.pretrain.loss import multi_positive_loss
from trainer.pretrain.networks import Learner
from trainer.pretrain.output import locked, open_out, write_result
from trainer.pretrain.probe import Features, check_shots, interval_of, probe
from trainer.pretrain.retrieval import Retrieval, retrieve
from trainer.pretrain.source import (
    Pixels,
    Source,
    hold_out,
    read_source,
    redeal_captions,
    shuffle_captions,
)
from trainer.pretrain.training import batch_of, pretrain
from trainer.pretrain.views import Changes, change, generator_at
from trainer.quality.images import RealImages, load_real
from trainer.runs import to_json, write_file
from trainer.training.compute import pick_device

logger = logging.getLogger("trainer")
RANDOM, SHUFFLED = "random initialisation", ", captions shuffled"
REDEALT, STILL = ", captions redealt in every update", ", learning rate 0"
PLUS = "stablerep+"
CONTROLS = {SHUFFLED: "-shuffled", REDEALT: "-redealt", STILL: "-still"}
ARMS = (
    *METHODS,
    *("stablerep" + each for each in CONTROLS),
    PLUS + SHUFFLED,
)
_OTHERS, _FRESH = 100, 8  # seeds between two shuffles, and updates measured on new views
_NO_RATE = 1e-12  # AdamW moves no weight by more than this per update
# What is compared with what.
COMPARED = (
    ("stablerep", RANDOM),
    ("stablerep", "simclr"),
    ("stablerep", "supervised"),
    ("stablerep", "stablerep" + SHUFFLED),
    (PLUS, "stablerep"),
    ("stablerep" + SHUFFLED, RANDOM),
    (PLUS + SHUFFLED, RANDOM),
    ("stablerep" + SHUFFLED, "stablerep" + REDEALT),
    ("stablerep" + REDEALT, RANDOM),
    ("stablerep" + STILL, RANDOM),
)


@dataclass(frozen=True)
class Setting:
    """What all runs share."""

    source: Source
    held: Source
    real: RealImages
    shots: tuple[int, ...]
    draws: int
    device: torch.device
    out: Path


@dataclass(frozen=True)
class Found:
    """Of one arm and seed: accuracy per number of shots, mean over draws of the shots, with a
    logistic head; what words find among images of captions that were held out; and how well the
    captions of this seed's shuffle are known (see `learnt_groups`)."""

    arm: str
    seed: int
    accuracy: dict[int, float]
    words: Retrieval | None = None
    learnt: float | None = None


def config_of(options: argparse.Namespace, arm: str, seed: int) -> PretrainConfig:
    """The same for every arm, but for its method, and the learning rate of one control."""
    return new_config(
        model=options.model,
        method=arm.partition(",")[0],
        updates=4 if options.quick else options.updates,
        batch_views=24 if options.quick else options.batch,
        base_rate=_NO_RATE if arm.endswith(STILL) else options.base_rate,
        crop=options.crop,
        mirror=not options.no_mirror,
        image_size_px=options.image_size,
        seed=seed,
    )


def setting_of(options: argparse.Namespace) -> Setting:
    """Reads the images, and holds out a share of the captions.

    Raises:
        ConfigError: too few captions would remain, or the shots are no numbers.
        DataError: a folder is damaged, or the real images are too few for the shots.
    """
    whole = read_source([Path(each) for each in options.images])
    captions = round(options.hold_out * len(whole.captions))
    if not 2 <= captions <= len(whole.captions) - 2:
        raise ConfigError(
            f"--hold-out {options.hold_out:g} of {len(whole.captions)} captions is {captions}; at "
            "least two must be held out and two remain"
        )
    try:
        shots = tuple(sorted({int(each) for each in options.shots.split(",")}))
    except ValueError:
        raise ConfigError(f"--shots {options.shots} is not a list such as 1,5") from None
    real = load_real(real_folder(options.real))
    check_shots(shots, real.train)
    source, held = hold_out(whole, captions, seed=0)
    device = pick_device(options.device)
    draws = 2 if options.quick else 5
    return Setting(source, held, real, shots, draws, device, Path(options.out))


def one_run(setting: Setting, config: PretrainConfig, arm: str) -> Found:
    """Trains, or goes on, or reads what is there, and measures."""
    source = setting.source
    if arm.endswith(SHUFFLED):
        source = shuffle_captions(source, seed=config.seed)
    elif arm.endswith(REDEALT):
        source = redeal_captions(source, seed=config.seed)
    control = next((name for each, name in CONTROLS.items() if arm.endswith(each)), "")
    name = f"{config.method}{control}-s{config.seed}"
    out, seldom = setting.out / name, config.updates
    finished = open_out(out, config, source)
    with locked(out):
        learner, position = pretrain(
            config, source, out, device=setting.device, curve_every=seldom, checkpoint_every=50
        )
        if not finished:
            write_result(out, config, source, learner, position)
    words = None
    if config.method == PLUS:
        words = retrieve(learner, setting.held, config.image_size_px, setting.device)
    accuracy = accuracies(setting, learner, config)
    asked = arm in ("stablerep" + SHUFFLED, "stablerep" + REDEALT)
    learnt = learnt_groups(setting, learner, config) if asked else None
    return Found(arm, config.seed, accuracy, words, learnt)


def untrained(setting: Setting, config: PretrainConfig) -> Found:
    """The same network as it was before training."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        learner = Learner(config, len(setting.source.classes)).to(setting.device).eval()
    return Found(RANDOM, config.seed, accuracies(setting, learner, config))


@torch.no_grad()
def accuracies(setting: Setting, learner: Learner, config: PretrainConfig) -> dict[int, float]:
    """On the real test images, by the number of real training images per class."""
    real = setting.real
    number_of = {label: number for number, label in enumerate(real.classes)}
    parts, labels = [], []
    for samples in (real.train, real.test):
        pixels = Pixels(samples, config.image_size_px)
        blocks = torch.split(torch.arange(len(samples)), 64)
        parts.append(
            torch.cat(
                [
                    learner.features(pixels.take(rows).to(setting.device).float() / 255.0).cpu()
                    for rows in blocks
                ]
            )
        )
        labels.append(torch.tensor([number_of[each.label] for each in samples]))
    scores = probe(
        {"own": Features(*parts)}, labels[0], labels[1], shots=setting.shots, draws=setting.draws
    )
    return {each.shots: each.mean for each in scores if each.head == "logistic"}


@torch.no_grad()
def learnt_groups(setting: Setting, learner: Learner, config: PretrainConfig) -> float:
    """How much better the shuffled captions that a run was trained with fit than others, on views
    that it has not seen: loss of the others less its own, in nats. About 0 if none were learnt.

    A loss of log(views - 1) is that of a network to which all images are alike.
    """
    pixels = Pixels(setting.source.samples, config.image_size_px)
    changes = Changes(config.crop, config.mirror)
    means = []
    learner.train()
    for seed in (config.seed, config.seed + _OTHERS):
        source, losses = shuffle_captions(setting.source, seed=seed), []
        for step in range(config.updates, config.updates + _FRESH):
            rows, ids = batch_of(config, source, step)
            random = generator_at(config.seed, "fresh views", step)
            views = change(pixels.take(rows).to(setting.device), changes, random)
            projected = learner(views, config.each).projected
            loss = multi_positive_loss(
                projected, ids.to(setting.device), temperature=config.temperature
            )
            losses.append(loss.item())
        means.append(_mean(losses))
    return means[1] - means[0]


def conclusions(found: Sequence[Found]) -> list[str]:
    """A line per arm, a line per comparison, and what words find."""
    of = {(each.arm, each.seed): each for each in found}
    seeds, shots = sorted({each.seed for each in found}), sorted(found[0].accuracy)
    lines = []
    for arm in (*ARMS, RANDOM):
        means = [_mean([of[arm, seed].accuracy[number] for seed in seeds]) for number in shots]
        cells = [
            f"{100 * mean:.1f} % at {number}" for mean, number in zip(means, shots, strict=True)
        ]
        lines.append(f"{arm}: {', '.join(cells)} per class")
    for arm, rival in COMPARED:
        cells = []
        for number in shots:
            steps = [
                100 * (of[arm, seed].accuracy[number] - of[rival, seed].accuracy[number])
                for seed in seeds
            ]
            cells.append(f"{_mean(steps):+.1f} points{_around(steps)} at {number}")
        lines.append(f"{arm} against {rival}: {', '.join(cells)}")
    lines += [_learnt_line("stablerep" + each, found) for each in (SHUFFLED, REDEALT)]
    return lines + [_words_line(arm, found) for arm in (PLUS, PLUS + SHUFFLED)]


def _learnt_line(arm: str, found: Sequence[Found]) -> str:
    nats = [each.learnt for each in found if each.arm == arm and each.learnt is not None]
    within = interval_of(nats)
    around = "" if within is None else f" ({within[0]:.4f} to {within[1]:.4f})"
    return f"{arm}: the seed's shuffle fits better than another by {_mean(nats):.4f} nats{around}"


def _words_line(arm: str, found: Sequence[Found]) -> str:
    words = [each.words for each in found if each.arm == arm and each.words is not None]
    own, of_class = [100 * each.own for each in words], [100 * each.of_class for each in words]
    return (
        f"{arm}: words of held-out captions find their images in {_mean(own):.1f} %{_around(own)}, "
        f"of their class in {_mean(of_class):.1f} %{_around(of_class)}; chance is "
        f"{100 * words[0].own_chance:.1f} and {100 * words[0].class_chance:.1f} %"
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _around(values: Sequence[float]) -> str:
    """95 % interval over seeds, by Student's t; nothing for one seed."""
    within = interval_of(values)
    return "" if within is None else f" ({within[0]:.1f} to {within[1]:.1f})"


def new_parser() -> argparse.ArgumentParser:
    """The experiment's options."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.experiments.stablerep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--images", nargs="+", required=True, metavar="DIR", help="labelled folders with prompts")
    add("--real", required=True, metavar="DIR", help="train/<class>/ and test/<class>/")
    add("--out", required=True, metavar="DIR", help="a folder per run; finished ones are kept")
    for option, kind, default, text in (
        ("--model", str, "cnn", "backbone"),
        ("--seeds", int, 0, "repetitions, 0 for 3, with --quick 1"),
        ("--updates", int, 150, "of every run"),
        ("--batch", int, 240, "changed images per update"),
        ("--base-rate", float, 4e-3, "learning rate per 512 changed images"),
        ("--crop", float, 0.3, "smallest share of the area that a crop keeps"),
        ("--image-size", int, 32, "side in pixels"),
        ("--hold-out", float, 0.2, "share of the captions that no run sees"),
        ("--shots", str, "1,5", "real training images per class"),
    ):
        add(option, type=kind, default=default, metavar="N", help=f"{text} (default {default})")
    add("--no-mirror", action="store_true", help="never mirror images: for digits and letters")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--quick", action="store_true", help="smoke run in a minute; its numbers mean nothing")
    return parser


def run(options: argparse.Namespace) -> list[Found]:
    """Every arm with every seed; results.json holds what was found."""
    setting, found = setting_of(options), []
    for seed in range(options.seeds or (1 if options.quick else 3)):
        for arm in ARMS:
            found.append(one_run(setting, config_of(options, arm, seed), arm))
            logger.info("%s, seed %d: %s", arm, seed, found[-1].accuracy)
        found.append(untrained(setting, config_of(options, "stablerep", seed)))
    rows: list[dict[str, Any]] = [asdict(each) for each in found]
    write_file(setting.out / "results.json", to_json(rows))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the experiment and returns the exit code."""
    options = new_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        print("\n".join(conclusions(run(options))))
    except (SynthGridError, OSError) as error:
        logger.error("error: %s", error)
        return 1
    except KeyboardInterrupt:
        logger.error("interrupted; the same command resumes where this one stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
