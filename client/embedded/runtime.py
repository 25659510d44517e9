"""What a node may ask of its engine: folders, progress, and whether to stop.

ComfyUI has module-level state for this, since a V1 node is built without arguments; so has the
engine. One process runs one engine, and one thread of it runs the nodes.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfy_nodes import host

from .errors import EmbeddedError

BUNDLED_CHECKPOINTS = Path(__file__).parent / "checkpoint"
MODEL_FOLDERS = ("checkpoints", "embeddings", "loras")  # of models/, as GET /models lists them
_CHECKPOINT_PARTS = ("tokenizer", "text_encoder", "unet", "vae")


class Interrupted(Exception):
    """Raised inside a node when somebody asked to stop the running prompt."""


@dataclass(frozen=True)
class Folders:
    """Where the engine reads and writes: <base>/{output,input,temp,models/checkpoints}.

    `checkpoint_directories` hold further checkpoints, diffusers folders or .safetensors files, or
    are a diffusers folder themselves.
    `input_directory` replaces <base>/input.
    """

    base: Path
    checkpoint_directories: tuple[Path, ...] = ()
    input_directory: Path | None = None

    @classmethod
    def create(
        cls,
        base: Path,
        checkpoint_directories: Sequence[Path] = (),
        input_directory: Path | None = None,
    ) -> Folders:
        """Resolves the paths and makes the folders.

        Raises:
            EmbeddedError: a folder cannot be made, or a checkpoint directory does not exist.
        """
        folders = cls(
            Path(base).resolve(),
            tuple(Path(each).resolve() for each in checkpoint_directories),
            None if input_directory is None else Path(input_directory).expanduser().resolve(),
        )
        if folders.input_directory is not None and not folders.input_directory.is_dir():
            raise EmbeddedError(
                f"input directory {folders.input_directory} does not exist; give a folder"
            )
        for directory in folders.checkpoint_directories:
            if not directory.is_dir():
                raise EmbeddedError(
                    f"checkpoint directory {directory} does not exist; give a folder of checkpoints"
                )
        try:
            for directory in (folders.output, folders.input, folders.temp, folders.checkpoints):
                directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EmbeddedError(
                f"cannot make {folders.base}: {error.strerror}; choose another base directory"
            ) from None
        return folders

    @property
    def output(self) -> Path:
        """Where images are saved."""
        return self.base / "output"

    @property
    def input(self) -> Path:
        """Where uploads go."""
        return self.input_directory or self.base / "input"

    @property
    def temp(self) -> Path:
        """Where previews go."""
        return self.base / "temp"

    @property
    def checkpoints(self) -> Path:
        """Where the user's own diffusers folders are."""
        return self.base / "models" / "checkpoints"

    def of_kind(self, kind: str) -> Path | None:
        """The folder that /view and /upload call "output", "input" or "temp"; else None."""
        return {"output": self.output, "input": self.input, "temp": self.temp}.get(kind)

    def list_models(self, folder: str) -> list[str] | None:
        """Names of what a folder of models/ holds that the engine can load; None if unknown."""
        if folder not in MODEL_FOLDERS:
            return None
        if folder == "loras":
            return list(self.list_loras())
        return list(self.list_checkpoints()) if folder == "checkpoints" else []

    def list_checkpoints(self) -> dict[str, Path]:
        """Name -> diffusers folder or .safetensors file. The user's own win over bundled ones of
        the same name."""
        found: dict[str, Path] = {}
        for root in (self.checkpoints, *self.checkpoint_directories, BUNDLED_CHECKPOINTS):
            for folder in (root, *sorted(root.iterdir())) if root.is_dir() else ():
                is_folder = all((folder / part).is_dir() for part in _CHECKPOINT_PARTS)
                if is_folder or (folder.suffix == ".safetensors" and folder.is_file()):
                    found.setdefault(folder.name, folder)
        return dict(sorted(found.items()))

    def list_loras(self) -> dict[str, Path]:
        """Name, with "/" between folders -> LoRA of <base>/models/loras."""
        root = self.base / "models" / "loras"
        found = sorted(path for path in root.rglob("*.safetensors") if path.is_file())
        return {path.relative_to(root).as_posix(): path for path in found}


