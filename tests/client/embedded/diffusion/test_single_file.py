"""Stable Diffusion 1.5 from one .safetensors file, with the tensor names of the release."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from client.embedded.diffusion import checkpoints as loading
from client.embedded.diffusion import single_file
from client.embedded.errors import EmbeddedError
from client.embedded.nodes.models import CLIPTextEncode
from client.embedded.nodes.sampling import KSampler
from client.embedded.runtime import Folders
from tests.client.embedded.diffusion import sd15_file as sd15

NAME = "small.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory, checkpoints):
    """A folder with a narrow checkpoint file and the tokenizer of the random folder."""
    root = tmp_path_factory.mktemp("file")
    sd15.write_sd15(root / NAME, sd15.Sizes(words=514))
    shutil.copytree(checkpoints / "random" / "tokenizer", root / "tokenizer")
    return root


@pytest.fixture
def spoilt(made, tmp_path):
    """Writes the tensors, changed by a function, and returns the file."""

    def write(change):
        tensors = load_file(made / NAME)
        change(tensors)
        save_file(tensors, tmp_path / NAME)
        return tmp_path / NAME

    return write


def test_every_tensor_of_the_file_is_in_the_models(made):
    tensors = load_file(made / NAME)
    model, clip, vae = loading.load(made / NAME)
    parts = (model.unet, clip.model, vae._vae)
    loaded = sum(each.numel() for part in parts for each in part.parameters())
    assert loaded == sum(each.numel() for each in tensors.values())
    assert torch.equal(
        model.unet.conv_in.weight.cpu(),
        tensors["model.diffusion_model.input_blocks.0.0.weight"].to(model.unet.dtype),
    )
    assert model.unet.config.block_out_channels == (32, 32, 64, 64)
    assert model.latent_scale == 0.18215
    assert vae.factor == 8


def test_it_makes_images(made):
    model, clip, vae = loading.load(made / NAME)
    with torch.inference_mode():
        (positive,) = CLIPTextEncode().encode("cat", clip)
        (negative,) = CLIPTextEncode().encode("", clip)
        empty = {"samples": torch.zeros(2, 4, 4, 4)}
        (latent,) = KSampler().sample(
            model, 1, 2, 3.0, "euler", "normal", positive, negative, empty
        )
        images = vae.decode(latent["samples"])
    assert images.shape == (2, 32, 32, 3)
    assert images.isfinite().all()
    assert images.std() > 0.01


def test_the_file_is_listed_by_its_name_as_in_comfyui(made, tmp_path):
    found = Folders.create(tmp_path, (made,)).list_checkpoints()
    assert found[NAME] == made / NAME


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("conditioner.embedders.0.x", "an SDXL model"),
        ("cond_stage_model.model.x", "a Stable Diffusion 2 model"),
        ("lora_unet_x", "a LoRA"),
        ("down_blocks.0.x", "a UNet alone"),
    ],
)
def test_another_kind_of_model_is_named(spoilt, name, words):
    path = spoilt(lambda tensors: tensors.update({name: torch.zeros(1)}))
    with pytest.raises(EmbeddedError, match=words):
        single_file.read(path)


def test_a_missing_part_is_named(spoilt):
    def without_vae(tensors):
        for name in [each for each in tensors if each.startswith("first_stage_model")]:
            del tensors[name]

    with pytest.raises(EmbeddedError, match="has no VAE"):
        single_file.read(spoilt(without_vae))


def test_a_missing_tensor_and_a_damaged_file_are_named(spoilt, tmp_path):
    path = spoilt(lambda tensors: tensors.pop("first_stage_model.decoder.conv_in.weight"))
    with pytest.raises(EmbeddedError, match=r"VAE does not have the shape of SD1\.5.*conv_in"):
        single_file.vae(single_file.read(path), path, torch.float32)
    path.write_bytes(path.read_bytes()[:999])
    with pytest.raises(EmbeddedError, match="cannot be read"):
        single_file.read(path)


def test_an_inpainting_model_is_refused(tmp_path):
    path = tmp_path / NAME
    tensors = sd15.write_sd15(path, replace(sd15.Sizes(words=514), channels=9))
    with pytest.raises(EmbeddedError, match="inpainting"):
        single_file.unet(tensors, path, torch.float32)


def test_without_a_tokenizer_the_message_says_how_to_get_one(spoilt, monkeypatch):
    monkeypatch.setattr(single_file, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match=r"synthgrid\[sd\]"):
        single_file.tokenizer(spoilt(lambda tensors: None))


def test_the_packed_merges_become_a_tokenizer_with_the_words_in_clips_order(tmp_path):
    lines = ["#version", "a b</w>", "c d", "beyond the end"]
    filled = lines[:3] + ["x y"] * (single_file._MERGES - 2) + lines[3:]
    packed = tmp_path / "merges.gz"
    packed.write_bytes(gzip.compress("\n".join(filled).encode()))
    single_file.write_tokenizer(packed, tmp_path)
    words = json.loads((tmp_path / "vocab.json").read_text())
    assert words["!"] == 0
    assert words["!</w>"] == 256
    assert words["ab</w>"] == 512
    assert words["cd"] == 513
    assert "beyondtheend" not in words
    assert len(words) == 512 + 3 + 2  # the filling is one word


class SmallMemory(torch.nn.Module):
    """A UNet for two rows at most, of which each says its own mean."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.calls = []

    def forward(self, rows, timestep, *, encoder_hidden_states, return_dict):
        self.calls.append(len(rows))
        if len(rows) > 2 or len(self.calls) > 99:
            raise torch.OutOfMemoryError("full")
        return (rows * 0 + rows.mean((1, 2, 3), keepdim=True),)


def test_a_full_memory_halves_the_rows_at_once_and_the_answer_stays_the_same():
    from client.embedded.diffusion.guidance import DiffusionModel
    from client.embedded.diffusion.schedules import NoiseLevels

    unet = SmallMemory()
    model = DiffusionModel(
        unet, NoiseLevels.from_config({}), prediction="epsilon", latent_scale=1.0
    )
    x, words = torch.randn(7, 4, 2, 2), torch.zeros(7, 3, 5)
    found = model.denoise(x, 1.0, words)
    assert unet.calls == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    alone = torch.cat([model.denoise(row[None], 1.0, words[:1]) for row in x])
    assert torch.allclose(found, alone)


def test_one_row_that_does_not_fit_is_an_error():
    from client.embedded.diffusion.guidance import DiffusionModel
    from client.embedded.diffusion.schedules import NoiseLevels

    unet = SmallMemory()
    unet.calls = [0] * 100
    model = DiffusionModel(
        unet, NoiseLevels.from_config({}), prediction="epsilon", latent_scale=1.0
    )
    with pytest.raises(torch.OutOfMemoryError):
        model.denoise(torch.randn(2, 4, 2, 2), 1.0, torch.zeros(2, 3, 5))
