"""What the panel in ComfyUI's sidebar asks the server: a plan's images by class, and to set some
aside or put them back.

POST /synthgrid/folder answers with the images of a plan; POST /synthgrid/reject moves images into
the quarantine, as `synthgrid regenerate` does, and POST /synthgrid/restore takes them out again.
Every folder is inside ComfyUI's output folder, links included, and every answer has a bounded size.
Records and checks are read once for each state of their files.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .. import host, paths
from ..errors import LabelsetError, PlanError
from ..labelset import METADATA, TURNS, LabelledFolder, put_back, set_aside
from ..labelset.quality.quarantine import records_of
from ..labelset.quality.verdicts import (
    QUALITY,
    QUARANTINE,
    Verdict,
    checks_of,
    quality_folder,
    quarantine_folder,
    read_verdicts,
)
from ..plan.caption_plan import AnyPlan
from .routes import answering, asked_plan, existing_images, or_error, part_of, text_of

PATH = "/synthgrid/folder"
REJECT_PATH = "/synthgrid/reject"
RESTORE_PATH = "/synthgrid/restore"
CHECK = "panel"  # who rejected an image, in the records of the quarantine

MOST_CLASSES = 50  # classes in one answer
FEW, MANY = 6, 240  # images of a class that is closed, and of the one that is open
MOST_REJECTED = 60  # rejected images in one answer, the latest first
MOST_AT_ONCE = 100  # images that one request moves
MOST_FOLDERS = 64  # labelled folders below the saver's folder
LONGEST_REASON = 200  # characters
LONGEST_PROMPT = 400  # characters that are shown
LARGEST_FILE = 2**28  # bytes of records or of a check
_KEPT = 32  # files whose contents are kept

T = TypeVar("T")


@dataclass(frozen=True)
class Shown:
    """What the panel shows of an image: its record, without the settings."""

    file_name: str
    sha256: str
    label: str
    index: int
    plan_id: str
    prompt: str


_Found = tuple[str, Shown]  # the name of its labelled folder, and an image


def register() -> None:
    """Adds the routes to ComfyUI's server, if there is one and no other copy of the pack has."""
    prompt_server = getattr(sys.modules.get("server"), "PromptServer", None)
    routes = getattr(getattr(prompt_server, "instance", None), "routes", None)
    if routes is None or any(getattr(route, "path", "") == PATH for route in routes):
        return
    routes.post(PATH)(answering(look))
    routes.post(REJECT_PATH)(answering(reject, changes=True))
    routes.post(RESTORE_PATH)(answering(restore, changes=True))


def look(asked: Any) -> dict[str, Any]:
    """The images of a plan by class; `asked` as for `routes.preview`, with a "folder".

    Optional: "start", the first class that is listed, and "open", the class of which up to MANY
    images are listed rather than FEW. The answer:

        {"folder", "plan_id", "images", "made", "others": images of other plans,
         "classes": [{"label", "planned", "made", "images": [image], "hidden"}], "hidden_classes",
         "check": the newest check's file name or "",
         "rejected": [{"folder", "file_name", "label", "index", "reason", "check"}],
         "all_rejected"}

    with an image as {"folder": its labelled folder, "file_name", "sha256", "index", "prompt"} and,
    if the check knows its bytes, "scores" and "reason". Images that the check would reject come
    first, the others by their place in the plan, the latest first. Or {"error": sentence}.
    """
    return or_error(_look, asked)


