"""Published experiments, one file each: `python -m trainer.experiments.overchuk_grid --help`.

A file only defines the grid of the paper's experiment; it trains, resumes and reports like any
other grid. What a paper leaves open is our choice, documented in the docstring.
"""
