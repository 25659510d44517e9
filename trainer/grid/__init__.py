"""A grid of runs: planned, trained wherever there is room, resumable."""

from trainer.grid.grid import run_grid
from trainer.grid.sequential import run_whole_grid

__all__ = [
    "run_grid",
    "run_whole_grid",
]
