"""What models see is computed once, and is the same whatever is computed beside it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from trainer.config import GridConfig, TrainingConfig
from trainer.data import images
from trainer.data.copies import copies_of
from trainer.data.dataset import load_dataset
from trainer.data.samples import Sample
from trainer.grid.grid import run_grid
from trainer.models.backbone import Backbone
from trainer.models.weights import UNTRAINED, Weights
from trainer.runs import Grid
from trainer.training.batches import inputs as features
from trainer.training.batches.inputs import ModelInputs, prepare_inputs, views_of

CPU = torch.device("cpu")
TINY = "timm:test_resnet.r160_in1k"
NO_WEIGHTS = {TINY: Weights(UNTRAINED, "seed0", None)}


@pytest.fixture
def samples(real: Path) -> tuple[Sample, ...]:
    return load_dataset(real, {}).train


def standard(views: int) -> TrainingConfig:
    return TrainingConfig(augment="standard", views=views)


def prepare(
    needs: dict[str, list[Sample]], folder: Path, *, size_px: int = 64
) -> dict[str, ModelInputs]:
    sizes = dict.fromkeys(needs, size_px)
    return prepare_inputs(
        needs, sizes_px=sizes, weights=NO_WEIGHTS, cache=folder / "features", device=CPU
    )


def frozen_grid(real: Path, out: Path, **changes: object) -> GridConfig:
    return replace(
        GridConfig(
            str(real),
            str(out),
            models=(TINY,),
            recipe="classic",
            arms=("real", "augment"),
            seeds=2,
            image_size_px=32,
            updates=12,
            device="cpu",
            allow_untrained=True,
        ),
        **changes,
    )


def written(grid: Grid, name: str) -> dict[str, bytes]:
    return {run.run_id: (grid.root / run.run_id / name).read_bytes() for run in grid.runs}


def test_every_file_is_decoded_once_for_all_models_copies_and_views(
    samples: tuple[Sample, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[Path] = Counter()
    read_image = images.read_image

    def counting(path: Path) -> Image.Image:
        decoded[path] += 1
        return read_image(path)

    monkeypatch.setattr(images, "read_image", counting)
    wanted = [*samples, *copies_of(samples, 2 * len(samples)), *views_of(samples, standard(4))]
    found = prepare({"cnn": wanted, TINY: wanted}, tmp_path)
    assert set(decoded.values()) == {1}
    assert len(decoded) == len(samples)
    assert (
        len(found["cnn"].values) == len(found[TINY].values) == len({each.sha256 for each in wanted})
    )


def test_a_row_is_what_its_sample_says(samples: tuple[Sample, ...], tmp_path: Path) -> None:
    copy, view = copies_of(samples[:1], 1)[0], views_of(samples[:1], standard(3))[2]
    inputs = prepare({"cnn": [samples[0], copy, view]}, tmp_path)["cnn"]
    plain, turned, shown = inputs.values[inputs.index([samples[0], copy, view])]
    expected = images.square(images.read_image(samples[0].path), 64)
    assert torch.equal(plain, torch.from_numpy(expected.copy()).permute(2, 0, 1))
    assert torch.equal(turned, plain.rot90(1, (1, 2)))
    assert not torch.equal(shown, plain)
    assert set(shown.flatten().tolist()) <= set(plain.flatten().tolist())


def test_views_of_an_image_differ_and_are_the_same_wherever_it_is_seen(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    first = prepare({"cnn": views_of(samples, standard(4))}, tmp_path / "a")["cnn"]
    alone = prepare({"cnn": views_of(samples[3:4], standard(6))}, tmp_path / "b")["cnn"]
    ours, others = views_of(samples[3:4], standard(4)), views_of(samples[3:4], standard(6))
    assert torch.equal(first.values[first.index(ours)], alone.values[alone.index(others)][:4])
    assert len({row.numpy().tobytes() for row in alone.values}) >= 5
    turned_views = views_of(copies_of(samples[3:4], 1), standard(4))
    assert not {each.sha256 for each in turned_views} & {each.sha256 for each in ours}


def test_a_frozen_model_is_trained_on_augmented_views_and_looked_at_on_plain_images(
    real: Path, tmp_path: Path
) -> None:
    grid = run_grid(frozen_grid(real, tmp_path / "grid"))
    plain, augmented = ([run for run in grid.runs if run.arm == arm] for arm in ("real", "augment"))
    heads = written(grid, "model.safetensors")
    assert all(heads[a.run_id] != heads[b.run_id] for a, b in zip(plain, augmented, strict=True))
    files = load_dataset(real, {})
    trained = {each.sha256 for each in files.train}
    (cache,) = (grid.root / "features").iterdir()
    kept = {bytes(digest).hex() for digest in load_file(cache)["sha256"].numpy()}
    plain_ones = trained | {each.sha256 for each in files.test}
    seeds_train = {each.sha256 for each in views_of(files.train, standard(4))}
    assert plain_ones <= kept
    assert kept - plain_ones <= seeds_train
    assert len(kept - plain_ones) >= 4 * 15  # 5 of 6 images of each class are trained on at a seed


def test_features_and_views_are_kept_and_a_resumed_grid_is_the_same_to_the_bit(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One grid in one go; another that dies while features are computed, with some of them kept."""
    whole = written(run_grid(frozen_grid(real, tmp_path / "whole")), "predictions.csv")
    config = frozen_grid(real, tmp_path / "killed")
    monkeypatch.setattr(features, "_SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(images, "_CHUNK", 8)
    calls = iter(range(100))

    class Dies(Backbone):
        def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
            if next(calls) == 2:
                raise KeyboardInterrupt
            return super().__call__(pixels)

    with monkeypatch.context() as patch:
        patch.setattr(features, "Backbone", Dies)
        with pytest.raises(KeyboardInterrupt):
            run_grid(config)
    (cache,) = (tmp_path / "killed" / "features").iterdir()
    part = cache.stat().st_size
    grid = run_grid(config)
    assert written(grid, "predictions.csv") == whole
    assert cache.stat().st_size > part > 0
    stamp = cache.stat().st_mtime_ns
    for run in grid.runs[1:]:
        (grid.root / run.run_id / "DONE").unlink()
    assert written(run_grid(config), "predictions.csv") == whole
    assert cache.stat().st_mtime_ns == stamp


def test_pixels_from_a_file_are_the_same_as_from_memory(
    samples: tuple[Sample, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = prepare({"cnn": list(samples)}, tmp_path)["cnn"]
    monkeypatch.setattr("trainer.training.batches.row_store._MEMORY_SHARE", 0.0)
    mapped = prepare({"cnn": list(samples)}, tmp_path)["cnn"]
    assert torch.equal(memory.values, mapped.values)
