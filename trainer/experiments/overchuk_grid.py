"""Overchuk, "Synthetic Training Data for Visual Classification Model Enhancement": the
2x3 grid, and its third row.

    synthgrid split --images animals --out data/animals --train 30 --test 30 --group-by similar
    python -m trainer.experiments.overchuk_grid --real data/animals --synthetic made \\
        --out runs/overchuk

From the proposal: 90 animal classes, 30 real training and 30 test images each; rows: a small CNN of
five convolution and max-pool blocks with L2, dropout and one fully connected layer, and a frozen
pretrained ResNet50 with such a layer; columns: 0, 15 and 30 synthetic images per class; a vision
transformer if time permits; all hyper-parameters tuned on the real training images alone and then
held constant (give tune's files with --tuned); accuracy, precision, recall and F1.

Our choices where the proposal leaves them open: widths and normalisation of the CNN, ViT-B/16
frozen as the transformer, optimiser and its hyper-parameters if no --tuned is given, image sizes,
five seeds, validation images taken from the 30 training images, and each cell at a matched
number of updates as well as of epochs. The proposal has no results, so there are no numbers to
reproduce.

Measured on dogs: 17 breeds, 57 to 60 real training images each of which every seed draws 20, 20
synthetic ones of Stable Diffusion 1.5 from a single prompt, 679 test images, 5 seeds, 0, 10 and 20
synthetic images (--redraw 20 --models cnn --image-size 32, and --models lite0 --image-size 96
instead of ResNet50). Macro F1 in % with real images only, and its change with 20 synthetic images
per class at the same number of updates, in points (95% interval):

    recipe     small CNN                       frozen EfficientNet-Lite0
    classic    25.1, +5.7 (1.3 to 10.1)        89.4, +1.6 (0.5 to 2.6)
    modern     42.4, +6.3 (4.0 to 8.6)         89.7, +1.2 (0.3 to 2.2)

All four are significant (p 0.016 or less). So the stronger recipe gains 17 points in the CNN, and
the images still help. 10 synthetic images: +4.4 and +4.9, and +1.5 and +1.1. With as many epochs
instead: classic CNN +9.9 (5.6 to 14.1), Lite0 +1.5 and +1.2; not run for the modern CNN. 13 test
images have a near-copy among the training images and were kept. 25 runs took 6 minutes (classic
CNN) and 1 (Lite0), 15 of the modern CNN 18, in one thread of a busy machine. Draws share a third of
their images, so intervals are too narrow for dogs other than these.

No pretrained transformer was at hand. A small one from scratch (timm:test_vit, --image-size 64,
modern, same updates) scores 17.4 with real images only; 10 and 20 synthetic ones change that by
-0.1 (-2.0 to 1.8) and -0.9 (-3.0 to 1.2): cannot tell. 15 runs of about a minute.

Also: --quick on CIFAR-10 images (10 classes, 8 of 26 training images each, backbones untrained,
since no weights were available): 15 runs in 23 s of one core; accuracies of 16% to 35% on 80 test
images, which only shows that it runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from trainer.config import GridConfig
from trainer.experiments.running import new_parser, run_experiment, shared_values

MODELS = ("cnn", "resnet50", "vit_b_16")
RATIOS = (0.0, 0.5, 1.0)  # of 30 real training images per class: 0, 15 and 30 synthetic ones


def grid_config(options: argparse.Namespace) -> GridConfig:
    """The 3x3 grid; `--quick` keeps all nine cells, at small images, few of them, and few
    updates."""
    return GridConfig(
        **shared_values(options),
        synthetic=options.synthetic,
        models=tuple(options.models.split(",")) if options.models else MODELS,
        ratios=RATIOS,
        quick=options.quick,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the experiment and returns the exit code."""
    parser = new_parser("trainer.experiments.overchuk_grid", __doc__ or "")
    parser.add_argument(
        "--synthetic", required=True, metavar="DIR", help="30 synthetic images per class, or more"
    )
    return run_experiment(parser, grid_config, arguments)


if __name__ == "__main__":
    sys.exit(main())
