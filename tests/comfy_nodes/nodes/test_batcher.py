"""The batcher, called as ComfyUI calls it: FUNCTION with the inputs of INPUT_TYPES."""

import math
import sys
from types import ModuleType

import pytest
import torch

from comfy_nodes import NODE_CLASS_MAPPINGS, host
from comfy_nodes.errors import LabelsetError, PlanError
from comfy_nodes.labelset import set_aside
from comfy_nodes.labelset.quality.verdicts import Verdict
from comfy_nodes.plan import PromptTemplates, parse_classes
from tests.comfy_nodes.helpers import scanned_records

CLASSES = parse_classes("badger\nbat\nbear")


def call(name, **inputs):
    node = NODE_CLASS_MAPPINGS[name]
    return getattr(node(), node.FUNCTION)(**inputs)


def batch(**changes):
    """The node's answer; its result is (batch, summary, strength), without the lists."""
    answer = parts(**changes)
    return answer | {"result": tuple(_only_value(each) for each in answer["result"])}


def _only_value(output):
    if isinstance(output, list):
        (output,) = output
    return output


def parts(**changes):
    inputs = dict(
        classes=CLASSES,
        templates=PromptTemplates(),
        images_per_class=4,
        batch_size=8,
        plan_seed=0,
        batch_index=0,
    )
    return call("SynthGridClassPromptBatcher", **(inputs | changes))


def test_the_batcher_says_which_batch_it_made():
    answer = batch(batch_index=1)
    value, summary, _ = answer["result"]
    assert summary == "batch 2 of 2: bear x2, badger x1, bat x1"
    assert answer["ui"] == {"text": [summary]}
    assert [spec.index for spec in value.specs] == [8, 9, 10, 11]


def test_the_batcher_past_the_end_says_so():
    with pytest.raises(
        PlanError, match="batch_index 2 is past the end: this plan has 2 batches of 8"
    ):
        batch(batch_index=2)


class Blocker:
    """Stands in for ComfyUI's ExecutionBlocker; tests/comfyui uses the real one."""

    def __init__(self, message):
        self.message = message


@pytest.fixture
def inside_comfyui(monkeypatch):
    utils = ModuleType("comfy_execution.graph_utils")
    utils.ExecutionBlocker = Blocker
    monkeypatch.setitem(sys.modules, "folder_paths", ModuleType("folder_paths"))
    monkeypatch.setitem(sys.modules, "comfy_execution", ModuleType("comfy_execution"))
    monkeypatch.setitem(sys.modules, "comfy_execution.graph_utils", utils)


@pytest.fixture
def output(tmp_path, monkeypatch):
    """An output folder in which only the second batch (images 8 to 11) has been saved."""
    monkeypatch.setattr(host, "_output_directory", tmp_path)
    saver = NODE_CLASS_MAPPINGS["SynthGridLabelledImageSaver"]()
    saver.save(torch.rand(4, 8, 8, 3), batch(batch_index=1)["result"][0], "animals")
    return tmp_path


def test_past_the_last_batch_nothing_is_said_about_images_that_nobody_has_looked_for(
    inside_comfyui,
):
    answer = batch(batch_index=2)
    text = (
        "batch_index 2 is past the last batch (the plan has 2, numbered 0 to 1), so nothing was "
        "made; press 'Queue what is missing' on the batcher, or set batch_index back to 0"
    )
    assert answer["ui"] == {"text": [text]}
    blocker, summary, _ = answer["result"]
    assert (type(blocker), blocker.message, summary) == (Blocker, None, text)


@pytest.mark.usefixtures("inside_comfyui")
def test_past_the_last_batch_the_folder_says_what_exists(output):
    for batch_index in (2, 9):
        assert batch(batch_index=batch_index, resume_folder="animals")["result"][1].startswith(
            f"batch_index {batch_index} is past the last batch (the plan has 2, numbered 0 to 1); "
            "4 of 12 images exist in 'animals'; press 'Queue what is missing'"
        )
    saver = NODE_CLASS_MAPPINGS["SynthGridLabelledImageSaver"]()
    saver.save(torch.rand(8, 8, 8, 3), batch()["result"][0], "animals")
    text = batch(batch_index=2, resume_folder="animals")["result"][1]
    assert text == "plan finished: all 12 images exist in 'animals'"


@pytest.mark.usefixtures("inside_comfyui")
def test_inside_comfyui_other_mistakes_are_still_errors():
    with pytest.raises(PlanError, match="batch size is 0"):
        batch(batch_size=0)


def test_an_older_comfyui_without_a_blocker_gets_the_error(inside_comfyui, monkeypatch):
    monkeypatch.delattr(sys.modules["comfy_execution.graph_utils"], "ExecutionBlocker")
    with pytest.raises(PlanError, match="past the end"):
        batch(batch_index=2)


