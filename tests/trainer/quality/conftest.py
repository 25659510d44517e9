"""Classes as clouds of points: features without images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

CLASSES, WIDTH = 5, 24
Clouds = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="session")
def clouds() -> Clouds:
    """(features [n,24], labels [n]) of five classes, `per_class` each, some standard deviations
    apart, moved as a whole by `shift`."""
    centres = np.random.RandomState(7).randn(CLASSES, WIDTH)

    def make(
        per_class: int, seed: int, *, spread: float = 0.7, shift: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.RandomState(seed)
        labels = np.repeat(np.arange(CLASSES), per_class)
        moved = shift * np.random.RandomState(99).randn(WIDTH)
        noise = spread * random.randn(len(labels), WIDTH)
        return (centres[labels] + noise + moved).astype(np.float32), labels

    return make