def _look(asked: Any) -> dict[str, Any]:
    plan, _, _ = asked_plan(asked)
    name = text_of(part_of(asked, "batcher"), "resume_folder", "").strip()
    name = name or text_of(asked, "folder").strip()
    start, opened = asked.get("start", 0), text_of(asked, "open", "")
    if not isinstance(start, int) or isinstance(start, bool) or start < 0:
        raise PlanError("start must be a whole number from 0")
    root = paths.folder_in_output(name)
    roots = _labelled_folders(root)
    existing = existing_images(plan, name)
    found, others = _by_class(roots, plan, existing)
    checks = {_name(each): _check_of(each) for each in roots}
    judged = {digest: each for _, verdicts in checks.values() for digest, each in verdicts.items()}
    rejected = [each for folder in roots or [root] for each in _rejected(folder, plan.plan_id)]
    shown = plan.labels[start : start + MOST_CLASSES]
    planned, made = plan.counts(), Counter(map(plan.label_of, existing))
    return {
        "folder": name,
        "plan_id": plan.plan_id,
        "images": len(plan),
        "made": len(existing),
        "others": others,
        "classes": [
            {"label": label, "planned": planned[label], "made": made[label]}
            | _listed(found.get(label, []), judged, MANY if label == opened else FEW)
            for label in shown
        ],
        "hidden_classes": max(0, len(plan.labels) - start - len(shown)),
        "check": next((check for check, _ in checks.values() if check), ""),
        "rejected": rejected[::-1][:MOST_REJECTED],
        "all_rejected": len(rejected),
    }


def _listed(found: Iterable[_Found], judged: Mapping[str, Verdict], most: int) -> dict[str, Any]:
    """The images to show of a class: suspicious ones first, then the latest."""

    def order(image: _Found) -> tuple[bool, int]:
        verdict = judged.get(image[1].sha256)
        return (verdict is None or not verdict.rejected, -image[1].index)

    images = sorted(found, key=order)
    return {
        "images": [_as_dict(folder, each, judged) for folder, each in images[:most]],
        "hidden": max(0, len(images) - most),
    }


def _as_dict(folder: str, image: Shown, judged: Mapping[str, Verdict]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "folder": folder,
        "file_name": image.file_name,
        "sha256": image.sha256,
        "index": image.index,
        "prompt": image.prompt,
    }
    if (verdict := judged.get(image.sha256)) is not None:
        scores = {name: each for name, each in verdict.scores.items() if math.isfinite(each)}
        values |= {"scores": scores, "reason": verdict.reason}
    return values


def reject(asked: Any) -> dict[str, Any]:
    """Sets images aside: {"folder", "images": [{"file_name", "sha256"}], optionally "reason"}.

    The folder is a labelled folder. The answer is {"moved", "gone"}: numbers of images; those that
    are gone have other bytes by now, or have left. Or {"error": sentence}.
    """
    return or_error(_reject, asked)


def _reject(asked: Any) -> dict[str, Any]:
    root = _root_of(asked)
    reason = " ".join(text_of(asked, "reason", "").split())[:LONGEST_REASON]
    verdicts = []
    for each in _items(asked, "images"):
        name, digest = text_of(each, "file_name"), text_of(each, "sha256")
        paths.refuse_outside_output(_path_in(root, name))
        verdicts.append(Verdict(digest, name, "", reason or "rejected by eye"))
    with TURNS:
        done = set_aside(root, verdicts, scorer=CHECK)
    return {"moved": len(done.records), "gone": done.gone}


def restore(asked: Any) -> dict[str, Any]:
    """Puts images back: {"folder", "images": [{"file_name"}]}, names as in `look`'s "rejected".

    The answer is {"restored": number of images} or {"error": sentence}.
    """
    return or_error(_restore, asked)


def _restore(asked: Any) -> dict[str, Any]:
    root = _root_of(asked)
    names = [text_of(each, "file_name") for each in _items(asked, "images")]
    for name in names:  # the class folder has the same name in both
        paths.refuse_outside_output(_path_in(quarantine_folder(root), name))
        paths.refuse_outside_output(_path_in(root, name))
    with TURNS:
        for name in names:
            put_back(root, name)
    return {"restored": len(names)}


def _root_of(asked: Any) -> Path:
    """The labelled folder of a request that changes it; it and its quarantine are no links out."""
    if not isinstance(asked, Mapping):
        raise PlanError("the body must be an object")
    root = paths.folder_in_output(text_of(asked, "folder"))
    if not (root / METADATA).is_file():
        raise LabelsetError(f"{root} has no {METADATA}; give a labelled folder")
    paths.refuse_outside_output(quarantine_folder(root))
    return root


