"""Yu et al., "Diversify, Don't Fine-Tune" (arXiv 2312.02253): naive prompts against definitions
(LAR), with contexts (+CD) and with styles (+SD), at equal numbers of images and updates.

    python -m trainer.experiments.diversify --real demo:digits --redraw 5 --amounts 1,6 \\
        --no-mirror --image-size 32 --updates 500 --recoloured --seeds 4 --out runs/diversify

From class names and a bank, four sets of images are made (trainer.experiments.prompt_sets): those
of `--real`'s folders and of --bank, on --server; demo:digits brings both. Or give images that are
there, the naive ones first: --synthetic naive=DIR --synthetic diverse=DIR. Each seed trains on the
same real images, and on them with --amounts times as many images of each source. The source that is
named first is what the others are compared with, on --real's own test images and on every further
set: --test NAME=DIR, and with --recoloured the test images themselves in random colours, which
stand for another domain where images are dark on light, as digits are. For few images per class
take --redraw N, for unequal classes the output of `synthgrid split --long-tail RHO` as --real, with
--aux also auxiliary batch normalisation, and with --models cnn,timm:test_vit:scratch a small vision
transformer beside the CNN.

From the paper: ImageNet-100, ResNet-50 and others; definitions of ambiguous class names (LAR),
contextual (CD) and stylistic (SD) descriptions from a language model; 1 to 6 times as many
synthetic images as real ones; tests in the domain of the real images and outside of it. Its full
text was not at hand: prompts, guidance and counts are ours.

Measured with the command above: digits of the embedded generator, whose folders are called nought,
ace, deuce, trey, four ... nine. It has not learnt the first four, and draws other digits for them:
an SVM trained on real digits reads the right one in 23 of these 120 naive images (none of 30 aces)
and in all 120 with the definition ("handwritten digit one"), so this is an extreme case of a name
that means something else to the generator. Contexts are five inks on papers and boards, styles five
strokes. 5 real images per class and seed, drawn from 30, small CNN, 300 test images, 4 seeds. Macro
F1 in % with 30 synthetic images per class, real only 95.0 and 35.3, as changes from real only:

    prompts          real digits            recoloured
    naive            -0.5 (-2.5 to 1.5)     -18.1 (-24.3 to -11.8)
    LAR              +3.3 (1.2 to 5.5)      +14.3 (8.6 to 20.0)
    LAR + CD         +2.5 (0.2 to 4.8)      +42.8 (36.5 to 49.0)
    LAR + CD + SD    +2.0 (-0.7 to 4.7)     +48.6 (42.2 to 55.1)

and from naive at equal counts and updates (exploratory; p corrected):

    real digits   +3.8 (1.9 to 5.7, p 0.004), +3.0 (1.0 to 5.0, p 0.03), +2.5 (0.3 to 4.7, p 0.13)
    recoloured    +32.4 (26.4 to 38.4), +60.8 (54.5 to 67.2), +66.7 (60.4 to 72.9), each p < 0.001

The steps, from the same runs in a copy of --out (--synthetic lar=DIR --synthetic lar-cd=DIR, then
lar-cd and lar-cd-sd; nothing is trained again):

    CD over LAR: -0.8 (-2.5 to 0.8, p 0.61), recoloured +28.4 (21.4 to 35.4, p < 0.001)
    SD over CD:  -0.5 (-2.4 to 1.4, p 1.00), recoloured +5.9 (0.8 to 11.0, p 0.12)

So definitions help in the domain of the real images and outside of it, contexts only outside, and
that styles add to them is not confirmed. With 5 synthetic images per class: 94.7, 97.0, 95.3, 95.3
and 24.3, 46.8, 69.4, 64.1. 1,200 images and 36 runs in 22 minutes of a busy machine, 9 of processor
time.

With the digits' own names, 0 to 9, which the generator knows (--synthetic, 30 images per class),
naive images gave +2.4 (0.8 to 4.1) and +18.0 (10.2 to 25.8), diverse ones ("a photo of a {class},
{context}, {style}") +1.5 (-0.6 to 3.6) and +53.5 (44.9 to 62.0). The transformer below had these.

A small vision transformer from scratch (timm:test_vit, 0.3 million parameters, 16 patches in 64 px:
--image-size 64 --amounts 6), otherwise the same, 4 seeds, 12 runs of 35 to 90 s on a busy
machine:

    test set      real only    naive, change           diverse, change         diverse against naive
    real digits   41.2         +11.4 (-1.1 to 23.9)    -12.7 (-23.9 to -1.5)  -24.0 (-35.7 to -12.4)
    recoloured    15.2         +1.3 (-6.2 to 8.7)      +1.2 (-7.0 to 9.3)      -0.1 (-8.6 to 8.4)

500 updates are too few for it: its accuracy on its own training images is 62 to 79% with real and
naive ones and 22 to 35% with diverse ones. So diverse images are slower to learn, and whether they
help a transformer in the end is not shown. After correction neither change is significant (p 0.20
and 0.13); the difference between the two sources is (p 0.004, exploratory).
With 1,000 updates and 2 seeds, a run that was added after these numbers had been seen:
real only 67.2, naive 78.1, diverse 42.7 (still 45 to 49% on its training images); recoloured 22.4,
23.1, 22.8.

On photographs: not run, for no public set that we looked at has naive and diverse images of the
same generator: those of CIFAKE (Stable Diffusion 1.4) came without their prompts, dogs of Stable
Diffusion 1.5 were all made with one template, and PACS has no synthetic images.

Auxiliary batch normalisation on the last of the four sets (the same 5 real and 30 synthetic images,
--synthetic naive=DIR --synthetic lar-cd-sd=DIR --amounts 6 --aux, 28 runs, 6 minutes of processor
time): against its control, stratified batches, -0.5 (-2.2 to 1.3) and recoloured +0.5 (-3.2 to
4.2); the control against plain batches -0.1 (-1.9 to 1.7) and -0.1 (-4.6 to 4.4). With naive images
-0.5 (-2.3 to 1.4) and +2.4 (-1.6 to 6.4). Not shown to help.

And with `synthgrid grid --norms shared,aux`: CIFAR-10 with
Stable Diffusion 1.4, 50 real images per class and seed, small CNN, 32 px, 4 seeds, real only 50.2%.
Against its control at 1, 3 and 6 times as many synthetic images: -0.8 (-2.4 to 0.9), -0.5 (-2.2 to
1.2), -1.0 (-2.7 to 0.6): not shown to help. The control's stratified batches against plain ones at
6 times: +3.9 (2.0 to 5.8), a comparison that was added after the numbers had been seen. Plain
batches with 1, 3 and 6 times as many synthetic images: macro F1 52.8, 50.3, 48.8%; with as many
rotated or mirrored copies of the real ones instead: 44.2, 40.2, 38.2%, so that 6 times as many
synthetic images are 10.6 points (8.3 to 12.9) better than as many copies, and no better than none.

Long tail: 50 to 1 real CIFAR-10 images per class (rho 100), filled up to 50 with those of Stable
Diffusion 1.4 (arm fill:50), small CNN, 4 seeds: macro F1 from 20.6 to 43.7%, +23.1 (21.2 to 25.0);
copies instead +0.3 (-1.3 to 1.9). Recall of head, middle and tail classes: -5.3, +39.0 and +26.2.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.analysis.results import results_of
from trainer.arms import AUX, SHARED
from trainer.commands.grid import named_sources
from trainer.commands.parsing import named_folders, numbers
from trainer.config import GridConfig
from trainer.data.images import read_image
from trainer.data.samples import read_class_folders
from trainer.data.torchvision_sets import real_folder
from trainer.errors import ConfigError
from trainer.experiments.prompt_sets import make_sets, write_digits
from trainer.experiments.running import new_parser, run_experiment, shared_values
from trainer.models import model_spec
from trainer.report.wording import interval, model_noun, on_test, p_value, points, verdict
from trainer.runs import Grid, write_file

RECOLOURED = "recoloured"
DEMO = "demo:digits"
AMOUNTS = (1.0, 3.0, 6.0)
_QUICK_IMAGES = 8  # per class of a set: what a quick grid reads
_LEAST_CONTRAST = 100  # between the mean grey of ink and paper, of 255


def grid_config(options: argparse.Namespace) -> GridConfig:
    """One grid: each amount of each source, tested on every set."""
    models = tuple(options.models.split(",")) if options.models else ("cnn",)
    if options.aux:
        _check_batch_norm(models)
    real, sources = _images(options)
    tests = {name: str(path) for name, path in named_folders(options.test, option="--test").items()}
    if options.recoloured:
        images = Path(options.out) / "images" / RECOLOURED
        recolour(real_folder(real) / "test", images)
        tests[RECOLOURED] = str(images)
    amounts = (1.0,) if options.quick else options.amounts
    shared = shared_values(options)
    return GridConfig(
        **shared | {"real": real, "budgets": ("updates",)},
        synthetic=sources,
        tests=tests,
        models=models,
        arms=("real", *(f"add:{each:g}@{name}" for name in sources for each in amounts)),
        ratios=None,
        norms=(SHARED, AUX) if options.aux else (SHARED,),
        mirror=False if options.no_mirror else None,
        quick=options.quick,
    )


def _images(options: argparse.Namespace) -> tuple[str, dict[str, str]]:
    """The real images, and the synthetic ones of each source, made here if there is a bank."""
    out, real, bank = Path(options.out), options.real, options.bank
    if real == DEMO:
        folder, own = write_digits(out / "digits")
        real, bank = str(folder), bank or own
    if bank is not None:
        if options.synthetic:
            raise ConfigError("images are made from a bank, or given: leave --synthetic out")
        made = make_sets(
            real_folder(real),
            Path(bank),
            out / "made",
            per_class=_most_per_class(options, real_folder(real)),
            server=options.server,
        )
        return real, {name: str(path) for name, path in made.items()}
    sources = named_sources(options.synthetic)
    if isinstance(sources, str) or len(sources) < 2:
        raise ConfigError(
            "give a bank, from which images are made (--bank FILE), or at least two sources, the "
            "naive one first: --synthetic naive=DIR --synthetic diverse=DIR"
        )
    return real, sources


def _most_per_class(options: argparse.Namespace, real: Path) -> int:
    """Synthetic images that the largest class needs."""
    if options.quick:
        return _QUICK_IMAGES
    amount: float = max(options.amounts)
    largest: int | None = options.redraw
    if largest is None:
        counts = Counter(each.label for each in read_class_folders(real / "train"))
        largest = max(counts.values())
    return math.ceil(amount * largest)


def _check_batch_norm(models: Sequence[str]) -> None:
    for model in models:
        if not model_spec(model).trains_batch_norm:
            raise ConfigError(
                f"model '{model}' trains no batch normalisation, so --aux means nothing for it; "
                "leave the model out, or --aux"
            )


def recolour(test: Path, out: Path) -> None:
    """Copies of test images whose black becomes an ink of random colour and whose white a paper,
    lighter or darker than it. The same images give the same copies; those that exist stay."""
    random = np.random.RandomState(0)
    for sample in read_class_folders(test):
        ink, paper = _colours(random)
        path = out / sample.label / f"{sample.file.rpartition('/')[2].rpartition('.')[0]}.png"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.asarray(read_image(sample.path).convert("L"), float)[..., None] / 255
        data = io.BytesIO()
        Image.fromarray((ink + grey * (paper - ink)).round().astype(np.uint8)).save(data, "PNG")
        write_file(path, data.getvalue())


def _colours(random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    while True:
        ink, paper = random.randint(0, 256, (2, 3)).astype(float)
        if abs(ink.mean() - paper.mean()) >= _LEAST_CONTRAST:
            return ink, paper


def conclusions(grid: Grid) -> list[str]:
    """For each test set and model, what each source but the first gives beyond the first at the
    largest amount, and what auxiliary batch normalisation and its control give beyond theirs."""
    return [
        f"{model_noun(grid, duel.key.model)}{on_test(results)}: {duel.key.arm} against "
        f"{duel.rival.arm}: {points(duel.change.value)} points ({interval(duel.change)}, "
        f"{p_value(duel.p_holm)}): {verdict(duel)}"
        for results in results_of(grid).on_each
        for duel in results.verdicts.duels
        if duel.rival.source  # not copies or more real images
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the experiment and returns the exit code."""
    parser = new_parser("trainer.experiments.diversify", __doc__ or "", recipe="modern")
    add = parser.add_argument
    add(
        "--synthetic",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="a source; the first is what the others are compared with",
    )
    add(
        "--bank",
        metavar="FILE",
        help="make the four sources from the names of --real's folders and this bank instead",
    )
    add(
        "--server",
        default="embedded",
        metavar="URL",
        help="the ComfyUI that makes them (default: the embedded engine)",
    )
    add(
        "--test",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="a further test set in class folders",
    )
    add("--recoloured", action="store_true", help="test on recoloured test images too")
    add(
        "--amounts",
        type=numbers,
        default=AMOUNTS,
        metavar="A,B",
        help="synthetic images for each real one (default 1,3,6)",
    )
    add(
        "--aux",
        action="store_true",
        help="also with auxiliary batch normalisation, and its control (not for transformers)",
    )
    add("--no-mirror", action="store_true", help="for digits and letters")
    return run_experiment(parser, grid_config, arguments, conclude=conclusions)


if __name__ == "__main__":
    sys.exit(main())
