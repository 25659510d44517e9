"""The commands of `synthgrid`, one a file: `add_parser` declares it, and its handler returns the exit code."""

from __future__ import annotations

from trainer.commands import (
    evaluate,
    export,
    grid,
    leaks,
    predict,
    report,
    sample_data,
    split,
    tune,
)

COMMANDS = (sample_data, split, leaks, tune, grid, report, predict, evaluate, export)
EXAMPLES = """examples:
  synthgrid sample-data --out data/digits --train 5 --test 30
  synthgrid split --images animals --out data/animals --train 30 --test 30
  synthgrid grid --real data/digits --synthetic data/digits-synthetic \\
      --models cnn,resnet50 --ratios 0,1,6 --seeds 3 --out runs/digits
  synthgrid report runs/digits
"""