def _items(asked: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    items = asked.get(name)
    if not isinstance(items, list) or not all(isinstance(each, Mapping) for each in items):
        raise PlanError(f"'{name}' must be a list of objects")
    if not 1 <= len(items) <= MOST_AT_ONCE:
        raise PlanError(f"{len(items)} images are asked for; it must be 1 to {MOST_AT_ONCE}")
    return items


def _path_in(root: Path, file_name: str) -> Path:
    if "\0" in file_name:
        raise LabelsetError("a file name has a zero in it")
    return root / file_name


def _labelled_folders(root: Path) -> list[Path]:
    """The labelled folders from `root` downwards, in order of name; the first MOST_FOLDERS."""
    found: list[Path] = []
    for folder, names, files in os.walk(root):
        names[:] = sorted(each for each in names if not each.endswith((QUALITY, QUARANTINE)))
        if METADATA in files and len(found) < MOST_FOLDERS:
            found.append(Path(folder))
    return found


def _by_class(
    roots: Iterable[Path], plan: AnyPlan, existing: Container[int]
) -> tuple[dict[str, list[_Found]], int]:
    """Label -> the existing images of a plan; and how many images of other plans there are."""
    found: dict[str, list[_Found]] = {}
    others = 0
    for root in roots:
        for image in _kept(root / METADATA, _read_records) or ():
            if image.plan_id != plan.plan_id or image.index >= len(plan):
                others += 1
            elif image.index in existing:
                found.setdefault(image.label, []).append((_name(root), image))
    return found, others


def _read_records(path: Path) -> tuple[Shown, ...]:
    return tuple(
        Shown(
            each.file_name,
            each.sha256,
            each.label,
            each.index,
            each.plan_id,
            each.prompt[:LONGEST_PROMPT],
        )
        for each in records_of(LabelledFolder(path.parent))
    )


def _rejected(root: Path, plan_id: str) -> list[dict[str, Any]]:
    """The images of a plan in the quarantine of a labelled folder, the latest last."""
    path = quarantine_folder(root) / METADATA
    name = _name(root)
    return [
        {"folder": name} | values
        for plan, values in _kept(path, _read_rejected) or ()
        if plan == plan_id
    ]


def _read_rejected(path: Path) -> tuple[tuple[str, dict[str, Any]], ...]:
    found = []
    for line in LabelledFolder(path.parent).lines():
        if line.blank or line.torn:
            continue
        record, why = line.record(), json.loads(line.data).get("rejected")
        why = why if isinstance(why, dict) else {}
        values = {
            "file_name": record.file_name,
            "label": record.label,
            "index": record.index,
            "reason": str(why.get("reason", ""))[:LONGEST_REASON],
            "check": str(why.get("check", "")),
        }
        found.append((record.plan_id, values))
    return tuple(found)


def _check_of(root: Path) -> tuple[str, Mapping[str, Verdict]]:
    """(file name of the newest check of a labelled folder, SHA-256 -> verdict); ("", {})."""
    paths.refuse_outside_output(quality_folder(root))
    path = next(iter(checks_of(root)), None)
    if path is None:
        return "", {}
    return path.name, _kept(path, _read_check) or {}


def _read_check(path: Path) -> Mapping[str, Verdict]:
    return {each.sha256: each for each in read_verdicts(path)}


def _name(root: Path) -> str:
    """A folder's name relative to the output folder, with forward slashes."""
    return root.relative_to(host.output_directory().resolve()).as_posix()


_reading = threading.Lock()
_contents: dict[tuple[Path, Callable[[Path], Any]], tuple[tuple[int, int], Any]] = {}


def _kept(path: Path, read: Callable[[Path], T]) -> T | None:
    """What `read` makes of a file, kept until the file changes; None if there is none.

    Raises:
        LabelsetError: the file leads out of the output folder or is too large. And as `read` does.
    """
    paths.refuse_outside_output(path)
    try:
        found = path.stat()
    except OSError:
        return None
    if found.st_size > LARGEST_FILE:
        raise LabelsetError(f"{path} has {found.st_size} bytes, too many for the panel")
    state, key = (found.st_mtime_ns, found.st_size), (path, read)
    with _reading:
        kept = _contents.pop(key, None)
        if kept is None or kept[0] != state:
            kept = (state, read(path))
        while len(_contents) >= _KEPT:
            _contents.pop(next(iter(_contents)))  # the one that was asked for longest ago
        _contents[key] = kept
    contents: T = kept[1]
    return contents
