"""The prompt nodes, called as ComfyUI calls them: FUNCTION with the inputs of INPUT_TYPES."""

import math
import sys
from types import ModuleType

import pytest
import torch

from comfy_nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS, host
from comfy_nodes.errors import LabelsetError, PlanError, SynthGridError
from comfy_nodes.plan import PromptTemplates, parse_classes

CLASSES = parse_classes("badger\nbat\nbear")


def call(name, **inputs):
    node = NODE_CLASS_MAPPINGS[name]
    return getattr(node(), node.FUNCTION)(**inputs)


def batch(**changes):
    inputs = dict(
        classes=CLASSES,
        templates=PromptTemplates(),
        images_per_class=4,
        batch_size=8,
        plan_seed=0,
        batch_index=0,
    )
    return call("SynthGridClassPromptBatcher", **(inputs | changes))


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_every_node_explains_itself(name):
    node = NODE_CLASS_MAPPINGS[name]
    assert node.DESCRIPTION
    assert len(node.SEARCH_ALIASES) == len(set(node.SEARCH_ALIASES)) > 0
    assert node.CATEGORY == "SynthGrid"
    assert name.startswith("SynthGrid")
    assert NODE_DISPLAY_NAME_MAPPINGS[name].startswith("SynthGrid ")
    inputs = node.INPUT_TYPES()
    for section in ("required", "optional"):
        for input_name, (_, options) in inputs.get(section, {}).items():
            assert options.get("tooltip"), f"{name}.{input_name} has no tooltip"
    assert len(node.RETURN_TYPES) == len(getattr(node, "RETURN_NAMES", ()))


def test_the_class_list_reads_text_or_a_path(tmp_path):
    (tmp_path / "classes.txt").write_text("crane: a bird")
    assert call("SynthGridClassList", classes="bat", path="")[0][0].name == "bat"
    entry = call("SynthGridClassList", classes="bat", path=f' "{tmp_path / "classes.txt"}" ')[0][0]
    assert (entry.name, entry.definition) == ("crane", "a bird")


def test_a_changed_file_is_read_again(tmp_path):
    node = NODE_CLASS_MAPPINGS["SynthGridClassList"]
    path = tmp_path / "classes.txt"
    path.write_text("bat")
    before = node.IS_CHANGED(classes="", path=str(path))
    assert node.IS_CHANGED(classes="", path=str(path)) == before
    path.write_text("bat\ncat")
    assert node.IS_CHANGED(classes="", path=str(path)) != before


def test_templates_and_banks_are_read_line_by_line():
    (templates,) = call(
        "SynthGridPromptTemplates",
        templates="a {class}, {style}\n\na {class} in {context}",
        negative_prompt=" blurry ",
        contexts="snow\nrain",
        styles="ink",
    )
    assert templates == PromptTemplates(
        ("a {class}, {style}", "a {class} in {context}"), "blurry", ("snow", "rain"), ("ink",)
    )


def test_an_unknown_placeholder_is_named():
    with pytest.raises(PlanError, match=r"unknown placeholder '\{clas\}'"):
        call(
            "SynthGridPromptTemplates",
            templates="a {clas}",
            negative_prompt="",
            contexts="",
            styles="",
        )


def test_the_batcher_says_which_batch_it_made():
    answer = batch(batch_index=1)
    value, summary = answer["result"]
    assert summary == "batch 2 of 2: bear x2, badger x1, bat x1"
    assert answer["ui"] == {"text": [summary]}
    assert [spec.index for spec in value.specs] == [8, 9, 10, 11]


def test_the_batcher_past_the_end_says_so():
    with pytest.raises(
        PlanError, match="batch_index 2 is past the end: this plan has 2 batches of 8"
    ):
        batch(batch_index=2)


@pytest.fixture
def wildcards(tmp_path, monkeypatch):
    """An input folder with two wildcards in files, and a secret outside it."""
    root = tmp_path / "input"
    (root / "wildcards" / "animals").mkdir(parents=True)
    (root / "wildcards" / "color.txt").write_text("red\n__animals/cats__ grey")
    (root / "wildcards" / "animals" / "cats.txt").write_text("lynx")
    (tmp_path / "secret.txt").write_text("password")
    (root / "wildcards" / "link.txt").symlink_to(tmp_path / "secret.txt")
    monkeypatch.setattr(host, "_input_directory", root)
    return root / "wildcards"


def templates_of(templates, **more):
    inputs = {"templates": templates, "negative_prompt": "", "contexts": "", "styles": ""}
    defaults = {"wildcards_folder": "wildcards"}
    return NODE_CLASS_MAPPINGS["SynthGridPromptTemplates"]().read(**inputs | defaults | more)[0]


def test_wildcards_are_typed_in_or_come_from_files_of_the_input_folder(wildcards):
    texts = templates_of("a __color__ {class} __size__", wildcards="__size__:\nsmall\nlarge")
    assert texts.wildcards == (
        ("animals/cats", ("lynx",)),
        ("color", ("red", "__animals/cats__ grey")),
        ("size", ("small", "large")),
    )
    typed = templates_of("a __color__ {class}", wildcards="__color__:\nblue")
    assert typed.wildcards == (("color", ("blue",)),)


