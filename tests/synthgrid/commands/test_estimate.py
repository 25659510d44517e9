"""estimate --sweep makes samples with the client and compares them with the trainer.

Covers: client.commands.sweeping.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import client.commands.sweeping as sweeping
from comfy_nodes.labelset import ImageRecord, LabelledFolder, encode_image
from synthgrid.__main__ import main

SWEEP = ["--sweep", "sd15_class_prompts", "--server", "http://127.0.0.1:9"]
BY = ["--synthetic", "made", "--by", "style"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    random = np.random.RandomState(0)
    for label, level in (("ant", 60), ("bee", 180)):
        (tmp_path / "photos" / "train" / label).mkdir(parents=True)
        for number in range(6):
            noise = random.randint(0, 60, (32, 32, 3)) + level
            image = Image.fromarray(noise.astype(np.uint8))
            image.save(tmp_path / "photos" / "train" / label / f"{number}.png")
    return tmp_path / "photos"


def make_up(workflow: Any, servers: Any, out: Path, args: argparse.Namespace, **_: Any) -> int:
    """What a run would leave: the planned images, as noise that depends on the plan's steps."""
    folder = LabelledFolder(out)
    plan = workflow.plan()
    for row in plan:
        random = np.random.RandomState(row.index)
        level = 60 if row.label == "ant" else 180
        image = Image.fromarray((random.randint(0, 60, (32, 32, 3)) + level).astype(np.uint8))
        name = f"{row.label}/{plan.plan_id}-{row.index}.png"
        record = ImageRecord(name, row.label, row.prompt, "", row.seed, row.index, plan.plan_id)
        folder.add(record, encode_image(image, record))
    return 0


def test_a_sweep_makes_a_folder_per_setting_and_compares_them(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("trainer.quality.estimating.gain._CHOOSING", 1)
    made: list[tuple[str, Any]] = []

    def make(workflow: Any, servers: Any, out: Path, args: Any, **more: Any) -> int:
        made.append((out.name, workflow))
        return make_up(workflow, servers, out, args, **more)

    monkeypatch.setattr(sweeping, "make", make)
    given = ["estimate", "--real", str(photos), *SWEEP, "--classes", str(photos / "train")]
    given += ["--vary", "cfg=2,7", "--vary", "steps=5", "--out", str(tmp_path / "sweep")]
    given += ["--embedder", "pixels", "--k", "2", "--repeats", "2"]
    assert main(given) == 0
    assert [name for name, _ in made] == ["cfg2-steps5", "cfg7-steps5"]
    assert [workflow.plan().images_per_class for _, workflow in made] == [8, 8]
    assert len({workflow.plan().plan_id for _, workflow in made}) == 1  # the same seeds
    shown = capsys.readouterr().out
    assert "setting" in shown.splitlines()[0]
    assert "cfg7-steps5" in shown
    values = json.loads((tmp_path / "sweep" / "sweep.json").read_text("utf-8"))
    assert {each["name"] for each in values["settings"]} == {"cfg2-steps5", "cfg7-steps5"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "give a sample"),
        (["--synthetic", "made", *SWEEP], "give a sample"),
        ([*SWEEP, "--vary", "cfg=2"], "--sweep needs --vary"),
        ([*SWEEP, "--out", "x"], "--sweep needs --vary"),
        ([*SWEEP, "--by", "style"], "with --sweep leave it out"),
        ([*BY, "--plan-per-class", "40"], "--by says nothing of a plan's cost"),
        ([*BY, "--images-per-s", "2"], "--by says nothing of a plan's cost"),
        (["--sweep", "sd15_class_prompts", "--vary", "cfg=2", "--out", "x"], "no server"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(
    given: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["estimate", "--real", "photos", *given])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_a_misspelt_setting_shows_before_any_image_is_made(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(sweeping, "make", lambda *given, **more: pytest.fail("made something"))
    given = ["estimate", "--real", str(photos), *SWEEP, "--classes", str(photos / "train")]
    given += ["--out", str(tmp_path / "sweep"), "--vary", "cfg=2", "--vary", "KSampler.hue=1,2"]
    assert main(given) == 1
    assert "KSampler.hue" in capsys.readouterr().err
