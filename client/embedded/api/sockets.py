"""Events to the browsers and clients that listen on /ws."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
import uuid
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

from ..limits import MIB, MOST_BODY_BYTES

log = logging.getLogger(__name__)

# GET /features, with ComfyUI's names: what a browser may expect of this server.
FEATURES: dict[str, Any] = {
    "supports_preview_metadata": False,
    "supports_model_type_tags": False,
    "max_upload_size": MOST_BODY_BYTES,
    "extension": {},
    "node_replacements": False,
    "assets": False,
}
# A socket that has not read this much gets no more; the history has the result anyway.
MOST_WAITING = 10_000  # events
MOST_WAITING_BYTES = 16 * MIB
_IMAGE = struct.pack(">II", 1, 2)  # what goes before an image: "preview image", "PNG"


class _Line:
    """What waits to be sent to one socket."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._size = 0

    def put(self, message: str | bytes | None) -> None:
        """Adds a message, or drops it if too much waits; None ends the line."""
        size = 0 if message is None else len(message)
        if message is not None and (
            self._queue.qsize() >= MOST_WAITING
            or (self._size and self._size + size > MOST_WAITING_BYTES)
        ):
            return
        self._size += size
        self._queue.put_nowait(message)

    async def get(self) -> str | bytes | None:
        """The next message."""
        message = await self._queue.get()
        self._size -= 0 if message is None else len(message)
        return message


class SocketHub:
    """One outgoing queue per client id, so that a socket that does not read delays nobody else."""

    def __init__(self, queue_status: Callable[[], dict[str, Any]]) -> None:
        self._queue_status = queue_status
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lines: dict[str, _Line] = {}
        self._sockets: set[web.WebSocketResponse] = set()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Says on which loop the sockets live; events before that are dropped."""
        self._loop = loop

    def send(self, event: str, data: dict[str, Any] | bytes, client_id: str | None = None) -> None:
        """Sends an event to one client, or to all if `client_id` is None; bytes are those of a PNG.

        Safe on any thread; never blocks. Costs nothing if nobody listens.
        """
        listened_to = bool(self._lines) if client_id is None else client_id in self._lines
        if self._loop is None or not listened_to:
            return
        if isinstance(data, bytes):
            message: str | bytes = _IMAGE + data
        else:
            message = json.dumps({"type": event, "data": data})
        try:
            self._loop.call_soon_threadsafe(self._deliver, message, client_id)
        except RuntimeError:  # the loop is closed: the server is going down
            log.debug("no one left to hear of %s", event)

    def _deliver(self, message: str | bytes, client_id: str | None) -> None:
        lines = (
            self._lines.values()
            if client_id is None
            else filter(None, [self._lines.get(client_id)])
        )
        for line in list(lines):
            line.put(message)

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """GET /ws?clientId=X. A second socket with the same client id replaces the first."""
        socket = web.WebSocketResponse(timeout=1.0)
        await socket.prepare(request)
        client_id = request.query.get("clientId") or uuid.uuid4().hex
        line = _Line()
        line.put(
            json.dumps(
                {"type": "status", "data": {"status": self._queue_status(), "sid": client_id}}
            )
        )
        self._lines[client_id] = line
        self._sockets.add(socket)
        writer = asyncio.create_task(_write(socket, line))
        try:
            async for message in socket:
                if message.type == WSMsgType.ERROR:
                    break
                if message.type == WSMsgType.TEXT and _asks_for_features(message.data):
                    line.put(json.dumps({"type": "feature_flags", "data": FEATURES}))
        finally:
            self._sockets.discard(socket)
            if self._lines.get(client_id) is line:
                del self._lines[client_id]
            line.put(None)
            writer.cancel()
        return socket

    async def close(self) -> None:
        """Closes every socket, so that the server can stop at once."""
        closing = [socket.close(code=1001, message=b"server stops") for socket in self._sockets]
        await asyncio.gather(*closing, return_exceptions=True)


def _asks_for_features(text: str) -> bool:
    """Whether a client tells what it can do, which is answered with what the engine can."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and message.get("type") == "feature_flags"


async def _write(socket: web.WebSocketResponse, line: _Line) -> None:
    try:
        while (message := await line.get()) is not None:
            if isinstance(message, bytes):
                await socket.send_bytes(message)
            else:
                await socket.send_str(message)
    except (ConnectionError, RuntimeError) as error:
        log.debug("a socket went away: %s", error)
