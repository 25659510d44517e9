"""What the runs of a grid say: metrics, intervals, tests and comparisons. No torch."""

from trainer.analysis.results import Results, results_of

__all__ = [
    "Results",
    "results_of",
]
