"""A LoRA changes the layers that it has by its strength, and nothing else.

Covers: client.embedded.nodes.models.
"""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from client.embedded import runtime
from client.embedded.diffusion import checkpoints as loading
from client.embedded.diffusion.lora import with_lora
from client.embedded.errors import EmbeddedError
from client.embedded.nodes.models import LoraLoader
from client.embedded.runtime import Folders
from tests.workflows.shipped import api

UNET = {  # linear layers and a convolution, which a LoRA may change too
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": (1, 1),
    "mid_block.attentions.0.transformer_blocks.0.ff.net.2": (1, 1),
    "down_blocks.0.resnets.0.conv1": (3, 3),
}
TEXT = "text_model.encoder.layers.1.self_attn.q_proj"
RANK, ALPHA = 2, 3.0


@pytest.fixture
def parts(checkpoints):
    return loading.load(checkpoints / "random")[:2]


def text_layer(clip):
    names = dict(clip.model.named_modules())
    return names.get(TEXT) or names[TEXT.removeprefix("text_model.")]


def factors(layer, generator):
    """(up, down) for a layer, in the shapes in which sd-scripts saves them."""
    rows, columns, *kernel = layer.weight.shape
    ones = (1, 1) if kernel else ()
    up = torch.randn(rows, RANK, *ones, generator=generator)
    return up, torch.randn(RANK, columns, *kernel, generator=generator)


def tensors_of(parts, style="kohya"):
    model, clip = parts
    generator = torch.Generator().manual_seed(3)
    layers = {("unet", name): model.unet.get_submodule(name) for name in UNET}
    found = {}
    for (part, name), layer in (layers | {("te", TEXT): text_layer(clip)}).items():
        up, down = factors(layer, generator)
        if style == "kohya":
            stem = f"lora_{part}_{name.replace('.', '_')}"
            found |= {f"{stem}.lora_up.weight": up, f"{stem}.lora_down.weight": down}
            found[f"{stem}.alpha"] = torch.tensor(ALPHA)
        else:
            stem = f"{ {'unet': 'unet', 'te': 'text_encoder'}[part] }.{name}"
            names = {"diffusers": ("lora.up", "lora.down"), "peft": ("lora_B", "lora_A")}[style]
            found |= {f"{stem}.{names[0]}.weight": up, f"{stem}.{names[1]}.weight": down}
    return found


def saved(tmp_path, tensors):
    path = tmp_path / "ink.safetensors"
    save_file(tensors, path)
    return path


def denoised(model):
    generator = torch.Generator().manual_seed(0)
    x, context = torch.randn(2, 4, 8, 8, generator=generator), torch.ones(2, 12, 16)
    with torch.no_grad():
        return model.denoise(x, 2.0, context)


def encoded(clip):
    with torch.no_grad():
        return clip.encode_from_tokens(clip.tokenize("a bat"))[0]


def test_a_layer_gives_what_it_gave_plus_what_the_two_factors_give(parts, tmp_path):
    """Checked at the outputs: the branch runs beside the layer, as in the paper."""
    model, clip = parts
    tensors = tensors_of(parts)
    changed, _ = with_lora(model, clip, saved(tmp_path, tensors), 0.7, 0.0)

    def branch(up, down):
        def add(layer, given, made):
            if down.ndim == 4:
                small = torch.nn.functional.conv2d(given[0], down, padding=1)
                return made + 0.7 * ALPHA / RANK * torch.nn.functional.conv2d(small, up)
            return made + 0.7 * ALPHA / RANK * (given[0] @ down.T @ up.T)

        return add

    plain = denoised(model)
    hooks = []
    for name in UNET:
        stem = f"lora_unet_{name.replace('.', '_')}"
        up, down = (tensors[f"{stem}.lora_{part}.weight"] for part in ("up", "down"))
        hooks.append(model.unet.get_submodule(name).register_forward_hook(branch(up, down)))
    expected = denoised(model)
    for hook in hooks:
        hook.remove()
    assert not torch.allclose(expected, plain, atol=1e-3)
    torch.testing.assert_close(denoised(changed), expected, rtol=1e-3, atol=1e-3)


