"""Loading, finding by role, patching, and computing the plan.

Covers: client.workflow.graph, client.workflow.api_graph, client.workflow.changes.options,
client.workflow.roles.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import comfy_nodes
from client.errors import WorkflowError
from client.folder.differences import differences, plan_differences
from client.workflow.changes.options import Options, classes_text, patch
from client.workflow.graph import Workflow, load_workflow, parse_workflow
from comfy_nodes.errors import PlanError
from comfy_nodes.plan import ClassEntry, GenerationPlan, PromptTemplates

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)
lines = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="{}#"), max_size=9
).map(lambda text: f"a {{class}} x{text}x")


def planned_by_the_nodes(graph):
    """The plan that the real nodes make of a graph."""
    nodes = comfy_nodes.NODE_CLASS_MAPPINGS
    inputs = {node["class_type"]: node["inputs"] for node in graph.values()}
    (classes,) = nodes["SynthGridClassList"]().read(**inputs["SynthGridClassList"])
    (templates,) = nodes["SynthGridPromptTemplates"]().read(**inputs["SynthGridPromptTemplates"])
    values = inputs["SynthGridClassPromptBatcher"] | {"classes": classes, "templates": templates}
    return nodes["SynthGridClassPromptBatcher"]().select(**values)["result"][0][0].plan


@given(
    classes=st.lists(names, min_size=1, max_size=4, unique=True),
    templates=st.lists(lines, min_size=1, max_size=3),
    negative=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{"), max_size=9),
    per_class=st.integers(1, 50),
    seed=st.integers(0, 2**53 - 1),
)
def test_the_client_plans_what_the_nodes_plan(
    workflow, classes, templates, negative, per_class, seed
):
    options = Options(
        classes=tuple(ClassEntry(name) for name in classes),
        templates=tuple(templates),
        negative=negative,
        images_per_class=per_class,
        plan_seed=seed,
    )
    patched = patch(workflow, options)
    plan = patched.plan()
    assert plan == planned_by_the_nodes(json.loads(json.dumps(patched.for_batch(0, folder="a"))))
    assert [entry.name for entry in plan.classes] == classes
    assert plan.templates.templates == tuple(templates)


def test_options_go_to_the_nodes_that_carry_them(workflow):
    options = Options(
        checkpoint="x", width=64, height=72, steps=7, cfg=2.5, sampler="heun", scheduler="karras"
    )
    patched = patch(workflow, options)
    assert patched.settings() == {
        "checkpoint": "x", "width": 64, "height": 72, "steps": 7, "cfg": 2.5, "sampler": "heun",
        "scheduler": "karras",
    }  # fmt: skip
    assert workflow.settings()["width"] == 512


def test_no_option_changes_nothing(workflow):
    assert patch(workflow, Options()).graph == workflow.graph


def test_patching_leaves_the_original_alone(workflow):
    before = json.dumps(workflow.graph)
    patch(workflow, Options(steps=3)).for_batch(1, folder="b")
    assert json.dumps(workflow.graph) == before


@pytest.mark.parametrize(
    "values",
    [{"width": 63}, {"height": 0}, {"steps": 0}, {"images_per_class": 0}, {"batch_size": -1}],
)
def test_impossible_numbers_are_refused_at_once(values):
    with pytest.raises(WorkflowError, match=r"\d"):
        Options(**values)


@pytest.mark.parametrize("line", ["# a {class}", " a {class}", "a {class}\nb", ""])
def test_a_template_that_is_not_one_plain_line_is_refused(line):
    with pytest.raises(WorkflowError, match="template"):
        Options(templates=(line,))


def test_names_that_are_no_text_are_refused():
    for values in (
        {"classes": (ClassEntry("a\udcff"),)},
        {"negative": "\ud800"},
        {"templates": ("{class} \udc80",)},
    ):
        with pytest.raises(WorkflowError, match="not valid Unicode"):
            Options(**values)


def test_an_option_without_a_node_names_where_it_looked(graph):
    del graph["8"]
    graph["11"]["inputs"].pop("sampler")
    with pytest.raises(WorkflowError, match=r"--sampler; looked for KSamplerSelect.sampler_name"):
        patch(parse_workflow(graph), Options(sampler="heun"))


def test_an_option_with_two_nodes_lists_both(graph):
    graph["20"] = {
        "class_type": "KSamplerSelect",
        "inputs": {"sampler_name": "heun"},
        "_meta": {"title": "Other"},
    }
    with pytest.raises(WorkflowError, match="node 8 'Sampler', node 20 'Other'"):
        patch(parse_workflow(graph), Options(sampler="heun"))


def test_an_option_whose_input_is_linked_says_so(graph):
    graph["20"] = {"class_type": "PrimitiveInt", "inputs": {"value": 3}}
    graph["9"]["inputs"]["steps"] = ["20", 0]
    with pytest.raises(WorkflowError, match="takes 'steps' from node 20"):
        patch(parse_workflow(graph), Options(steps=3))


def test_a_workflow_without_our_nodes_is_refused(graph):
    del graph["4"]
    for node in graph.values():
        node["inputs"] = {
            name: value for name, value in node["inputs"].items() if value != ["4", 0]
        }
    with pytest.raises(WorkflowError, match="has no SynthGridClassPromptBatcher"):
        parse_workflow(graph).plan()


def test_classes_from_a_path_on_the_server_are_refused(graph):
    graph["2"]["inputs"]["path"] = "/data/classes.txt"
    with pytest.raises(WorkflowError, match="--classes"):
        parse_workflow(graph).plan()


def test_classes_given_to_the_client_win_over_a_path_on_the_server(graph):
    graph["2"]["inputs"]["path"] = "/data/classes.txt"
    patched = patch(parse_workflow(graph), Options(classes=(ClassEntry("ant"),)))
    assert (
        patched.plan().classes
        == planned_by_the_nodes(patched.graph).classes
        == (ClassEntry("ant"),)
    )


def test_a_plan_error_names_the_file(graph):
    graph["3"]["inputs"]["templates"] = "a {clas}"
    with pytest.raises(PlanError, match=r"w\.json: unknown placeholder '\{clas\}'"):
        parse_workflow(graph, source="w.json").plan()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ('{"nodes": [], "links": []}', "editor format; .*workflows/api/"),
        ("[]", "not a workflow in API format"),
        ("{}", "not a workflow in API format"),
        ('{"1": {"inputs": {}}}', "no class_type"),
        ('{"1": {"class_type": "A", "inputs": []}}', "inputs of node 1"),
        (
            '{"1": {"class_type": "A", "inputs": {"x": ["7", 0]}}}',
            "takes 'x' from node 7, which does not exist",
        ),
        ("[" * 100_000, "cannot read the workflow|not valid JSON"),
    ],
)
def test_a_file_that_is_no_workflow_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "w.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(WorkflowError, match=message) as caught:
        load_workflow(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(WorkflowError, match="does not exist"):
        load_workflow(tmp_path / "none.json")
    with pytest.raises(WorkflowError, match="cannot read"):
        load_workflow(tmp_path)


def test_the_body_of_a_post_is_a_workflow_too(graph):
    assert parse_workflow({"prompt": graph, "client_id": "c"}).graph == graph


def test_a_batch_goes_into_a_folder_of_its_own_and_names_only_what_is_missing(workflow):
    graph = workflow.for_batch(3, folder="synthgrid/f", only="25,27@1")
    inputs = {node["class_type"]: node["inputs"] for node in graph.values()}
    assert inputs["SynthGridClassPromptBatcher"]["batch_index"] == 3
    assert inputs["SynthGridClassPromptBatcher"]["only"] == "25,27@1"
    assert inputs["SynthGridLabelledImageSaver"]["folder"] == "synthgrid/f"


def test_a_resuming_workflow_is_not_resumed_on_the_server_since_the_client_knows_what_is_missing(
    workflow,
):
    batcher = workflow.only_id_of("SynthGridClassPromptBatcher")
    resuming = workflow.with_values({(batcher, "resume_folder"): "synthgrid"})
    assert resuming.for_batch(0, folder="a")[batcher]["inputs"]["resume_folder"] == ""
    inputs = {
        name: value
        for name, value in workflow.graph[batcher]["inputs"].items()
        if name != "resume_folder"
    }
    older = Workflow({**workflow.graph, batcher: {**workflow.graph[batcher], "inputs": inputs}})
    assert "resume_folder" not in older.for_batch(0, folder="a")[batcher]["inputs"]
    assert resuming.fingerprint == workflow.fingerprint


@pytest.mark.parametrize(
    ("name", "value", "same"), [("compress_level", 9, True), ("format", "WebP", False)]
)
def test_what_changes_pixels_is_in_the_fingerprint_and_how_hard_they_are_pressed_is_not(
    workflow, name, value, same
):
    changed = workflow.with_values(
        {(workflow.only_id_of("SynthGridLabelledImageSaver"), name): value}
    )
    assert (changed.fingerprint == workflow.fingerprint) is same


@pytest.mark.parametrize("option", [{"images_per_class": 99}, {"batch_size": 3}])
def test_how_many_images_is_not_in_the_fingerprint(workflow, option):
    assert patch(workflow, Options(**option)).fingerprint == workflow.fingerprint


@pytest.mark.parametrize(
    "option",
    [
        {"steps": 21}, {"cfg": 4.5}, {"sampler": "heun"}, {"scheduler": "karras"},
        {"checkpoint": "x"}, {"width": 64}, {"plan_seed": 1}, {"negative": "x"},
        {"templates": ("{class}",)}, {"classes": (ClassEntry("ant"),)},
    ],
)  # fmt: skip
def test_whatever_shows_in_the_images_is_in_the_fingerprint(workflow, option):
    assert patch(workflow, Options(**option)).fingerprint != workflow.fingerprint


def test_titles_number_spelling_and_class_spelling_do_not_change_the_fingerprint(workflow, graph):
    for node in graph.values():
        node.pop("_meta")
    graph["9"]["inputs"]["denoise"] = 1
    graph["13"]["inputs"]["folder"] = "elsewhere"
    graph["2"]["inputs"]["classes"] = classes_text(workflow.plan().classes)
    assert parse_workflow(graph).fingerprint == workflow.fingerprint


def test_differences_are_told_in_words(workflow):
    other = patch(workflow, Options(steps=30, sampler="heun"))
    assert differences(workflow.content, other.content) == [
        "sampler_name euler -> heun",
        "steps 20 -> 30",
    ]
    more = Workflow({**workflow.graph, "20": {"class_type": "LoraLoader", "inputs": {}}})
    assert differences(workflow.content, more.content) == ["node 20 (LoraLoader) is new"]
    assert differences(more.content, workflow.content) == ["node 20 (LoraLoader) is gone"]


def test_wildcards_from_the_clients_files_are_the_nodes_too(workflow, tmp_path):
    (tmp_path / "color.txt").write_text("2::red\ndark {blue|__shade__}")
    (tmp_path / "shade.txt").write_text("grey")
    (tmp_path / "unused.txt").write_text("unused")
    options = Options(
        classes=(ClassEntry("bat"),),
        templates=("a {small|large} __color__ {class}",),
        wildcards=tmp_path,
    )
    patched = patch(workflow, options)
    plan = patched.plan()
    assert plan == planned_by_the_nodes(json.loads(json.dumps(patched.for_batch(0, folder="a"))))
    assert [name for name, _ in plan.templates.wildcards] == ["color", "shade"]
    assert len({row.prompt for row in plan}) == 6
    with pytest.raises(PlanError, match=r"no wildcard __size__: .*size\.txt"):
        patch(workflow, Options(templates=("a __size__ {class}",), wildcards=tmp_path))
    unknown = patch(workflow, Options(templates=("a __size__ {class}",)))
    with pytest.raises(WorkflowError, match="--wildcards FOLDER"):
        unknown.plan()


def test_plan_differences_are_told_in_words():
    entries = (ClassEntry("ant"), ClassEntry("bat"))
    plan = GenerationPlan(entries)
    other = GenerationPlan(
        (ClassEntry("ant"), ClassEntry("cat")), PromptTemplates(("the {class}",)), seed=4
    )
    told = plan_differences(plan.to_dict(), other.to_dict())
    assert told[0] == "2 -> 2 classes, without bat and with cat added"
    assert "seed 0 -> 4" in told
    assert (
        plan_differences(plan.to_dict(), GenerationPlan(entries, images_per_class=99).to_dict())
        == []
    )
    assert plan_differences(plan.to_dict(), GenerationPlan(entries[::-1]).to_dict()) == [
        "the order of the classes"
    ]
    drawn = GenerationPlan(entries, PromptTemplates(("{a|the} {class}",)))
    assert "syntax nothing -> alternatives and wildcards" in plan_differences(
        plan.to_dict(), drawn.to_dict()
    )
