"""SHA-256 of the model files that a graph names, each computed once and remembered.

A line of `model_files` is "<models folder>/<name> sha256:<64 digits>", followed for LoRAs in
safetensors by " autov3:<12 digits>", the hash of the weights without the file's header, by which
A1111 and Civitai know a LoRA. They are kept in the user's cache folder by path, size and time of
change. The environment variable SYNTHGRID_HASHES=off turns all of it off. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from .. import host
from ..errors import LabelsetError
from ..labelset import write_atomically

log = logging.getLogger(__name__)

SWITCH = "SYNTHGRID_HASHES"
# Which widgets of loaders name a file, and the models folder that it is in. A few classes differ.
_FOLDERS = {
    "ckpt_name": "checkpoints",
    "lora_name": "loras",
    "vae_name": "vae",
    "unet_name": "diffusion_models",
    "clip_name": "text_encoders",
    "clip_name1": "text_encoders",
    "clip_name2": "text_encoders",
    "clip_name3": "text_encoders",
    "control_net_name": "controlnet",
    "style_model_name": "style_models",
    "gligen_name": "gligen",
    "hypernetwork_name": "hypernetworks",
}
_FOLDERS_OF_CLASS = {
    ("CLIPVisionLoader", "clip_name"): "clip_vision",
    ("UpscaleModelLoader", "model_name"): "upscale_models",
}
_CHUNK = 8 * 2**20
_TELL_S = 3.0  # a file that takes longer is spoken of this often
_MOST_KEPT = 2_000  # files in the cache; the oldest go
_LARGEST_CACHE = 4 * 2**20
_LARGEST_HEADER = 100 * 2**20  # bytes, as safetensors itself allows
_HASHES = re.compile(r"sha256:[0-9a-f]{64}( autov3:[0-9a-f]{12})?")

_Known = dict[str, tuple[int, int, str]]  # path -> (size, time of change in ns, hashes)
_known: _Known = {}
_lock = threading.Lock()


def model_files(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each model file that a node names by a typed-in value, in the nodes' order.

    A file that is not found or cannot be read is left out, with a warning in the log.
    """
    if os.environ.get(SWITCH, "").strip().lower() in ("off", "0", "no", "false"):
        return []
    found: dict[str, None] = {}
    for node in nodes:
        class_type = str(node.get("class_type"))
        for name, value in node.get("inputs", {}).items():
            folder = _FOLDERS_OF_CLASS.get((class_type, name)) or _FOLDERS.get(name)
            if folder is not None and isinstance(value, str):
                line = _line(folder, value)
                found |= {} if line is None else {line: None}
    return list(found)


def _line(folder: str, name: str) -> str | None:
    path = host.model_file(folder, name)
    if path is None:
        return None
    try:
        hashes = _hashes(path.resolve(), is_lora=folder == "loras")
    except OSError as error:
        log.warning("SynthGrid: no SHA-256 of %s: %s", path, error.strerror or error)
        return None
    shown = name.replace("\\", "/")
    return None if hashes is None else f"{folder}/{shown} {hashes}"


def _hashes(path: Path, *, is_lora: bool) -> str | None:
    """The hashes of a file, remembered; None if the file changed meanwhile."""
    key = f"{'lora ' * is_lora}{path}"
    with _lock:
        before = path.stat()
        state = (before.st_size, before.st_mtime_ns)
        kept = _known.get(key) or _read_cache().get(key)
        if kept is not None and kept[:2] == state:
            _known[key] = kept
            return kept[2]
        hashes = _computed(path, before.st_size, is_lora=is_lora)
        after = path.stat()
        if (after.st_size, after.st_mtime_ns) != state:
            log.warning("SynthGrid: %s changed while it was read; records leave it out", path)
            return None
        _known[key] = (*state, hashes)
        _write_cache(_read_cache() | _known)
        return hashes


def _computed(path: Path, size: int, *, is_lora: bool) -> str:
    whole, weights = hashlib.sha256(), hashlib.sha256()
    told, done = time.monotonic(), 0
    with path.open("rb") as file:
        start = _start_of_weights(file) if is_lora and path.suffix == ".safetensors" else None
        while chunk := file.read(_CHUNK):
            host.stop_if_interrupted()
            whole.update(chunk)
            if start is not None and done + len(chunk) > start:
                weights.update(memoryview(chunk)[max(0, start - done) :])
            done += len(chunk)
            if time.monotonic() - told > _TELL_S:
                told = time.monotonic()
                log.info(
                    "SynthGrid: SHA-256 of %s: %d%% of %.1f GB (once per file; %s=off skips it)",
                    path.name,
                    100 * done // max(size, done),
                    size / 1e9,
                    SWITCH,
                )
    text = f"sha256:{whole.hexdigest()}"
    return text if start is None else f"{text} autov3:{weights.hexdigest()[:12]}"


def _start_of_weights(file: IO[bytes]) -> int | None:
    """Where the weights of a safetensors file begin; None if it is no such file.

    https://github.com/huggingface/safetensors: eight bytes give the length of the header after them
    """
    length = int.from_bytes(file.read(8), "little")
    file.seek(0)
    return 8 + length if length <= _LARGEST_HEADER else None


def cache_path() -> Path:
    """Where the hashes are kept between runs, as the operating system wants it."""
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA")
        usual = Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        root, usual = None, Path.home() / "Library" / "Caches"
    else:
        root, usual = os.environ.get("XDG_CACHE_HOME"), Path.home() / ".cache"
    return (Path(root) if root else usual) / "synthgrid" / "model-hashes.json"


def _read_cache() -> _Known:
    """What is kept; nothing if it cannot be read, because it can be computed again."""
    try:
        path = cache_path()
        if path.stat().st_size > _LARGEST_CACHE:
            return {}
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(key): (int(size), int(changed), hashes)
            for key, (size, changed, hashes) in kept.items()
            if _HASHES.fullmatch(hashes)
        }
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, RecursionError):
        return {}


def _write_cache(known: _Known) -> None:
    latest = dict(list(known.items())[-_MOST_KEPT:])
    with suppress(LabelsetError, OSError, RuntimeError):  # a cache only saves time
        write_atomically(cache_path(), json.dumps(latest).encode("ascii"))
