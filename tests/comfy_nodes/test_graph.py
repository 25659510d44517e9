"""What a graph says about its images: their settings, and why one cannot be made again alone."""

import json
from pathlib import Path

import pytest

from comfy_nodes.graph import generator_settings, reproducibility_warnings

GRAPH = json.loads(
    (Path(__file__).resolve().parents[2] / "workflows/api/sd15_class_prompts.json").read_text(
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
