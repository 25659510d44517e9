"""What the browser extension needs from a real ComfyUI: files, help pages and plan previews."""

import json

import pytest
import requests

from comfy_nodes import NODE_CLASS_MAPPINGS

ASKED = {
    "classes": {"classes": "badger\nbat", "path": ""},
    "templates": {"templates": "a {class}", "negative_prompt": "", "contexts": "", "styles": ""},
    "batcher": {"images_per_class": 3, "batch_size": 4, "plan_seed": 0, "batch_index": 1},
    "folder": "not there yet",
}


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_the_server_answers_about_a_plan_without_running_it(comfyui, prefix):
    answer = requests.post(
        f"{comfyui.url}{prefix}/synthgrid/preview", json=ASKED, timeout=30
    ).json()
    assert (answer["images"], answer["batches"], answer["done"]) == (6, 2, {"badger": 0, "bat": 0})
    assert [row["prompt"] for row in answer["rows"]] == ["a badger", "a bat"]


def test_the_server_says_which_batches_are_missing(comfyui):
    answer = requests.post(f"{comfyui.url}/api/synthgrid/missing", json=ASKED, timeout=30).json()
    assert (answer["missing"], answer["batches"], answer["folder"]) == (6, [0, 1], "not there yet")


def test_only_the_page_of_this_server_may_move_images(comfyui):
    for path in ("reject", "restore"):
        address = f"{comfyui.url}/api/synthgrid/{path}"
        asked = {"folder": "not there yet", "images": [{"file_name": "bat/x.png", "sha256": ""}]}
        answer = requests.post(address, json=asked, timeout=30)
        assert (answer.status_code, "give a labelled folder" in answer.text) == (200, True)
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://elsewhere.example"}):
            answer = requests.post(address, json=asked, headers=headers, timeout=30)
            assert answer.status_code == 403
        answer = requests.post(address, data=json.dumps(asked), timeout=30)  # as a form would
        assert answer.status_code == 403


def test_the_server_lists_the_images_of_a_plan(comfyui):
    answer = requests.post(f"{comfyui.url}/api/synthgrid/folder", json=ASKED, timeout=30).json()
    assert [(each["label"], each["made"]) for each in answer["classes"]] == [
        ("badger", 0),
        ("bat", 0),
    ]


def test_the_frontend_gets_the_translations(comfyui):
    found = requests.get(f"{comfyui.url}/i18n", timeout=30).json()
    for language in ("en", "zh"):
        assert set(NODE_CLASS_MAPPINGS) <= set(found[language]["nodeDefs"])


def test_the_frontend_gets_the_blueprint(comfyui):
    found = requests.get(f"{comfyui.url}/global_subgraphs", timeout=30).json()
    packs = {each["info"]["node_pack"]: key for key, each in found.items()}
    address = f"{comfyui.url}/global_subgraphs/{packs['custom_nodes.synthgrid']}"
    answer = requests.get(address, timeout=30).json()
    assert answer["name"] == "SynthGrid labelled images"
    (subgraph,) = json.loads(answer["data"])["definitions"]["subgraphs"]
    assert "SynthGridClassPromptBatcher" in [node["type"] for node in subgraph["nodes"]]


@pytest.mark.parametrize(
    "file",
    [
        "synthgrid.js",
        "panel.js",
        "request.js",
        "walk.js",
        "missing.js",
        "compare.js",
        "sidebar.js",
        "gallery.js",
        *(f"docs/{n}.md" for n in NODE_CLASS_MAPPINGS),
    ],
)
def test_extension_and_help_are_where_the_frontend_looks(comfyui, file):
    assert requests.get(f"{comfyui.url}/extensions/synthgrid/{file}", timeout=30).status_code == 200
