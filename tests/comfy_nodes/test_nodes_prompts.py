"""The prompt nodes, called as ComfyUI calls them: by their FUNCTION, with what INPUT_TYPES declares."""

import pytest

from comfy_nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from comfy_nodes.errors import PlanError
from comfy_nodes.plan import PromptTemplates, parse_classes

CLASSES = parse_classes("badger\nbat\nbear")


def call(name, **inputs):
    node = NODE_CLASS_MAPPINGS[name]
    return getattr(node(), node.FUNCTION)(**inputs)


def batch(**changes):
    inputs = dict(
        classes=CLASSES, templates=PromptTemplates(), images_per_class=4, batch_size=8, plan_seed=0, batch_index=0
    )
    return call("SynthGridClassPromptBatcher", **(inputs | changes))


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_every_node_explains_itself(name):
    node = NODE_CLASS_MAPPINGS[name]
    assert node.DESCRIPTION
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
        call("SynthGridPromptTemplates", templates="a {clas}", negative_prompt="", contexts="", styles="")


def test_the_batcher_says_which_batch_it_made():
    answer = batch(batch_index=1)
    value, summary = answer["result"]
    assert summary == "batch 2 of 2: bear x2, badger x1, bat x1"
    assert answer["ui"] == {"text": [summary]}
    assert [spec.index for spec in value.specs] == [8, 9, 10, 11]


def test_the_batcher_past_the_end_says_so():
    with pytest.raises(PlanError, match="batch_index 2 is past the end: this plan has 2 batches of 8"):
        batch(batch_index=2)


def test_batch_index_counts_up_by_itself_and_the_plan_seed_stays():
    widgets = NODE_CLASS_MAPPINGS["SynthGridClassPromptBatcher"].INPUT_TYPES()["required"]
    assert widgets["batch_index"][1]["control_after_generate"] == "increment"
    assert "seed" not in widgets  # the browser randomises a widget of that name
    assert widgets["plan_seed"][1]["max"] < 2**53


def test_only_makes_exactly_the_images_that_are_missing():
    value, _ = batch(batch_index=1, only="11, 9")["result"]
    assert [spec.index for spec in value.specs] == [9, 11]


@pytest.mark.parametrize(
    ("only", "message"), [("3", r"names images \[3\], but this batch has 8 to 11"), ("x", "must be")]
)
def test_only_refuses_what_is_not_in_the_batch(only, message):
    with pytest.raises(PlanError, match=message):
        batch(batch_index=1, only=only)
