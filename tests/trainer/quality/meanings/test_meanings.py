"""Which meaning of a class name images show: decided where they agree, written into the bank, never
over what a person wrote.

Covers: trainer.quality.meanings.decide, trainer.quality.meanings.resolve,
trainer.quality.meanings.scorers, trainer.quality.meanings.taxonomy, trainer.commands.meanings,
trainer.report.meanings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from comfy_nodes.banks.prompt_bank import (
    ClassBank,
    Meaning,
    PromptBank,
    bank_text,
    read_prompt_bank,
)
from comfy_nodes.language.wordnet import WordNet
from tests.wordnet_files import write_wordnet
from trainer.__main__ import main
from trainer.data.samples import Sample, read_class_folders
from trainer.errors import DataError
from trainer.quality.embedding.embedder import Embedder
from trainer.quality.meanings import taxonomy
from trainer.quality.meanings.decide import FEWEST, decide
from trainer.quality.meanings.resolve import resolve, with_definitions
from trainer.quality.meanings.scorers import taxonomy_scorer, words_scorer

SENSES = {
    "entity": (["entity"], "that which exists", []),
    "animal": (["animal"], "a living thing", ["entity"]),
    "machine": (["machine"], "a device", ["entity"]),
    "bird": (["bird"], "has wings", ["animal"]),
    "lift": (["crane"], "lifts heavy objects", ["machine"]),
    "wader": (["crane"], "a large bird", ["bird"]),
    "stick": (["bat"], "a club", ["machine"]),
    "flyer": (["bat"], "a nocturnal animal", ["animal"]),
    "heron": (["heron"], "a grey bird", ["bird"]),
    "truck": (["truck"], "carries loads", ["machine"]),
}
KNOWN = ("heron", "truck", "animal", "machine")  # what the classifier tells apart, by colour
COLOURS = ((200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0))
BIRD, LIFT = "crane: a large bird", "crane: lifts heavy objects"
ANIMAL, STICK = "bat: a nocturnal animal", "bat: a club"


def classify(pixels: torch.Tensor) -> torch.Tensor:
    """Probabilities of KNOWN from the mean colour of uint8 [N,3,S,S]: float32 [N,4]."""
    colours = pixels.float().mean(dim=(2, 3))
    distance = torch.cdist(colours, torch.tensor(COLOURS, dtype=torch.float32))
    return torch.softmax(-distance / 20, dim=1)


def write_images(root: Path, shown: dict[str, Sequence[int]]) -> Path:
    """Class folders of plain images, each of the colour of one of KNOWN."""
    random = np.random.RandomState(0)
    for label, kinds in shown.items():
        folder = root / label
        folder.mkdir(parents=True)
        for number, kind in enumerate(kinds):
            noise = random.randint(-15, 16, (16, 16, 3))
            pixels = np.clip(np.array(COLOURS[kind]) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return root


@pytest.fixture
def nouns(tmp_path: Path) -> WordNet:
    write_wordnet(tmp_path / "wordnet", SENSES)
    return WordNet(tmp_path / "wordnet")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Cranes that are herons, bats that are half machines."""
    return write_images(tmp_path / "real", {"crane": [0] * 8, "bat": [2, 3] * 4})


@pytest.fixture
def score(nouns: WordNet, tmp_path: Path) -> Callable:
    offsets = write_wordnet(tmp_path / "wordnet", SENSES)
    return taxonomy_scorer(nouns, [offsets[key] for key in KNOWN], 16, classify, lambda count: None)


@pytest.fixture
def bank(nouns: WordNet) -> PromptBank:
    def meanings(label: str) -> ClassBank:
        return ClassBank(meanings=tuple(Meaning(each.text) for each in nouns.senses(label)))

    return PromptBank(("in the rain",), classes={each: meanings(each) for each in ("crane", "bat")})


def by_class(images: Path) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for sample in read_class_folders(images):
        found.setdefault(sample.label, []).append(sample)
    return found


