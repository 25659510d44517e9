"""What one Ray actor does: it holds an embedded engine and makes the batches that it is given.

Nothing here imports Ray or touches the labelled folder: images go back to the driver, which alone
writes. Whatever happens to an actor, the folder therefore stays whole.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfy_nodes.labelset import ImageRecord

from ...errors import ClientError, ServerUnreachable
from ...folder.run_folder import RunFolder
from ...server.launch import EmbeddedServer
from ...server.server import describe_server
from ...workflow.graph import Workflow
from .. import events
from ..dispatch.dispatcher import Dispatcher
from ..dispatch.jobs import Job
from ..plan_jobs import PlanWork

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """Batches to make. `rejected` is the last rejected attempt of each of their rows, if any."""

    run_id: str
    jobs: tuple[Job, ...]
    rejected: Mapping[int, int]


@dataclass(frozen=True)
class Made:
    """The images of an order, checked, with their records; `problem` says why some are missing."""

    images: list[tuple[ImageRecord, bytes]] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True)
class Introduction:
    """What a worker says of itself: where it is, and its engine's answers about itself."""

    host: str
    pid: int
    object_info: Mapping[str, Any]
    replacements: Mapping[str, Any]
    stats: Mapping[str, Any]
    description: Mapping[str, Any]


class EngineWorker:
    """One embedded engine, started at once, as a process of its own beside this one.

    Raises:
        ModuleNotFoundError, ServerUnreachable: as `EmbeddedServer.open`.
    """

    def __init__(
        self, checkpoint_directories: Sequence[Path] = (), input_directory: Path | None = None
    ) -> None:
        self._engine = EmbeddedServer(
            checkpoint_directories=checkpoint_directories, input_directory=input_directory
        )
        self._engine.open()

    def introduce(self) -> Introduction:
        """Who this is. Raises ServerError if the engine does not answer."""
        server = self._engine.open()
        object_info, stats = server.object_info(), server.system_stats()
        return Introduction(
            os.uname().nodename if hasattr(os, "uname") else "",
            os.getpid(),
            object_info,
            server.node_replacements(),
            stats,
            describe_server(stats, object_info),
        )

    def make(self, workflow: Workflow, order: Order) -> Made:
        """Makes the batches once. What fails is the driver's to try again, here or elsewhere."""
        work = _Collecting(workflow, order)
        problem = ""

        def hear(event: events.AnyEvent) -> None:
            nonlocal problem
            if isinstance(event, events.ImageFailed):
                problem = problem or event.reason

        try:
            with Dispatcher(self._engine, tries=1, on_event=hear) as dispatcher:
                dispatcher.connect(work.check)
                dispatcher.run(work)
        except ServerUnreachable as error:
            problem = problem or str(error)
            self._engine.renew()
        except ClientError as error:
            problem = problem or str(error)
        self._engine.clear_output()
        return Made(work.images, problem)

    def close(self) -> None:
        """Stops the engine."""
        self._engine.close()


class _Collecting(PlanWork):
    """The work of an order: images are kept in memory instead of being saved."""

    def __init__(self, workflow: Workflow, order: Order) -> None:
        folder = RunFolder(Path(tempfile.gettempdir()), workflow)  # never opened
        folder.run_id, folder.rejected = order.run_id, order.rejected
        super().__init__(folder)
        self._jobs = order.jobs
        self.images: list[tuple[ImageRecord, bytes]] = []

    def check(self, object_info: Mapping[str, Any], stats: Mapping[str, Any] | None = None) -> None:
        """Without the checks of memory and disk, which are made once, before the run."""
        super().check(object_info)

    def missing_jobs(self) -> Iterator[Job]:
        """The jobs of the order."""
        return iter(self._jobs)

    def save(self, record: ImageRecord, data: bytes) -> None:
        """Keeps the image for the driver."""
        self.images.append((record, data))
