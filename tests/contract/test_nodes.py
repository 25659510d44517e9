"""How V1 nodes are called and described.

Covers: client.embedded.registry, client.embedded.execution.running.
"""

from __future__ import annotations

import io
import uuid
from typing import Any

import pytest
from PIL import Image

CORE = {
    "CheckpointLoaderSimple": ("ckpt_name",),
    "CLIPTextEncode": ("text", "clip"),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptyImage": ("width", "height", "batch_size", "color"),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("model", "scheduler", "steps", "denoise"),
    "CFGGuider": ("model", "positive", "negative", "cfg"),
    "RandomNoise": ("noise_seed",),
    "SamplerCustomAdvanced": ("noise", "guider", "sampler", "sigmas", "latent_image"),
    "KSampler": (
        "model",
        "seed",
        "steps",
        "cfg",
        "sampler_name",
        "scheduler",
        "positive",
        "negative",
        "latent_image",
        "denoise",
    ),
    "VAEDecode": ("samples", "vae"),
    "VAEEncode": ("pixels", "vae"),
    "LoadImage": ("image",),
    "SaveImage": ("images", "filename_prefix"),
    "PreviewImage": ("images",),
    "SaveImageWebsocket": ("images",),
}
OUTPUTS = {
    "CheckpointLoaderSimple": ["MODEL", "CLIP", "VAE"],
    "KSamplerSelect": ["SAMPLER"],
    "BasicScheduler": ["SIGMAS"],
    "CFGGuider": ["GUIDER"],
    "RandomNoise": ["NOISE"],
    "SamplerCustomAdvanced": ["LATENT", "LATENT"],
    "LoadImage": ["IMAGE", "MASK"],
}
SAMPLERS = {"euler", "euler_ancestral", "heun", "dpmpp_2m", "ddim"}
SCHEDULERS = {"normal", "simple", "karras", "exponential", "sgm_uniform", "ddim_uniform"}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def results(server, prompt: dict[str, Any], output: str) -> list[Any]:
    entry = server.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    return entry["outputs"][output]["value"]


def test_a_node_runs_once_for_every_element_of_a_list(server):
    prompt = {
        "1": node("ContractNumbers", text="1,2,3"),
        "2": node("ContractAdd", a=["1", 0], b=10),
        "3": node("ContractShow", value=["2", 0]),
    }
    assert results(server, prompt, "3") == [11, 12, 13]


def test_a_shorter_list_repeats_its_last_value(server):
    prompt = {
        "1": node("ContractNumbers", text="1,2,3"),
        "2": node("ContractNumbers", text="10,20"),
        "3": node("ContractAdd", a=["1", 0], b=["2", 0]),
        "4": node("ContractShow", value=["3", 0]),
    }
    assert results(server, prompt, "4") == [11, 22, 23]


def test_input_is_list_gets_everything_at_once_widgets_included(server):
    prompt = {
        "1": node("ContractNumbers", text="1,2,3"),
        "2": node("ContractJoin", values=["1", 0], separator="-"),
        "3": node("ContractShow", value=["2", 0]),
    }
    assert results(server, prompt, "3") == ["1-2-3"]


def test_lists_of_several_calls_are_joined(server):
    prompt = {
        "1": node("ContractNumbers", text="1,2"),
        "2": node("ContractAdd", a=["1", 0], b=0),
        "3": node("ContractJoin", values=["2", 0], separator=","),
        "4": node("ContractNumbers", text=["3", 0]),
        "5": node("ContractShow", value=["4", 0]),
        "6": node("ContractShow", value=["4", 1]),
    }
    entry = server.run(prompt)
    assert entry["outputs"]["5"]["value"] == [1, 2]
    assert entry["outputs"]["6"]["value"] == ["1,2"]


def test_an_optional_input_may_be_left_out(server):
    prompt = {"1": node("ContractAdd", a=5), "2": node("ContractShow", value=["1", 0])}
    assert results(server, prompt, "2") == [5]


def test_hidden_inputs_are_filled_in(server):
    prompt = {"1": node("ContractAdd", a=5), "seven": node("ContractShow", value=["1", 0])}
    entry = server.run(prompt, extra_data={"extra_pnginfo": {"workflow": 1}})
    shown = entry["outputs"]["seven"]
    assert (shown["unique_id"], shown["nodes"], shown["pnginfo"]) == (
        ["seven"],
        [["1", "seven"]],
        [{"workflow": 1}],
    )


def test_a_constant_that_no_input_declares_is_ignored_and_a_link_is_not(server):
    prompt = {"1": node("ContractAdd", a=5, other=3), "2": node("ContractShow", value=["1", 0])}
    assert results(server, prompt, "2") == [5]
    prompt["1"] = node("ContractAdd", a=5, other=["3", 0])
    prompt["3"] = node("ContractAdd", a=int(uuid.uuid4().int % 1000))
    failure = server.run(prompt)["status"]["messages"][-1][1]
    assert failure["exception_type"] == "TypeError"


