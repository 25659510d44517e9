"""What a graph says about its images: their settings, and why one cannot be made again alone."""

import json
from pathlib import Path

import pytest

from comfy_nodes.graph import generator_settings, reproducibility_warnings

GRAPH = json.loads(
    (Path(__file__).resolve().parents[3] / "workflows/api/sd15_class_prompts.json").read_text(
        "utf-8"
    )
)
IDS = {node["class_type"]: node_id for node_id, node in GRAPH.items()}
SAVER = IDS["SynthGridLabelledImageSaver"]


def with_sampler(**node):
    return GRAPH | {IDS["KSamplerSelect"]: node}


def test_the_saved_workflow_is_accepted():
    assert reproducibility_warnings(GRAPH, SAVER) == []


@pytest.mark.parametrize(
    "node",
    [
        {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler_ancestral"}},
        {"class_type": "SamplerEulerAncestral", "inputs": {"eta": 1.0}},
        {"class_type": "SamplerDPMPP_2M_SDE", "inputs": {}},
    ],
)
def test_the_sampler_before_the_saver_is_named(node):
    (warning,) = reproducibility_warnings(with_sampler(**node), SAVER)
    assert "draws noise for the whole batch in every step" in warning


def test_a_sampler_elsewhere_in_the_graph_is_ignored():
    other = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "lcm"}}
    assert reproducibility_warnings(GRAPH | {"99": other}, SAVER) == []


def test_a_stock_node_with_one_seed_for_the_batch_is_reported():
    graph = GRAPH | {
        IDS["SynthGridPerImageNoise"]: {"class_type": "RandomNoise", "inputs": {"noise_seed": 1}}
    }
    (warning,) = reproducibility_warnings(graph, SAVER)
    assert warning.startswith("RandomNoise draws the noise of the whole batch from one seed")


def test_the_settings_of_the_saved_workflow_are_those_typed_in():
    settings = generator_settings(GRAPH)
    assert set(settings) == {"checkpoint", "sampler", "scheduler", "steps", "denoise", "cfg"}
    assert settings["steps"] == GRAPH[IDS["BasicScheduler"]]["inputs"]["steps"]


def test_a_setting_that_two_nodes_give_differently_is_left_out():
    graph = {
        "1": {"class_type": "BasicScheduler", "inputs": {"steps": 20, "scheduler": "normal"}},
        "2": {"class_type": "BasicScheduler", "inputs": {"steps": 30, "scheduler": "normal"}},
        "3": {"class_type": "CFGGuider", "inputs": {"cfg": ["4", 0]}},
    }
    assert generator_settings(graph) == {"scheduler": "normal"}


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def two_passes():
    """The saved workflow with a second pass over the enlarged latents, and a saver behind it."""
    first = GRAPH[IDS["SamplerCustomAdvanced"]]["inputs"]
    return GRAPH | {
        "larger": node("LatentUpscaleBy", samples=[IDS["SamplerCustomAdvanced"], 0], scale_by=2.0),
        "sigmas": node("BasicScheduler", model=["1", 0], scheduler="karras", steps=8, denoise=0.5),
        "second": node(
            "SamplerCustomAdvanced",
            **first | {"latent_image": ["larger", 0], "sigmas": ["sigmas", 0]},
        ),
        IDS["VAEDecode"]: node("VAEDecode", samples=["second", 0], vae=["1", 2]),
    }


def test_a_second_pass_has_settings_of_its_own_and_the_first_ones_stay():
    settings = generator_settings(two_passes(), SAVER)
    assert settings == generator_settings(GRAPH, SAVER) | {
        "hires_denoise": 0.5,
        "hires_steps": 8,
        "hires_scheduler": "karras",
        "hires_sampler": "euler",
        "hires_cfg": settings["cfg"],
    }


def test_of_three_passes_what_the_later_ones_do_not_share_is_left_out():
    graph = two_passes()
    graph |= {
        "third": node("KSampler", model=["1", 0], latent_image=["second", 0], steps=8, denoise=0.2),
        IDS["VAEDecode"]: node("VAEDecode", samples=["third", 0], vae=["1", 2]),
    }
    settings = generator_settings(graph, SAVER)
    assert "hires_denoise" not in settings
    assert (settings["steps"], settings["denoise"], settings["hires_steps"]) == (20, 1.0, 8)


def test_two_samplers_side_by_side_are_not_two_passes():
    graph = two_passes()
    graph["second"] = node(
        "SamplerCustomAdvanced",
        **graph["second"]["inputs"] | {"latent_image": [IDS["SynthGridBatchLatent"], 0]},
    )
    graph[IDS["VAEDecode"]]["inputs"]["mixed"] = [IDS["SamplerCustomAdvanced"], 0]
    settings = generator_settings(graph, SAVER)
    assert "steps" not in settings
    assert not any(name.startswith("hires") for name in settings)


def test_only_nodes_before_the_saver_count_if_it_is_known():
    other = node("CheckpointLoaderSimple", ckpt_name="other.ckpt")
    graph = GRAPH | {"99": other}
    assert "checkpoint" not in generator_settings(graph)
    assert generator_settings(graph, SAVER) == generator_settings(GRAPH, SAVER)


def test_a_lora_is_named_with_its_strengths_and_two_that_differ_are_not():
    first = node("LoraLoader", lora_name="ink.st", strength_model=0.8, strength_clip=0.6)
    settings = {"lora": "ink.st", "lora_strength": 0.8, "lora_strength_clip": 0.6}
    assert generator_settings({"1": first}) == settings
    second = node("LoraLoaderModelOnly", lora_name="ink.st", strength_model=0.5)
    assert generator_settings({"1": second}) == {"lora": "ink.st", "lora_strength": 0.5}
    both = {"lora": "ink.st", "lora_strength_clip": 0.6}
    assert generator_settings({"1": first, "2": second}) == both


def test_clip_skip_is_counted_from_the_end_as_in_a1111():
    graph = {"1": node("CLIPSetLastLayer", clip=["2", 0], stop_at_clip_layer=-2)}
    assert generator_settings(graph) == {"clip_skip": 2}
