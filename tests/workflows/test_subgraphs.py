"""The blueprint, one node that holds a workflow, is the shipped workflow behind a checkpoint."""

import json
import re

from tests.workflows.shipped import FOLDER, editor

BLUEPRINT = FOLDER.parent / "subgraphs" / "SynthGrid labelled images.json"
OUTSIDE = ("CheckpointLoaderSimple", "MarkdownNote")
FROM_OUTSIDE, TO_OUTSIDE = -10, -20  # what a link has for a node where it enters or leaves


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def without_links(node):
    return json.loads(re.sub(r'"links?": (\[[^]]*\]|\d+|null)', '"link": 0', json.dumps(node)))


def test_it_holds_the_nodes_of_the_workflow_and_the_links_between_them():
    workflow, (subgraph,) = (
        load(editor("sd15_class_prompts")),
        load(BLUEPRINT)["definitions"]["subgraphs"],
    )
    inside = {node["id"]: node for node in workflow["nodes"] if node["type"] not in OUTSIDE}
    assert [without_links(node) for node in subgraph["nodes"]] == [
        without_links(node) for node in inside.values()
    ]
    between = [tuple(link) for link in workflow["links"] if {link[1], link[3]} <= set(inside)]
    ends = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [tuple(link[name] for name in ends) for link in subgraph["links"]]
    assert [link for link in links if link[1] > 0 and link[3] > 0] == between


def test_its_inputs_and_outputs_are_those_of_the_nodes_inside():
    blueprint = load(BLUEPRINT)
    (host,), (subgraph,) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
    assert host["type"] == subgraph["id"]
    for side in ("inputs", "outputs"):
        shown = [(each["name"], each["type"]) for each in host[side]]
        assert shown == [(each["name"], each["type"]) for each in subgraph[side]]
    nodes = {node["id"]: node for node in subgraph["nodes"]}
    entering = [link for link in subgraph["links"] if link["origin_id"] == FROM_OUTSIDE]
    for link in entering:
        target = nodes[link["target_id"]]["inputs"][link["target_slot"]]
        named = subgraph["inputs"][link["origin_slot"]]
        assert link["id"] in named["linkIds"]
        assert (target["link"], target["type"]) == (link["id"], named["type"])
        assert target["name"] == named["name"]
    leaving = [link for link in subgraph["links"] if link["target_id"] == TO_OUTSIDE]
    for link in leaving:
        source = nodes[link["origin_id"]]["outputs"][link["origin_slot"]]
        named = subgraph["outputs"][link["target_slot"]]
        assert link["id"] in named["linkIds"]
        assert link["id"] in source["links"]
        assert source["type"] == named["type"]
    assert len(leaving) == len(subgraph["outputs"])


def test_what_it_shows_are_widgets_of_nodes_inside():
    blueprint = load(BLUEPRINT)
    (host,), (subgraph,) = blueprint["nodes"], blueprint["definitions"]["subgraphs"]
    nodes = {node["id"]: node for node in subgraph["nodes"]}
    shown = host["properties"]["proxyWidgets"]
    for node_id, name in shown:
        widgets = [each["name"] for each in nodes[int(node_id)]["inputs"] if "widget" in each]
        assert name in widgets
    assert [name for _, name in shown][:-1] == [
        each["name"] for each in host["inputs"] if "widget" in each
    ]
    assert blueprint["extra"]["BlueprintDescription"]
