"""The saved workflows: both formats are the same graph of existing nodes, and none overlap."""

import json
from itertools import combinations

import pytest

from client.workflow.graph import Workflow, load_workflow
from comfy_nodes import NODE_CLASS_MAPPINGS
from tests.workflows.shipped import FOLDER, TITLES, WITH_A_PLAN, api, editor

APPS = sorted(FOLDER.glob("*.app.json"))  # opened by the browser as a form, in app mode
NAMES = sorted(TITLES)
BATCHER = "SynthGridClassPromptBatcher"
CONTROL = ("batch_index", "noise_seed", "seed")


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def api_of(editor):
    """The API format of an editor-format graph that has no subgraphs, reroutes or muted nodes."""
    links = {link[0]: [str(link[1]), link[2]] for link in editor["links"]}
    graph = {}
    for node in editor["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        values = iter(node.get("widgets_values", []))
        inputs = {}
        for entry in node["inputs"]:
            if "widget" in entry:
                value = next(values)
                if entry["name"] in CONTROL:
                    assert next(values) == "increment"
                inputs[entry["name"]] = value
            if entry["link"] is not None:
                inputs[entry["name"]] = links[entry["link"]]
        graph[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": inputs,
            "_meta": {"title": node["title"]},
        }
    return graph


def test_every_workflow_is_there_in_both_formats_and_has_a_picture():
    assert sorted(path.stem for path in (FOLDER / "api").glob("*.json")) == NAMES
    editors = {path for path in FOLDER.glob("*.json")} - set(APPS)
    assert editors == {editor(name) for name in NAMES}
    assert {path.stem for path in FOLDER.glob("*.jpg")} == {
        path.stem for path in FOLDER.glob("*.json")
    }


@pytest.mark.parametrize("name", NAMES)
def test_editor_and_api_format_are_the_same_graph_but_for_the_first_try(name):
    """In the browser, the first Run makes one image of each class; posted as it is, a batch."""
    shown, posted = api_of(load(editor(name))), load(api(name))
    switches = [
        [node["inputs"] for node in graph.values() if node["class_type"] == BATCHER]
        for graph in (shown, posted)
    ]
    for tried, whole in zip(*switches, strict=True):
        assert tried["try_one_of_each"] is True
        assert whole["try_one_of_each"] is False
        tried["try_one_of_each"] = False
    assert len(switches[0]) == (name in WITH_A_PLAN)
    assert shown == posted


@pytest.mark.parametrize("name", WITH_A_PLAN)
def test_the_client_makes_all_images_also_of_the_graph_in_the_browser(name):
    shown = api_of(load(editor(name)))
    for each in (Workflow(shown), load_workflow(api(name))):
        (batcher,) = [
            node for node in each.for_batch(2, folder="f").values() if node["class_type"] == BATCHER
        ]
        assert batcher["inputs"]["try_one_of_each"] is False
        assert batcher["inputs"]["batch_index"] == 2
    assert Workflow(shown).content == load_workflow(api(name)).content  # nothing is made anew


@pytest.mark.parametrize("path", APPS, ids=lambda path: path.stem)
def test_an_app_is_a_form_for_a_workflow_of_the_same_name(path):
    app, workflow = load(path), load(FOLDER / path.name.replace(".app", ""))
    assert app["id"] != workflow["id"]
    form = app["extra"].pop("linearData")
    assert app["extra"].pop("linearMode") is True
    assert app | {"id": None} == workflow | {"id": None}
    nodes = {node["id"]: node for node in app["nodes"]}
    for node_id, name, *_ in form["inputs"]:
        assert name in [each["name"] for each in nodes[node_id]["inputs"] if "widget" in each]
    assert [nodes[each]["type"] for each in form["outputs"]] == ["SynthGridLabelledImageSaver"]


@pytest.mark.parametrize("name", NAMES)
def test_our_nodes_get_exactly_the_inputs_they_declare(name):
    for node in load(api(name)).values():
        if node["class_type"] in NODE_CLASS_MAPPINGS:
            declared = NODE_CLASS_MAPPINGS[node["class_type"]].INPUT_TYPES()
            known = {*declared["required"], *declared.get("optional", {})}
            assert set(declared["required"]) <= set(node["inputs"]) <= known


@pytest.mark.parametrize("name", NAMES)
def test_widgets_are_in_the_order_in_which_the_node_declares_them(name):
    for node in load(editor(name))["nodes"]:
        if node["type"] in NODE_CLASS_MAPPINGS:
            declared = NODE_CLASS_MAPPINGS[node["type"]].INPUT_TYPES()
            order = [*declared["required"], *declared.get("optional", {})]
            widgets = [entry["name"] for entry in node["inputs"] if "widget" in entry]
            assert widgets == [each for each in order if each in widgets]


@pytest.mark.parametrize("path", [*map(editor, WITH_A_PLAN), *APPS], ids=lambda path: path.stem)
def test_a_workflow_says_where_its_models_are_found(path):
    """ComfyUI offers them for download where they are missing."""
    folders = {"CheckpointLoaderSimple": "checkpoints", "LoraLoader": "loras"}
    loaders = [node for node in load(path)["nodes"] if node["type"] in folders]
    assert {node["type"] for node in loaders} >= {"CheckpointLoaderSimple"}
    for node in loaders:
        (model,) = node["properties"]["models"]
        assert model["name"] == node["widgets_values"][0]
        assert model["directory"] == folders[node["type"]]
        assert model["url"].startswith("https://")


@pytest.mark.parametrize("name", NAMES)
def test_no_nodes_overlap_and_every_group_has_a_title(name):
    saved = load(editor(name))
    boxes = {node["id"]: (*node["pos"], *node["size"]) for node in saved["nodes"]}
    for (first, a), (second, b) in combinations(boxes.items(), 2):
        apart = (
            a[0] + a[2] <= b[0]
            or b[0] + b[2] <= a[0]
            or a[1] + a[3] + 30 <= b[1]
            or b[1] + b[3] + 30 <= a[1]
        )
        assert apart, f"nodes {first} and {second} overlap"
    assert saved["groups"]
    assert all(group["title"] for group in saved["groups"])


@pytest.mark.parametrize("name", WITH_A_PLAN)
def test_below_a_sampler_is_room_for_the_preview_that_it_shows_while_it_runs(name):
    """The node grows by 200 pixels where ComfyUI shows previews."""
    nodes = load(editor(name))["nodes"]
    (sampler,) = [node for node in nodes if node["type"] == "SamplerCustomAdvanced"]
    bottom = sampler["pos"][1] + sampler["size"][1]
    below = [
        node["pos"][1]
        for node in nodes
        if node["pos"][0] == sampler["pos"][0] and node["pos"][1] > sampler["pos"][1]
    ]
    assert min(below) - 30 >= bottom + 200


@pytest.mark.parametrize("name", NAMES)
def test_both_ends_of_a_link_name_it(name):
    saved = load(editor(name))
    nodes = {node["id"]: node for node in saved["nodes"]}
    for link, source, source_slot, target, target_slot, kind in saved["links"]:
        assert link in nodes[source]["outputs"][source_slot]["links"]
        assert nodes[source]["outputs"][source_slot]["type"] == kind
        assert nodes[target]["inputs"][target_slot]["link"] == link


def test_the_sd15_workflow_is_for_the_checkpoint_and_size_that_sd15_was_trained_with():
    graph = load(api("sd15_class_prompts"))
    inputs = {node["class_type"]: node["inputs"] for node in graph.values()}
    assert inputs["CheckpointLoaderSimple"]["ckpt_name"] == "v1-5-pruned-emaonly.safetensors"
    assert (inputs["SynthGridBatchLatent"]["width"], inputs["SynthGridBatchLatent"]["height"]) == (
        512,
        512,
    )
