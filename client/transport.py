"""HTTP and WebSocket to one server: the only file that imports requests and websocket-client.

Every call has time-outs and a size limit; redirects are refused and proxies from the environment are never used, so that
nothing meant for one machine reaches another. Requests that may safely be sent twice are retried with `backoff`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import requests
import urllib3
import websocket

from .errors import ServerRefused, ServerUnreachable, TransferError

log = logging.getLogger(__name__)

MIB = 2**20
_CHUNK = 64 * 1024
# What requests and urllib3 let through of the many ways in which a connection ends.
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
_LATE = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)


class TooLarge(TransferError):
    """More bytes than the limit; trying again does not help."""


def backoff(
    *, first_s: float = 0.2, factor: float = 2.0, most_s: float = 5.0, total_s: float = 15.0
) -> Iterator[float]:
    """Pauses in seconds between attempts, growing up to `most_s`, until together they reach `total_s`."""
    pause, spent = first_s, 0.0
    while spent < total_s:
        yield pause
        spent += pause
        pause = min(pause * factor, most_s)


@dataclass(frozen=True)
class Limits:
    """Time-outs in seconds and sizes in bytes. `read_s` is the longest silence, `whole_s` the longest answer."""

    connect_s: float = 5.0
    read_s: float = 60.0
    whole_s: float = 300.0
    json_bytes: int = 256 * MIB
    file_bytes: int = 256 * MIB


class Transport:
    """Requests to one base URL. Not for use by several threads at once."""

    def __init__(
        self,
        base_url: str,
        *,
        limits: Limits | None = None,
        pauses: Callable[[], Iterator[float]] = backoff,
    ) -> None:
        self.base_url = checked_url(base_url)
        self.shown_url = without_secrets(self.base_url)
        self.limits = limits or Limits()
        self._pauses = pauses
        self._answered = False
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy variable must never redirect a request to loopback

    def close(self) -> None:
        """Closes the connections that are kept open."""
        self._session.close()

    def get_json(self, path: str, *, retry: bool = True) -> Any:
        """The parsed answer of GET.

        Raises:
            ServerUnreachable: no answer, also after retrying.
            ServerRefused: any status but 200, or an answer that is not JSON.
        """
        return self._retried(lambda: self._json("GET", path), retry)

    def post_json(self, path: str, body: Mapping[str, Any], *, retry: bool = False) -> tuple[int, Any]:
        """HTTP status and parsed answer of POST; the answer is None where there is none. Raises as `get_json`."""
        return self._retried(lambda: self._post(path, body), retry)

    def download(self, path: str, params: Mapping[str, str]) -> bytes:
        """A whole file.

        Raises:
            ServerUnreachable: no answer, also after retrying.
            ServerRefused: any status but 200.
            TransferError: larger than the limit, or not as long as was announced, also after retrying.
        """
        return self._retried(lambda: self._download(f"{path}?{urlencode(params)}"), True)

    def _retried(self, call: Callable[[], Any], retry: bool) -> Any:
        for pause in self._pauses() if retry else ():
            try:
                return call()
            except TooLarge:
                raise
            except (ServerUnreachable, TransferError) as error:
                if not self._answered:
                    raise  # nobody was ever there: the address is wrong, and waiting does not mend it
                log.debug("%s; trying again in %.1f s", error, pause)
                time.sleep(pause)
        return call()

    def _json(self, method: str, path: str) -> Any:
        status, data = self._request(method, path, limit=self.limits.json_bytes)
        if status != 200:
            raise ServerRefused(f"{self.shown_url}{path} answered HTTP {status}: {_excerpt(data)}", status=status)
        return self._parsed(path, status, data)

    def _post(self, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        content = json.dumps(body).encode("utf-8")
        status, data = self._request("POST", path, content=content, limit=self.limits.json_bytes)
        if not data.strip() or status >= 500:
            return status, None if status == 200 else _excerpt(data)
        return status, self._parsed(path, status, data)

    def _parsed(self, path: str, status: int, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise ServerRefused(
                f"{self.shown_url}{path} answered HTTP {status} with something that is not JSON ({_excerpt(data)}); "
                "is a ComfyUI server at that address?",
                status=status,
            ) from None

    def _download(self, path: str) -> bytes:
        status, data = self._request("GET", path, limit=self.limits.file_bytes)
        if status != 200:
            raise ServerRefused(f"{self.shown_url}{path} answered HTTP {status}: {_excerpt(data)}", status=status)
        return data

    def _request(self, method: str, path: str, *, limit: int, content: bytes | None = None) -> tuple[int, bytes]:
        headers = {"Accept-Encoding": "identity"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            with self._session.request(
                method,
                self.base_url + path,
                data=content,
                headers=headers,
                timeout=(self.limits.connect_s, self.limits.read_s),
                allow_redirects=False,
                stream=True,
            ) as response:
                self._answered = True
                self._refuse_redirect(path, response)
                if response.status_code in (502, 503, 504):
                    raise ServerUnreachable(f"{self.shown_url} answers HTTP {response.status_code}: it is not ready")
                return response.status_code, self._body(path, response, limit)
        except (ServerRefused, TransferError, ServerUnreachable):
            raise
        except _BROKEN as error:
            raise self._unreachable(error) from error

    def _refuse_redirect(self, path: str, response: requests.Response) -> None:
        if 300 <= response.status_code < 400:
            target = without_secrets(response.headers.get("Location", "nowhere"))
            raise ServerRefused(
                f"{self.shown_url}{path} redirects to {target}; redirects are not followed: give the final address",
                status=response.status_code,
            )

    def _body(self, path: str, response: requests.Response, limit: int) -> bytes:
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) > limit:
            raise TooLarge(f"{self.shown_url}{path} announces {announced} bytes; the limit is {limit}")
        deadline = time.monotonic() + self.limits.whole_s
        data = bytearray()
        # read1 returns what has come, read waits for the whole chunk. Neither unpacks: nothing can swell.
        read = getattr(response.raw, "read1", response.raw.read)
        while chunk := read(_CHUNK):
            data += chunk
            if len(data) > limit:
                raise TooLarge(f"{self.shown_url}{path} sends more than the limit of {limit} bytes")
            if time.monotonic() > deadline:
                raise ServerUnreachable(f"{self.shown_url}{path} is still sending after {self.limits.whole_s:.0f} s")
        if announced.isdecimal() and len(data) != int(announced):
            raise TransferError(f"{self.shown_url}{path} announced {announced} bytes and sent {len(data)}")
        return bytes(data)

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        if isinstance(error, requests.exceptions.SSLError):
            why = f"its certificate was not accepted ({error})"
        elif isinstance(error, requests.ConnectTimeout):
            why = f"no connection within {self.limits.connect_s:.0f} s"
        elif isinstance(error, _LATE):
            why = f"no answer within {self.limits.read_s:.0f} s"
        elif "refused" in str(error).lower():
            why = "connection refused"
        else:
            why = "the connection failed or broke"
        return ServerUnreachable(
            f"no server answers at {self.shown_url} ({why}); start ComfyUI there or check the address, "
            "or use --server embedded"
        )


class EventSocket:
    """The /ws stream of one client id: texts in, nothing out. A hint only: every failure is silence."""

    def __init__(self, base_url: str, client_id: str, *, connect_s: float = 5.0) -> None:
        """Raises ServerUnreachable: no websocket there."""
        parts = urlsplit(base_url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        url = urlunsplit((scheme, parts.netloc, parts.path + "/ws", urlencode({"clientId": client_id}), ""))
        try:
            self._socket = websocket.create_connection(
                url, timeout=connect_s, http_no_proxy=["*"], redirect_limit=0, suppress_origin=True
            )
        except (websocket.WebSocketException, OSError, ValueError) as error:
            raise ServerUnreachable(f"no websocket at {without_secrets(base_url)}/ws: {error}") from error

    def receive(self, *, timeout_s: float) -> str | bytes | None:
        """The next message; None when none came in time.

        Raises:
            ServerUnreachable: the socket is closed or broken.
        """
        self._socket.settimeout(max(timeout_s, 0.001))
        try:
            message = self._socket.recv()
        except websocket.WebSocketTimeoutException:
            return None
        except (websocket.WebSocketException, OSError, ValueError) as error:
            raise ServerUnreachable(f"the websocket closed: {error}") from error
        if message == "" and not self._socket.connected:
            raise ServerUnreachable("the websocket closed")
        return message

    def close(self) -> None:
        """Closes the socket without waiting for the other side."""
        self._socket.shutdown()


def checked_url(url: str) -> str:
    """The base URL without a slash at its end.

    Raises:
        ServerUnreachable: not an http or https address.
    """
    text = url.strip()
    text = (text if "://" in text else "http://" + text).rstrip("/")
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment:
        raise ServerUnreachable(f"'{url}' is not a server address; expected something like http://127.0.0.1:8188")
    return text


def without_secrets(url: str) -> str:
    """The URL without user name, password and query, for messages and records."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return "an address that cannot be read"


def _excerpt(data: bytes) -> str:
    text = " ".join(data[:2000].decode("utf-8", errors="replace").split())
    return (text[:120] + "...") if len(text) > 120 else (text or "nothing")
