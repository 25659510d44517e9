"""The embedded engine without torch, plus one node: python stub_engine.py PORT BASE_DIRECTORY.

`StubImages` stands for a diffusion model: it takes `seconds`, reports four steps, and makes small
images that depend on the seeds alone. Queue, history, HTTP, websocket, prompt execution, batcher
and saver are the real ones; the process is up in about half a second and can be killed. The word
"poison" in a prompt makes the node fail, "deadly" ends the process. In the environment, STUB_SLOWER
multiplies the seconds, and STUB_BROKEN makes every prompt fail.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import types
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

SIZE = 8


class _Pixels:
    """As much of a torch tensor as the saver asks for."""

    def __init__(self, values: Any) -> None:
        self._values = values
        self.shape = values.shape

    def __getitem__(self, row: int) -> _Pixels:
        return _Pixels(self._values[row])

    def cpu(self) -> _Pixels:
        return self

    float = cpu

    def numpy(self) -> Any:
        return self._values


class StubImages:
    """A batch -> its images, after `seconds`."""

    CATEGORY = "stub"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "batch": ("SYNTHGRID_BATCH", {}),
                "seconds": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 60.0}),
            }
        }

    def run(self, batch: Any, seconds: float) -> tuple[_Pixels]:
        import numpy as np

        from client.embedded import runtime

        prompts = " ".join(spec.prompt for spec in batch.specs)
        if "deadly" in prompts:
            time.sleep(seconds)
            os._exit(1)
        if "poison" in prompts or os.environ.get("STUB_BROKEN"):
            raise ValueError("poison")
        seconds *= float(os.environ.get("STUB_SLOWER", "1"))
        for step in range(4):
            time.sleep(seconds / 4)
            runtime.report_progress(step + 1, 4)
        rows = [
            np.random.default_rng(spec.seed).random((SIZE, SIZE, 3), dtype=np.float32)
            for spec in batch.specs
        ]
        return (_Pixels(np.stack(rows)),)


def main(port: int, base: Path) -> None:
    torch = types.SimpleNamespace(inference_mode=contextlib.nullcontext)
    sys.modules["torch"] = torch  # type: ignore[assignment]
    import comfy_nodes
    from client.embedded.api import routes, server

    comfy_nodes.NODE_CLASS_MAPPINGS["StubImages"] = StubImages
    routes._system_stats = lambda: {
        "system": {"comfyui_version": "stub"},
        "devices": [{"name": "none"}],
    }
    logging.basicConfig(level=logging.INFO)
    server.serve(port=port, base_directory=base, exit_with_parent=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
