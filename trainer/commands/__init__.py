"""The trainer's commands, one per file: `add_parser` declares a command and its handler.

`synthgrid --help` reads only this table; a command's file is imported when the command runs.
"""

from __future__ import annotations

COMMANDS = {
    "sample-data": "write real handwritten digits as class folders",
    "split": "make train and test folders with a few images per class",
    "check": "judge each synthetic image: its label, copies, outliers",
    "leaks": "find images shared by the training, test and synthetic images",
    "distance": "compare synthetic sources with real images: which is closest",
    "estimate": "from a small sample: will more synthetic images help?",
    "meanings": "choose what each class name means, by the real images",
    "pretrain": "learn a backbone from synthetic images and their captions",
    "probe": "judge a pretrained backbone by a few real images",
    "tune": "find hyper-parameters by cross-validation",
    "grid": "train models x arms x budgets x seeds, and report",
    "report": "rebuild results.csv and report.html from the finished runs",
    "predict": "predict the classes of images",
    "evaluate": "score a model on class folders",
    "export": "write a model folder that can be shipped",
}
