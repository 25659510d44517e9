"""What a node may ask of its engine: folders, progress, and whether to stop.

ComfyUI has module-level state for this, since a V1 node is built without arguments; so has the
engine. One process runs one engine, and one thread of it runs the nodes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from comfy_nodes import host

from .errors import EmbeddedError

BUNDLED_CHECKPOINTS = Path(__file__).parent / "checkpoint"
_CHECKPOINT_PARTS = ("tokenizer", "text_encoder", "unet", "vae")


class Interrupted(Exception):
    """Raised inside a node when somebody asked to stop the running prompt."""


@dataclass(frozen=True)
class Folders:
    """Where the engine reads and writes: <base>/{output,input,temp,models/checkpoints}.

    `checkpoint_directories` hold further diffusers folders, or are one themselves.
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

    def list_checkpoints(self) -> dict[str, Path]:
        """Name -> diffusers folder. The user's own win over bundled ones of the same name."""
        found: dict[str, Path] = {}
        for root in (self.checkpoints, *self.checkpoint_directories, BUNDLED_CHECKPOINTS):
            for folder in (root, *sorted(root.iterdir())) if root.is_dir() else ():
                if all((folder / part).is_dir() for part in _CHECKPOINT_PARTS):
                    found.setdefault(folder.name, folder)
        return dict(sorted(found.items()))


_folders: Folders | None = None
_on_progress: Callable[[int, int], None] | None = None
interrupt = threading.Event()
"""Set to stop the prompt that runs now; cleared when a prompt starts and when it stops."""


def use_folders(folders: Folders) -> None:
    """Sets the folders of this process, for the core nodes and for SynthGrid's own."""
    global _folders
    _folders = folders
    host.use_output_directory(folders.output)
    host.use_input_directory(folders.input)


def folders() -> Folders:
    """The folders of this process. Raises EmbeddedError before `use_folders`."""
    if _folders is None:
        raise EmbeddedError("the engine has no folders yet; call use_folders first")
    return _folders


def on_progress(listener: Callable[[int, int], None] | None) -> None:
    """Sets the listener for progress inside the node that is about to run."""
    global _on_progress
    _on_progress = listener


def report_progress(value: int, total: int) -> None:
    """Reports `value` of `total` steps of a node. Raises Interrupted if the prompt must stop."""
    stop_if_interrupted()
    if _on_progress is not None:
        _on_progress(value, total)


def stop_if_interrupted() -> None:
    """Raises Interrupted, once, when somebody asked for it."""
    if interrupt.is_set():
        interrupt.clear()
        raise Interrupted("interrupted")
