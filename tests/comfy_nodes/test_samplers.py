"""Samplers that keep a row from being reproduced alone are named; the others pass."""

import pytest

from comfy_nodes.samplers import sampler_warning


@pytest.mark.parametrize(
    "name", ["euler", "heun", "heunpp2", "dpmpp_2m", "ddim", "lms", "dpm_fast", "euler_cfg_pp"]
)
def test_a_sampler_without_step_noise_is_accepted(name):
    assert sampler_warning(name) is None


STEP_NOISE = [
    "euler_ancestral",
    "dpm_2_ancestral",
    "dpmpp_2m_sde_gpu",
    "er_sde",
    "lcm",
    "ddpm",
    "seeds_2",
    "sa_solver_pece",
    "dpm_adaptive",
]


@pytest.mark.parametrize("name", STEP_NOISE)
def test_a_sampler_with_step_noise_is_named(name):
    assert sampler_warning(name).startswith(f"sampler {name} draws noise for the whole batch")


@pytest.mark.parametrize("name", ["dpm_2", "uni_pc", "uni_pc_bh2"])
def test_a_sampler_with_other_sigmas_is_named(name):
    assert sampler_warning(name).startswith(f"sampler {name} gets other sigmas")