def test_agreeing_images_decide_and_divided_ones_do_not() -> None:
    random = np.random.RandomState(0)
    clear = random.normal([0.0, 1.0, 0.2], 0.3, (20, 3))
    found = decide(clear)
    assert (found.best, found.runner_up, found.is_clear) == (1, 2, True)
    assert found.low < found.margin < found.high
    assert found.margin == pytest.approx((clear[:, 1] - clear[:, 2]).mean())
    divided = np.where(np.arange(20)[:, None] % 2, [3.0, 0.0], [0.0, 1.0])
    assert decide(divided).low > 0  # the mean alone would decide
    assert not decide(divided).is_clear
    assert not decide(random.normal(0, 1, (20, 2))).is_clear
    assert not decide(clear[: FEWEST - 1]).is_clear
    alone = decide(clear[:, :1])
    assert (alone.best, alone.runner_up, alone.is_clear) == (0, -1, True)


@pytest.mark.parametrize(("agree", "clear"), [(48, False), (55, True)])
def test_more_than_three_quarters_of_the_images_must_agree(agree: int, clear: bool) -> None:
    scores = np.where(np.arange(60)[:, None] < agree, [1.0, 0.0], [0.0, 1.0])
    assert decide(scores).low > 0
    assert decide(scores).is_clear is clear


def test_equal_scores_decide_nothing() -> None:
    assert not decide(np.ones((30, 2))).is_clear


def test_taxonomy_finds_what_the_images_are_near_to(
    bank: PromptBank, images: Path, score: Callable
) -> None:
    crane, bat = resolve(bank, by_class(images), score)
    assert (crane.outcome, crane.definition, crane.runner_up) == ("chosen", BIRD, LIFT)
    assert (bat.outcome, bat.definition) == ("cannot tell", "")


def test_images_shuffled_over_classes_decide_nothing(
    bank: PromptBank, tmp_path: Path, score: Callable
) -> None:
    mixed = write_images(tmp_path / "mixed", {"crane": [0, 1] * 8, "bat": [1, 0] * 8})
    assert [each.outcome for each in resolve(bank, by_class(mixed), score)] == ["cannot tell"] * 2


def test_senses_of_one_kind_are_not_told_apart(tmp_path: Path, images: Path) -> None:
    more = dict(SENSES) | {
        "grey": (["crane"], "a grey large bird", ["bird"]),
        "egret": (["egret"], "a white bird", ["grey"]),
    }
    offsets = write_wordnet(tmp_path / "more", more)
    nouns = WordNet(tmp_path / "more")
    known = [offsets[key] for key in ("egret", "truck", "animal", "machine")]
    score = taxonomy_scorer(nouns, known, 16, classify, lambda count: None)
    meanings = tuple(Meaning(each.text) for each in nouns.senses("crane"))
    samples = by_class(images)
    (crane,) = resolve(PromptBank(classes={"crane": ClassBank(meanings=meanings)}), samples, score)
    assert (crane.outcome, crane.best) == ("cannot tell", BIRD)  # the commonest of the right kind
    assert crane.runner_up == "crane: a grey large bird"
    others = PromptBank(classes={"crane": ClassBank(meanings=meanings[::2])})
    (crane,) = resolve(others, samples, score)
    assert (crane.outcome, crane.best) == ("chosen", "crane: a grey large bird")


def test_a_person_keeps_the_last_word(bank: PromptBank, images: Path, score: Callable) -> None:
    own = ClassBank("a paper bird", meanings=bank.classes["crane"].meanings)
    bank = replace(bank, classes={"crane": own})
    (kept,) = resolve(bank, by_class(images), score)
    assert (kept.outcome, kept.definition, kept.best) == ("kept", "a paper bird", BIRD)
    assert with_definitions(bank, [kept], scorer={}) == bank
    (told,) = resolve(bank, by_class(images), score, overwrite=True)
    assert (told.outcome, told.definition) == ("chosen", BIRD)


