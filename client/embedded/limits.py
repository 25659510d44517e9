"""What one request and one prompt may take, checked before the memory is taken.

All of these numbers are our choice. ComfyUI bounds the body of any request (100 MB) and the entries
of its history (10,000), and nothing else.
"""

from __future__ import annotations

from .errors import EmbeddedError

MIB = 1024 * 1024
MOST_BODY_BYTES = 100 * MIB  # of an upload; more is answered with 413, as in ComfyUI
MOST_JSON_BYTES = 8 * MIB  # of every other body
MOST_JSON_PARTS = 500_000  # lists and objects in it: they take up to 25 times their size in memory
MOST_NODES = 10_000  # of a prompt
MOST_PROBLEMS = 100  # nodes, and outputs that depend on each, that a refusal names
MOST_WAITING_BYTES = 256 * MIB  # of JSON, all waiting prompts together
MOST_HISTORY = 10_000  # finished prompts that are remembered
MOST_HISTORY_BYTES = 64 * MIB  # of JSON, all of them together
MOST_PIXELS = 100_000_000  # width x height x batch of an IMAGE: 1.2 GB; comfy_nodes' for a file
MOST_SAMPLED_PIXELS = 2**25  # width x height x batch in one sampler: 32 images of 1024 x 1024
MOST_PIXEL_STEPS = 10**11  # the same x steps
MOST_LEVELS = 1_000_000  # steps / denoise: the most that the widgets' own ranges and steps allow


def check_pixels(width: int, height: int, batch: int, *, most: int = MOST_PIXELS) -> None:
    """Raises EmbeddedError if a batch of images has more than `most` pixels."""
    if width * height * batch > most:
        raise EmbeddedError(
            f"{width} x {height} pixels x batch {batch} are {width * height * batch:,} pixels; "
            f"this engine takes {most:,} at a time; lower the size or the batch"
        )


def check_sampling(width: int, height: int, batch: int, steps: int) -> None:
    """Raises EmbeddedError if sampling such a batch takes more memory or work than is allowed."""
    check_pixels(width, height, batch, most=MOST_SAMPLED_PIXELS)
    if width * height * batch * steps > MOST_PIXEL_STEPS:
        raise EmbeddedError(
            f"{steps:,} steps of {width} x {height} pixels x batch {batch} are too many: this "
            f"engine takes {MOST_PIXEL_STEPS:,} pixels x steps; lower the steps or the batch"
        )
