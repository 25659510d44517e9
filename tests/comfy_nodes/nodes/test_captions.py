"""The captions node, as ComfyUI calls it, what the batcher makes of it, and its preview."""

import json
import os

import pytest

from comfy_nodes import NODE_CLASS_MAPPINGS, host, paths
from comfy_nodes.errors import LabelsetError, PlanError
from comfy_nodes.nodes.captions import CaptionsNode
from comfy_nodes.plan import PromptTemplates, parse_classes
from comfy_nodes.plan.caption_plan import CaptionPlan
from comfy_nodes.plan.captions import read_captions
from comfy_nodes.server import routes
from tests.comfy_nodes.nodes.test_batcher import call

TEXT = "a dog\n{a|b} __x__\nsnow"


def widgets(**changes):
    return {"captions": TEXT, "path": "", "label": "", "negative_prompt": " text "} | changes


def batch(per_prompt=2, **changes):
    classes, templates = call("SynthGridCaptions", **widgets())
    inputs = dict(
        classes=classes,
        templates=templates,
        images_per_class=30,
        batch_size=4,
        plan_seed=7,
        batch_index=0,
        images_per_prompt=per_prompt,
    )
    return call("SynthGridClassPromptBatcher", **(inputs | changes))


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    (tmp_path / "input").mkdir()
    (tmp_path / "output").mkdir()
    monkeypatch.setattr(host, "_input_directory", tmp_path / "input")
    monkeypatch.setattr(host, "_output_directory", tmp_path / "output")
    return tmp_path / "input"


def test_the_batcher_makes_batches_of_captions():
    (value,), (summary,), _ = batch(batch_index=1)["result"]
    assert summary == "batch 2 of 2: captions x2"
    assert [(row.index, row.prompt) for row in value.specs] == [(4, "{a|b} __x__"), (5, "snow")]
    assert {row.negative_prompt for row in value.specs} == {"text"}
    assert isinstance(value.plan, CaptionPlan)


def test_only_and_the_attempts_of_a_row_work_as_with_classes():
    (row,) = batch(only="2@3")["result"][0][0].specs
    assert (row.index, row.attempt, row.prompt) == (2, 3, "snow")
    with pytest.raises(PlanError, match="batch_index 2 is past the end: this plan has 2 batches"):
        batch(batch_index=2)


def test_captions_and_prompt_templates_do_not_mix():
    with pytest.raises(PlanError, match="connect both outputs of SynthGrid Captions"):
        batch(templates=PromptTemplates())
    with pytest.raises(PlanError, match="connect both outputs of SynthGrid Captions"):
        batch(classes=parse_classes("bat"))
    captions, _ = call("SynthGridCaptions", **widgets())
    with pytest.raises(PlanError, match="captions have no prompt bank"):
        call("SynthGridSaveBank", text="{}", classes=captions, file="a.json", overwrite=False)


def test_a_part_makes_the_rows_of_the_whole():
    classes, _ = call("SynthGridCaptions", **widgets(label="seen"))
    part = classes.part(1, 2)
    sent = widgets(captions="".join(part.lines()), part=part.part_text())
    held, templates = call("SynthGridCaptions", **sent)
    how = {"batch_index": 2, "batch_size": 2}
    whole = batch(classes=classes, **how)["result"][0][0]
    made = batch(classes=held, templates=templates, **how)["result"][0][0]
    assert made.specs == whole.specs
    assert [(row.index, row.label) for row in made.specs] == [(4, "seen"), (5, "seen")]


def test_a_file_in_the_input_folder_is_read_and_takes_the_place_of_the_text(inputs):
    (inputs / "c.csv").write_text("caption,label\na fox,fox\n", encoding="utf-8")
    captions, _ = call("SynthGridCaptions", **widgets(path="c.csv"))
    assert captions == read_captions(inputs / "c.csv")
    assert CaptionsNode.VALIDATE_INPUTS(captions="", path="c.csv") is True
    before = CaptionsNode.IS_CHANGED(captions="", path="c.csv", label="", negative_prompt="")
    (inputs / "c.csv").write_text("caption,label\na cat,cat\n", encoding="utf-8")
    os.utime(inputs / "c.csv", ns=(1, 1))
    assert before != CaptionsNode.IS_CHANGED(
        captions="", path="c.csv", label="", negative_prompt=""
    )