_folders: Folders | None = None
_device = ""
_on_progress: Callable[[float, float], None] | None = None
_on_image: Callable[[bytes], None] | None = None
_LOOK_S = 0.05  # how often an interruption is looked for while coroutines wait
interrupt = threading.Event()
"""Set to stop the prompt that runs now; cleared when a prompt starts and when it stops."""


def use_folders(folders: Folders) -> None:
    """Sets the folders of this process, for the core nodes and for SynthGrid's own."""
    global _folders
    _folders = folders
    host.use_output_directory(folders.output)
    host.use_input_directory(folders.input)


def use_device(name: str) -> None:
    """Sets where models run: "cpu", "cuda" or "cuda:N"; "" is a GPU if there is one.

    Raises:
        EmbeddedError: the name is none of these, or this machine has no such GPU.
    """
    global _device
    if not name or name == "cpu":
        _device = name
        return
    found = re.fullmatch(r"cuda(?::(\d{1,4}))?", name)
    if not found:
        raise EmbeddedError(f"device '{name}' is none of cpu, cuda, cuda:0, cuda:1, ...")
    import torch

    count, number = torch.cuda.device_count(), int(found[1] or 0)
    if number >= count:
        last = f"cuda:{count - 1}"
        has = {0: "no CUDA GPU", 1: "only cuda:0"}.get(count, f"cuda:0 to {last}")
        raise EmbeddedError(f"device '{name}' does not exist: this machine has {has}")
    _device = f"cuda:{number}"


def device() -> str:
    """What `use_device` has set."""
    return _device


def folders() -> Folders:
    """The folders of this process. Raises EmbeddedError before `use_folders`."""
    if _folders is None:
        raise EmbeddedError("the engine has no folders yet; call use_folders first")
    return _folders


def listen(
    on_progress: Callable[[float, float], None] | None = None,
    on_image: Callable[[bytes], None] | None = None,
) -> None:
    """Sets the listeners of the node that is about to run; without arguments, removes them."""
    global _on_progress, _on_image
    _on_progress, _on_image = on_progress, on_image


def report_progress(value: float, total: float) -> None:
    """Reports `value` of `total` steps of a node. Raises Interrupted if the prompt must stop."""
    stop_if_interrupted()
    if _on_progress is not None:
        _on_progress(value, total)


def show_image(png: bytes) -> None:
    """Sends the bytes of a PNG file to the client of the prompt, over its websocket."""
    if _on_image is not None:
        _on_image(png)


def stop_if_interrupted() -> None:
    """Raises Interrupted, once, when somebody asked for it."""
    if interrupt.is_set():
        interrupt.clear()
        raise Interrupted("interrupted")


def completed(returned: list[Any]) -> list[Any]:
    """What calls returned, once the coroutines among it have ended; those run at the same time.

    Raises Interrupted if the prompt must stop meanwhile, and what a coroutine raises.
    """
    if not any(inspect.isawaitable(each) for each in returned):
        return returned
    return asyncio.run(_complete(returned))


async def _complete(returned: list[Any]) -> list[Any]:
    tasks = {
        place: asyncio.ensure_future(_awaited(each))
        for place, each in enumerate(returned)
        if inspect.isawaitable(each)
    }
    waiting = set(tasks.values())
    while waiting:
        done, waiting = await asyncio.wait(
            waiting, timeout=_LOOK_S, return_when=asyncio.FIRST_EXCEPTION
        )
        for task in done:
            task.result()
        stop_if_interrupted()
    return [
        tasks[place].result() if place in tasks else each for place, each in enumerate(returned)
    ]


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value
