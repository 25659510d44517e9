"""StableRep's experiment: it runs through from one command, and says what it compares."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional

from trainer.experiments import stablerep
from trainer.experiments.stablerep import (
    ARMS,
    COMPARED,
    PLUS,
    RANDOM,
    REDEALT,
    SHUFFLED,
    STILL,
    Found,
    conclusions,
    config_of,
    learnt_groups,
    main,
    new_parser,
    one_run,
    setting_of,
)
from trainer.pretrain.config import PretrainConfig
from trainer.pretrain.networks import Learner, Outputs
from trainer.pretrain.retrieval import Retrieval
from trainer.pretrain.source import Source, shuffle_captions
from trainer.pretrain.training import batch_of


@pytest.fixture
def folders(tmp_path: Path, make_shapes: Callable[..., Path]) -> Path:
    """Real shapes, and made ones with four captions."""
    from comfy_nodes.labelset import ImageRecord, LabelledFolder, encode_image, image_file_name

    for part, seed in (("train", 1), ("test", 2)):
        make_shapes(tmp_path / "real" / part, per_class=3, seed=seed)
    made = LabelledFolder(tmp_path / "made")
    for index in range(12):
        label = ("circle", "cross", "square")[index % 3]
        name = image_file_name(label, "plan", index)
        caption = f"a {('thin', 'bold')[index % 2]} {label}"
        record = ImageRecord(name, label, caption, "", index, index, "plan")
        with Image.open(tmp_path / "real" / "train" / label / f"{index % 3:03d}.png") as image:
            made.add(record, encode_image(image, record))
    return tmp_path


def line(folders: Path, *more: str) -> list[str]:
    given = ["--images", str(folders / "made"), "--real", str(folders / "real"), "--quick"]
    return [*given, "--out", str(folders / "out"), "--hold-out", "0.34", *more]


def test_it_runs_every_arm_and_a_second_time_trains_nothing(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line(folders, "--shots", "1")) == 0
    first = capsys.readouterr().out
    rows = json.loads((folders / "out" / "results.json").read_text())
    assert [row["arm"] for row in rows] == [*ARMS, RANDOM]
    assert {row["arm"] for row in rows if row["words"]} == {PLUS, PLUS + SHUFFLED}
    learnt = {row["arm"] for row in rows if row["learnt"] is not None}
    assert learnt == {"stablerep" + SHUFFLED, "stablerep" + REDEALT}
    written = {path: path.stat().st_mtime_ns for path in folders.glob("out/*/model.safetensors")}
    assert len(written) == len(ARMS)
    assert main(line(folders, "--shots", "1")) == 0
    assert capsys.readouterr().out == first
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_what_cannot_be_held_out_or_shot_is_refused(
    folders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(line(folders, "--hold-out", "0.9")) == 1
    assert "two must be held out" in caplog.text
    assert main(line(folders, "--shots", "some")) == 1
    assert "--shots some is not a list" in caplog.text


def test_differences_are_taken_within_a_seed() -> None:
    words = Retrieval(own=0.5, own_chance=0.05, of_class=0.75, class_chance=0.1)
    found = [
        Found(
            arm,
            seed,
            {1: 0.1 * seed + 0.01 * number},
            words if arm.startswith(PLUS) else None,
            0.03 if arm.endswith(SHUFFLED) else 0.0,
        )
        for seed in range(3)
        for number, arm in enumerate((*ARMS, RANDOM))
    ]
    lines = conclusions(found)
    assert len(lines) == len(ARMS) + 1 + len(COMPARED) + 4
    assert "stablerep+ against stablerep: +1.0 points (1.0 to 1.0) at 1" in lines
    assert f"stablerep against {RANDOM}: -9.0 points (-9.0 to -9.0) at 1" in lines
    assert lines[-4] == (
        "stablerep, captions shuffled: the seed's shuffle fits better than another by 0.0300 nats "
        "(0.0300 to 0.0300)"
    )
    assert lines[-3].startswith("stablerep, captions redealt in every update: the seed's shuffle")
    assert lines[-2].startswith(
        "stablerep+: words of held-out captions find their images in 50.0 % (50.0 to 50.0), of "
        "their class in 75.0 %"
    )
    assert "chance is 5.0 and 10.0 %" in lines[-1]


def test_a_learning_rate_of_0_moves_nothing_but_batch_normalisation(folders: Path) -> None:
    options = new_parser().parse_args(line(folders, "--shots", "1"))
    setting = setting_of(options)
    config = config_of(options, "stablerep" + STILL, 0)
    one_run(setting, config, "stablerep" + STILL)
    trained = load_file(folders / "out" / "stablerep-still-s0" / "model.safetensors")
    torch.manual_seed(0)
    fresh = Learner(config).backbone.state_dict()
    for name, value in trained.items():
        counted = "running" in name or "num_batches" in name
        assert torch.allclose(value, fresh[name], atol=1e-9) is not counted, name


def test_a_shuffle_that_was_trained_with_is_known_and_another_is_not(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so of a network that gives each image the code of its caption."""
    options = new_parser().parse_args(line(folders, "--shots", "1"))
    setting = setting_of(options)
    config = config_of(options, "stablerep" + SHUFFLED, 0)

    class Knowing(Learner):
        def forward(self, pixels: torch.Tensor, views: int, words: object = None) -> Outputs:
            del words
            return Outputs(functional.one_hot(known.pop(), 4).float())

    known: list[torch.Tensor] = []
    own = shuffle_captions(setting.source, seed=0)

    def recorded(config: PretrainConfig, source: Source, step: int) -> tuple[torch.Tensor, ...]:
        rows, ids = batch_of(config, source, step)
        known.append(own.caption_ids[rows])
        return rows, ids

    monkeypatch.setattr(stablerep, "batch_of", recorded)
    assert learnt_groups(setting, Knowing(config), config) > 0.1