@pytest.mark.parametrize("path", ["../secret.txt", "/etc/passwd", "a\0b", "~/x.txt", "link.txt"])
def test_a_file_outside_the_input_folder_is_never_read(inputs, tmp_path, path):
    (tmp_path / "secret.txt").write_text("secret")
    (inputs / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(LabelsetError):
        call("SynthGridCaptions", **widgets(path=path))
    answer = CaptionsNode.VALIDATE_INPUTS(captions="", path=path)
    assert isinstance(answer, str)
    assert "secret\n" not in answer


def test_a_file_of_captions_may_be_larger_than_a_list_but_has_a_limit(inputs, monkeypatch):
    (inputs / "c.txt").write_text("a dog\n" * 10)
    monkeypatch.setattr(paths, "LARGEST_LIST", 10)
    assert call("SynthGridCaptions", **widgets(path="c.txt"))[0].total == 10
    monkeypatch.setattr(paths, "LARGEST_CAPTIONS", 59)
    with pytest.raises(LabelsetError, match="too many for a list; the limit is 59 bytes"):
        call("SynthGridCaptions", **widgets(path="c.txt"))


def test_what_cannot_be_read_is_refused_before_it_is_queued():
    check = CaptionsNode.VALIDATE_INPUTS
    assert check(captions=TEXT, path="") is True
    assert check(captions=None, path="") is True  # comes over a link
    assert check(captions="", path=None) is True
    assert "no captions" in check(captions=" ", path="")
    assert "does not exist" in check(captions=TEXT, path="/nowhere/c.txt")


def asked(**more):
    batcher = {"images_per_class": 30, "batch_size": 4, "plan_seed": 7, "batch_index": 1}
    return {"captions": widgets(), "batcher": batcher | {"images_per_prompt": 2}} | more


def test_a_try_makes_the_first_image_of_every_caption():
    (whole,), *_ = batch(batch_index=0)["result"]
    (tried,), *_ = batch(try_one_of_each=True)["result"]
    assert tried.specs == whole.specs[:3]
    answer = routes.preview(asked(batcher=asked()["batcher"] | {"try_one_of_each": True}))
    assert (answer["images"], answer["whole"]) == (3, 6)


def test_strengths_are_refused_beside_captions():
    with pytest.raises(PlanError, match="captions take no strengths"):
        batch(strengths="0.3, 0.5")


def test_the_preview_shows_counts_and_the_next_captions():
    answer = routes.preview(asked())
    shown = ("captions", "classes", "images_per_prompt", "images", "batches", "batch_images")
    assert [answer[name] for name in shown] == [3, 1, 2, 6, 2, 2]
    assert "images_per_class" not in answer
    assert [row["prompt"] for row in answer["rows"]] == ["{a|b} __x__", "snow"]


def test_the_preview_counts_what_a_folder_has_of_each_label(inputs):
    lines = [{"caption": "a dog", "label": "dog"}, {"caption": "a fox", "label": "fox"}]
    text = "\n".join(map(json.dumps, [*lines, lines[0]]))
    question = asked(captions=widgets(captions=text), folder="set")
    plan = routes.asked_plan(question)[0]
    folder = inputs.parent / "output" / "set" / "dog"
    folder.mkdir(parents=True)
    for index in (0, 3):
        (folder / f"{plan.plan_id}-{index:06d}.png").write_bytes(b"x")
    answer = routes.preview(question)
    assert answer["done"] == {"dog": 2, "fox": 0}
    assert answer["planned"] == {"dog": 4, "fox": 2}
    assert routes.missing(question)["missing"] == 4


def test_the_preview_says_what_is_wrong():
    assert routes.preview(asked(captions=widgets(captions="")))["error"].startswith("captions has")
    assert "label must be text" in routes.preview(asked(captions=widgets(label=7)))["error"]
    assert "'captions' must be an object" in routes.preview(asked(captions=7))["error"]


def test_the_node_is_in_the_pack():
    assert NODE_CLASS_MAPPINGS["SynthGridCaptions"] is CaptionsNode
