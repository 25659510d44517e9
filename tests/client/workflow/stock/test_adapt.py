"""Stock workflows become SynthGrid's, or are refused in words.

Covers: client.workflow.stock.adapt, client.workflow.stock.parts.
"""

import contextlib
import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.errors import WorkflowError
from client.workflow.graph import parse_workflow
from client.workflow.preflight import validate
from client.workflow.stock.adapt import adapt, template_of
from comfy_nodes.plan import ClassEntry
from tests.client.workflow import stock_graphs
from tests.client.workflow.stock_graphs import default, node

VARIANTS = ("default", "with_lora", "with_controlnet", "hires", "base_and_refiner")
VARIANTS += ("custom_advanced",)


def adapted(graph, **options):
    return adapt(parse_workflow(copy.deepcopy(graph), source="mine.json"), **options)


def refusal(graph, **options):
    with pytest.raises(WorkflowError) as caught:
        adapted(graph, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def kinds(graph):
    return {node_id: each["class_type"] for node_id, each in graph.items()}


def only(graph, class_type):
    (node_id,) = [key for key, each in graph.items() if each["class_type"] == class_type]
    return node_id


def test_the_default_workflow_becomes_ours_under_its_old_node_ids():
    before = default()
    workflow = adapted(before, class_word="cat").workflow
    graph = workflow.graph
    assert {key: kinds(graph)[key] for key in ("3", "5", "6", "9")} == {
        "3": "SamplerCustomAdvanced",
        "5": "SynthGridBatchLatent",
        "6": "SynthGridEncodeClassPrompts",
        "9": "SynthGridLabelledImageSaver",
    }
    assert "7" not in graph  # one node encodes both prompts
    assert (graph["4"], graph["8"]) == (before["4"], before["8"])
    guider = graph[graph["3"]["inputs"]["guider"][0]]["inputs"]
    assert guider == {"model": ["4", 0], "positive": ["6", 0], "negative": ["6", 1], "cfg": 4.0}
    sigmas = graph[graph["3"]["inputs"]["sigmas"][0]]["inputs"]
    assert sigmas == {"model": ["4", 0], "scheduler": "normal", "steps": 3, "denoise": 1.0}
    batcher = [only(graph, "SynthGridClassPromptBatcher"), 0]
    taking = ["5", "6", "9", graph["3"]["inputs"]["noise"][0]]
    assert [graph[each]["inputs"]["batch"] for each in taking] == [batcher] * 4
    row = workflow.plan().row(0)
    assert (row.label, row.prompt) == ("cat", "a sunny photo of a cat, (sharp:1.2) eyes")
    assert row.negative_prompt == stock_graphs.NEGATIVE


@pytest.mark.parametrize("name", VARIANTS)
def test_every_link_of_the_result_leads_to_a_node_and_every_node_is_needed(name):
    graph = adapted(getattr(stock_graphs, name)()).workflow.graph
    linked = {
        value[0]
        for each in graph.values()
        for value in each["inputs"].values()
        if isinstance(value, list)
    }
    assert linked == set(graph) - {only(graph, "SynthGridLabelledImageSaver")}
    assert not {"KSampler", "KSamplerAdvanced", "RandomNoise", "CLIPTextEncode", "SaveImage"} & set(
        kinds(graph).values()
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_one_line_says_what_happened_to_each_changed_node(name):
    before = getattr(stock_graphs, name)()
    found = adapted(before)
    after = found.workflow.graph
    changed = {key for key in {*before, *after} if kinds(before).get(key) != kinds(after).get(key)}
    assert {each.node for each in found.changes} >= changed
    assert all(each.text.startswith(f"node {each.node}") for each in found.changes)
    assert not any("\n" in each.text for each in found.changes)


def test_adapting_leaves_the_original_alone():
    workflow = parse_workflow(default())
    before = json.dumps(workflow.graph)
    adapt(workflow)
    assert json.dumps(workflow.graph) == before


def test_a_lora_and_clip_skip_stay_between_checkpoint_and_prompts():
    before = stock_graphs.with_lora()
    graph = adapted(before).workflow.graph
    assert (graph["10"], graph["11"]) == (before["10"], before["11"])
    assert graph["6"]["inputs"]["clip"] == ["11", 0]
    assert graph[only(graph, "CFGGuider")]["inputs"]["model"] == ["10", 0]


def test_a_controlnet_gets_both_prompts_and_its_preview_goes():
    found = adapted(stock_graphs.with_controlnet())
    graph = found.workflow.graph
    control = graph["14"]["inputs"]
    assert (control["positive"], control["negative"]) == (["6", 0], ["6", 1])
    guider = graph[only(graph, "CFGGuider")]["inputs"]
    assert (guider["positive"], guider["negative"]) == (["14", 0], ["14", 1])
    assert "15" not in graph
    assert any("PreviewImage left out" in each.text for each in found.changes)


def test_both_passes_get_a_seed_per_image_and_only_the_last_one_is_saved():
    graph = adapted(stock_graphs.hires()).workflow.graph
    assert kinds(graph)["3"] == kinds(graph)["21"] == "SamplerCustomAdvanced"
    noise = only(graph, "SynthGridPerImageNoise")
    assert graph["3"]["inputs"]["noise"] == graph["21"]["inputs"]["noise"] == [noise, 0]
    assert graph["21"]["inputs"]["latent_image"] == ["20", 0]
    assert not {"8", "9"} & set(graph)
    assert graph["23"]["inputs"]["folder"] == "big/cats"
    steps = [graph[graph[each]["inputs"]["sigmas"][0]]["inputs"]["denoise"] for each in ("3", "21")]
    assert steps == [1.0, 0.5]
    only(graph, "KSamplerSelect")  # passes with equal settings share a node, so --sampler works
    only(graph, "CFGGuider")


def test_a_refiner_goes_on_with_its_own_clip_and_without_new_noise():
    graph = adapted(stock_graphs.base_and_refiner()).workflow.graph
    assert graph["6"]["inputs"]["clip"] == ["4", 1]
    assert graph["31"]["inputs"]["clip"] == ["30", 1]
    assert kinds(graph)[graph["33"]["inputs"]["noise"][0]] == "DisableNoise"
    first, last = (graph["3"]["inputs"]["sigmas"], graph["33"]["inputs"]["sigmas"])
    assert (graph[first[0]]["inputs"]["step"], first[1]) == (3, 0)
    assert (graph[last[0]]["inputs"]["step"], last[1]) == (3, 1)
    models = [
        graph[graph[each[0]]["inputs"]["sigmas"][0]]["inputs"]["model"] for each in (first, last)
    ]
    assert models == [["4", 0], ["30", 0]]
    guider = graph[graph["33"]["inputs"]["guider"][0]]["inputs"]
    assert (guider["positive"], guider["negative"]) == (["31", 0], ["31", 1])


def test_a_sampler_in_parts_only_changes_its_noise():
    before = stock_graphs.custom_advanced()
    graph = adapted(before).workflow.graph
    assert "40" not in graph
    assert kinds(graph)[graph["3"]["inputs"]["noise"][0]] == "SynthGridPerImageNoise"
    assert (graph["42"], graph["43"]) == (before["42"], before["43"])


def test_a_text_from_another_node_is_taken_from_there():
    graph = default()
    graph["6"]["inputs"]["text"] = ["50", 0]
    graph["50"] = node("PrimitiveStringMultiline", value="a red {class}")
    workflow = adapted(graph).workflow
    assert workflow.plan().templates.templates == ("a red {class}",)
    assert "50" not in workflow.graph


def test_counts_and_classes_are_those_given():
    graph = default()
    graph["5"]["inputs"]["batch_size"] = 4
    classes = (ClassEntry("a: b"), ClassEntry("c", "a bird"))
    workflow = adapted(graph, classes=classes, images_per_class=3).workflow
    assert workflow.plan().classes == classes
    assert (len(workflow.plan()), workflow.batch_size) == (6, 4)
    assert adapted(graph, batch_size=2).workflow.batch_size == 2
    assert adapted(default()).workflow.batch_size == 8


@pytest.mark.parametrize(
    ("prompt", "word", "template"),
    [
        ("a cat, Cat eyes, catlike", "cat", "a {class}, {class} eyes, catlike"),
        ("an alley cat", "alley cat", "an {class}"),
        ("a {class}", None, "a {class}"),
        ("scenery,\n\nbottle", None, "{class}, scenery, bottle"),
        ("", None, "a photo of a {class}"),
        ("a c++ book", "c++", "a {class} book"),
    ],
)
def test_the_class_gets_into_the_prompt(prompt, word, template):
    assert template_of(prompt, word)[0] == template


@pytest.mark.parametrize("word", ["dog", "", " ", "at"])
def test_a_word_that_the_prompt_lacks_is_refused(word):
    assert f"does not contain the word '{word}'" in refusal(default(), class_word=word)


def changed(node_id, **inputs):
    graph = default()
    graph[node_id]["inputs"] |= inputs
    return graph


def with_nodes(graph=None, **nodes):
    return (graph or default()) | {key.strip("n"): each for key, each in nodes.items()}


LOADED = node("LoadImage", image="a.png")
ENCODED = node("VAEEncode", pixels=["50", 0], vae=["4", 2])
FLUX = node("CheckpointLoaderSimple", ckpt_name="flux1-dev-fp8.safetensors")
CHROMA = node("CheckpointLoaderSimple", ckpt_name="chromaMix_v2.safetensors")
LARGE = node("EmptyLatentImage", width=1024, height=1024, batch_size=1)
CFG = node("PrimitiveFloat", value=1.0)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ({"1": node("SynthGridClassList", classes="a")}, "has SynthGrid's nodes already"),
        ({"4": default()["4"]}, "has no SaveImage node"),
        ({"9": node("SaveImage"), "4": default()["4"]}, "no sampler leads to"),
        (with_nodes(n4=node("UNETLoader")), "(UNETLoader) belongs to another kind of model"),
        (with_nodes(n5=node("EmptySD3LatentImage")), "belongs to another kind of model"),
        (with_nodes(changed("3", cfg=1.0), n4=FLUX), "another kind of model by its name"),
        (with_nodes(changed("3", cfg=["50", 0]), n4=FLUX, n50=CFG), "kind of model by its name"),
        (with_nodes(changed("5", width=1024, height=1024), n4=CHROMA), "kind of model by its name"),
        (with_nodes(n4=node("SomeLoader")), "has no checkpoint loader"),
        (with_nodes(n50=LOADED, n5=ENCODED), "starts from one fixed image, node 50"),
        (with_nodes(n5=node("OddLatent")), "(OddLatent); expected EmptyLatentImage"),
        (
            with_nodes(
                n50=stock_graphs.ksampler("4", "5"),
                n3=stock_graphs.ksampler("4", "51"),
                n51=node("LatentComposite", samples_to=["50", 0], samples_from=["52", 0]),
                n52=stock_graphs.ksampler("4", "5"),
            ),
            "node 50 and node 52 are two samplers of equal standing",
        ),
        (
            with_nodes(
                n50=stock_graphs.ksampler("4", "5"),
                n51=node("VAEDecode", samples=["50", 0], vae=["4", 2]),
                n52=node("SaveImage", images=["51", 0]),
            ),
            "none of them is a step towards another",
        ),
        (
            with_nodes(n50=stock_graphs.ksampler("4", "3"), n52=node("SaveVideo", video=["50", 0])),
            "samples for node 52",
        ),
        (
            with_nodes(changed("8", samples=["50", 0]), n50=node("RepeatLatentBatch", a=["3", 0])),
            "repeats, drops or joins images",
        ),
        (
            with_nodes(
                changed("3", positive=["50", 0]),
                n50=node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["7", 0]),
            ),
            "(ConditioningCombine) joins several prompts",
        ),
        (
            with_nodes(changed("3", positive=["50", 0]), n50=node("CLIPTextEncodeSDXL")),
            "(CLIPTextEncodeSDXL) is no text encoder that adapt knows",
        ),
        (
            with_nodes(changed("3", positive=["50", 0]), n50=node("Loop", conditioning=["50", 0])),
            "links form a cycle through node 50",
        ),
        (
            with_nodes(
                changed("6", text=["50", 0]), n50=node("Describe", image=["51", 0]), n51=LOADED
            ),
            "takes its text from node 50, which makes it when it runs",
        ),
        (changed("6", text="a {red|blue} bottle of {it}"), "is no template"),
        (changed("6", text="#1 of a {class}"), "is no template"),
        (
            with_nodes(
                stock_graphs.hires(),
                n21=stock_graphs.ksampler("4", "20", positive="50", denoise=0.5),
                n50=node("CLIPTextEncode", text="another", clip=["4", 1]),
            ),
            "node 6 'Positive' and node 50 are different positive prompts",
        ),
        (
            with_nodes(stock_graphs.custom_advanced(), n41=node("DualCFGGuider", model=["4", 0])),
            "needs a CFGGuider",
        ),
    ],
)
def test_what_is_no_stock_workflow_is_refused_in_one_line(graph, message):
    assert message in refusal(graph)


