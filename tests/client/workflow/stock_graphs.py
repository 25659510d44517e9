"""Stock text-to-image workflows in API format, in the shapes that ComfyUI's users have them."""

import copy

PROMPT = "a sunny photo of a cat,\n(sharp:1.2) eyes"
NEGATIVE = "text, watermark"


def node(class_type, title="", **inputs):
    found = {"class_type": class_type, "inputs": inputs}
    return found | {"_meta": {"title": title}} if title else found


def ksampler(model, latent, *, positive="6", negative="7", denoise=1.0, steps=3):
    return node(
        "KSampler",
        model=[model, 0],
        positive=[positive, 0],
        negative=[negative, 0],
        latent_image=[latent, 0],
        seed=5,
        steps=steps,
        cfg=4.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=denoise,
    )


def default(checkpoint="v1-5-pruned-emaonly.safetensors", *, size=64, prompt=PROMPT):
    """One pass: what ComfyUI shows at its first start."""
    return {
        "3": ksampler("4", "5"),
        "4": node("CheckpointLoaderSimple", "Load Checkpoint", ckpt_name=checkpoint),
        "5": node("EmptyLatentImage", width=size, height=size, batch_size=1),
        "6": node("CLIPTextEncode", "Positive", text=prompt, clip=["4", 1]),
        "7": node("CLIPTextEncode", "Negative", text=NEGATIVE, clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", "Save Image", images=["8", 0], filename_prefix="ComfyUI"),
    }


def with_lora(name="some.safetensors", **more):
    """A LoRA and clip skip between checkpoint and prompts."""
    graph = default(**more)
    graph["10"] = node(
        "LoraLoader",
        lora_name=name,
        strength_model=0.8,
        strength_clip=0.7,
        model=["4", 0],
        clip=["4", 1],
    )
    graph["11"] = node("CLIPSetLastLayer", clip=["10", 1], stop_at_clip_layer=-2)
    graph["3"]["inputs"]["model"] = ["10", 0]
    for each in ("6", "7"):
        graph[each]["inputs"]["clip"] = ["11", 0]
    return graph


def with_controlnet(**more):
    """A ControlNet with one picture between prompts and sampler; its preview beside it."""
    graph = default(**more)
    graph["12"] = node("LoadImage", image="edges.png")
    graph["13"] = node("ControlNetLoader", control_net_name="canny.safetensors")
    graph["14"] = node(
        "ControlNetApplyAdvanced",
        positive=["6", 0],
        negative=["7", 0],
        control_net=["13", 0],
        image=["12", 0],
        strength=0.9,
        start_percent=0.0,
        end_percent=1.0,
    )
    graph["15"] = node("PreviewImage", images=["12", 0])
    graph["3"]["inputs"] |= {"positive": ["14", 0], "negative": ["14", 1]}
    return graph


def hires(**more):
    """A second pass on enlarged latents; both passes are saved."""
    graph = default(**more)
    graph["20"] = node(
        "LatentUpscale",
        samples=["3", 0],
        upscale_method="bilinear",
        width=96,
        height=96,
        crop="disabled",
    )
    graph["21"] = ksampler("4", "20", denoise=0.5)
    graph["22"] = node("VAEDecode", samples=["21", 0], vae=["4", 2])
    graph["23"] = node("SaveImage", images=["22", 0], filename_prefix="big/cats")
    return graph


def base_and_refiner(refiner="refiner.safetensors", **more):
    """SDXL's way: another model with a CLIP of its own makes the last steps."""
    graph = default(**more)
    shared = {"steps": 5, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal"}
    graph["3"] = node(
        "KSamplerAdvanced",
        model=["4", 0],
        positive=["6", 0],
        negative=["7", 0],
        latent_image=["5", 0],
        noise_seed=1,
        add_noise="enable",
        start_at_step=0,
        end_at_step=3,
        return_with_leftover_noise="enable",
        **shared,
    )
    graph["30"] = node("CheckpointLoaderSimple", ckpt_name=refiner)
    graph["31"] = node("CLIPTextEncode", text=more.get("prompt", PROMPT), clip=["30", 1])
    graph["32"] = node("CLIPTextEncode", text=NEGATIVE, clip=["30", 1])
    graph["33"] = node(
        "KSamplerAdvanced",
        model=["30", 0],
        positive=["31", 0],
        negative=["32", 0],
        latent_image=["3", 0],
        noise_seed=0,
        add_noise="disable",
        start_at_step=3,
        end_at_step=10000,
        return_with_leftover_noise="disable",
        **shared,
    )
    graph["8"]["inputs"]["samples"] = ["33", 0]
    return graph


def custom_advanced(**more):
    """The sampler in parts, as newer workflows have it."""
    graph = default(**more)
    graph["3"] = node(
        "SamplerCustomAdvanced",
        noise=["40", 0],
        guider=["41", 0],
        sampler=["42", 0],
        sigmas=["43", 0],
        latent_image=["5", 0],
    )
    graph["40"] = node("RandomNoise", noise_seed=7)
    graph["41"] = node("CFGGuider", model=["4", 0], positive=["6", 0], negative=["7", 0], cfg=4.0)
    graph["42"] = node("KSamplerSelect", sampler_name="euler")
    graph["43"] = node("BasicScheduler", model=["4", 0], scheduler="normal", steps=3, denoise=1.0)
    return graph


def for_row(graph, prompt, seed, negative=NEGATIVE):
    """A stock workflow that makes one row of a plan: its prompt and its seed in every pass."""
    made = copy.deepcopy(graph)
    texts = {"positive": prompt, "negative": negative}
    for each in made.values():
        for name in ("seed", "noise_seed"):
            if name in each["inputs"]:
                each["inputs"][name] = seed
        for which, text in texts.items():
            link = each["inputs"].get(which)
            if link and made[link[0]]["class_type"] == "CLIPTextEncode":
                made[link[0]]["inputs"]["text"] = text
    return made
