"""Files of either format: with today's class names for a server, and planned without one."""

import copy
import json

import pytest

from client.errors import ServerUnreachable
from client.workflow.changes.options import Options, patch
from client.workflow.graph import load_workflow
from client.workflow.loading import load_for, load_for_plan
from comfy_nodes.plan import ClassEntry
from tests.client.workflow.convert.test_replacements import INFO, RENAMED
from tests.workflows.shipped import WITH_A_PLAN, WITH_CAPTIONS, api, editor

OLD = {
    "1": {"class_type": "Source", "inputs": {"width": 8}},
    "2": {
        "class_type": "ResizeByEdge",
        "inputs": {"images": ["1", 0], "longer_edge": 768, "gone": 1},
        "_meta": {"title": "Smaller"},
    },
    "3": {"class_type": "Average ", "inputs": {"image": ["2", 0], "strength": 0.5}},
}


def unreachable():
    raise ServerUnreachable("no answer")


def never():
    raise AssertionError("asked without need")


@pytest.fixture
def saved(tmp_path):
    def save(value):
        path = tmp_path / "w.json"
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return save


def test_a_file_in_api_format_gets_the_class_and_input_names_of_the_server(saved):
    workflow, notes = load_for(saved(OLD), INFO, lambda: RENAMED)
    assert workflow.graph == {
        "1": OLD["1"],
        "2": {
            "class_type": "Resize",
            "inputs": {"image": ["1", 0], "largest_size": 768, "method": "lanczos"},
            "_meta": {"title": "Smaller"},
        },
        "3": {"class_type": "Average", "inputs": OLD["3"]["inputs"]},
    }
    assert notes == ("node 2: 'ResizeByEdge' is called 'Resize' today",)


def test_a_file_in_api_format_stays_as_it_is_if_no_server_answers(saved):
    assert load_for(saved(OLD), unreachable, unreachable)[0].graph == OLD


def test_no_server_is_asked_about_classes_that_have_kept_their_names():
    path = api("sd15_class_prompts")
    assert load_for(path, never, never)[0].graph == load_workflow(path).graph


@pytest.mark.parametrize("name", WITH_A_PLAN)
def test_a_file_in_editor_format_has_the_plan_of_its_twin(name, own_nodes):
    ours = {key: each for key, each in own_nodes.items() if key.startswith("SynthGrid")}
    options = Options(classes=(ClassEntry("bat", "a mammal"), ClassEntry("bee", "an insect")))
    options = Options(images_per_prompt=3) if name in WITH_CAPTIONS else options
    converted = patch(load_for_plan(editor(name), ours), options)
    twin = patch(load_workflow(api(name)), options)
    assert list(converted.plan()) == list(twin.plan())
    assert converted.batch_size == twin.batch_size


def test_the_plan_needs_no_other_class_not_even_inside_a_subgraph(saved, own_nodes):
    value = json.loads(editor("sd15_class_prompts").read_text(encoding="utf-8"))
    changed = copy.deepcopy(value)
    inner = {"id": 1, "type": "NobodyHasThis", "widgets_values": ["{a|b}"]}
    changed["nodes"].append({"id": 90, "type": "the-subgraph"})
    changed["definitions"] = {"subgraphs": [{"id": "the-subgraph", "nodes": [inner]}]}
    ours = {key: each for key, each in own_nodes.items() if key.startswith("SynthGrid")}
    plans = [list(load_for_plan(saved(each), ours).plan()) for each in (value, changed)]
    assert plans[0] == plans[1]