@pytest.mark.parametrize(
    ("text", "folder", "words"),
    [
        ("__link__", "wildcards", "outside the folders that may be read"),
        ("__size__", "wildcards", "there is no wildcard __size__"),
        ("__color__", "", "the wildcard __color__ has no entries"),
        ("__secret__", "..", "cannot be read here"),
        ("__secret__", "/", "cannot be read here|outside the folders|no wildcard"),
    ],
)
def test_wildcards_come_from_nowhere_else(wildcards, text, folder, words):
    with pytest.raises(SynthGridError, match=words) as caught:
        templates_of(f"a {text} {{class}}", wildcards_folder=folder)
    assert "password" not in str(caught.value)
    validate = NODE_CLASS_MAPPINGS["SynthGridPromptTemplates"].VALIDATE_INPUTS
    answer = validate(
        templates=f"a {text} {{class}}", contexts="", styles="", wildcards_folder=folder
    )
    assert answer == str(caught.value)


def test_a_changed_wildcard_is_read_again(wildcards):
    node = NODE_CLASS_MAPPINGS["SynthGridPromptTemplates"]
    inputs = {"templates": "a __color__ {class}", "contexts": "", "styles": ""}
    inputs |= {"negative_prompt": "", "wildcards": "", "wildcards_folder": "wildcards"}
    before = node.IS_CHANGED(**inputs)
    assert node.IS_CHANGED(**inputs) == before
    (wildcards / "animals" / "cats.txt").write_text("puma")
    assert node.IS_CHANGED(**inputs) != before
    assert math.isnan(node.IS_CHANGED(**inputs | {"templates": None}))
    linked = inputs | {"templates": None, "wildcards_folder": "gone"}
    assert node.IS_CHANGED(**linked) == node.IS_CHANGED(**linked)


def test_a_bad_alternative_in_a_file_is_named_with_its_line(wildcards):
    (wildcards.parent / "t.txt").write_text("a {class}\na {x|y {class}")
    with pytest.raises(PlanError, match=r"t\.txt line 2: .*closing brace"):
        templates_of("", templates_file="t.txt")


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


def test_a_bad_class_list_is_refused_before_anything_is_queued(tmp_path):
    validate = NODE_CLASS_MAPPINGS["SynthGridClassList"].VALIDATE_INPUTS
    (tmp_path / "classes.txt").write_text("bat")
    assert validate(classes="bat", path="") is True
    assert validate(classes="", path=str(tmp_path / "classes.txt")) is True
    assert "more than once: 'bat'" in validate(classes="bat\nbat", path="")
    assert "does not exist" in validate(classes="bat", path=str(tmp_path / "gone.txt"))
    assert "does not exist" in validate(classes=None, path=str(tmp_path / "gone.txt"))
    for classes, path in ((None, ""), ("", None)):  # over a link: not known yet
        assert validate(classes=classes, path=path) is True


def test_bad_templates_are_refused_before_anything_is_queued(tmp_path):
    validate = NODE_CLASS_MAPPINGS["SynthGridPromptTemplates"].VALIDATE_INPUTS
    (tmp_path / "places.txt").write_text("in the rain")
    texts = {"templates": "a {class} {context}", "contexts": "", "styles": ""}
    assert validate(**texts, contexts_file=str(tmp_path / "places.txt")) is True
    assert "there are no contexts" in validate(**texts)
    assert "unknown placeholder" in validate(**texts | {"templates": "a {clas}"})
    assert "does not exist" in validate(**texts, contexts_file=str(tmp_path / "gone.txt"))
    assert validate(**texts | {"contexts": None}) is True
    assert validate(**texts | {"templates": None}) is True


def test_past_the_last_batch_nothing_is_said_about_images_that_nobody_has_looked_for(
    inside_comfyui,
):
    answer = batch(batch_index=2)
    text = (
        "batch_index 2 is past the last batch (the plan has 2, numbered 0 to 1), so nothing was "
        "made; press 'Queue what is missing' on the batcher, or set batch_index back to 0"
    )
    assert answer["ui"] == {"text": [text]}
    blocker, summary = answer["result"]
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
    value, summary = batch(batch_index=1, resume_folder="animals")["result"]
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
    value, _ = batch(batch_index=0, resume_folder="animals")["result"]
    NODE_CLASS_MAPPINGS["SynthGridLabelledImageSaver"]().save(
        torch.rand(8, 8, 8, 3), value, "animals"
    )
    assert len((output / "animals" / "metadata.jsonl").read_text().splitlines()) == 12


def test_only_a_resuming_batcher_looks_again_at_every_run():
    node = NODE_CLASS_MAPPINGS["SynthGridClassPromptBatcher"]
    assert node.IS_CHANGED(batch_index=0) == node.IS_CHANGED(batch_index=0, resume_folder=" ") == ""
    assert math.isnan(node.IS_CHANGED(batch_index=0, resume_folder="animals"))
    assert math.isnan(node.IS_CHANGED(batch_index=0, resume_folder=None))


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


def test_only_makes_exactly_the_images_that_are_missing():
    value, _ = batch(batch_index=1, only="11, 9")["result"]
    assert [spec.index for spec in value.specs] == [9, 11]


@pytest.mark.parametrize(
    ("only", "message"),
    [("3", r"names images \[3\], but this batch has 8 to 11"), ("x", "must be")],
)
def test_only_refuses_what_is_not_in_the_batch(only, message):
    with pytest.raises(PlanError, match=message):
        batch(batch_index=1, only=only)