def test_what_was_chosen_here_may_be_chosen_anew(
    bank: PromptBank, images: Path, score: Callable
) -> None:
    first = with_definitions(bank, resolve(bank, by_class(images), score), scorer={"scorer": "x"})
    facts = first.provenance["definitions"]
    assert set(facts) == {"crane"}
    assert (facts["crane"]["definition"], facts["crane"]["images"]) == (BIRD, 8)
    assert facts["crane"]["scorer"] == "x"
    again = resolve(first, by_class(images), score)
    assert [each.outcome for each in again] == ["chosen", "cannot tell"]
    assert bank_text(with_definitions(first, again, scorer={"scorer": "x"})) == bank_text(first)
    few = {label: samples[:2] for label, samples in by_class(images).items()}
    gone = with_definitions(first, resolve(first, few, score), scorer={})
    assert gone.classes["crane"].definition == ""
    assert "definitions" not in gone.provenance


def test_classes_without_meanings_or_images_are_left_alone(
    bank: PromptBank, images: Path, score: Callable
) -> None:
    more = {"owl": ClassBank("a bird"), "emu": bank.classes["crane"]}
    found = resolve(replace(bank, classes=more), by_class(images), score)
    assert [(each.outcome, each.definition) for each in found] == [
        ("no meanings", "a bird"),
        ("no images", ""),
    ]


def test_a_meaning_that_wordnet_does_not_have_is_named(
    bank: PromptBank, images: Path, score: Callable
) -> None:
    own = ClassBank(meanings=(Meaning("a bird made of paper"),))
    with pytest.raises(DataError, match="does not have the meaning 'a bird made of paper'"):
        resolve(replace(bank, classes={"crane": own}), by_class(images), score)