def test_an_output_node_runs_again_when_queued_again(server):
    prompt = {"1": node("ContractAdd", a=5), "2": node("ContractShow", value=["1", 0])}
    assert results(server, prompt, "2") == results(server, prompt, "2") == [5]


@pytest.mark.parametrize("choice", ["left", "right"])
def test_a_lazy_input_runs_only_if_it_is_asked_for(server, listener, choice):
    salt = int(uuid.uuid4().int % 900)
    prompt = {
        "left": node("ContractAdd", a=salt, b=1),
        "right": node("ContractAdd", a=salt, b=2),
        "1": node("ContractLazy", choice=choice, left=["left", 0], right=["right", 0]),
        "2": node("ContractShow", value=["1", 0]),
    }
    prompt_id = server.queue(prompt, client_id=listener.client_id)
    ran = {data["node"] for event, data in listener.until_done() if event == "executing"}
    assert ran - {None} == {"1", "2", choice}
    value = salt + (1 if choice == "left" else 2)
    assert server.wait(prompt_id)["outputs"]["2"]["value"] == [value]


@pytest.mark.parametrize("message", ["", "nothing to see"])
def test_what_gets_a_blocker_does_not_run_and_the_prompt_succeeds(server, listener, message):
    prompt = {
        "1": node("ContractBlock", message=message),
        "2": node("ContractShow", value=["1", 0]),
        "3": node("ContractAdd", a=1),
        "4": node("ContractShow", value=["3", 0]),
    }
    prompt_id = server.queue(prompt, client_id=listener.client_id)
    told = [data for event, data in listener.until_done() if event == "execution_error"]
    assert [each["exception_message"] for each in told] == (
        [f"Execution Blocked: {message}"] if message else []
    )
    entry = server.wait(prompt_id)
    assert entry["status"]["status_str"] == "success"
    assert set(entry["outputs"]) == {"4"}


def test_a_node_may_add_nodes(server):
    prompt = {
        "1": node("ContractExpand", number=int(uuid.uuid4().int % 900)),
        "2": node("ContractShow", value=["1", 0]),
    }
    assert results(server, prompt, "2") == [prompt["1"]["inputs"]["number"] + 2]


def test_a_node_may_be_a_coroutine(server):
    prompt = {
        "1": node("ContractLater", number=5),
        "2": node("ContractShow", value=["1", 0]),
    }
    assert results(server, prompt, "2") == [5]


def test_images_go_over_the_websocket_as_png(server, listener):
    prompt = {
        "1": node("EmptyImage", width=8, height=4, batch_size=2, color=0xFF0000),
        "2": node("SaveImageWebsocket", images=["1", 0]),
    }
    server.queue(prompt, client_id=listener.client_id)
    frames = listener.frames_until_done()
    assert [frame[:8] for frame in frames] == [b"\0\0\0\1\0\0\0\2"] * 2  # preview image, PNG
    for frame in frames:
        with Image.open(io.BytesIO(frame[8:]), formats=["PNG"]) as image:
            assert image.size == (8, 4)
            assert image.getpixel((0, 0)) == (255, 0, 0)


def test_a_node_is_described(server):
    description = server.get("/object_info/ContractAdd").json()["ContractAdd"]
    number = ["INT", {"default": 0, "min": -1000, "max": 1000}]
    assert description["input"] == {"required": {"a": number}, "optional": {"b": number}}
    assert description["input_order"] == {"required": ["a"], "optional": ["b"]}
    assert description["output"] == description["output_name"] == ["INT"]
    assert description["output_is_list"] == [False]
    assert (description["name"], description["display_name"]) == ("ContractAdd", "ContractAdd")
    assert (description["category"], description["output_node"]) == ("SynthGrid/contract", False)


def test_an_unknown_node_has_no_description(server):
    answer = server.get("/object_info/NoSuchNode")
    assert answer.status_code == 200
    assert answer.json() == {}


@pytest.mark.parametrize("name", CORE)
def test_a_core_node_has_the_inputs_and_outputs_of_comfyui(server, behaviour, name):
    description = server.get(f"/object_info/{name}").json()[name]
    assert tuple(description["input"]["required"]) == CORE[name]
    outputs = OUTPUTS | behaviour.outputs
    assert description["output"] == outputs.get(name, description["output"])
    assert description["output_node"] == (
        name in ("SaveImage", "PreviewImage", "SaveImageWebsocket")
    )