def test_each_strength_is_for_its_own_model_and_those_given_stay_as_they_are(parts, tmp_path):
    model, clip = parts
    before = denoised(model), encoded(clip)
    path = saved(tmp_path, tensors_of(parts))
    off_model, on_clip = with_lora(model, clip, path, 0.0, 1.0)
    assert torch.equal(denoised(off_model), before[0])
    assert not torch.allclose(encoded(on_clip), before[1], atol=1e-3)
    on_model, off_clip = with_lora(model, clip, path, 1.0, 0.0)
    assert torch.equal(encoded(off_clip), before[1])
    assert not torch.allclose(denoised(on_model), before[0], atol=1e-3)
    assert torch.equal(denoised(model), before[0])
    assert torch.equal(encoded(clip), before[1])
    shared = {id(each) for each in model.unet.parameters()}
    own = [each for each in on_model.unet.parameters() if id(each) not in shared]
    assert len(own) == len(UNET)  # the others take no memory twice


def test_names_of_diffusers_and_peft_are_those_of_kohya_at_alpha_equal_to_the_rank(parts, tmp_path):
    kohya = tensors_of(parts)
    kohya |= {key: torch.tensor(float(RANK)) for key in kohya if key.endswith(".alpha")}
    expected, text = with_lora(*parts, saved(tmp_path, kohya), 1.0, 1.0)
    for style in ("diffusers", "peft"):
        model, clip = with_lora(*parts, saved(tmp_path, tensors_of(parts, style)), 1.0, 1.0)
        assert torch.equal(denoised(model), denoised(expected))
        assert torch.equal(encoded(clip), encoded(text))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda each: {"lora_unet_nowhere.lora_up.weight": torch.ones(2, 2),
                       "lora_unet_nowhere.lora_down.weight": torch.ones(2, 2)}, "fits no layer"),
        (lambda each: each | {"lora_unet_x.dora_scale": torch.ones(1)}, "plain LoRAs"),
        (lambda each: {k: v for k, v in each.items() if "lora_down" not in k}, "lacks a part"),
        (lambda each: {k: v.repeat(2, *[1] * (v.ndim - 1)) if "lora_up" in k else v
                       for k, v in each.items()}, "is for another kind of model"),
    ],
)  # fmt: skip
def test_other_files_are_refused_in_words(parts, tmp_path, change, words):
    with pytest.raises(EmbeddedError, match=words):
        with_lora(*parts, saved(tmp_path, change(tensors_of(parts))), 1.0, 1.0)


def test_a_file_that_is_no_safetensors_file_is_refused(parts, tmp_path):
    path = tmp_path / "ink.safetensors"
    path.write_bytes(b"no weights")
    with pytest.raises(EmbeddedError, match="cannot be read"):
        with_lora(*parts, path, 1.0, 1.0)


def test_layers_that_the_checkpoint_does_not_have_are_left_out_and_counted(parts, tmp_path, caplog):
    more = {f"lora_unet_nowhere.lora_{part}.weight": torch.ones(2, 2) for part in ("up", "down")}
    path = saved(tmp_path, tensors_of(parts) | more)
    with_lora(*parts, path, 1.0, 1.0)
    assert "ink.safetensors: 1 layers that the checkpoint does not have" in caplog.text


def test_the_node_takes_files_of_the_loras_folder_and_no_other(parts, tmp_path, monkeypatch):
    folders = Folders.create(tmp_path)
    monkeypatch.setattr(runtime, "_folders", folders)
    (tmp_path / "models" / "loras" / "mine").mkdir(parents=True)
    saved(tmp_path / "models" / "loras" / "mine", tensors_of(parts))
    assert folders.list_models("loras") == ["mine/ink.safetensors"]
    assert LoraLoader.INPUT_TYPES()["required"]["lora_name"][0] == ["mine/ink.safetensors"]
    model, _ = LoraLoader().load_lora(*parts, "mine/ink.safetensors", 1.0, 1.0)
    assert not torch.allclose(denoised(model), denoised(parts[0]), atol=1e-3)
    with pytest.raises(EmbeddedError, match=r"'\.\./x' does not exist; available: mine/ink"):
        LoraLoader().load_lora(*parts, "../x", 1.0, 1.0)


@pytest.mark.parametrize("name", ["sd15_lora", "sd15_lora_from_real_images"])
def test_the_saved_workflows_use_nothing_that_the_node_does_not_have(name, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "_folders", Folders.create(tmp_path))
    graph = json.loads(api(name).read_text(encoding="utf-8"))
    (inputs,) = (each["inputs"] for each in graph.values() if each["class_type"] == "LoraLoader")
    assert set(inputs) == set(LoraLoader.INPUT_TYPES()["required"])
