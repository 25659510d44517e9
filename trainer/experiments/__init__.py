"""Published experiments, one file each: `python -m trainer.experiments.overchuk_grid --help`.

A file only says which grid the paper's experiment is; the grid trains, resumes and reports as any other. What a paper
leaves open is a choice of ours, and its docstring says which.
"""