def test_resuming_skips_existing_images(output):
    names = sorted(path.name for path in output.glob("animals/*/*.png"))
    assert [name[-10:-4] for name in names] == ["000008", "000009", "000010", "000011"]
    for path in output.glob("animals/*/*-000009.png"):
        path.unlink()
    value, summary, _ = batch(batch_index=1, resume_folder="animals")["result"]
    assert [spec.index for spec in value.specs] == [9]
    assert summary == "batch 2 of 2: badger x1 (3 already exist)"
    assert len(batch(batch_index=0, resume_folder=" animals ")["result"][0].specs) == 8
    for blank in ("", "  "):
        assert len(batch(batch_index=1, resume_folder=blank)["result"][0].specs) == 4


def test_resuming_recognises_images_in_any_format_but_not_of_another_plan(output):
    for path in output.glob("animals/*/*.png"):
        path.rename(path.with_suffix(".webp"))
    with pytest.raises(
        PlanError, match="all 4 images already exist in 'animals'; nothing is left to make"
    ):
        batch(batch_index=1, resume_folder="animals")
    assert len(batch(batch_index=1, resume_folder="animals", plan_seed=1)["result"][0].specs) == 4


def test_inside_comfyui_an_existing_batch_is_reported_and_samples_nothing(output, inside_comfyui):
    answer = batch(batch_index=1, resume_folder="animals")
    assert answer["ui"] == {"text": ["batch 2 of 2: all 4 images already exist in 'animals'"]}
    assert type(answer["result"][0]) is Blocker


def test_skipped_and_new_images_make_one_complete_folder(output):
    value, *_ = batch(batch_index=0, resume_folder="animals")["result"]
    NODE_CLASS_MAPPINGS["SynthGridLabelledImageSaver"]().save(
        torch.rand(8, 8, 8, 3), value, "animals"
    )
    assert len((output / "animals" / "metadata.jsonl").read_text().splitlines()) == 12


def test_only_a_resuming_batcher_looks_again_at_every_run():
    node = NODE_CLASS_MAPPINGS["SynthGridClassPromptBatcher"]
    assert node.IS_CHANGED(batch_index=0) == node.IS_CHANGED(batch_index=0, resume_folder=" ") == ""
    assert math.isnan(node.IS_CHANGED(batch_index=0, resume_folder="animals"))
    assert math.isnan(node.IS_CHANGED(batch_index=0, resume_folder=None))
    assert math.isnan(node.IS_CHANGED(batch_index=0, try_one_of_each=True))
    assert math.isnan(node.IS_CHANGED(batch_index=0, try_one_of_each=None))


def test_a_resume_folder_outside_the_output_folder_is_refused_before_sampling(output):
    validate = NODE_CLASS_MAPPINGS["SynthGridClassPromptBatcher"].VALIDATE_INPUTS
    assert validate() is validate(resume_folder="") is validate(resume_folder="animals") is True
    assert "resume_folder: folder '../x' must be a folder inside" in validate(resume_folder="../x")
    with pytest.raises(LabelsetError, match="must be a folder inside"):
        batch(resume_folder="../x")


def test_batch_index_counts_up_by_itself_and_the_plan_seed_stays():
    widgets = NODE_CLASS_MAPPINGS["SynthGridClassPromptBatcher"].INPUT_TYPES()["required"]
    assert widgets["batch_index"][1]["control_after_generate"] == "increment"
    assert "seed" not in widgets  # the browser randomises a widget of that name
    assert widgets["plan_seed"][1]["max"] < 2**53


def test_a_try_makes_the_plans_own_first_image_of_every_class_and_no_other():
    value, summary, _ = batch(try_one_of_each=True)["result"]
    assert value.specs == value.plan.batch(0, 3)
    assert value.plan == batch()["result"][0].plan  # the same plan, so that its images count
    assert summary == "one image of each class, batch 1 of 1: badger x1, bat x1, bear x1"
    assert (value.batch_index, value.batch_count) == (0, 1)


def test_a_try_of_more_classes_than_a_batch_holds_goes_on_in_the_next_batches():
    tried = [
        batch(try_one_of_each=True, batch_size=2, batch_index=each)["result"][0].specs
        for each in (0, 1)
    ]
    assert [[spec.index for spec in specs] for specs in tried] == [[0, 1], [2]]


def test_a_try_goes_round_since_classes_and_templates_change_between_two():
    """batch_index counts up with every run, and the second try is of other prompts."""
    other = PromptTemplates(("a drawing of a {class}",))
    value, summary, _ = batch(try_one_of_each=True, batch_index=1, templates=other)["result"]
    assert value.specs == value.plan.batch(0, 3)
    assert summary.startswith("one image of each class, batch 1 of 1")
    value, *_ = batch(try_one_of_each=True, batch_index=3, batch_size=2)["result"]
    assert ([spec.index for spec in value.specs], value.batch_index) == ([2], 1)


def graph(**saver):
    """A batcher, 4, whose batch reaches a saver, 13, through a real image latent, 6."""
    inputs = {"batch": ["6", 1], "folder": "animals", "overwrite": False} | saver
    return {
        "4": {"class_type": "SynthGridClassPromptBatcher", "inputs": {}},
        "5": {"class_type": "SynthGridClassPromptBatcher", "inputs": {}},
        "6": {"class_type": "SynthGridRealImageLatent", "inputs": {"batch": ["4", 0]}},
        "13": {"class_type": "SynthGridLabelledImageSaver", "inputs": inputs},
    }


