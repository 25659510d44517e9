"""Estimates of how much memory and disk a plan takes. Pure arithmetic; each number has a source.

The numbers are for Stable Diffusion 1.5. They are meant to predict that a run will fail, an hour
before it does, and not to be exact.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20
_LATENT_CELL = 8  # pixels per side
_HALF = 2  # bytes of a 16-bit number
# The denoiser's 860 million parameters (Rombach et al. 2022, table 15; SD 1.x).
WEIGHTS_BYTES = 860_000_000 * _HALF
# The record inside an image, its line in metadata.jsonl, and the file system's rounding.
RECORD_BYTES = 4096
# Bytes per pixel of photo-like RGB images. Assumed, not measured: 400 KB for a 512x512 PNG.
_BYTES_A_PIXEL = {"PNG": 1.5, "WEBP": 1.1, "JPEG": 0.6}


@dataclass(frozen=True)
class GpuMemory:
    """Bytes. `sampling` is for the whole batch with guidance, `least_sampling` with the two halves
    of guidance one after the other, `decoding` for one image at a time."""

    sampling: int
    least_sampling: int
    decoding: int

    @property
    def comfortable(self) -> int:
        """Weights and the larger stage; if it must, ComfyUI unloads one stage's weights."""
        return WEIGHTS_BYTES + max(self.sampling, self.decoding)


def gpu_memory(*, batch_size: int, width: int, height: int) -> GpuMemory:
    """What a batch of this size in pixels needs, by ComfyUI's own formulas (version 0.8.0).

    Sampling: rows x latent cells x bytes per number x 0.01 MiB (comfy/model_base.py,
    BaseModel.memory_required, with memory-efficient attention; factor 1.0 for SD 1.5); with
    guidance there are two rows per image. Decoding: 2178 x latent cells x 64 x bytes per number
    (comfy/sd.py, VAE.memory_used_decode). 16-bit numbers in both.
    """
    cells = (width // _LATENT_CELL) * (height // _LATENT_CELL)
    row = int(cells * _HALF * 0.01 * MIB)
    return GpuMemory(2 * batch_size * row, batch_size * row, 2178 * cells * 64 * _HALF)


def image_bytes(*, width: int, height: int, file_format: str = "PNG") -> int:
    """The expected size of one image with its record, mostly right within a factor of two."""
    return int(width * height * _BYTES_A_PIXEL.get(file_format.upper(), 1.5)) + RECORD_BYTES


def shown_bytes(count: float) -> str:
    """ "3.4 GB" """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} KB"
