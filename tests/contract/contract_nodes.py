"""Small V1 nodes to test the contract with, on the embedded engine and on a real ComfyUI.

For a real one: copy or link this file into ComfyUI/custom_nodes and set SYNTHGRID_CONTRACT_URL to
its address.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

CATEGORY = "SynthGrid/contract"


def _reporter(total: int) -> Any:
    """A function that reports step i of `total`, through whichever host runs this."""
    try:
        from comfy.utils import ProgressBar
    except ImportError:
        from client.embedded import runtime

        return lambda done: runtime.report_progress(done, total)
    bar = ProgressBar(total)
    return lambda done: bar.update_absolute(done, total)


class Numbers:
    """A text of numbers -> a list of INT."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("INT", "STRING")
    OUTPUT_IS_LIST = (True, False)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"text": ("STRING", {"default": "1,2,3"})}}

    def run(self, text: str) -> tuple[list[int], str]:
        return [int(each) for each in text.split(",") if each], text


class Add:
    """Called once for every pair."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        number = ("INT", {"default": 0, "min": -1000, "max": 1000})
        return {"required": {"a": number}, "optional": {"b": number}}

    def run(self, a: int, b: int = 0) -> tuple[int]:
        return (a + b,)


class Join:
    """Called once with whole lists."""

    CATEGORY = CATEGORY
    INPUT_IS_LIST = True
    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "values": ("INT", {"forceInput": True}),
                "separator": ("STRING", {"default": "+"}),
            }
        }

    def run(self, values: list[int], separator: list[str]) -> tuple[str]:
        return (separator[0].join(map(str, values)),)


class Show:
    """An output node that shows any value, and what hidden inputs it was given."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        hidden = {"unique_id": "UNIQUE_ID", "prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
        return {"required": {"value": ("*", {})}, "hidden": hidden}

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        return float("nan")

    def run(self, value: Any, unique_id: Any, prompt: Any, extra_pnginfo: Any) -> dict[str, Any]:
        ui = {
            "value": [value],
            "unique_id": [unique_id],
            "nodes": [sorted(prompt)],
            "pnginfo": [extra_pnginfo],
        }
        return {"ui": ui, "result": (str(value),)}


class Wait:
    """Takes `steps` steps of `seconds` each, and says so."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "steps": ("INT", {"default": 1, "min": 0, "max": 1000}),
                "seconds": ("FLOAT", {"default": 0.05, "min": 0.0, "max": 10.0}),
                "salt": ("STRING", {"default": ""}),
            }
        }

    def run(self, steps: int, seconds: float, salt: str) -> tuple[int]:
        report = _reporter(steps)
        for step in range(steps):
            time.sleep(seconds)
            report(step + 1)
        return (steps,)


class Fail:
    """Raises what it is told."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "reason": ("STRING", {"default": "because"}),
                "number": ("INT", {"default": 0}),
            }
        }

    def run(self, reason: str, number: int) -> tuple[int]:
        raise ValueError(reason)


class Checked:
    """Refuses some values before anything runs; its maximum is its own business then."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "number": ("INT", {"default": 0, "max": 10}),
                "choice": (["one", "two"], {}),
                "amount": ("INT", {"default": 0, "max": 10}),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, number: int | None) -> bool | str:
        return True if number is None or number < 100 else f"{number} is far too much"

    def run(self, number: int, choice: str, amount: int) -> tuple[int]:
        return (number,)


class Lazy:
    """Takes `left` or `right`, whichever is chosen, and asks for that one alone."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("*",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        lazy = ("*", {"lazy": True})
        return {"required": {"choice": (["left", "right"], {}), "left": lazy, "right": lazy}}

    def check_lazy_status(self, choice: str, **sides: Any) -> list[str]:
        return [choice] if sides[choice] is None else []

    def run(self, choice: str, **sides: Any) -> tuple[Any]:
        return (sides[choice],)


class Block:
    """Gives a value that nothing may use."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"message": ("STRING", {"default": ""})}}

    def run(self, message: str) -> tuple[Any]:
        try:
            from comfy_execution.graph_utils import ExecutionBlocker
        except ImportError:
            from client.embedded.blocking import ExecutionBlocker
        return (ExecutionBlocker(message or None),)


class Expand:
    """Adds two nodes to the prompt: number + 1, and that + 1 again."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"number": ("INT", {})}, "hidden": {"node_id": "UNIQUE_ID"}}

    def run(self, number: int, node_id: str) -> dict[str, Any]:
        first, second = f"{node_id}.first", f"{node_id}.second"
        graph = {
            first: {"class_type": "ContractAdd", "inputs": {"a": number, "b": 1}},
            second: {"class_type": "ContractAdd", "inputs": {"a": [first, 0], "b": 1}},
        }
        return {"result": ([second, 0],), "expand": graph}


class Later:
    """A coroutine."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("INT",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"number": ("INT", {"default": 0})}}

    async def run(self, number: int) -> tuple[int]:
        await asyncio.sleep(0.01)
        return (number,)


_NODES = (Numbers, Add, Join, Show, Wait, Fail, Checked, Lazy, Block, Expand, Later)
NODE_CLASS_MAPPINGS = {f"Contract{each.__name__}": each for each in _NODES}
