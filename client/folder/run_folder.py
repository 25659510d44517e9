"""A run's labelled folder: who may write it, what it holds, and how it was made.

    <root>/captions.jsonl      with --captions: all captions of the plan
    <root>/generation.json     plan, patched workflow, server and versions: written before images
    <root>/.synthgrid.lock     held while a client writes

A folder of another run is refused, with what differs; nothing in it is ever deleted.
"""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from comfy_nodes.errors import PlanError, SynthGridError
from comfy_nodes.labelset import CLIENT_LOCK as LOCK
from comfy_nodes.labelset import (
    METADATA,
    LabelledFolder,
    folder_names,
    holds_something,
    image_file_names,
    portable,
    read_regular,
    rejected_attempts,
    sync_folder,
    write_atomically,
)
from comfy_nodes.labelset import is_locked as file_is_locked
from comfy_nodes.labelset.lock import open_locked, release
from comfy_nodes.plan import GenerationPlan
from comfy_nodes.plan.caption_plan import AnyPlan, CaptionPlan, caption_plan_from, is_caption_plan
from comfy_nodes.plan.captions import read_captions

from ..errors import FolderError
from ..workflow.changes.options import Options, patch
from ..workflow.graph import Workflow, parse_workflow
from .differences import differences, plan_differences

log = logging.getLogger(__name__)

GENERATION = "generation.json"
CAPTIONS = "captions.jsonl"


@dataclass(frozen=True)
class Generation:
    """What generation.json says of a folder: its longest plan, the workflow, and its run id."""

    plan: AnyPlan
    workflow: Workflow
    run_id: str
    urls: tuple[str, ...] = ()

    def workflow_for(
        self, images_per_class: int | None = None, images_per_caption: int | None = None
    ) -> Workflow:
        """The workflow with this many images per class, or caption; by default the most planned.

        Raises:
            FolderError: fewer than that, as a plan only grows, or a number of the other kind.
        """
        captions = isinstance(self.plan, CaptionPlan)
        there = self.plan.to_dict()[self.plan.length_key]
        given, other = images_per_class, images_per_caption
        kind, option = "class", "--per-class"
        if captions:
            given, other, kind, option = other, given, "caption", "--per-prompt"
        if other is not None:
            raise FolderError(f"the folder is planned by {kind}; give {option} N")
        wanted = there if given is None else given
        if wanted < there:
            raise FolderError(
                f"the folder is planned for {there} images per {kind}, and {wanted} are fewer; "
                f"extending only adds images: for a smaller set, run the workflow with {option} "
                "and another --out"
            )
        options = (
            Options(images_per_prompt=wanted) if captions else Options(images_per_class=wanted)
        )
        return patch(self.workflow, options)


def read_generation(root: Path) -> Generation:
    """How a folder was made.

    Raises:
        FolderError: generation.json does not exist (no client made the folder), or is damaged.
    """
    path = root / GENERATION
    if not root.is_dir():
        raise FolderError(
            f"{root} is not a folder; give the labelled folder that `synthgrid run --out` made"
        )
    if not path.exists():
        raise FolderError(
            f"{root} has no {GENERATION}, so it is unknown how its images were made; "
            "only folders that `synthgrid run` made have one"
        )
    try:
        value = json.loads(read_regular(path))
        workflow, plan = _workflow_and_plan(root, value)
        server = value.get("server") or {}
        urls = tuple(
            str(each["url"]) for each in server.get("servers", [server]) if each.get("url")
        )
        return Generation(plan, workflow, str(value["run_id"]), urls)
    except (
        OSError,
        SynthGridError,
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        RecursionError,
    ) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else error
        raise FolderError(f"{path} is damaged ({reason}); restore it from a copy") from error


def _workflow_and_plan(root: Path, value: Mapping[str, Any]) -> tuple[Workflow, AnyPlan]:
    workflow = parse_workflow(value["workflow"], source=str(root / GENERATION))
    if not is_caption_plan(value["plan"]):
        return workflow, GenerationPlan.from_dict(value["plan"])
    if not workflow.has_typed_captions:
        if not (root / CAPTIONS).exists():
            raise PlanError(f"{CAPTIONS} beside it, with the captions of the plan, does not exist")
        workflow = replace(workflow, captions=read_captions(root / CAPTIONS))
    planned = workflow.plan()
    if not isinstance(planned, CaptionPlan):
        raise PlanError("its plan has captions, and its workflow has none")
    return workflow, caption_plan_from(value["plan"], planned.captions)


