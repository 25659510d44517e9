"""The embedded engine: a small server with ComfyUI's API for the same workflows and nodes.

    synthgrid serve --port 8188 --base-directory work

It is for a first run, for tests and for machines without ComfyUI; the core nodes are built on
diffusers. Importing this module costs nothing: aiohttp, torch and diffusers are imported by
`client.embedded.api.server` and by the nodes.
"""

from __future__ import annotations

import importlib.util

DEFAULT_CHECKPOINT = "tiny-digits"
"""The bundled checkpoint, as CheckpointLoaderSimple lists it."""

DEFAULT_SIZE = 64
"""Width and height, in pixels, that the bundled checkpoint was trained at."""

_REQUIREMENTS = ("aiohttp", "diffusers", "safetensors", "torch", "transformers")


def missing_requirements() -> list[str]:
    """Names of the packages that the engine needs and that are not installed; imports nothing."""
    return [name for name in _REQUIREMENTS if importlib.util.find_spec(name) is None]
