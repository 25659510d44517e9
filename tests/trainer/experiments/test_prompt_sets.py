"""The four sets of prompts, as the client plans them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comfy_nodes.banks.prompt_bank import ClassBank, PromptBank, bank_text, read_prompt_bank
from synthgrid.__main__ import main
from trainer.errors import TrainerError
from trainer.experiments import prompt_sets
from trainer.experiments.prompt_sets import DIGITS, make_sets, write_digits


@pytest.fixture
def bank(real: Path) -> Path:
    """A bank of the three shapes."""
    shapes = ("circle", "cross", "square")
    classes = {name: ClassBank(definition=f"{name} of ink") for name in shapes}
    values = PromptBank(("on a wall", "in a book"), ("a sketch", "a print"), classes)
    path = real.parent / "bank.json"
    path.write_text(bank_text(values), encoding="utf-8")
    return path


def planned(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[tuple[str, str, int]]]:
    """Of the plan that a run would make: images per class, and (label, prompt, seed) of its first
    rows."""
    given = dict(zip(command[2::2], command[3::2], strict=True))
    for option in ("--server", "--out"):
        del given[option]
    capsys.readouterr()
    assert main(["plan", "--json", *(each for pair in given.items() for each in pair)]) == 0
    plan = json.loads(capsys.readouterr().out)
    (images,) = {each["images"] for each in plan["classes"]}
    return images, [(row["label"], row["prompt"], row["seed"]) for row in plan["first_prompts"]]


def test_each_set_adds_one_thing_to_the_prompts_of_the_one_before(
    real: Path, bank: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(prompt_sets, "_synthgrid", lambda given: asked.append(given) or 0)
    found = make_sets(real, bank, real.parent / "made", per_class=4, server="embedded")
    assert list(found) == ["naive", "lar", "lar-cd", "lar-cd-sd"]
    outs = [given[given.index("--out") + 1] for given in asked]
    assert outs == [str(each) for each in found.values()]
    images, rows = zip(*(planned(given, capsys) for given in asked), strict=True)
    assert images == (4, 4, 4, 4)
    assert len({tuple((label, seed) for label, _, seed in each) for each in rows}) == 1
    for (label, naive, _), (_, lar, _), (_, cd, _), (_, sd, _) in zip(*rows, strict=True):
        assert naive == f"a photo of a {label}"
        assert lar == f"a photo of a {label} of ink"
        assert cd in (f"{lar}, on a wall", f"{lar}, in a book")
        assert sd in (f"{cd}, a sketch", f"{cd}, a print")


def test_images_that_are_not_made_end_the_experiment(
    real: Path, bank: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bank.unlink()
    with pytest.raises(TrainerError, match="the prompts 'naive' were not made"):
        make_sets(real, bank, real.parent / "made", per_class=4, server="embedded")
    assert "bank.json" in capfd.readouterr().err


def test_digits_have_names_that_need_a_definition(tmp_path: Path) -> None:
    real, bank = write_digits(tmp_path)
    for part in ("train", "test"):
        assert sorted(each.name for each in (real / part).iterdir()) == sorted(DIGITS)
    assert len(list((real / "train" / "deuce").iterdir())) == 30
    written = read_prompt_bank(bank)
    assert written.classes["deuce"].definition == "handwritten digit two"
    assert tuple(written.classes) == DIGITS
    bank.write_text("mine", encoding="utf-8")
    assert write_digits(tmp_path) == (real, bank)
    assert bank.read_text(encoding="utf-8") == "mine"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bank.json", "real"]
