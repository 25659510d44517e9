"""One ComfyUI server: submit, wait, collect, cancel. The history decides; the socket is a hint.

with ComfyServer("http://127.0.0.1:8188") as server:
    server.submit(graph, prompt_id=prompt_id)
    finished = server.wait([prompt_id])
    data = server.view(finished.result.outputs["9"]["images"][0])
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any
from urllib.parse import quote

from ..errors import ServerHung, ServerRefused, ServerUnreachable, TransferError
from .access import Access, Limits
from .event_socket import EventSocket
from .protocol import (
    Event,
    JobDone,
    JobResult,
    QueueState,
    QueueStatus,
    describe_refusal,
    parse_history_entry,
    parse_message,
    parse_queue,
)
from .transport import Transport, backoff

log = logging.getLogger(__name__)

_SLICE_S = 0.25  # the longest wait for an event before checking whether to stop


@dataclass(frozen=True)
class Finished:
    """A finished prompt. `result` is None if the server no longer knows it (restarted, deleted)."""

    prompt_id: str
    result: JobResult | None


class ComfyServer:
    """A ComfyUI server, or the embedded engine, at a URL. For one thread; a context manager.

    Nothing is sent before the first call.

    Raises:
        ServerUnreachable: not a valid URL.
    """

    def __init__(
        self,
        url: str,
        *,
        access: Access | None = None,
        limits: Limits | None = None,
        poll_s: float = 2.0,
        stall_s: float = 3600.0,
        pauses: Callable[[], Any] = backoff,
    ) -> None:
        """`poll_s`: the interval of polls while the socket lives; `stall_s`: when a job hangs."""
        self._transport = Transport(url, access=access, limits=limits, pauses=pauses)
        self._pauses = pauses
        self._poll_s = poll_s
        self._stall_s = stall_s
        self._socket: EventSocket | None = None
        self._next_socket_try = 0.0
        self._last_queue = QueueState(frozenset(), frozenset())
        self._queue_moved = False
        self._running_since: dict[str, float] = {}
        self._job_s = self._transport.limits.job_s
        self.client_id = uuid.uuid4().hex

    @property
    def url(self) -> str:
        """The address, without user name and password."""
        return self._transport.shown_url

    @property
    def busy_since(self) -> float | None:
        """Since when (monotonic) a request makes no headway; None between requests."""
        return self._transport.busy_since

    def shown(self, value: Any) -> Any:
        """A text or JSON value that this server sent, as it may be shown."""
        return self._transport.access.shown_value(value)

    def hide_in(self, value: Any) -> Any:
        """A JSON value that this server sent, as it may be recorded: without secrets."""
        return self._transport.access.hide_in(value)

    def __enter__(self) -> ComfyServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes socket and connections; jobs on the server continue."""
        self._drop_socket()
        self._transport.close()

    def system_stats(self) -> dict[str, Any]:
        """GET /system_stats: versions and devices. Raises ServerUnreachable or ServerRefused."""
        return self._object("/system_stats")

    def object_info(self) -> dict[str, Any]:
        """GET /object_info: every node class with its inputs.

        Raises ServerUnreachable or ServerRefused.
        """
        return self._object("/object_info")

    def _object(self, path: str) -> dict[str, Any]:
        value = self._transport.get_json(path)
        if not isinstance(value, dict):
            raise ServerRefused(
                f"{self.url}{path} answered {str(self.shown(value))[:60]!r} instead of an object; "
                "is it a ComfyUI server?"
            )
        return value

    def node_replacements(self) -> dict[str, Any]:
        """GET /node_replacements: what stands for older classes; {} from servers without it."""
        try:
            answer = self._transport.get_json("/node_replacements")
        except ServerRefused:
            return {}
        return answer if isinstance(answer, dict) else {}

    def queue(self) -> QueueState:
        """All clients' running and waiting prompts. Raises ServerUnreachable or ServerRefused."""
        return parse_queue(self.queue_rows())

    def queue_rows(self) -> Any:
        """GET /queue as it is: rows [number, prompt_id, graph, ...].

        Raises ServerUnreachable or ServerRefused.
        """
        return self._transport.get_json("/queue")

    def history(self, prompt_id: str) -> JobResult | None:
        """How a prompt ended; None while it waits, runs, or is unknown.

        Raises ServerUnreachable or ServerRefused.
        """
        answer = self._transport.get_json("/history/" + quote(prompt_id, safe=""))
        found = parse_history_entry(answer.get(prompt_id)) if isinstance(answer, dict) else None
        return found and replace(found, reason=self.shown(found.reason))

    def find(self, prompt_id: str) -> JobResult | bool:
        """The result of a finished prompt, True while it waits or runs, False if it is unknown."""
        # In this order: a prompt leaves the queue at the moment it enters the history.
        return prompt_id in self.queue() or self.history(prompt_id) or False

    def submit(self, graph: Mapping[str, Any], *, prompt_id: str) -> None:
        """Queues a graph under an id that the caller chooses.

        If an answer is lost, it first looks for the job instead of posting it again blindly.

        Raises:
            ServerRefused: the graph is not valid there; the message has the node errors.
            ServerUnreachable: no answer, even after retrying.
        """
        self._connect()
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": self.client_id}
        for pause in (*self._pauses(), None):
            try:
                return self._post_prompt(body)
            except ServerUnreachable as error:
                if pause is None:
                    raise
                log.debug("POST /prompt: %s; looking for the job", error)
                time.sleep(pause)
                if self.find(prompt_id):
                    return None

    def _post_prompt(self, body: Mapping[str, Any]) -> None:
        status, answer = self._transport.post_json("/prompt", body)
        if status >= 500 and self.find(body["prompt_id"]):
            return  # already queued: an earlier post arrived, although its answer did not
        if status != 200:
            raise ServerRefused(
                f"{self.url} refused the workflow: {self._refusal(answer)}", status=status
            )
        if isinstance(answer, dict) and answer.get("node_errors"):
            self.cancel([body["prompt_id"]])
            raise ServerRefused(
                f"{self.url} would leave out part of the workflow: {self._refusal(answer)}"
            )
        given = answer.get("prompt_id") if isinstance(answer, dict) else None
        if given != body["prompt_id"]:
            self.cancel([str(given)])
            raise ServerRefused(
                f"{self.url} gave the job another id than requested, "
                "so it could not be found again; update ComfyUI"
            )

    def _refusal(self, answer: Any) -> str:
        return describe_refusal(self.shown(answer))

    def wait(
        self,
        prompt_ids: Collection[str],
        *,
        on_event: Callable[[Event], None] | None = None,
        timeout_s: float | None = None,
        until: Callable[[], bool] | None = None,
    ) -> Finished | None:
        """Waits until one of the prompts is finished; None if `timeout_s` or `until` ends it first.

        `until` is called about four times a second.

        Raises:
            ServerUnreachable: the server went away.
            ServerHung: it answers, but nothing on it has moved for `stall_s`; or it has run one of
                the prompts for longer than `limits.job_s`, and was told to stop it.
        """
        begun = moved = time.monotonic()
        hurry_until = 0.0
        while True:
            finished = self._look(prompt_ids)
            if finished is not None:
                return finished
            self._stop_endless()
            if self._queue_moved:  # a long queue of other people's jobs is no reason to give up
                moved = time.monotonic()
            now = time.monotonic()
            if (timeout_s is not None and now >= begun + timeout_s) or (
                until is not None and until()
            ):
                return None
            if now - moved > self._stall_s:
                raise ServerHung(
                    f"{self.url} answers but has not moved for {self._stall_s:.0f} s; restart it"
                )
            pause = (
                0.02
                if now < hurry_until
                else self._poll_s
                if self._connect()
                else min(self._poll_s, 0.5)
            )
            last, ended = self._listen(prompt_ids, now + pause, on_event, until)
            moved = max(moved, last)
            if ended:  # the socket says so a moment before the history does
                hurry_until = time.monotonic() + 1.0

    def _listen(
        self,
        prompt_ids: Collection[str],
        deadline: float,
        on_event: Callable[[Event], None] | None,
        until: Callable[[], bool] | None,
    ) -> tuple[float, bool]:
        """Passes on events until a monotonic time, or until one of the prompts ends.

        Returns (monotonic time of the last event, whether a prompt ended).
        """
        last, listening = 0.0, self._socket is not None
        while (left := deadline - time.monotonic()) > 0:
            event = self._next_event(min(left, _SLICE_S))
            if event is None:
                # Perhaps the server is gone: check at once.
                broken = listening and self._socket is None
                if broken or (until is not None and until()):
                    break
                continue
            if not isinstance(event, QueueStatus):  # others may queue up behind a hung job
                last = time.monotonic()
            if on_event is not None:
                on_event(event)
            if isinstance(event, JobDone) and event.prompt_id in prompt_ids:
                return last, True
        return last, False

    def _look(self, prompt_ids: Collection[str]) -> Finished | None:
        """One of the prompts that has left the queue: it is in the history, or unknown."""
        queue = self.queue()
        before, self._last_queue = self._last_queue, queue
        self._queue_moved = queue.running != before.running or not before.pending <= queue.pending
        now = time.monotonic()
        self._running_since = {
            each: self._running_since.get(each, now) for each in prompt_ids if each in queue.running
        }
        for prompt_id in prompt_ids:
            if prompt_id not in queue:
                return Finished(prompt_id, self.history(prompt_id))
        return None

    def _stop_endless(self) -> None:
        """Raises ServerHung if a prompt has run for too long, even if it reports progress."""
        oldest = time.monotonic() - self._job_s
        endless = [each for each, since in self._running_since.items() if since < oldest]
        if endless:
            self.cancel(endless)
            raise ServerHung(
                f"{self.url} has run one job for more than {self._job_s:g} s; it was cancelled: "
                "if a job may take that long, give --job-timeout a higher number"
            )

    def view(self, location: Any) -> bytes:
        """The bytes of an image named in a node's ui output: {"filename", "subfolder", "type"}.

        Raises:
            TransferError: the output names no file, the file is gone, or it arrived incomplete.
            ServerUnreachable: no answer.
        """
        if not isinstance(location, dict) or not all(
            isinstance(each, str) for each in location.values()
        ):
            raise TransferError(f"the server names no image: {str(self.shown(location))[:100]}")
        params = {
            key: location[key] for key in ("filename", "subfolder", "type") if key in location
        }
        try:
            return self._transport.download("/view", params)
        except ServerRefused as error:
            raise TransferError(
                f"image {self.shown(location.get('filename'))} cannot be fetched: {error}"
            ) from error

    def cancel(self, prompt_ids: Collection[str]) -> None:
        """Removes these prompts from the queue and interrupts the running one; never others'.

        Raises:
            ServerUnreachable: no answer.
        """
        if not prompt_ids:
            return
        self._transport.post_json("/queue", {"delete": list(prompt_ids)}, retry=True)
        for prompt_id in self.queue().running & frozenset(prompt_ids):
            self._transport.post_json("/interrupt", {"prompt_id": prompt_id}, retry=True)

    def _connect(self) -> bool:
        """Whether there is a socket; opens one at most every 10 s.

        A new socket gets a new client id: ComfyUI confuses two sockets with one id if the older
        one closes last.
        """
        if self._socket is None and time.monotonic() >= self._next_socket_try:
            self._next_socket_try = time.monotonic() + 10.0
            self.client_id = uuid.uuid4().hex
            try:
                self._socket = self._transport.open_socket(self.client_id)
            except ServerUnreachable as error:
                log.debug("%s; polling instead", error)
        return self._socket is not None

    def _next_event(self, timeout_s: float) -> Event | None:
        if self._socket is None:
            time.sleep(max(0.0, timeout_s))
            return None
        try:
            text = self._socket.receive(timeout_s=timeout_s)
        except ServerUnreachable as error:
            log.debug("%s; polling instead", error)
            self._drop_socket()
            return None
        return parse_message(text) if text else None

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def describe_server(stats: Mapping[str, Any], object_info: Mapping[str, Any]) -> dict[str, Any]:
    """What a run records of a server: versions and devices, never its command line or paths."""
    system = stats.get("system")
    system = system if isinstance(system, Mapping) else {}
    kept = (
        "comfyui_version",
        "synthgrid_version",
        "engine",
        "python_version",
        "pytorch_version",
        "os",
    )
    devices = stats.get("devices")
    devices = devices if isinstance(devices, list) else []
    return {
        **{key: system[key] for key in kept if isinstance(system.get(key), str)},
        "devices": [str(each.get("name", "?")) for each in devices if isinstance(each, Mapping)],
        "node_classes": len(object_info),
    }