def test_the_samplers_and_schedulers_of_the_engine_are_ones_that_comfyui_has(server):
    described = server.get("/object_info").json()
    required = described["KSampler"]["input"]["required"]
    assert set(required["sampler_name"][0]) >= SAMPLERS
    assert set(required["scheduler"][0]) >= SCHEDULERS
    select = described["KSamplerSelect"]["input"]["required"]["sampler_name"]
    assert select[0] == "COMBO"
    assert set(select[1]["options"]) >= SAMPLERS
    assert (
        set(described["BasicScheduler"]["input"]["required"]["scheduler"][1]["options"])
        >= SCHEDULERS
    )


def test_a_sampler_that_is_not_there_is_refused_with_the_list(server):
    prompt = {
        "1": node("KSamplerSelect", sampler_name="best"),
        "2": node("ContractShow", value=["1", 0]),
    }
    error = server.post("/prompt", {"prompt": prompt}).json()["node_errors"]["1"]["errors"][0]
    assert error["type"] == "value_not_in_list"
    assert error["details"].startswith("sampler_name: 'best' not in ")


def test_a_checkpoint_that_is_not_there_is_refused(server):
    loader = node("CheckpointLoaderSimple", ckpt_name="no-such-checkpoint")
    answer = server.post(
        "/prompt", {"prompt": {"1": loader, "2": node("ContractShow", value=["1", 0])}}
    )
    assert answer.status_code == 400
    assert answer.json()["node_errors"]["1"]["errors"][0]["type"] == "value_not_in_list"


def test_synthgrid_nodes_run(server):
    prompt = {
        "1": node("SynthGridClassList", classes="bat\nbear", path=""),
        "2": node(
            "SynthGridPromptTemplates",
            templates="a {class}",
            negative_prompt="",
            contexts="",
            styles="",
        ),
        "3": node(
            "SynthGridClassPromptBatcher",
            classes=["1", 0],
            templates=["2", 0],
            images_per_class=3,
            batch_size=4,
            plan_seed=1,
            batch_index=1,
        ),
        "4": node("ContractShow", value=["3", 1]),
    }
    entry = server.run(prompt)
    assert entry["outputs"]["4"]["value"] == entry["outputs"]["3"]["text"]
    assert entry["outputs"]["4"]["value"][0].startswith("batch 2 of 2: ")


def test_templates_that_make_no_prompt_are_refused_before_queueing(server):
    prompt = {
        "1": node(
            "SynthGridPromptTemplates",
            templates="a {color}",
            negative_prompt="",
            contexts="",
            styles="",
        ),
        "2": node("ContractShow", value=["1", 0]),
    }
    answer = server.post("/prompt", {"prompt": prompt})
    assert answer.status_code == 400
    (error,) = answer.json()["node_errors"]["1"]["errors"]
    assert error["details"].startswith("templates - unknown placeholder '{color}'")


def a_batch(templates="a {class}", **batcher):
    """A graph that shows the summary of one batch of a plan of one class, "bat"."""
    texts = {"templates": templates, "negative_prompt": "", "contexts": "", "styles": ""}
    numbers = {"images_per_class": 3, "batch_size": 4, "plan_seed": 1, "batch_index": 0}
    links = {"classes": ["1", 0], "templates": ["2", 0]}
    return {
        "1": node("SynthGridClassList", classes="bat", path=""),
        "2": node("SynthGridPromptTemplates", **texts),
        "3": node("SynthGridClassPromptBatcher", **links, **numbers, **batcher),
        "4": node("ContractShow", value=["3", 1]),
    }


def test_templates_that_do_not_fit_their_classes_are_refused_before_queueing(server):
    """Both are right by themselves, and wrong together."""
    answer = server.post("/prompt", {"prompt": a_batch("a {class}, {definition}")})
    assert answer.status_code == 400
    (error,) = answer.json()["node_errors"]["2"]["errors"]
    assert "these classes have none: 'bat'" in error["details"]


def test_a_mistake_in_a_plan_reaches_the_client_as_the_nodes_own_words(server):
    failure = server.run(a_batch(only="7"))["status"]["messages"][-1][1]
    assert failure["exception_type"].endswith("PlanError")
    assert "'only' names images [7]" in failure["exception_message"]


def test_system_stats_name_the_device(server):
    stats = server.get("/system_stats").json()
    assert {
        "os",
        "comfyui_version",
        "python_version",
        "pytorch_version",
        "ram_total",
        "ram_free",
    } <= set(stats["system"])
    (device,) = stats["devices"]
    assert {"name", "type", "index", "vram_total", "vram_free"} <= set(device)


def test_memory_can_be_given_back(server):
    assert server.post("/free", {"unload_models": True, "free_memory": True}).status_code == 200
    prompt = {"1": node("ContractAdd", a=1), "2": node("ContractShow", value=["1", 0])}
    assert results(server, prompt, "2") == [1]
