"""All images are seen through one pipeline, once, and a damaged or missing cache changes nothing.

Covers: trainer.quality.embedding.embedder, trainer.quality.embedding.embedders.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from trainer.data.samples import Sample, read_class_folders
from trainer.errors import ConfigError, DataError
from trainer.quality.embedding import features as module
from trainer.quality.embedding.embedders import (
    Embedder,
    clip_embedder,
    default_embedder,
    load_embedder,
)
from trainer.quality.embedding.features import Seen, common_size, equalised, see

PIXELS = load_embedder("pixels")


def scene(seed: int, size: int = 64) -> Image.Image:
    random = np.random.RandomState(seed)
    rough = random.randint(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((size, size), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("a", "b"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(5):
            scene(number + 10 * (label == "b")).save(tmp_path / "set" / label / f"{number}.png")
    return tmp_path / "set"


def seen(samples: tuple[Sample, ...], cache: Path, embedder: Embedder = PIXELS) -> Seen:
    return see(samples, embedder, common_px=32, cache=cache, what="test")


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return Image.open(buffer)


def test_an_image_saved_as_jpeg_before_is_seen_nearly_as_the_original() -> None:
    def difference(one: np.ndarray, two: np.ndarray) -> float:
        return float(np.abs(one.astype(float) - two).mean())

    original = scene(3)
    again = jpeg(original, 50).convert("RGB")
    raw = difference(np.asarray(original), np.asarray(again))
    plain, coded = (equalised(each, common_px=64, size_px=64) for each in (original, again))
    assert difference(plain, coded) < 0.5 * raw


def test_all_sets_are_reduced_to_what_nine_tenths_of_each_have(tmp_path: Path) -> None:
    def saved(name: str, sizes: list[int]) -> tuple[Sample, ...]:
        (tmp_path / name / "a").mkdir(parents=True)
        for number, size in enumerate(sizes):
            wide = scene(0, size).resize((size + 9, size))
            wide.save(tmp_path / name / "a" / f"{number:02}.png")
        return read_class_folders(tmp_path / name)

    small, large = saved("small", [10] + [40] * 19), saved("large", [300] * 5)
    wide = Embedder("x", 224, "f", "", PIXELS.embed)
    assert common_size([small, large], wide) == 40
    assert common_size([large, ()], wide) == 224
    assert common_size([small, large], PIXELS) == 16


def test_features_thumbnails_and_ranges_come_in_the_order_asked_for(
    folder: Path, tmp_path: Path
) -> None:
    samples = read_class_folders(folder)
    forward, backward = (seen(each, tmp_path / "c") for each in (samples, samples[::-1]))
    assert np.array_equal(forward.features, backward.features[::-1])
    assert forward.thumbs.shape == (10, 32, 32)
    flat = np.asarray(Image.open(samples[4].path))
    assert forward.range[4] == pytest.approx([flat.min(), flat.max(), flat.std()])
    assert len(forward.take(np.array([4, 2]))) == 2


def test_only_new_files_are_decoded_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = read_class_folders(folder)
    before = seen(samples[:8], tmp_path / "c")
    decoded: list[Path] = []
    read = module.read_image
    monkeypatch.setattr(module, "read_image", lambda path: decoded.append(path) or read(path))
    after = seen(samples, tmp_path / "c")
    assert [path.name for path in decoded] == ["3.png", "4.png"]
    assert np.array_equal(after.features[:8], before.features)
    assert np.array_equal(after.features, seen(samples, tmp_path / "fresh").features)


def test_many_files_come_in_chunks_and_are_saved_on_the_way(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = read_class_folders(folder)
    whole = seen(samples, tmp_path / "whole")
    monkeypatch.setattr(module, "_CHUNK", 3)
    monkeypatch.setattr(module, "_SAVE_EVERY_S", 0.0)
    calls = iter(range(9))

    def dies(pixels: torch.Tensor) -> torch.Tensor:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return PIXELS.embed(pixels)

    with pytest.raises(KeyboardInterrupt):
        seen(samples, tmp_path / "c", Embedder("pixels", 16, PIXELS.fingerprint, "", dies))
    calls = iter([0, 1, 0])  # two chunks, the rest of ten images
    part = seen(samples, tmp_path / "c", Embedder("pixels", 16, PIXELS.fingerprint, "", dies))
    assert np.array_equal(part.features, whole.features)


def test_an_image_that_cannot_be_decoded_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "a" / "1.png").write_bytes(b"no image")
    samples = read_class_folders(folder)
    with pytest.raises(DataError, match=r"1\.png"):
        seen(samples, tmp_path / "c")
    assert common_size([samples], PIXELS) == 16


def test_a_damaged_image_can_be_set_apart_and_is_tried_again(folder: Path, tmp_path: Path) -> None:
    whole = read_class_folders(folder)
    data = (folder / "a" / "1.png").read_bytes()
    (folder / "a" / "1.png").write_bytes(data[:60])
    samples = read_class_folders(folder)
    damaged: dict[str, str] = {}
    cache = {"common_px": 32, "cache": tmp_path / "c", "what": "test"}
    part = see(samples, PIXELS, damaged=damaged, **cache)
    assert list(damaged) == [samples[1].sha256]
    assert "1.png" in damaged[samples[1].sha256]
    assert np.isnan(part.features[1]).all()
    assert not np.isnan(part.features[[0, *range(2, 10)]]).any()
    only = see(samples[1:2], PIXELS, damaged={}, **{**cache, "cache": tmp_path / "other"})
    assert np.isnan(only.features).all()
    (folder / "a" / "1.png").write_bytes(data)
    mended = see(whole, PIXELS, **cache)
    assert np.array_equal(mended.features[0], part.features[0])
    assert not np.isnan(mended.features).any()


def test_an_unknown_embedder_is_refused_with_the_known_ones() -> None:
    for name in ("litee", "torchvision:none", "timm:", "pixels:3"):
        with pytest.raises(ConfigError, match=f"'{name}' is unknown; choose from lite0, cnn, "):
            load_embedder(name)


def test_the_default_embedder_has_weights_that_need_no_download() -> None:
    embedder = load_embedder(default_embedder())
    pixels = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    assert embedder.embed(pixels).shape == (2, 1280)
    assert embedder.source == "ImageNet-1k"
    assert embedder.classify_words is None


class _TinyClip(nn.Module):
    """The interface of an open_clip model: it sees red and green, and reads two words."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Module()
        self.visual.image_size = (8, 8)
        self.visual.image_mean = self.visual.image_std = (0.5, 0.5, 0.5)
        self.scale = nn.Parameter(torch.ones(()))

    def encode_image(self, scaled: torch.Tensor) -> torch.Tensor:
        return self.scale * (scaled.mean(dim=(2, 3))[:, :2] + 1)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.eye(2)[tokens]


def test_a_clip_compares_images_with_words() -> None:
    words = {"red": 0, "green": 1}
    clip = clip_embedder("tiny", _TinyClip(), lambda texts: torch.tensor([words[t] for t in texts]))
    pixels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    pixels[0, 0], pixels[1, 1] = 255, 255
    assert clip.classify_words is not None
    likeness = clip.classify_words(clip.embed(pixels), ["green", "red"])
    assert torch.allclose(likeness, torch.tensor([[0.0, 1.0], [1.0, 0.0]]), atol=1e-5)
    assert clip.size_px == 8


def test_a_clip_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.quality.embedding import embedders

    monkeypatch.setattr(embedders.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs open_clip: python -m pip install 'synthgrid\["):
        load_embedder("open_clip:ViT-B-32/openai")
