"""Stops the run of a folder from outside, and takes its remaining jobs off the servers.

Nobody else's jobs are touched. A job of this folder is recognised by where it saves,
"synthgrid/<run_id>", and no other folder has the run_id of this generation.json. So jobs are found
whichever client posted them, even if it was killed before it could write anything down.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import AccessError, FolderError, ServerError
from ..folder.run_folder import is_locked, read_generation
from ..server.access import Access
from ..server.fleet import Patience, Seat, ServerSpec, seats_of
from ..server.launch import is_engine_name
from ..wording import printable
from ..workflow.roles import SAVER
from .status import CANCEL, read_state


@dataclass(frozen=True)
class Cancelled:
    """The result: whether a running client was stopped, jobs cancelled per server, and failures."""

    stopped: bool
    jobs: Mapping[str, int]
    unreached: Mapping[str, str]


def cancel(
    root: Path,
    servers: Sequence[ServerSpec] = (),
    *,
    access: Access | None = None,
    wait_s: float = 60.0,
) -> Cancelled:
    """Stops the client that writes the folder, waits for it, and cancels what is left of its jobs.

    Finished images stay, and `run` continues later.

    Args:
        servers: which servers to ask; by default those of the folder's last run.
        access: how to reach those. It may not hold a secret, which a folder could send anywhere.
        wait_s: how long the client may take to stop.

    Raises:
        AccessError: `access` holds a token, password or headers.
        FolderError: no run made the folder, or the client does not stop within `wait_s`.
    """
    generation = read_generation(root)
    specs = list(servers) or _used(root, generation.urls, access or Access())
    stopped = _stop_client(root, wait_s)
    jobs: dict[str, int] = {}
    unreached: dict[str, str] = {}
    for seat in seats_of(specs, patience=Patience(answer_s=10.0)) if specs else ():
        try:
            jobs[seat.name] = _cancel_on(seat, generation.run_id)
        except ServerError as error:
            unreached[seat.name] = str(error)
    return Cancelled(stopped, jobs, unreached)


def _used(root: Path, urls: Sequence[str], access: Access) -> list[ServerSpec]:
    """The servers of the last run, by their addresses without secrets."""
    state = read_state(root)
    if state is not None:  # an embedded engine ends with its client, and its jobs with it
        urls = [
            each.url
            for each in state.servers
            if each.url.startswith("http") and not is_engine_name(each.name)
        ]
    if access.sent_headers():
        raise AccessError(
            "a token, password or header goes only to a server that you name, and not to those "
            f"that {root} names ({', '.join(map(printable, urls)) or 'none'}); add --server URL"
        )
    return [ServerSpec(url, access=access) for url in dict.fromkeys(urls)]


def _stop_client(root: Path, wait_s: float) -> bool:
    if not is_locked(root):
        return False
    wish = root / CANCEL
    try:
        wish.touch()
    except OSError as error:
        raise FolderError(
            f"cannot write {wish}: {error.strerror or error}; check permissions"
        ) from error
    try:
        deadline = time.monotonic() + wait_s
        while is_locked(root):
            if time.monotonic() > deadline:
                raise FolderError(
                    f"the client that writes {root} did not stop within {wait_s:.0f} s; it may "
                    "hang, or be a Python program without a StateKeeper: stop it with Ctrl-C, then "
                    "cancel again"
                )
            time.sleep(0.1)
    finally:
        wish.unlink(missing_ok=True)
    return True


def _cancel_on(seat: Seat, run_id: str) -> int:
    server = seat.source.open()
    try:
        own = own_prompts(server.queue_rows(), run_id)
        server.cancel(own)
        return len(own)
    finally:
        if not seat.stays_open:
            server.close()


def own_prompts(queue: Any, run_id: str) -> list[str]:
    """The ids in an answer of GET /queue whose graph saves into this run's folders there."""
    ours = re.compile(rf"synthgrid/{re.escape(run_id)}(-r[0-9a-f]+)?(-\d+)?")
    groups = (
        [queue.get(name) for name in ("queue_running", "queue_pending")]
        if isinstance(queue, dict)
        else []
    )
    rows = [row for group in groups if isinstance(group, list) for row in group]
    return [
        str(row[1])
        for row in rows
        if isinstance(row, list) and len(row) > 2 and _saves_to(row[2], ours)
    ]


def _saves_to(graph: Any, ours: re.Pattern[str]) -> bool:
    nodes = graph.values() if isinstance(graph, Mapping) else ()
    savers = [
        node for node in nodes if isinstance(node, Mapping) and node.get("class_type") == SAVER
    ]
    folders = [
        inputs.get("folder") for node in savers if isinstance(inputs := node.get("inputs"), Mapping)
    ]
    return any(isinstance(folder, str) and ours.fullmatch(folder) is not None for folder in folders)
