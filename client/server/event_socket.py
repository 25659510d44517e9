"""The websocket of one server: the only file that imports websocket-client.

The handshake as a whole and every message are bounded in time and size. Redirects are refused, and
proxies named by the environment are never used: both would carry a token to another machine.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import websocket
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from ..errors import ServerUnreachable
from .access import Access, Limits
from .address import without_secrets


class EventSocket:
    """The /ws stream of one client id: receives only. It is a hint: a failure means silence."""

    def __init__(
        self,
        base_url: str,
        client_id: str,
        *,
        access: Access | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Raises ServerUnreachable if there is no websocket."""
        access = (access or Access()).for_server(base_url)
        limits = limits or access.limits
        parts = urlsplit(base_url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        query = urlencode({"clientId": client_id})
        try:
            self._socket: _BoundedSocket = websocket.create_connection(
                urlunsplit((scheme, parts.netloc, parts.path + "/ws", query, "")),
                timeout=limits.connect_s,
                class_=_BoundedSocket,
                header=access.sent_headers(),
                sslopt={"ca_certs": authorities_file(access)},
                http_no_proxy=["*"],
                redirect_limit=0,
                suppress_origin=True,
            )
        except (websocket.WebSocketException, OSError, ValueError) as error:
            why = access.shown(str(error))[:300]
            raise ServerUnreachable(
                f"no websocket at {without_secrets(base_url)}/ws: {why}"
            ) from None
        self._access = access
        self._socket.message_bytes = limits.message_bytes

    def receive(self, *, timeout_s: float) -> str | bytes | None:
        """The next message; None if none arrived in time.

        Raises:
            ServerUnreachable: the socket is closed or broken.
        """
        self._socket.settimeout(max(timeout_s, 0.001))
        self._socket.deadline = time.monotonic() + timeout_s
        try:
            message = self._socket.recv()
        except websocket.WebSocketTimeoutException:
            return None
        except (websocket.WebSocketException, OSError, ValueError) as error:
            why = self._access.shown(str(error))[:200]
            raise ServerUnreachable(f"the websocket closed: {why}") from error
        if message == "" and not self._socket.connected:
            raise ServerUnreachable("the websocket closed")
        return message

    def close(self) -> None:
        """Closes the socket without waiting for the other side."""
        self._socket.shutdown()


class _BoundedSocket(websocket.WebSocket):  # type: ignore[misc]  # has no type hints
    """A websocket on which a server can neither fill the memory nor stall us with dripping bytes.

    websocket-client limits neither the size of a message nor the time that one takes, and `_recv`
    is the one place where it reads. (`websockets` has both limits, but it goes on reading, without
    an error, from a server that it refused, logs the token at DEBUG, and follows redirects.)
    """

    message_bytes = 0
    deadline = math.inf
    _taken = 0

    def connect(self, url: str, **options: Any) -> None:
        """Connects, with a time limit on the handshake as a whole."""
        watchdog = threading.Timer(2 * (self.gettimeout() or 5.0), self._cut)
        watchdog.daemon = True
        watchdog.start()
        try:
            super().connect(url, **options)
        finally:
            watchdog.cancel()

    def _cut(self) -> None:
        with contextlib.suppress(OSError):
            if self.sock is not None:
                self.sock.shutdown(socket.SHUT_RDWR)

    def recv(self) -> str | bytes:
        """The next message."""
        message: str | bytes = super().recv()
        self._taken = 0
        return message

    def _recv(self, bufsize: int) -> bytes:
        if time.monotonic() > self.deadline:
            raise websocket.WebSocketTimeoutException("the message is not complete")
        data: bytes = super()._recv(bufsize)
        self._taken += len(data)
        if self._taken > self.message_bytes:
            raise websocket.WebSocketPayloadException(
                f"a message of more than {self.message_bytes} bytes"
            )
        return data


def authorities_file(access: Access) -> str:
    """The PEM file of trusted authorities: the user's own, else those of requests."""
    return str(access.ca_file or DEFAULT_CA_BUNDLE_PATH)