@pytest.mark.usefixtures("inside_comfyui")
def test_a_try_that_exists_in_the_savers_folder_is_not_made_again_and_says_how_to_go_on(output):
    saver = NODE_CLASS_MAPPINGS["SynthGridLabelledImageSaver"]()
    saver.save(torch.rand(3, 8, 8, 3), batch(try_one_of_each=True)["result"][0], "animals")
    tried = dict(try_one_of_each=True, batch_index=1, unique_id="4")
    blocker, text, _ = batch(**tried, prompt=graph())["result"]
    assert type(blocker) is Blocker
    assert text == (
        "one image of each class, batch 1 of 1: all 3 images already exist in 'animals'; if you "
        "like them, turn try_one_of_each off and press 'Queue what is missing' for the rest"
    )
    (gone,) = output.glob("animals/bat/*-000001.png")
    gone.unlink()
    value, *_ = batch(**tried, prompt=graph())["result"]
    assert [spec.index for spec in value.specs] == [1]
    for unknown in ({"overwrite": True}, {"folder": ["9", 0]}, {"batch": ["5", 0]}, {"batch": "x"}):
        value, *_ = batch(**tried, prompt=graph(**unknown))["result"]
        assert len(value.specs) == 3
    several = graph() | {"14": graph(folder="others")["13"]}
    assert len(batch(**tried, prompt=several)["result"][0].specs) == 3
    value, *_ = batch(batch_index=0, unique_id="4", prompt=graph())["result"]
    assert len(value.specs) == 8  # without a try, only a resume_folder leaves images out


def test_links_in_a_circle_end():
    circle = {"6": {"class_type": "SynthGridRealImageLatent", "inputs": {"batch": ["6", 1]}}}
    assert len(batch(try_one_of_each=True, prompt=graph() | circle, unique_id="4")["result"]) == 3


def test_what_was_tried_is_not_made_again(output):
    saver = NODE_CLASS_MAPPINGS["SynthGridLabelledImageSaver"]()
    saver.save(torch.rand(3, 8, 8, 3), batch(try_one_of_each=True)["result"][0], "animals")
    value, summary, _ = batch(batch_index=0, resume_folder="animals")["result"]
    assert [spec.index for spec in value.specs] == [3, 4, 5, 6, 7]
    assert summary.endswith("(3 already exist)")


def test_the_last_batch_of_a_try_writes_the_card(output):
    saver = NODE_CLASS_MAPPINGS["SynthGridLabelledImageSaver"]()
    saver.save(torch.rand(3, 8, 8, 3), batch(try_one_of_each=True)["result"][0], "tried")
    assert (output / "tried" / "README.md").is_file()


def test_later_inputs_come_last_and_change_nothing_by_default():
    declared = NODE_CLASS_MAPPINGS["SynthGridClassPromptBatcher"].INPUT_TYPES()
    later = ["images_per_prompt", "try_one_of_each", "strengths"]
    assert list(declared["optional"])[-3:] == later
    assert declared["optional"]["try_one_of_each"][1]["default"] is False
    assert len(batch()["result"][0].specs) == 8


def test_only_makes_exactly_the_images_that_are_missing():
    value, *_ = batch(batch_index=1, only="11, 9")["result"]
    assert [spec.index for spec in value.specs] == [9, 11]


def test_only_may_name_another_attempt_at_an_image():
    value, *_ = batch(batch_index=1, only="11@2, 9")["result"]
    assert value.specs == (value.plan.row(9), value.plan.row(11, attempt=2))


def test_an_image_that_was_set_aside_is_missing_and_gets_its_next_attempt(output):
    """In the labelled folder itself, and in one that the saver's pattern put below it."""
    plan = batch()["result"][0].plan
    records = {each.index: each for each in scanned_records(output / "animals").values()}
    bad = [
        Verdict(each.sha256, each.file_name, each.label, "bad")
        for each in (records[9], records[10])
    ]
    set_aside(output / "animals", bad, scorer="a.csv")
    value, *_ = batch(batch_index=1, resume_folder="animals")["result"]
    assert value.specs == (plan.row(9, attempt=1), plan.row(10, attempt=1))
    value, *_ = batch(batch_index=1, resume_folder="animals", only="9@4,10")["result"]
    assert value.specs == (plan.row(9, attempt=4), plan.row(10, attempt=1))
    (output / "all").mkdir()
    for name in ("animals", "animals.quarantine"):
        (output / name).rename(output / "all" / name)
    value, *_ = batch(batch_index=1, resume_folder="all")["result"]
    assert value.specs == (plan.row(9, attempt=1), plan.row(10, attempt=1))


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("3", r"names images \[3\], but this batch has 8 to 11"),
        ("x", "must be"),
        ("9@", "must be"),
        ("9@99999", "attempt 99999"),
    ],
)
def test_only_refuses_what_is_not_in_the_batch(only, message):
    with pytest.raises(PlanError, match=message):
        batch(batch_index=1, only=only)
