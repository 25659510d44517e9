"""Every image of a mixed batch is what the stock KSampler makes alone from its prompt and seed."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sd15_checkpoint import NAME

from client.workflow.graph import parse_workflow

STEPS, CFG = 5, 4.0
GRAPH = json.loads(
    (Path(__file__).resolve().parents[2] / "workflows/api/sd15_class_prompts.json").read_text()
)
STYLE = "an oil painting"
LONG = "a very long prompt of a {class} " + "with many more words " * 30
TEMPLATES = f"a photo of a {{class}}\n{LONG}"


def batch_graph(sampler, *, batch_size, batch_index=0, templates=TEMPLATES, checkpoint=NAME):
    """Our workflow up to the latents, on the test checkpoint."""
    graph = copy.deepcopy(GRAPH)
    ids = {node["class_type"]: node_id for node_id, node in graph.items()}
    graph[ids["CheckpointLoaderSimple"]]["inputs"]["ckpt_name"] = checkpoint
    graph[ids["SynthGridBatchLatent"]]["inputs"] |= {"width": 64, "height": 64}
    graph[ids["SynthGridPromptTemplates"]]["inputs"]["templates"] = templates
    graph[ids["SynthGridClassPromptBatcher"]]["inputs"] |= {
        "batch_size": batch_size,
        "batch_index": batch_index,
    }
    graph[ids["BasicScheduler"]]["inputs"]["steps"] = STEPS
    graph[ids["CFGGuider"]]["inputs"]["cfg"] = CFG
    graph[ids["KSamplerSelect"]]["inputs"]["sampler_name"] = sampler
    plan = parse_workflow(copy.deepcopy(graph)).plan()
    for class_type in ("VAEDecode", "SynthGridLabelledImageSaver"):
        del graph[ids[class_type]]
    return graph | {"save": save_latent(ids["SamplerCustomAdvanced"])}, plan


def stock_graph(sampler, prompt, seed, *, checkpoint=NAME):
    """ComfyUI's own default workflow for one image."""
    links = {
        "model": ["1", 0],
        "positive": ["2", 0],
        "negative": ["3", 0],
        "latent_image": ["4", 0],
    }
    inputs = links | {
        "seed": seed,
        "steps": STEPS,
        "cfg": CFG,
        "sampler_name": sampler,
        "scheduler": "normal",
        "denoise": 1.0,
    }
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": prompt, "clip": ["1", 1]}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["1", 1]}},
        "4": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1},
        },
        "5": {"class_type": "KSampler", "inputs": inputs},
        "save": save_latent("5"),
    }


def save_latent(source):
    return {
        "class_type": "SaveLatent",
        "inputs": {"samples": [source, 0], "filename_prefix": "latents/rows"},
    }


def latents(comfyui, graph):
    folder = comfyui.base / "output" / "latents"
    for path in folder.glob("*"):
        path.unlink()
    entry = comfyui.run(graph)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    return load_file(next(folder.glob("*.latent")))["latent_tensor"]


def relative_difference(left, right):
    return float((left - right).abs().max() / right.std())


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "ddim", "heun"])
def test_a_row_is_what_the_stock_sampler_makes_alone(comfyui, sampler):
    graph, plan = batch_graph(sampler, batch_size=8)
    rows = latents(comfyui, graph)
    specs = plan.batch(0, 8)
    assert len({len(spec.prompt) > 300 for spec in specs}) == 2, (
        "the batch must mix short and long prompts"
    )
    assert torch.isfinite(rows).all()
    for row, spec in enumerate(specs):
        alone = latents(comfyui, stock_graph(sampler, spec.prompt, spec.seed))
        assert relative_difference(rows[row], alone[0]) < 1e-4


def mixed_with(graph, kind, *, inside):
    """The batch's prompts averaged or joined with "oil painting", inside our node or after it."""
    encode, clip = next(
        (name, node["inputs"]["clip"])
        for name, node in graph.items()
        if node["class_type"] == "SynthGridEncodeClassPrompts"
    )
    graph["style"] = {"class_type": "CLIPTextEncode", "inputs": {"text": STYLE, "clip": clip}}
    if inside:
        given = (
            {"average_with": ["style", 0], "average_strength": 0.5}
            if kind == "ConditioningAverage"
            else {"concat_with": ["style", 0]}
        )
        graph[encode]["inputs"] |= given
        return graph
    users = [node for node in graph.values() if node["inputs"].get("positive") == [encode, 0]]
    graph["mix"] = {
        "class_type": kind,
        "inputs": {"conditioning_to": [encode, 0], "conditioning_from": ["style", 0]}
        | ({"conditioning_to_strength": 0.5} if kind == "ConditioningAverage" else {}),
    }
    for node in users:
        node["inputs"]["positive"] = ["mix", 0]
    return graph


