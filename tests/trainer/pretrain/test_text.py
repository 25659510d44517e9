"""Words to numbers, the tower that reads them, and what StableRep+ learns from them.

Covers: trainer.pretrain.text, trainer.pretrain.retrieval.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from comfy_nodes.labelset import ImageRecord, LabelledFolder, encode_image, image_file_name
from trainer.pretrain.config import PretrainConfig, new_config
from trainer.pretrain.networks import Learner
from trainer.pretrain.retrieval import retrieval_of, retrieve
from trainer.pretrain.source import hold_out, read_source, shuffle_captions
from trainer.pretrain.text import WORDS, Alignment, TextTower, word_numbers
from trainer.pretrain.training import pretrain

CPU = torch.device("cpu")


def plus(**changed: Any) -> PretrainConfig:
    given = {"batch_views": 12, "per_caption": 3, "image_size_px": 32, "width": 16, "out": 8}
    text = {"text_width": 64, "text_layers": 1}
    return new_config(
        **{"model": "cnn", "method": "stablerep+", "updates": 6, **given, **text, **changed}
    )


def test_words_have_numbers_whatever_stands_beside_them() -> None:
    red, blue, alone = word_numbers(["A red circle, thin", "a blue circle", "Circle"])
    assert red[1] == blue[1]
    assert red[2] != blue[2]
    assert red[3] == blue[3] == alone[1]
    assert red.tolist().count(0) == 0
    assert blue.tolist()[4:] == [0, 0]
    assert red[0] == blue[0] == alone[0] == 1


def test_long_captions_are_cut_and_empty_ones_are_read() -> None:
    assert word_numbers(["word " * 100]).shape == (1, WORDS)
    assert word_numbers(["", "!"]).shape == (2, 2)
    assert torch.isfinite(TextTower(64, 1).eval()(word_numbers(["", "one two"]))).all()


def test_padding_is_neither_read_nor_averaged() -> None:
    torch.manual_seed(0)
    tower = TextTower(64, 2).eval()
    alone = tower(word_numbers(["a red circle"]))
    beside = tower(word_numbers(["a red circle", "a very long caption of many more words"]))[:1]
    assert torch.allclose(alone, beside, atol=1e-5)
    assert not torch.allclose(alone, tower(word_numbers(["a circle red"])), atol=1e-4)


def test_the_scale_starts_as_clips_and_stays_between_1_and_100() -> None:
    alignment = Alignment(4, 64, 1)
    assert alignment.log_scale.exp().item() == pytest.approx(1 / 0.07, rel=1e-6)
    for far, limit in ((9.0, math.log(100)), (-9.0, 0.0)):
        alignment.log_scale.data.fill_(far)
        alignment.limit()
        assert alignment.log_scale.item() == pytest.approx(limit, abs=1e-6)


def test_the_image_side_starts_as_stablereps() -> None:
    torch.manual_seed(5)
    one = Learner(plus()).state_dict()
    torch.manual_seed(5)
    other = Learner(dataclasses.replace(plus(), method="stablerep")).state_dict()
    assert all(torch.equal(one[name], value) for name, value in other.items())
    assert any(name.startswith("alignment.tower") for name in one)


def test_the_scale_is_limited_after_every_update(
    captioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.pretrain.text._LARGEST", 2.0)
    config = plus(updates=1, base_rate=1e-6)
    learner, _ = pretrain(config, read_source([captioned]), tmp_path / "pre", device=CPU)
    assert learner.alignment is not None
    assert learner.alignment.log_scale.item() == 2.0


def test_every_part_of_both_sides_learns(captioned: Path, tmp_path: Path) -> None:
    config = plus(updates=2, base_rate=0.05)
    torch.manual_seed(config.seed)
    before = Learner(config).state_dict()
    learner, _ = pretrain(config, read_source([captioned]), tmp_path / "pre", device=CPU)
    after = learner.state_dict()
    still = [name for name, value in before.items() if torch.equal(value, after[name])]
    assert still == []


@pytest.mark.parametrize("stop", [2, 3])
def test_a_stopped_run_goes_on_to_the_same_bits(captioned: Path, tmp_path: Path, stop: int) -> None:
    source = read_source([captioned])

    def on_update(update: int) -> None:
        if update == stop:
            raise KeyboardInterrupt

    def run(name: str, **more: Any) -> dict[str, torch.Tensor]:
        out = tmp_path / name
        learner, _ = pretrain(plus(), source, out, device=CPU, checkpoint_every=2, **more)
        return learner.state_dict()

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("stopped", on_update=on_update)
    resumed = run("stopped")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.fixture
def striped(tmp_path: Path) -> Path:
    """Stripes that lie or stand, narrow or wide: 4 captions of 6 images."""
    random, folder = np.random.RandomState(0), LabelledFolder(tmp_path / "stripes")
    for index in range(24):
        label, width = ("lying", "standing")[index % 2], ("narrow", "wide")[index // 2 % 2]
        waves = np.sin((np.arange(32) + random.randint(32)) / (1.0 if width == "narrow" else 3.5))
        grey = np.broadcast_to(waves[:, None] if label == "lying" else waves[None], (32, 32))
        pixels = (128 + 90 * grey + random.randn(32, 32) * 10).clip(0, 255).astype(np.uint8)
        name = image_file_name(label, "plan", index)
        record = ImageRecord(name, label, f"{width} stripes, {label}", "", index, index, "plan")
        folder.add(record, encode_image(Image.fromarray(pixels).convert("RGB"), record))
    return tmp_path / "stripes"


def test_words_find_their_images_but_not_after_a_shuffle(striped: Path, tmp_path: Path) -> None:
    source = read_source([striped])
    config = plus(updates=25, batch_views=24, base_rate=0.06, mirror=False, crop=0.5)
    found = []
    for name, learnt in (("true", source), ("shuffled", shuffle_captions(source, seed=1))):
        learner, _ = pretrain(config, learnt, tmp_path / name, device=CPU)
        found.append(retrieve(learner, source, 32, CPU))
    assert found[0].own_chance == 0.25
    assert found[0].class_chance == 0.5
    assert found[0].own > 0.8
    assert found[1].own < 0.5
    stablerep = Learner(dataclasses.replace(config, method="stablerep"))
    with pytest.raises(ValueError, match="has a text tower"):
        retrieve(stablerep, source, 32, CPU)


def test_retrieval_is_the_share_among_as_many_as_there_are(captioned: Path) -> None:
    source = read_source([captioned])  # 4 captions of 4 images; captions 0 and 2 are circles
    perfect = torch.zeros(4, 16)
    for caption, rows in enumerate(source.groups):
        perfect[caption, list(rows)] = 1.0
    assert retrieval_of(perfect, source).own == retrieval_of(perfect, source).of_class == 1.0
    exchanged = retrieval_of(perfect[[2, 3, 0, 1]], source)
    assert exchanged.own == 0.0
    assert exchanged.of_class == 1.0
    half = perfect.clone()
    half[0, list(source.groups[0][:2])] = -1.0
    half[0, list(source.groups[1][:2])] = 0.5
    assert retrieval_of(half, source).own == pytest.approx((0.5 + 3) / 4)


def test_held_out_captions_are_not_learnt_from(captioned: Path) -> None:
    source = read_source([captioned])
    rest, held = hold_out(source, 2, seed=3)
    assert sorted([*rest.captions, *held.captions]) == list(source.captions)
    assert len(rest.samples) == len(held.samples) == 8
    assert not {each.file for each in rest.samples} & {each.file for each in held.samples}
    for part in (rest, held):
        for row, sample in enumerate(part.samples):
            assert part.captions[part.caption_ids[row]].endswith(sample.label)
            assert part.classes[part.class_ids[row]] == sample.label
    assert rest.fingerprints != held.fingerprints != source.fingerprints
    assert hold_out(source, 2, seed=3)[0].captions == rest.captions


def test_a_shuffle_keeps_images_and_counts_and_changes_captions(captioned: Path) -> None:
    source = read_source([captioned])
    mixed = shuffle_captions(source, seed=0)
    assert mixed.samples == source.samples
    assert torch.equal(mixed.class_ids, source.class_ids)
    assert [len(each) for each in mixed.groups] == [4, 4, 4, 4]
    assert not torch.equal(mixed.caption_ids, source.caption_ids)
    assert mixed.fingerprints != source.fingerprints
