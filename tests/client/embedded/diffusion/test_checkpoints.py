"""Loading diffusers folders, and saying what is wrong with one."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from client.embedded.diffusion import checkpoints as loading
from client.embedded.errors import EmbeddedError
from client.embedded.runtime import Folders


@pytest.fixture
def folder(checkpoints, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(checkpoints / "random", tmp_path / "spoilt")


def test_half_precision_weights_become_float32_on_the_cpu(checkpoints):
    model, _, _ = loading.load(checkpoints / "random")
    if model.device.type == "cpu":
        assert {parameter.dtype for parameter in model.unet.parameters()} == {torch.float32}


def test_the_last_checkpoint_is_kept_until_it_is_forgotten(checkpoints):
    first = loading.load(checkpoints / "random")
    assert loading.load(checkpoints / "random") is first
    loading.forget()
    assert loading.load(checkpoints / "random") is not first


def test_files_named_for_half_precision_are_found(folder):
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors"))
    model, clip, vae = loading.load(folder)
    assert model.latent_scale == 0.5
    assert clip.context_length == 12
    assert vae.factor == 8


def test_a_pickle_is_never_loaded(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(EmbeddedError, match="safetensors only"):
        loading.load(folder)


def test_a_truncated_file_is_named(folder):
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(EmbeddedError, match="'spoilt': vae cannot be loaded"):
        loading.load(folder)


def test_a_model_with_two_text_encoders_is_refused(folder):
    (folder / "text_encoder_2").mkdir()
    with pytest.raises(EmbeddedError, match="SDXL"):
        loading.load(folder)


def test_a_missing_scheduler_is_named(folder):
    shutil.rmtree(folder / "scheduler")
    with pytest.raises(EmbeddedError, match=r"scheduler_config\.json"):
        loading.load(folder)


def test_an_unknown_prediction_is_refused(folder):
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text("utf-8")) | {"prediction_type": "flow_prediction"}),
        "utf-8",
    )
    with pytest.raises(EmbeddedError, match="flow_prediction"):
        loading.load(folder)


def test_velocity_prediction_means_what_its_definition_says(checkpoints):
    """v = a eps - s x0 for a^2 + s^2 = 1; a model that always answers 0 says x0 = a^2 x."""
    model, _, _ = loading.load(checkpoints / "random")
    still = loading.DiffusionModel(
        model.unet, model.levels, prediction="v_prediction", latent_scale=1.0
    )
    still.unet = lambda given, *_, **__: (torch.zeros_like(given),)
    x = torch.ones(1, 4, 2, 2)
    assert torch.allclose(still.denoise(x, 2.0, None), x / 5.0)


def test_images_are_in_0_to_1_and_latents_an_eighth(checkpoints):
    _, _, vae = loading.load(checkpoints / "random")
    with torch.no_grad():
        images = vae.decode(torch.randn(3, 4, 4, 6) * 10.0)
        latents = vae.encode(images[:, :31])
    assert images.shape == (3, 32, 48, 3)
    assert float(images.min()) >= 0.0
    assert float(images.max()) <= 1.0
    assert latents.shape == (3, 4, 3, 6)


def test_checkpoints_are_listed_by_name_and_the_users_own_come_first(checkpoints, tmp_path):
    folders = Folders.create(tmp_path / "base", [checkpoints, checkpoints / "random"])
    assert folders.list_checkpoints()["random"] == (checkpoints / "random").resolve()
    own = shutil.copytree(checkpoints / "random", folders.checkpoints / "random")
    (folders.checkpoints / "not a checkpoint").mkdir()
    assert folders.list_checkpoints()["random"] == own
    assert "not a checkpoint" not in folders.list_checkpoints()


def test_a_checkpoint_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(EmbeddedError, match="nowhere does not exist"):
        Folders.create(tmp_path, [tmp_path / "nowhere"])


@pytest.mark.parametrize(
    "shards",
    [["model.bin"], ["../other.safetensors"], ["a.safetensors", "b.ckpt"], [3]],
)
def test_an_index_that_names_anything_but_safetensors_beside_it_is_refused(folder, shards):
    part = folder / "unet"
    (part / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, part / "model.bin")
    (part / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {f"w{n}": each for n, each in enumerate(shards)}})
    )
    with pytest.raises(EmbeddedError, match=r"index\.json names files that are not \.safetensors"):
        loading.load(folder)


def test_a_damaged_index_is_named(folder):
    (folder / "unet" / "x.index.json").write_text("{")
    with pytest.raises(EmbeddedError, match=r"x\.index\.json is damaged"):
        loading.load(folder)
