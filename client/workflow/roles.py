"""Which nodes play which role in a workflow, and which of their inputs carry an option."""

from __future__ import annotations

CLASS_LIST = "SynthGridClassList"
TEMPLATES = "SynthGridPromptTemplates"
CAPTIONS = "SynthGridCaptions"
BATCHER = "SynthGridClassPromptBatcher"
SAVER = "SynthGridLabelledImageSaver"
LATENT = "SynthGridBatchLatent"
REAL = "SynthGridRealImageLatent"
STRENGTH = 2  # the batcher's output of that name
BANKS = ("templates", "contexts", "styles")
# What decides the rows, not how they are made; captions take the place of the first two.
PLAN_NODES = (CLASS_LIST, TEMPLATES, CAPTIONS, BATCHER)
# option -> the (node class, input) pairs that can carry it
TARGETS: dict[str, tuple[tuple[str, str], ...]] = {
    "templates": ((TEMPLATES, "templates"),),
    "negative": ((TEMPLATES, "negative_prompt"), (CAPTIONS, "negative_prompt")),
    "contexts": ((TEMPLATES, "contexts"),),
    "styles": ((TEMPLATES, "styles"),),
    "images_per_class": ((BATCHER, "images_per_class"),),
    "batch_size": ((BATCHER, "batch_size"),),
    "images_per_prompt": ((BATCHER, "images_per_prompt"),),
    "plan_seed": ((BATCHER, "plan_seed"),),
    "checkpoint": (("CheckpointLoaderSimple", "ckpt_name"), ("CheckpointLoader", "ckpt_name")),
    "width": ((LATENT, "width"), (REAL, "width")),
    "height": ((LATENT, "height"), (REAL, "height")),
    "real_folder": ((REAL, "folder"),),
    "steps": (
        ("BasicScheduler", "steps"),
        ("KarrasScheduler", "steps"),
        ("ExponentialScheduler", "steps"),
    ),
    "cfg": (("CFGGuider", "cfg"),),
    "sampler": (("KSamplerSelect", "sampler_name"),),
    "scheduler": (("BasicScheduler", "scheduler"),),
    "strength": (("BasicScheduler", "denoise"),),
}
# If there is no node of these classes: a node with this title (in any case) and such an input.
TITLES: dict[str, tuple[str, ...]] = {
    "checkpoint": ("checkpoint", "load checkpoint", "model"),
    "width": ("image size", "size", "latent"),
    "height": ("image size", "size", "latent"),
    "steps": ("steps", "scheduler"),
    "cfg": ("guidance", "cfg", "guider"),
    "sampler": ("sampler",),
    "scheduler": ("scheduler", "steps"),
}
