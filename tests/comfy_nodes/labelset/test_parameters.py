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


def test_a_value_that_could_be_taken_for_two_stands_in_quotation_marks():
    settings = {"sampler": "euler", "checkpoint": "v1-5, pruned: ö.ckpt"}
    text = parameters_text(replace(RECORD, settings=settings))
    assert text.endswith(
        'Sampler: euler, Seed: 9007199254740991, Model: "v1-5, pruned: ö", Version: SynthGrid'
    )


def test_hashes_clip_skip_and_the_second_pass_are_named_as_a1111_names_them():
    checkpoint, lora, other = ("1" * 63 + "a", "2" * 64, "3" * 64)
    settings = {
        "steps": 20,
        "denoise": 1.0,
        "checkpoint": "sd\\v1-5.safetensors",
        "clip_skip": 2,
        "hires_denoise": 0.5,
        "hires_steps": 8,
        "files": [
            f"checkpoints/other.ckpt sha256:{other}",
            f"checkpoints/sd/v1-5.safetensors sha256:{checkpoint}",
            f"loras/a/ink, wet.safetensors sha256:{lora} autov3:0123456789ab",
            f"loras/old.pt sha256:{other}",
            "no line of ours",
        ],
    }
    assert parameters_text(replace(RECORD, settings=settings)) == (
        "a bat\n"
        "Steps: 20, Seed: 9007199254740991, Model hash: 1111111111, Model: v1-5, "
        "Denoising strength: 0.5, Clip skip: 2, Hires steps: 8, "
        'Lora hashes: "ink wet: 0123456789ab, old: 333333333333", Version: SynthGrid'
    )


@pytest.mark.parametrize("files", [None, 3, "text", [], [7, None], {"a": 1}])
def test_files_of_another_shape_are_ignored(files):
    settings = {"checkpoint": "a.ckpt", "files": files, "clip_skip": 1}
    assert parameters_text(replace(RECORD, settings=settings)).endswith(
        "Model: a, Version: SynthGrid"
    )