class RunFolder:
    """The output folder of one run of a workflow. `check` first, then `locked`, then `open`.

    `labelled` is its labelled folder; `open` reads which rows it has, one byte each, and keeps no
    record. `rejected` maps the rows of which a check rejected images to the last rejected attempt.
    `run_id` is eight hexadecimal digits that `describe` draws for a new folder and keeps for an old
    one: they tell this folder's jobs on a server from those of any other folder, even one with the
    same plan.
    """

    def __init__(self, root: Path, workflow: Workflow) -> None:
        self.root = Path(root).expanduser()
        self.workflow = workflow
        self.labelled = LabelledFolder(self.root)
        self.rejected: Mapping[int, int] = {}
        self.run_id = ""

    @property
    def plan(self) -> AnyPlan:
        """The plan of the workflow. Raises as `Workflow.plan` does."""
        return self.workflow.plan()

    @property
    def exists(self) -> bool:
        """Whether the folder already exists."""
        return self.root.is_dir()

    def check(self) -> None:
        """Checks whether this run may write here; changes nothing.

        Raises:
            FolderError: a file, a folder with other content, or another run's folder (with what
                differs).
        """
        try:
            if self.root.exists() and not self.root.is_dir():
                raise FolderError(f"{self.root} is a file; give a folder with --out")
            names = {each.name for each in self.root.iterdir()} if self.exists else set()
        except OSError as error:
            raise FolderError(f"cannot read {self.root}: {error.strerror or error}") from error
        # Captions come first: without the rest, a run was killed, or somebody put them there.
        ours = {CAPTIONS} if self.workflow.captions is not None else set()
        visible = sorted(name for name in names - ours if not name.startswith("."))
        if GENERATION in names:
            self._refuse_other_run(self._read())
        elif visible and METADATA not in names:
            raise FolderError(
                f"{self.root} holds {len(visible)} things that SynthGrid did not write "
                f"({', '.join(visible[:3])}); it is left alone: give an empty or new folder with "
                "--out"
            )

    def _refuse_other_run(self, before: Mapping[str, Any]) -> None:
        try:
            found = plan_differences(before["plan"], self.plan.to_dict())
            found += differences(before["content"], self.workflow.content)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise FolderError(
                f"{self.root / GENERATION} is damaged; give another folder with --out"
            ) from None
        if found:
            raise FolderError(
                f"{self.root} was made with other settings ({'; '.join(found[:5])}); use the same "
                "settings to continue, or give another folder with --out"
            )

    def open(self) -> None:
        """Creates the folder if needed, reads its records and repairs what a kill left behind.

        Raises:
            FolderError: it cannot be created, or holds images of other plans only.
            LabelsetError: metadata.jsonl is damaged.
        """
        self.check()
        # Half-written by a client that was killed; we hold the lock, so nobody is writing.
        for path in self.root.glob(".*.part"):
            path.unlink(missing_ok=True)
        self.labelled.scan()
        self.rejected = rejected_attempts(self.root, self.plan.plan_id)
        others = self.labelled.rows.plan_ids() - {self.plan.plan_id}
        if others and not (self.root / GENERATION).exists():
            raise FolderError(
                f"{self.root} holds images of plan {', '.join(sorted(others))}, "
                f"but this is plan {self.plan.plan_id}; "
                "give another folder with --out"
            )
        if others:
            log.warning(
                "%s also holds images of plan %s; they are left alone",
                self.root,
                ", ".join(sorted(others)),
            )

    def missing(self, indices: Iterable[int]) -> list[int]:
        """Those of the plan indices that have no image yet."""
        plan_id, rows = self.plan.plan_id, self.labelled.rows
        return [index for index in indices if (plan_id, index) not in rows]

    def attempt(self, index: int) -> int:
        """The next attempt at a row without an image: 0, or the one after the last rejected."""
        return self.rejected.get(index, -1) + 1

    def made_again(self) -> list[int]:
        """The rows without an image whose earlier ones a check rejected, in order."""
        total = len(self.plan)
        return self.missing(index for index in sorted(self.rejected) if index < total)

    def in_the_way(self) -> frozenset[int]:
        """The plan indices without an image whose place holds something else.

        That is a damaged image without a record, or a file of somebody else. None of them is
        touched, so these rows cannot be made before `synthgrid verify --repair` has moved it out.

        Raises:
            FolderError: a class folder cannot be read.
        """
        plan, rows, found = self.plan, self.labelled.rows, set()
        planned = re.compile(rf"{plan.plan_id}-([0-9]{{6,18}})\.[a-z]+")
        for label, folder in folder_names(plan.counts()).items():
            for path in _listing(self.root / folder):
                match = planned.fullmatch(path.name)
                index = int(match[1]) if match else len(plan)
                if (
                    index < len(plan)
                    and (plan.plan_id, index) not in rows
                    and f"{folder}/{path.name}" in image_file_names(label, plan.plan_id, index)
                    and holds_something(path)
                ):
                    found.add(index)
        return frozenset(found)

    def count(self) -> int:
        """How many images of this plan exist."""
        return self.labelled.rows.count(self.plan.plan_id, len(self.plan))

    def describe(self, server: Mapping[str, Any]) -> None:
        """Writes generation.json; the time of the first run and the highest count per class stay.

        Raises:
            LabelsetError: the folder cannot be written.
        """
        before = self._read() if (self.root / GENERATION).exists() else {}
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.run_id = str(before.get("run_id") or uuid.uuid4().hex[:8])
        plan = self.plan.to_dict()
        length = self.plan.length_key
        plan[length] = max(plan[length], (before.get("plan") or {}).get(length) or 0)
        self._keep_captions()
        value = {
            "synthgrid_version": synthgrid_version(),
            "created": before.get("created", now),
            "updated": now,
            "run_id": self.run_id,
            "plan_id": self.plan.plan_id,
            "fingerprint": self.workflow.fingerprint,
            "plan": plan,
            "settings": self.workflow.settings(),
            "server": portable(server),
            "content": self.workflow.content,
            "workflow": self.workflow.graph,
        }
        write_atomically(self.root / GENERATION, _json_bytes(value))
        sync_folder(self.root)

    def _keep_captions(self) -> None:
        """Writes captions.jsonl, before generation.json, which means nothing without it.

        Raises:
            FolderError: there is such a file with other captions.
        """
        captions, path = self.workflow.captions, self.root / CAPTIONS
        if captions is None:
            return
        if not path.exists():
            write_atomically(path, (line.encode("utf-8") for line in captions.lines()))
        elif read_captions(path) != captions:
            raise FolderError(
                f"{path} has other captions; move it away, or give another folder with --out"
            )

    def _read(self) -> dict[str, Any]:
        path = self.root / GENERATION
        try:
            value = json.loads(read_regular(path))
        except (OSError, ValueError, RecursionError) as error:
            raise FolderError(
                f"cannot read {path}: {error}; give another folder with --out"
            ) from error
        if not isinstance(value, dict):
            raise FolderError(f"{path} is damaged; give another folder with --out")
        return value

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the folder for this process; see the function `locked`."""
        with locked(self.root):
            yield


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Locks a folder for this process, creating it if needed; a dead process holds no lock.

    Raises:
        FolderError: another client is writing the folder, or it cannot be written.
    """
    path = root / LOCK
    try:
        root.mkdir(parents=True, exist_ok=True)
        file = open_locked(path)
    except OSError as error:
        raise FolderError(
            f"cannot write {root}: {error.strerror or error}; check permissions"
        ) from error
    if file is None:
        raise FolderError(
            f"another client is writing {root}; wait for it, or give another folder with --out"
        )
    try:
        yield
    finally:
        release(file, path)


def is_locked(root: Path) -> bool:
    """Whether a client is writing the folder right now; changes nothing."""
    return file_is_locked(root / LOCK)


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    """As UTF-8; in ASCII if there is half a character, which only an escape in JSON can name."""
    try:
        return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:
        return (json.dumps(value, indent=1) + "\n").encode("ascii")


def _listing(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise FolderError(f"cannot read {folder}: {error.strerror or error}") from error


def synthgrid_version() -> str:
    """The installed version; "unknown" if SynthGrid runs from a bare clone."""
    try:
        return version("synthgrid")
    except PackageNotFoundError:
        return "unknown"
