"""A time limit on HTTP requests as a whole, whatever part of them a server makes last.

The time-outs of sockets start anew with every byte. A server that drips, in its status line,
headers, chunk sizes or trailers, would hold a request for ever; here it is cut off.

    session = WatchedSession()
    with session.watch.limit(300.0):
        session.get(url, stream=True).raw.read()    # ends within 300 s; watch.late says whether so
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class Watch:
    """Cuts the connection of a session, which serves one thread, when a request takes too long."""

    def __init__(self) -> None:
        self.late = False  # whether the latest request was cut off
        self._lock = threading.Lock()
        self._line: socket.socket | None = None

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """The block may use the connection for so long."""
        self.late = False
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            self._let_go()

    def hold(self, connection: socket.socket) -> None:
        """The connection that the request uses from now on.

        Held by a handle of its own: TLS takes the socket itself over, and a connection that is to
        be closed is put away before its body is read.
        """
        with self._lock:
            if self._line is not None:
                self._line.close()
            self._line = socket.fromfd(connection.fileno(), connection.family, connection.type)
            if self.late:
                self._shut_down()

    def _cut(self) -> None:
        with self._lock:
            self.late = True
            self._shut_down()

    def _shut_down(self) -> None:
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)

    def _let_go(self) -> None:
        with self._lock:
            if self._line is not None:
                self._line.close()
            self._line = None


class WatchedSession(requests.Session):
    """A session with a `watch`. It never looks at where a redirect leads, or at its body."""

    def __init__(self) -> None:
        super().__init__()
        self.watch = Watch()
        adapter = _Adapter(self.watch)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere: to prepare the next request, `requests` would read the whole body of this."""


class _Adapter(HTTPAdapter):
    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {
            "http": _pool(HTTPConnectionPool, HTTPConnection, self._watch),
            "https": _pool(HTTPSConnectionPool, HTTPSConnection, self._watch),
        }


def _pool(pool: type[Any], connection: type[Any], watch: Watch) -> type[Any]:
    """A pool whose connections are held by `watch` during every request."""

    class Watched(connection):  # type: ignore[misc]
        def _new_conn(self) -> socket.socket:
            line: socket.socket = super()._new_conn()
            watch.hold(line)
            return line

        def request(self, *arguments: Any, **options: Any) -> None:
            if self.sock is not None:  # kept open since an earlier request
                watch.hold(self.sock)
            super().request(*arguments, **options)

    class Pool(pool):  # type: ignore[misc]
        ConnectionCls = Watched

    return Pool