def stock_mixed(kind, prompt, seed):
    """The stock graph of one image with the stock node."""
    graph = stock_graph("euler", prompt, seed)
    graph["6"] = {"class_type": "CLIPTextEncode", "inputs": {"text": STYLE, "clip": ["1", 1]}}
    graph["7"] = {
        "class_type": kind,
        "inputs": {"conditioning_to": ["2", 0], "conditioning_from": ["6", 0]}
        | ({"conditioning_to_strength": 0.5} if kind == "ConditioningAverage" else {}),
    }
    graph["5"]["inputs"]["positive"] = ["7", 0]
    return graph


@pytest.mark.parametrize("kind", ["ConditioningAverage", "ConditioningConcat"])
def test_rows_averaged_or_joined_in_our_node_are_what_the_stock_node_makes_alone(comfyui, kind):
    graph, plan = batch_graph("euler", batch_size=6)
    rows = latents(comfyui, mixed_with(graph, kind, inside=True))
    specs = plan.batch(0, 6)
    assert len({len(spec.prompt) > 300 for spec in specs}) == 2
    for row, spec in enumerate(specs):
        alone = latents(comfyui, stock_mixed(kind, spec.prompt, spec.seed))
        plain = latents(comfyui, stock_graph("euler", spec.prompt, spec.seed))
        assert relative_difference(rows[row], alone[0]) < 1e-4
        assert relative_difference(rows[row], plain[0]) > 1e-3, "the style must change the image"


@pytest.mark.parametrize(
    ("kind", "words"),
    [("ConditioningAverage", "average_with"), ("ConditioningConcat", "concat_with")],
)
def test_a_stock_node_after_ours_that_would_garble_rows_is_refused_in_words(comfyui, kind, words):
    entry = comfyui.run(mixed_with(batch_graph("euler", batch_size=6)[0], kind, inside=False))
    assert entry["status"]["status_str"] == "error"
    (failed,) = (text for name, text in entry["status"]["messages"] if name == "execution_error")
    assert failed["node_type"] == "SynthGridEncodeClassPrompts"
    assert words in failed["exception_message"]


def test_the_stock_average_is_right_where_prompts_have_one_length(comfyui):
    graph, plan = batch_graph("euler", batch_size=4, templates="a photo of a {class}")
    rows = latents(comfyui, mixed_with(graph, "ConditioningAverage", inside=False))
    for row, spec in enumerate(plan.batch(0, 4)):
        alone = latents(comfyui, stock_mixed("ConditioningAverage", spec.prompt, spec.seed))
        assert relative_difference(rows[row], alone[0]) < 1e-4


def test_the_test_checkpoint_listens_to_its_prompt(comfyui):
    """Otherwise the test above would also pass with the prompts mixed up."""
    first, second = (
        latents(comfyui, stock_graph("euler", prompt, 1))
        for prompt in ("a photo of a bat", "a bear")
    )
    assert relative_difference(first, second) > 1e-2


def test_rows_do_not_depend_on_the_batch_size(comfyui):
    whole = latents(comfyui, batch_graph("euler", batch_size=8)[0])
    halves = [
        latents(comfyui, batch_graph("euler", batch_size=4, batch_index=index)[0])
        for index in (0, 1)
    ]
    assert relative_difference(torch.cat(halves), whole) < 1e-4


def test_a_sampler_with_step_noise_breaks_this_and_the_client_says_so(comfyui):
    from client.workflow.preflight import warnings

    graph, plan = batch_graph("euler_ancestral", batch_size=8)
    rows, spec = latents(comfyui, graph), plan.row(1)
    assert (
        relative_difference(
            rows[1], latents(comfyui, stock_graph("euler_ancestral", spec.prompt, spec.seed))[0]
        )
        > 0.1
    )
    assert any("euler_ancestral" in warning for warning in warnings(parse_workflow(graph)))