def test_a_dual_encoder_scores_by_words(images: Path, bank: PromptBank) -> None:
    """Trained here to put captions of colours near to images of them."""
    words = ["bird", "machine"]

    def tokens(texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[text.count("bird"), text.count("lifts")] for text in texts]).float()

    torch.manual_seed(0)
    tower, text_tower = torch.nn.Linear(3, 8), torch.nn.Linear(2, 8)
    optimiser = torch.optim.Adam([*tower.parameters(), *text_tower.parameters()], lr=0.05)
    colours = torch.tensor(COLOURS[:2]).float() / 255
    captions = tokens(["a large bird", "lifts heavy objects"])
    normal = torch.nn.functional.normalize
    for _ in range(60):
        cosine = normal(tower(colours), dim=1) @ normal(text_tower(captions), dim=1).T
        loss = torch.nn.functional.cross_entropy(10 * cosine, torch.arange(len(words)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    @torch.no_grad()
    def embed(pixels: torch.Tensor) -> torch.Tensor:
        return tower(pixels.float().mean(dim=(2, 3)) / 255)

    @torch.no_grad()
    def classify_words(features: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        return normal(features, dim=1) @ normal(text_tower(tokens(texts)), dim=1).T

    seen: list[int] = []
    embedder = Embedder("open_clip:tiny", 16, "f", "", embed, classify_words)
    score = words_scorer(embedder, seen.append)
    only = replace(bank, classes={"crane": bank.classes["crane"]})
    (crane,) = resolve(only, by_class(images), score)
    assert (crane.outcome, crane.definition) == ("chosen", BIRD)
    assert sum(seen) == 8


@pytest.fixture
def command(
    bank: PromptBank, images: Path, nouns: WordNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The command's arguments; the classifier by colour stands for lite0."""
    offsets = write_wordnet(nouns.folder, SENSES)
    monkeypatch.setattr(taxonomy, "imagenet_offsets", lambda: [offsets[key] for key in KNOWN])
    monkeypatch.setattr(taxonomy, "lite0_classifier", lambda *_: (16, classify, "f00"))
    (tmp_path / "bank.json").write_text(bank_text(bank), encoding="utf-8")
    given = ["meanings", str(tmp_path / "bank.json"), "--real", str(images)]
    return [*given, "--wordnet", str(nouns.folder)]


def test_the_command_writes_the_bank_once(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bank.json"
    assert main([*command, "--page", str(tmp_path / "page.html")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["crane", "chosen"]
    assert lines[2].split()[:3] == ["bat", "cannot", "tell"]
    assert lines[-1] == f"1 of 2 definitions: {path}"
    made = read_prompt_bank(path)
    assert made.classes["crane"].definition == BIRD
    assert made.provenance["definitions"]["crane"]["weights"] == "f00"
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<img") == 2 * (8 + 8)
    assert "cannot tell" in page
    before = path.stat().st_mtime_ns, path.read_bytes()
    assert main([*command, "--json"]) == 0
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    found = json.loads(capsys.readouterr().out)
    assert found["classes"][0]["decision"]["low"] > 0
    assert [each["outcome"] for each in found["classes"]] == ["chosen", "cannot tell"]


def test_out_leaves_the_bank_as_it_is(command: list[str], tmp_path: Path) -> None:
    before = (tmp_path / "bank.json").read_bytes()
    assert main([*command, "--out", str(tmp_path / "new" / "bank.json")]) == 0
    assert (tmp_path / "bank.json").read_bytes() == before
    assert read_prompt_bank(tmp_path / "new" / "bank.json").classes["crane"].definition == BIRD


def test_out_never_replaces_another_file(
    command: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "other.json").write_text("mine", encoding="utf-8")
    assert main([*command, "--out", str(tmp_path / "other.json")]) == 1
    assert "other.json holds something else and is kept" in caplog.text
    assert (tmp_path / "other.json").read_text(encoding="utf-8") == "mine"
    for _ in range(2):  # the same again is no other
        assert main([*command, "--out", str(tmp_path / "new.json")]) == 0


def test_usage_and_folders_without_these_classes_are_refused(
    command: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command[:4])
    assert ended.value.code == 2
    other = write_images(tmp_path / "other", {"fox": [0] * 3, "owl": [1] * 3})
    assert main([*command[:3], str(other), *command[4:]]) == 1
    assert "no class of the bank has images in" in caplog.text


def test_the_last_layer_of_weights_is_that_of_the_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from trainer.errors import WeightsError
    from trainer.models.weights import Weights, last_layer

    path = tmp_path / "a.safetensors"
    head = {"fc.weight": torch.ones(3, 2), "fc.bias": torch.zeros(3)}
    save_file({"a.weight": torch.ones(2, 2, 1, 1)} | head, path)
    weight, bias = last_layer(Weights("", "", path))
    assert (weight.shape, bias.shape) == ((3, 2), (3,))
    save_file({"a.weight": torch.ones(2, 2, 1, 1)}, path)
    with pytest.raises(WeightsError, match="has no last layer"):
        last_layer(Weights("", "", path))


def test_where_the_images_do_not_tell_the_table_still_names_the_best_meaning(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--json"]) == 0
    bat = json.loads(capsys.readouterr().out)["classes"][1]
    assert bat["outcome"] == "cannot tell"
    assert {bat["meaning"], bat["runner_up"]} == {"bat: a club", "bat: a nocturnal animal"}
    assert main(command) == 0
    row = capsys.readouterr().out.splitlines()[2]
    assert (
        row.index("cannot tell") < row.index(bat["meaning"][:20]) < row.index(bat["runner_up"][:20])
    )


def test_a_page_replaces_an_older_page_and_nothing_else(
    command: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = tmp_path / "page.html"
    page.write_text("<title>mine</title>", encoding="utf-8")
    bank = (tmp_path / "bank.json").read_bytes()
    assert main([*command, "--page", str(page)]) == 1
    assert "page.html holds something else and is kept; give another --page" in caplog.text
    assert page.read_text(encoding="utf-8") == "<title>mine</title>"
    assert (tmp_path / "bank.json").read_bytes() == bank, "refused before anything is done"
    page.unlink()
    for _ in range(2):
        assert main([*command, "--page", str(page)]) == 0
