"""Events to the browsers and clients that listen on /ws."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

log = logging.getLogger(__name__)

# A socket that has not read this many events gets no more; the history has the result anyway.
MAXIMUM_BACKLOG = 10_000


class SocketHub:
    """One outgoing queue per client id, so that a socket that does not read delays nobody else."""

    def __init__(self, queue_status: Callable[[], dict[str, Any]]) -> None:
        self._queue_status = queue_status
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lines: dict[str, asyncio.Queue[str | None]] = {}
        self._sockets: set[web.WebSocketResponse] = set()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Says on which loop the sockets live; events before that are dropped."""
        self._loop = loop

    def send(self, event: str, data: dict[str, Any], client_id: str | None = None) -> None:
        """Sends an event to one client, or to all if `client_id` is None.

        Safe on any thread; never blocks.
        """
        if self._loop is None:
            return
        text = json.dumps({"type": event, "data": data})
        try:
            self._loop.call_soon_threadsafe(self._deliver, text, client_id)
        except RuntimeError:  # the loop is closed: the server is going down
            log.debug("no one left to hear of %s", event)

    def _deliver(self, text: str, client_id: str | None) -> None:
        lines = (
            self._lines.values()
            if client_id is None
            else filter(None, [self._lines.get(client_id)])
        )
        for line in list(lines):
            if line.qsize() < MAXIMUM_BACKLOG:
                line.put_nowait(text)

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """GET /ws?clientId=X. A second socket with the same client id replaces the first."""
        socket = web.WebSocketResponse(timeout=1.0)
        await socket.prepare(request)
        client_id = request.query.get("clientId") or uuid.uuid4().hex
        line: asyncio.Queue[str | None] = asyncio.Queue()
        line.put_nowait(
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
        finally:
            self._sockets.discard(socket)
            if self._lines.get(client_id) is line:
                del self._lines[client_id]
            line.put_nowait(None)
            writer.cancel()
        return socket

    async def close(self) -> None:
        """Closes every socket, so that the server can stop at once."""
        closing = [socket.close(code=1001, message=b"server stops") for socket in self._sockets]
        await asyncio.gather(*closing, return_exceptions=True)


async def _write(socket: web.WebSocketResponse, line: asyncio.Queue[str | None]) -> None:
    try:
        while (text := await line.get()) is not None:
            await socket.send_str(text)
    except (ConnectionError, RuntimeError) as error:
        log.debug("a socket went away: %s", error)
