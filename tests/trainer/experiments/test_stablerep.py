"""StableRep's experiment: it runs through from one command, and says what it compares."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from trainer.experiments.stablerep import (
    ARMS,
    COMPARED,
    PLUS,
    RANDOM,
    SHUFFLED,
    Found,
    conclusions,
    main,
)
from trainer.pretrain.retrieval import Retrieval


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
        Found(arm, seed, {1: 0.1 * seed + 0.01 * number}, words if arm.startswith(PLUS) else None)
        for seed in range(3)
        for number, arm in enumerate((*ARMS, RANDOM))
    ]
    lines = conclusions(found)
    assert len(lines) == len(ARMS) + 1 + len(COMPARED) + 2
    assert "stablerep+ against stablerep: +1.0 points (1.0 to 1.0) at 1" in lines
    assert f"stablerep against {RANDOM}: -7.0 points (-7.0 to -7.0) at 1" in lines
    assert lines[-2].startswith(
        "stablerep+: words of held-out captions find their images in 50.0 % (50.0 to 50.0), of "
        "their class in 75.0 %"
    )
    assert "chance is 5.0 and 10.0 %" in lines[-1]
