"""A1111's `parameters` text has this image's own prompt, seed and settings."""

from dataclasses import replace

import pytest

from comfy_nodes.labelset.parameters import parameters_text
from tests.comfy_nodes.labelset.helpers import make_record

RECORD = replace(make_record(), prompt="a bat", seed=2**53 - 1)


def test_prompt_negative_prompt_seed_and_settings_stand_where_a1111_has_them():
    settings = {
        "steps": 20,
        "cfg": 4.0,
        "sampler": "euler",
        "checkpoint": "sd/v1-5.safetensors",
        "width": 32,
        "height": 32,
    }
    record = replace(RECORD, negative_prompt="blurry", settings=settings)
    assert parameters_text(record) == (
        "a bat\n"
        "Negative prompt: blurry\n"
        "Steps: 20, Sampler: euler, CFG scale: 4.0, Seed: 9007199254740991, Size: 32x32, "
        "Model: v1-5, Version: SynthGrid"
    )


def test_what_is_not_known_is_left_out():
    record = replace(RECORD, settings={"denoise": 0.6, "scheduler": "karras"})
    assert parameters_text(record) == (
        "a bat\n"
        "Schedule type: karras, Seed: 9007199254740991, Denoising strength: 0.6, "
        "Version: SynthGrid"
    )


def test_a_denoise_of_one_is_left_out_because_it_is_not_img2img():
    assert "Denoising" not in parameters_text(replace(RECORD, settings={"denoise": 1.0}))


@pytest.mark.parametrize(
    ("checkpoint", "model"),
    [("a\\b\\model.ckpt", "model"), ("v1.5-pruned.sft", "v1.5-pruned"), ("model", "model")],
)
def test_the_model_is_the_checkpoints_name_without_folder_and_ending(checkpoint, model):
    text = parameters_text(replace(RECORD, settings={"checkpoint": checkpoint}))
    assert f"Model: {model}, " in text
