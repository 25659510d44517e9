"""Save Bank: a bank in the output folder that Prompt Templates read, and no file lost to it."""

import json

import pytest

from comfy_nodes import host
from comfy_nodes.banks.prompt_bank import read_prompt_bank
from comfy_nodes.errors import LabelsetError, PlanError
from comfy_nodes.nodes.bank import SaveBank
from comfy_nodes.nodes.prompts import PromptTemplatesNode
from comfy_nodes.plan import GenerationPlan, parse_classes

CLASSES = parse_classes("bat: a flying mammal")
TEXT = json.dumps({"meanings": [], "contexts": ["in a cave", "at dusk"], "styles": ["an etching"]})
OTHER = TEXT.replace("dusk", "noon")


@pytest.fixture(autouse=True)
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_output_directory", tmp_path / "output")
    return tmp_path / "output"


def save(text=TEXT, file="banks/bats.json", overwrite=False):
    return SaveBank().save(text, CLASSES, file, overwrite)["result"]


def test_the_file_and_the_text_are_the_same_bank_and_make_prompts(output):
    text, summary = save()
    saved = output / "banks" / "bats.json"
    assert saved.read_text(encoding="utf-8") == text
    assert summary == "saved in the output folder: banks/bats.json\nbat: 2 contexts, 1 styles"
    template = "a {class}, {definition}, {context}, {style}"
    (texts,) = PromptTemplatesNode().read(template, "", "", "", bank=text)
    prompts = {row.prompt for row in GenerationPlan(CLASSES, texts, 2)}
    assert prompts == {
        "a bat, a flying mammal, in a cave, an etching",
        "a bat, a flying mammal, at dusk, an etching",
    }


def test_another_bank_is_kept_unless_the_widget_says_otherwise(output):
    save()
    save()  # the same one
    with pytest.raises(LabelsetError, match=r"bats\.json holds another bank; turn overwrite on"):
        save(OTHER)
    saved = output / "banks" / "bats.json"
    assert read_prompt_bank(saved).classes["bat"].contexts[1] == "at dusk"
    save(OTHER, overwrite=True)
    assert read_prompt_bank(saved).classes["bat"].contexts[1] == "at noon"


def test_a_text_that_is_no_bank_writes_nothing(output):
    with pytest.raises(PlanError, match="no JSON object"):
        save("Sorry.", overwrite=True)
    assert not output.exists()


@pytest.mark.parametrize(
    "file",
    ["", "../bank.json", "/etc/bank.json", "bank.txt", "bank", ".json", "x\0.json", "a.json"],
)
def test_a_file_elsewhere_is_refused_before_anything_runs(output, file):
    (output / "a.json").mkdir(parents=True)
    assert "must be a .json file inside" in SaveBank.VALIDATE_INPUTS(file=file)
    with pytest.raises(LabelsetError, match=r"must be a \.json file inside"):
        save(file=file)


def test_a_link_out_of_the_output_folder_is_refused(output, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    output.mkdir()
    (output / "way").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(LabelsetError, match="inside"):
        save(file="way/bank.json")
    assert SaveBank.VALIDATE_INPUTS(file="good/bank.json") is True
    assert SaveBank.VALIDATE_INPUTS() is True


def test_a_deleted_file_is_written_again(output):
    before = SaveBank.IS_CHANGED(file="bank.json", text="", overwrite=False)
    save(file="bank.json")
    assert SaveBank.IS_CHANGED(file="bank.json", text="", overwrite=False) != before


def test_the_summary_says_which_classes_have_nothing_and_which_are_unknown():
    bank = {"shared": {"contexts": ["here"]}, "classes": {"cat": {"contexts": ["there"]}}}
    _, summary = save(json.dumps(bank))
    assert summary.splitlines()[1:] == [
        "cat: 1 contexts, 0 styles",
        "shared: 1 contexts, 0 styles",
        "nothing of their own: 'bat'",
        "not among the classes: 'cat'",
    ]