@pytest.mark.parametrize(
    "graph",
    [
        with_nodes(changed("5", width=1024, height=1024), n4=FLUX),  # guidance of 4
        with_nodes(n4=CHROMA),  # and a size that SD1.5 was trained for
        with_nodes(stock_graphs.with_lora(), n4=CHROMA, n5=LARGE),  # with clip skip
    ],
)
def test_a_mix_that_is_named_like_another_kind_of_model_is_adapted(graph):
    assert adapted(graph).workflow.graph["4"] == graph["4"]


def test_a_first_pass_that_must_be_rid_of_its_noise_at_once_is_refused():
    graph = stock_graphs.base_and_refiner()
    graph["3"]["inputs"]["return_with_leftover_noise"] = "disable"
    assert "ends at step 3 of 5" in refusal(graph)


def test_no_link_to_a_node_that_went_is_left_even_if_it_names_an_output_that_never_was():
    graph = adapted(changed("8", tile=["7", 1])).workflow.graph
    assert graph["8"]["inputs"]["tile"] == ["6", 1]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_workflow_is_adapted_or_refused(data):
    """Nodes lost, links moved, values replaced."""
    graph = copy.deepcopy(getattr(stock_graphs, data.draw(st.sampled_from(VARIANTS)))())
    for _ in range(data.draw(st.integers(1, 3))):
        node_id = data.draw(st.sampled_from(sorted(graph)))
        inputs = graph[node_id]["inputs"]
        if inputs and data.draw(st.booleans()):
            value = st.none() | st.integers(-1, 9) | st.text(max_size=4) | st.lists(st.integers())
            link = st.tuples(st.sampled_from(sorted(graph)), st.integers(-1, 2)).map(list)
            inputs[data.draw(st.sampled_from(sorted(inputs)))] = data.draw(value | link)
        elif inputs:
            del inputs[data.draw(st.sampled_from(sorted(inputs)))]
    with contextlib.suppress(WorkflowError):
        adapted(graph).workflow.plan()


def test_the_result_passes_the_checks_before_a_run(object_info):
    graph = default()
    validate(adapted(graph, class_word="cat").workflow, object_info)
