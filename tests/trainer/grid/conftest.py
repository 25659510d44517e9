"""A small grid that trains in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.config import GridConfig


@pytest.fixture
def config(real: Path, synthetic: Path, tmp_path: Path) -> GridConfig:
    """A CNN at two ratios and one seed: two short runs."""
    return GridConfig(
        str(real),
        str(tmp_path / "grid"),
        str(synthetic),
        models=("cnn",),
        recipe="classic",
        ratios=(0.0, 2.0),
        seeds=1,
        image_size_px=32,
        updates=6,
        device="cpu",
        budgets=("updates",),
    )
