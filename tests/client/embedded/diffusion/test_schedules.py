"""Noise levels and their spacing, against numbers that a ComfyUI 0.8.0 gave."""

from __future__ import annotations

import pytest
import torch

from client.embedded.diffusion.schedules import SCHEDULES, NoiseLevels, full_sigmas, make_sigmas
from client.embedded.errors import EmbeddedError

STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
# comfy.samplers.calculate_sigmas(ModelSamplingDiscrete(), name, 4)
COMFYUI = {
    "normal": [14.61464, 2.918307, 0.932358, 0.02916716, 0.0],
    "simple": [14.61464, 4.081729, 1.612886, 0.6932049, 0.0],
    "sgm_uniform": [14.61464, 4.086081, 1.61558, 0.6951495, 0.0],
    "karras": [14.61464, 3.168605, 0.4469186, 0.02916718, 0.0],
    "exponential": [14.61464, 1.840024, 0.2316642, 0.02916716, 0.0],
    "ddim_uniform": [4.116696, 1.623692, 0.6983981, 0.04131441, 0.0],
}


@pytest.fixture
def levels() -> NoiseLevels:
    return NoiseLevels.from_config(STABLE_DIFFUSION)


def test_the_levels_are_those_of_stable_diffusion(levels):
    assert len(levels.sigmas) == 1000
    assert levels.smallest == pytest.approx(0.0291672, rel=1e-5)
    assert levels.largest == pytest.approx(14.614641, rel=1e-5)


@pytest.mark.parametrize("name", COMFYUI)
def test_a_schedule_equals_comfyuis(levels, name):
    assert full_sigmas(levels, name, 4).tolist() == pytest.approx(COMFYUI[name], rel=1e-5)


def test_every_schedule_is_held_against_comfyui():
    assert set(COMFYUI) == set(SCHEDULES)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 20, 1000])
def test_a_schedule_falls_to_zero_in_as_many_steps_as_asked(levels, name, steps):
    sigmas = make_sigmas(levels, name, steps, 1.0)
    assert len(sigmas) == steps + 1 - (
        name == "ddim_uniform" and steps == 1000
    )  # it has only 999 levels to give
    assert sigmas[-1] == 0.0
    assert bool((sigmas.diff() < 0).all())


def test_a_lower_denoise_keeps_the_end_of_a_longer_schedule(levels):
    assert torch.equal(
        make_sigmas(levels, "normal", 10, 0.5), full_sigmas(levels, "normal", 20)[-11:]
    )


def test_no_denoise_is_no_step(levels):
    assert make_sigmas(levels, "normal", 10, 0.0).shape == (0,)


@pytest.mark.parametrize("timestep", [0, 1, 500, 999])
def test_a_level_knows_its_timestep(levels, timestep):
    assert levels.timestep(float(levels.sigmas[timestep])) == timestep
    assert float(levels.sigma(torch.tensor(timestep))) == pytest.approx(
        float(levels.sigmas[timestep])
    )


def test_a_noise_schedule_of_another_kind_is_refused():
    with pytest.raises(EmbeddedError, match="squaredcos_cap_v2"):
        NoiseLevels.from_config({"beta_schedule": "squaredcos_cap_v2"})
    with pytest.raises(EmbeddedError, match="not supported"):
        NoiseLevels.from_config(STABLE_DIFFUSION | {"rescale_betas_zero_snr": True})
