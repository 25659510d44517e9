"""How much memory and disk a plan will take, estimated. Pure arithmetic; every figure names its source.

The figures are for Stable Diffusion 1.5. They are meant to tell an hour before a run fails that it will, not to be exact.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20
_LATENT_CELL = 8  # pixels a side
_HALF = 2  # bytes of a 16-bit number
WEIGHTS_BYTES = (
    860_000_000 * _HALF
)  # the denoiser's 860 million parameters (Rombach et al. 2022, table 15; SD 1.x)
RECORD_BYTES = (
    4096  # the record inside an image, its line in metadata.jsonl, and a file system's rounding
)
# Bytes a pixel of photograph-like RGB images. Assumed, not measured here: about 400 KB for a 512x512 PNG.
_BYTES_A_PIXEL = {"PNG": 1.5, "WEBP": 1.1, "JPEG": 0.6}


@dataclass(frozen=True)
class GpuMemory:
    """Bytes. `sampling` is for the whole batch with guidance, `least_sampling` with the two halves of guidance in turn,
    `decoding` for one image at a time."""

    sampling: int
    least_sampling: int
    decoding: int

    @property
    def comfortable(self) -> int:
        """Weights and the larger of the two stages; ComfyUI drops the weights of one stage for the other if it must."""
        return WEIGHTS_BYTES + max(self.sampling, self.decoding)


def gpu_memory(*, batch_size: int, width: int, height: int) -> GpuMemory:
    """What a batch of this size in pixels needs, by ComfyUI's own formulas (version 0.8.0).

    Sampling: rows x latent cells x bytes of a number x 0.01 MiB (comfy/model_base.py, BaseModel.memory_required, with a
    memory-saving attention; factor 1.0 of SD 1.5), rows being twice the batch with guidance. Decoding: 2178 x latent cells x
    64 x bytes of a number (comfy/sd.py, VAE.memory_used_decode). Numbers of 16 bits in both.
    """
    cells = (width // _LATENT_CELL) * (height // _LATENT_CELL)
    row = int(cells * _HALF * 0.01 * MIB)
    return GpuMemory(2 * batch_size * row, batch_size * row, 2178 * cells * 64 * _HALF)


def image_bytes(*, width: int, height: int, file_format: str = "PNG") -> int:
    """The expected size of one image with its record; the truth is mostly within a factor of two."""
    return int(width * height * _BYTES_A_PIXEL.get(file_format.upper(), 1.5)) + RECORD_BYTES


def shown_bytes(count: float) -> str:
    """ "3.4 GB" """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} KB"
