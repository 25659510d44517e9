"""What a graph says of its images: which sampler, named, keeps them from being made again alone."""

import json
from pathlib import Path

import pytest

from comfy_nodes.graph import reproducibility_warnings
from comfy_nodes.samplers import sampler_warning

GRAPH = json.loads(
    (Path(__file__).resolve().parents[2] / "workflows/api/sd15_class_prompts.json").read_text(
        "utf-8"
    )
)
IDS = {node["class_type"]: node_id for node_id, node in GRAPH.items()}
SAVER = IDS["SynthGridLabelledImageSaver"]


def with_sampler(**node):
    return GRAPH | {IDS["KSamplerSelect"]: node}


@pytest.mark.parametrize(
    "name", ["euler", "heun", "heunpp2", "dpmpp_2m", "ddim", "lms", "dpm_fast", "euler_cfg_pp"]
)
def test_a_sampler_without_step_noise_needs_no_word(name):
    assert sampler_warning(name) is None


@pytest.mark.parametrize(
    "name", ["euler_ancestral", "dpm_2_ancestral", "dpmpp_2m_sde_gpu", "er_sde", "lcm", "ddpm", "seeds_2", "sa_solver_pece", "dpm_adaptive"]
)  # fmt: skip
def test_a_sampler_with_step_noise_is_named(name):
    assert sampler_warning(name).startswith(f"sampler {name} draws noise for the whole batch")


@pytest.mark.parametrize("name", ["dpm_2", "uni_pc", "uni_pc_bh2"])
def test_a_sampler_with_other_sigmas_is_named(name):
    assert sampler_warning(name).startswith(f"sampler {name} gets other sigmas")


def test_the_saved_workflow_needs_no_word():
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


def test_a_sampler_elsewhere_in_the_graph_is_nobodys_business():
    other = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "lcm"}}
    assert reproducibility_warnings(GRAPH | {"99": other}, SAVER) == []


def test_the_stock_samplers_one_seed_for_a_batch_is_told():
    graph = GRAPH | {
        IDS["SynthGridPerImageNoise"]: {"class_type": "RandomNoise", "inputs": {"noise_seed": 1}}
    }
    (warning,) = reproducibility_warnings(graph, SAVER)
    assert warning.startswith("RandomNoise draws one noise for the whole batch from one seed")
