"""From class names and a bank to one folder of synthetic images for each kind of prompt.

The four kinds of Yu et al. (arXiv 2312.02253), each with everything of the one before: the class's
name as it is, its definition instead (label ambiguity resolved, LAR), a context (contextual
diversification, CD) and a style (SD). The client makes the images, with the same seeds in each set.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from comfy_nodes.banks.prompt_bank import ClassBank, PromptBank, bank_text
from trainer.data.sample_data import MAX_PER_CLASS, write_sample_data
from trainer.errors import TrainerError

logger = logging.getLogger(__name__)

# Each is a source, the naive one first.
TEMPLATES = {
    "naive": "a photo of a {class}",
    "lar": "a photo of a {definition}",
    "lar-cd": "a photo of a {definition}, {context}",
    "lar-cd-sd": "a photo of a {definition}, {context}, {style}",
}
# Names of a dealer and a bookkeeper for 0 to 3, which the embedded generator has not learnt.
DIGITS = ("nought", "ace", "deuce", "trey", "four", "five", "six", "seven", "eight", "nine")
_WORDS = ("zero", "one", "two", "three", *DIGITS[4:])
_BANK = PromptBank(
    contexts=(
        "black ink on white paper",
        "red ink on yellow paper",
        "blue ink on pink paper",
        "white chalk on a blackboard",
        "yellow chalk on a green board",
    ),
    styles=("normal strokes", "bold strokes", "thin strokes", "tilted left", "tilted right"),
    classes={
        name: ClassBank(definition=f"handwritten digit {word}")
        for name, word in zip(DIGITS, _WORDS, strict=True)
    },
)


def write_digits(out: Path) -> tuple[Path, Path]:
    """Real digits in folders of DIGITS, 30 per class to train and 30 to test on, and their bank:
    `out`/real and `out`/bank.json. What is there already stays."""
    real, bank = out / "real", out / "bank.json"
    out.mkdir(parents=True, exist_ok=True)
    if not real.exists():
        with tempfile.TemporaryDirectory(dir=out) as part:
            made = Path(part) / "real"
            write_sample_data(made, train_per_class=MAX_PER_CLASS, test_per_class=MAX_PER_CLASS)
            for folder in (made / "train", made / "test"):
                for digit, name in enumerate(DIGITS):
                    (folder / str(digit)).rename(folder / name)
            made.rename(real)
    if not bank.exists():
        bank.write_text(bank_text(_BANK), encoding="utf-8")
    return real, bank


def make_sets(real: Path, bank: Path, out: Path, *, per_class: int, server: str) -> dict[str, Path]:
    """The folder of each set in `out`, with `per_class` images of each class of `real`/train; those
    that are there are not made again.

    Raises:
        TrainerError: the client could not make them.
    """
    folders = {name: out / name for name in TEMPLATES}
    for name, folder in folders.items():
        logger.info("images of the prompts “%s”: %s", name, TEMPLATES[name])
        command = ["run", "sd15_class_prompts", "--classes", str(real / "train")]
        command += ["--bank", str(bank), "--template", TEMPLATES[name]]
        command += ["--per-class", str(per_class), "--server", server, "--out", str(folder)]
        if _synthgrid(command) != 0:
            raise TrainerError(
                f"the images of the prompts '{name}' were not made, as said above; the same "
                "command continues"
            )
    return folders


def _synthgrid(arguments: Sequence[str]) -> int:
    return subprocess.run(
        [sys.executable, "-m", "synthgrid", *arguments], check=False, stdout=subprocess.DEVNULL
    ).returncode
