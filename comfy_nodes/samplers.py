"""Which samplers let each image be made again alone, from its record, with ComfyUI's stock nodes.

Standard library only.
"""

from __future__ import annotations

# Parts of the names (underscores removed) of samplers that draw noise in every step from one
# generator for the whole batch, or choose their steps by the whole batch.
_STEP_NOISE = ("ancestral", "sde", "lcm", "ddpm", "seeds", "sasolver", "dpmadapt")
# Core's KSampler drops the last but one sigma for these; BasicScheduler does not.
_OTHER_SIGMAS = ("dpm2", "unipc")


def sampler_warning(sampler: str) -> str | None:
    """Why an image from a batch with this sampler differs from one made alone; None if it does not.

    `sampler` is a name as in KSamplerSelect, or that of a core node for one sampler
    ("EulerAncestral").
    """
    name = sampler.lower().replace("_", "")
    if any(part in name for part in _STEP_NOISE):
        return (
            f"sampler {sampler} draws noise for the whole batch in every step: the images are "
            "fine, but none can be made again alone from its record; "
            "euler, heun, dpmpp_2m and ddim allow it"
        )
    if name.startswith(_OTHER_SIGMAS):
        return (
            f"sampler {sampler} gets other sigmas in the stock KSampler than here: no image can be "
            "made again alone with stock nodes; euler, heun, dpmpp_2m and ddim allow it"
        )
    return None
