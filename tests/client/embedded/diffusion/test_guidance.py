"""A whole sampling run on a model with random weights."""

from __future__ import annotations

import math

import pytest
import torch

from client.embedded.diffusion import checkpoints as loading
from client.embedded.diffusion.guidance import Guider, RandomNoise
from client.embedded.diffusion.samplers import SAMPLERS
from client.embedded.diffusion.schedules import make_sigmas
from client.embedded.errors import EmbeddedError
from client.embedded.nodes.sampling import KSampler
from comfy_nodes.nodes.sampling import RowNoise, stack_conditionings

PROMPTS = ["a dog", "a cat that is much too long for one chunk", "", "an owl"]
SEEDS = [5, 6, 2**53 - 1, 8]


@pytest.fixture(scope="module")
def parts(checkpoints):
    torch.set_grad_enabled(False)
    yield loading.load(checkpoints / "random")
    torch.set_grad_enabled(True)


def encode(parts, text: str) -> list:
    clip = parts[1]
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def empty(batch: int) -> dict[str, torch.Tensor]:
    return {"samples": torch.zeros(batch, 4, 8, 8)}


def sample(guider: Guider, noise, latent, *, sampler="euler", steps=4, denoise=1.0, seed=0):
    sigmas = make_sigmas(guider.model.levels, "normal", steps, denoise)
    drawn = noise.generate_noise(latent)
    return guider.sample(
        drawn, latent["samples"], SAMPLERS[sampler], sigmas, seed=seed, on_step=lambda done: None
    )


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "ddim"])
def test_a_row_of_a_mixed_batch_equals_the_ksampler_alone(parts, sampler):
    model, negative = parts[0], encode(parts, "an ugly thing")
    rows = [encode(parts, prompt) for prompt in PROMPTS]
    guider = Guider(model, stack_conditionings(rows), negative, 4.0)
    batch, _ = sample(guider, RowNoise(SEEDS), empty(4), sampler=sampler)
    for row, (seed, positive) in enumerate(zip(SEEDS, rows, strict=True)):
        (alone,) = KSampler().sample(
            model, seed, 4, 4.0, sampler, "normal", positive, negative, empty(1)
        )
        difference = (alone["samples"][0] - batch[row]).abs().max() / alone["samples"].abs().max()
        assert float(difference) < 1e-4


def test_other_rows_really_differ(parts):
    rows = [encode(parts, prompt) for prompt in PROMPTS]
    guider = Guider(parts[0], stack_conditionings(rows), encode(parts, ""), 4.0)
    batch, _ = sample(guider, RowNoise([3] * 4), empty(4))
    assert float((batch[0] - batch[1]).abs().max()) > 1e-4


def test_guidance_goes_from_the_negative_to_the_positive_and_beyond(parts):
    model, positive, negative = parts[0], encode(parts, "a dog"), encode(parts, "a cat")
    x = torch.randn(1, 4, 8, 8) * 5.0
    alone = {
        name: model.denoise(x, 5.0, model.context(side, 1))
        for name, side in [("+", positive), ("-", negative)]
    }
    guided = Guider(model, positive, negative, 3.0)._denoiser(1)(x, 5.0)
    assert torch.allclose(guided, alone["-"] + 3.0 * (alone["+"] - alone["-"]), atol=1e-4)


def test_guidance_of_1_ignores_the_negative_prompt(parts):
    results = [
        sample(
            Guider(parts[0], encode(parts, "a dog"), encode(parts, negative), 1.0),
            RandomNoise(1),
            empty(1),
        )[0]
        for negative in ("", "a cat")
    ]
    assert torch.equal(*results)


def test_a_shorter_conditioning_is_repeated_over_the_batch(parts):
    guider = Guider(parts[0], encode(parts, "a dog"), encode(parts, ""), 2.0)
    batch, _ = sample(guider, RowNoise([4, 4, 4]), empty(3))
    assert float((batch[0] - batch[2]).abs().max() / batch.abs().max()) < 1e-4


def test_no_step_gives_the_latent_back(parts):
    guider = Guider(parts[0], encode(parts, ""), encode(parts, ""), 2.0)
    latent = {"samples": torch.randn(1, 4, 8, 8)}
    assert torch.equal(sample(guider, RandomNoise(1), latent, denoise=0.0)[0], latent["samples"])


def test_a_latent_outside_is_unscaled(parts):
    """Half the noise leaves a latent near itself; scaled twice or never, it would be far off."""
    latent = {"samples": torch.randn(1, 4, 8, 8) * 100.0}
    guider = Guider(parts[0], encode(parts, ""), encode(parts, ""), 1.0)
    result, _ = sample(guider, RandomNoise(1), latent, denoise=0.1, steps=2)
    assert float((result - latent["samples"]).std()) < 10.0


def test_the_second_output_is_the_clean_estimate(parts):
    guider = Guider(parts[0], encode(parts, "a dog"), encode(parts, ""), 2.0)
    result, denoised = sample(guider, RandomNoise(1), empty(1))
    assert torch.allclose(
        result, denoised, atol=1e-4
    )  # the last Euler step goes to sigma 0: all the way


def test_sampling_starts_with_the_variance_of_training(parts):
    seen = []

    def spy(denoise, x, sigmas, **_):
        seen.append((x, sigmas[0]))
        return x

    guider = Guider(parts[0], encode(parts, ""), encode(parts, ""), 1.0)
    noise = RandomNoise(1).generate_noise(empty(1))
    sigmas = make_sigmas(parts[0].levels, "normal", 4, 1.0)
    guider.sample(noise, empty(1)["samples"], spy, sigmas, seed=0, on_step=lambda done: None)
    guider.sample(noise, empty(1)["samples"], spy, sigmas[1:], seed=0, on_step=lambda done: None)
    assert torch.allclose(seen[0][0], noise * math.sqrt(1.0 + seen[0][1] ** 2))
    assert torch.allclose(seen[1][0], noise * seen[1][1])


def test_noise_is_the_stock_noise_of_its_seed():
    drawn = RandomNoise(7).generate_noise(empty(2))
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.randn(2, 4, 8, 8))


def test_noise_of_a_row_of_a_larger_batch_is_found_by_its_number():
    whole = RandomNoise(7).generate_noise(empty(1) | {"batch_index": [0, 1, 2]})
    assert torch.equal(RandomNoise(7).generate_noise(empty(1) | {"batch_index": [2]}), whole[2:])


def test_a_conditioning_of_another_width_is_named(parts):
    with pytest.raises(EmbeddedError, match="5 wide but the model takes 16"):
        parts[0].context([[torch.zeros(1, 12, 5), {}]], 1)


def test_a_latent_of_another_shape_is_named(parts):
    with pytest.raises(EmbeddedError, match=r"\(1, 16, 8, 8\)"):
        parts[0].check_latent(torch.zeros(1, 16, 8, 8))
