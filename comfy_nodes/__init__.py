"""SynthGrid's ComfyUI node pack.

`plan`, `banks`, `samplers` and `labelset` are plain Python that the client and the trainer share.
"""

from . import (
    nodes_bank,
    nodes_batcher,
    nodes_captions,
    nodes_images,
    nodes_prompts,
    nodes_real,
    nodes_sampling,
    panel,
    queued,
    routes,
)

_MODULES = (
    nodes_prompts,
    nodes_batcher,
    nodes_sampling,
    nodes_real,
    nodes_images,
    nodes_bank,
    nodes_captions,
)

NODE_CLASS_MAPPINGS = {
    name: node for module in _MODULES for name, node in module.NODE_CLASS_MAPPINGS.items()
}
NODE_DISPLAY_NAME_MAPPINGS = {
    name: title for module in _MODULES for name, title in module.NODE_DISPLAY_NAME_MAPPINGS.items()
}
WEB_DIRECTORY = "./web"

queued.register()
routes.register()
panel.register()

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
