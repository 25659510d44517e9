"""The nodes, by the names under which ComfyUI and saved workflows know them."""

from . import bank, batcher, captions, images, prompts, real, sampling

_MODULES = (prompts, batcher, sampling, real, images, bank, captions)

NODE_CLASS_MAPPINGS = {
    name: node for module in _MODULES for name, node in module.NODE_CLASS_MAPPINGS.items()
}
NODE_DISPLAY_NAME_MAPPINGS = {
    name: title for module in _MODULES for name, title in module.NODE_DISPLAY_NAME_MAPPINGS.items()
}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
