"""Training the generator: it never sees the demo's images, and quick mode covers every step.

Covers: tools.tiny_digits.autoencoder, tools.tiny_digits.checkpoint, tools.tiny_digits.diffusion,
tools.tiny_digits.recipe, tools.tiny_digits.sampling, tools.tiny_digits.schedule,
tools.tiny_digits.text_encoder, tools.tiny_digits.tokenizer.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.tiny_digits.train import main

ROOT = Path(__file__).parents[3]


def write_digit(path: Path, *, ink: int) -> None:
    """Writes a picture that is different for every `ink`."""
    pixels = np.full((64, 64, 3), 255, np.uint8)
    pixels[10:50, 20 : 20 + ink] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two images per class to learn from, one per class to exclude, and an output folder."""
    for digit in range(10):
        write_digit(tmp_path / "images" / str(digit) / f"digit-{digit:04d}.png", ink=digit + 1)
        write_digit(
            tmp_path / "images" / str(digit) / f"digit-{digit + 10:04d}.png", ink=digit + 11
        )
        write_digit(
            tmp_path / "demo" / "train" / str(digit) / f"digit-{digit + 20:04d}.png", ink=digit + 21
        )
    return tmp_path / "images", tmp_path / "demo", tmp_path / "out"


def arguments(images: Path, exclude: Path, out: Path) -> list[str]:
    folders = ["--images", str(images), "--exclude", str(exclude), "--out", str(out)]
    return [*folders, "--quick", "--threads", "1"]


def test_refuses_an_image_that_the_demo_uses_even_under_another_name(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    images, demo, out = folders
    shutil.copy(next((demo / "train" / "7").glob("*.png")), images / "7" / "digit-0999.png")
    assert main(arguments(*folders)) == 1
    message = capsys.readouterr().err.strip()
    assert message.count("\n") == 0
    assert "digit-0999.png" in message
    assert "digit-0027.png" in message
    assert not out.exists()


def test_refuses_an_empty_exclude_folder_rather_than_trusting_it(
    folders: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nothing").mkdir()
    assert main(arguments(folders[0], tmp_path / "nothing", folders[2])) == 1
    assert "has no PNG images" in capsys.readouterr().err


def test_refuses_a_class_that_is_not_a_digit(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_digit(folders[0] / "cat" / "digit-0500.png", ink=35)
    assert main(arguments(*folders)) == 1
    assert "'cat'" in capsys.readouterr().err


@pytest.mark.slow
def test_quick_training_writes_a_checkpoint_that_loads_and_lists_its_data(
    folders: tuple[Path, Path, Path],
) -> None:
    from tools.tiny_digits.sampling import load_checkpoint, sample

    command = [sys.executable, "-m", "tools.tiny_digits.train", *arguments(*folders)]
    finished = subprocess.run(
        command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
    folder = folders[2] / "tiny-digits"
    assert finished.stdout.strip() == str(folder)
    record = json.loads((folder / "training_data.json").read_text(encoding="utf-8"))
    assert record["load_digits_indices"] == list(range(20))
    assert sample(load_checkpoint(folder), ["a photo of a 3"], [1], steps=2).shape == (1, 64, 64, 3)
