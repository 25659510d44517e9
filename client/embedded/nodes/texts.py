"""Core nodes for text. Names, inputs and outputs are ComfyUI's, so that a workflow runs on both."""

from __future__ import annotations

import json
from typing import Any

Inputs = dict[str, dict[str, Any]]


class PrimitiveStringMultiline:
    """A text that is typed in."""

    CATEGORY = "utils/primitive"
    DESCRIPTION = "A text of several lines."
    RETURN_TYPES = ("STRING",)
    FUNCTION = "execute"

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"value": ("STRING", {"multiline": True, "tooltip": "The text."})}}

    def execute(self, value: str) -> tuple[str]:
        """The text as it is."""
        return (value,)


class PreviewAny:
    """Any value, shown as text."""

    CATEGORY = "utils"
    DESCRIPTION = "Shows a value as text."
    RETURN_TYPES = ("STRING",)
    FUNCTION = "main"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"source": ("*", {"tooltip": "The value to show."})}}

    def main(self, source: Any = None) -> dict[str, Any]:
        """{"ui": {"text": (text,)}, "result": (text,)}; what is no JSON is shown by its repr."""
        if isinstance(source, str):
            text = source
        else:
            try:
                text = json.dumps(source, indent=4)
            except (TypeError, ValueError):
                text = repr(source)
        return {"ui": {"text": (text,)}, "result": (text,)}


NODE_CLASS_MAPPINGS = {
    "PrimitiveStringMultiline": PrimitiveStringMultiline,
    "PreviewAny": PreviewAny,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "PrimitiveStringMultiline": "Text (Multiline)",
    "PreviewAny": "Preview as Text",
}
