"""The small CNN learns from half of the real images, and the rest judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.errors import DataError
from trainer.quality.checking.check import run_check
from trainer.quality.embedding import trained as module
from trainer.quality.embedding.embedders import load_embedder
from trainer.quality.embedding.features import see
from trainer.quality.images import load_made, load_real

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def few_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is learnt is not the point here."""
    of = module.GridConfig

    def short(*given: str, **options: object) -> object:
        return of(*given, **options, updates=4, quick=True)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "GridConfig", short)


def test_every_second_image_of_each_class_trains_it(real: Path, synthetic: Path) -> None:
    images = load_real(real)
    embedder = load_embedder("cnn", real=images.train)
    assert len(embedder.trained_on) == 9
    assert embedder.source == "trained on 9 of the real images"
    again = load_embedder("cnn", real=images.train[::-1])
    assert again.trained_on == embedder.trained_on
    found = run_check(images, load_made(synthetic, images.classes), embedder)
    assert found.summary["real_images"] == 9
    assert found.summary["images"] == 36


def test_its_features_are_those_of_the_trained_network(real: Path, tmp_path: Path) -> None:
    images = load_real(real)
    embedder = load_embedder("cnn", real=images.train)
    seen = see(images.train, embedder, common_px=32, cache=tmp_path, what="test")
    assert seen.features.shape == (18, 128)
    assert np.isfinite(seen.features).all()
    assert seen.features.std(axis=0).max() > 0
    assert load_embedder("cnn", real=images.train).fingerprint == embedder.fingerprint
    assert load_embedder("cnn", real=images.test).fingerprint != embedder.fingerprint


def test_three_images_are_too_few(real: Path) -> None:
    images = load_real(real)
    few = [each for each in images.train if each.file.endswith(("0.png", "1.png", "2.png"))]
    with pytest.raises(DataError, match="has 3 different real images; the embedder cnn needs at"):
        load_embedder("cnn", real=few)
