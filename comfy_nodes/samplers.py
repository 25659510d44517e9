"""Which samplers keep a row reproducible alone, from its record and with ComfyUI's stock nodes. Standard library only."""

from __future__ import annotations

# Samplers, by their names without underscores, that draw noise in every step from one generator for the whole batch, or
# choose their steps by the whole batch.
_STEP_NOISE = ("ancestral", "sde", "lcm", "ddpm", "seeds", "sasolver", "dpmadapt")
# Core's KSampler drops the last but one sigma for these; BasicScheduler does not.
_OTHER_SIGMAS = ("dpm2", "unipc")


def sampler_warning(sampler: str) -> str | None:
    """Why a row made in a batch by this sampler is not what its seed gives alone; None where it is.

    `sampler` is a name as KSamplerSelect has it, or that of a core node for one sampler ("EulerAncestral").
    """
    name = sampler.lower().replace("_", "")
    if any(part in name for part in _STEP_NOISE):
        return (
            f"sampler {sampler} draws noise for the whole batch in every step: the images are fine, but none can be made "
            "again alone from its record; euler, heun, dpmpp_2m and ddim can"
        )
    if name.startswith(_OTHER_SIGMAS):
        return (
            f"sampler {sampler} gets other sigmas in the stock KSampler than here: an image cannot be made again alone "
            "with stock nodes; euler, heun, dpmpp_2m and ddim can"
        )
    return None
