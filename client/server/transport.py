"""HTTP and WebSocket to one server: the only file that imports requests and websocket-client.

Every call has time-outs and a size limit; redirects are refused and proxies, netrc files and certificates named by the
environment are never used, so that nothing meant for one machine reaches another. What a server sends is never unpacked
before its size is known, and secrets are taken out of it. Requests that may safely be sent twice are retried (`backoff`).
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import math
import re
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit

import requests
import urllib3
import websocket
from PIL import Image
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from ..errors import AccessError, ServerRefused, ServerUnreachable, TransferError
from .access import Access, Limits

log = logging.getLogger(__name__)

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


class Transport:
    """Requests to one base URL. Not for use by several threads at once."""

    def __init__(
        self,
        base_url: str,
        *,
        access: Access | None = None,
        limits: Limits | None = None,
        pauses: Callable[[], Iterator[float]] = backoff,
    ) -> None:
        """`limits` go before those of `access`. A user name and password in the URL count as `access.basic`."""
        self.base_url, self.access = _with_access_of(checked_url(base_url), access or Access())
        self.shown_url = without_secrets(self.base_url)
        self.limits = limits or self.access.limits
        self._pauses = pauses
        self._answered = False
        self._session = requests.Session()
        self._session.trust_env = (
            False  # a proxy variable must never redirect a request to loopback
        )
        self._session.verify = _certificates(self.access)
        self._session.headers.update(self.access.sent_headers())
        if self.access.sent_headers() and not _is_safe(self.base_url):
            log.warning(
                "%s is not https: its token, password or headers can be read on the way",
                self.shown_url,
            )

    def open_socket(self, client_id: str) -> EventSocket:
        """The server's stream of events, reached in the same way. Raises ServerUnreachable: no websocket there."""
        return EventSocket(self.base_url, client_id, access=self.access, limits=self.limits)

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

    def post_json(
        self, path: str, body: Mapping[str, Any], *, retry: bool = False
    ) -> tuple[int, Any]:
        """HTTP status and parsed answer of POST; the answer is None where there is none. Raises as `get_json`."""
        return self._retried(lambda: self._post(path, body), retry)

    def download(self, path: str, params: Mapping[str, str]) -> bytes:
        """A whole file.

        Raises:
            ServerUnreachable: no answer, also after retrying.
            ServerRefused: any status but 200.
            TransferError: larger than the limit, also when unpacked, or a page instead of a file; or not as long as was
                announced, also after retrying.
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
        status, _, data = self._request(method, path, limit=self.limits.json_bytes)
        if status != 200:
            raise self._refused(path, status, data)
        return self._parsed(path, status, data)

    def _post(self, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        content = json.dumps(body).encode("utf-8")
        status, _, data = self._request("POST", path, content=content, limit=self.limits.json_bytes)
        if not data.strip() or status >= 500:
            return status, None if status == 200 else self._excerpt(data)
        return status, self._parsed(path, status, data)

    def _parsed(self, path: str, status: int, data: bytes) -> Any:
        try:
            return json.loads(self.access.hide(data.decode("utf-8")))
        except (ValueError, RecursionError):
            raise ServerRefused(
                f"{self.shown_url}{path} answered HTTP {status} with something that is not JSON ({self._excerpt(data)}); "
                "is a ComfyUI server at that address?",
                status=status,
            ) from None

    def _download(self, path: str) -> bytes:
        status, kind, data = self._request("GET", path, limit=self.limits.file_bytes)
        if status != 200:
            raise self._refused(path, status, data)
        if kind.startswith("text/") or kind == "application/json":
            raise TransferError(
                f"{self.shown_url}{path} answered with {kind}, not an image: {self._excerpt(data)}"
            )
        _refuse_giant(data, self.limits.image_pixels, f"{self.shown_url}{path}")
        return data

    def _refused(self, path: str, status: int, data: bytes) -> ServerRefused:
        advice = {
            401: "; give its token or password (--token-env, --token-file, --basic-env, --basic-file)",
            403: "; the token or password given is not accepted",
        }.get(status, "")
        said = f"{self.shown_url}{path} answered HTTP {status}: {self._excerpt(data)}{advice}"
        return ServerRefused(said, status=status)

    def _excerpt(self, data: bytes) -> str:
        text = " ".join(self.access.hide(data[:2000].decode("utf-8", errors="replace")).split())
        return (text[:120] + "...") if len(text) > 120 else (text or "nothing")

    def _request(
        self, method: str, path: str, *, limit: int, content: bytes | None = None
    ) -> tuple[int, str, bytes]:
        """(HTTP status, content type, body)."""
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
                    raise ServerUnreachable(
                        f"{self.shown_url} answers HTTP {response.status_code}: it is not ready"
                    )
                kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                return response.status_code, kind, self._body(path, response, limit)
        except (ServerRefused, TransferError, ServerUnreachable):
            raise
        except _BROKEN as error:
            raise self._unreachable(error) from error

    def _refuse_redirect(self, path: str, response: requests.Response) -> None:
        if 300 <= response.status_code < 400:
            target = without_secrets(response.headers.get("Location", "nowhere"))
            raise ServerRefused(
                f"{self.shown_url}{path} redirects to {self.access.hide(target)[:200]}; redirects are not followed: give the final address",
                status=response.status_code,
            )

    def _body(self, path: str, response: requests.Response, limit: int) -> bytes:
        packed = response.headers.get("Content-Encoding", "identity").strip().lower()
        if packed not in ("", "identity"):
            raise TransferError(
                f"{self.shown_url}{path} answers packed with {packed[:20]}, which was not asked for"
            )
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) > limit:
            raise TooLarge(
                f"{self.shown_url}{path} announces {announced} bytes; the limit is {limit}"
            )
        deadline = time.monotonic() + self.limits.whole_s
        data = bytearray()
        # read1 returns what has come, read waits for the whole chunk. Neither unpacks: nothing can swell.
        read = getattr(response.raw, "read1", response.raw.read)
        while chunk := read(_CHUNK):
            data += chunk
            if len(data) > limit:
                raise TooLarge(f"{self.shown_url}{path} sends more than the limit of {limit} bytes")
            if time.monotonic() > deadline:
                raise ServerUnreachable(
                    f"{self.shown_url}{path} is still sending after {self.limits.whole_s:g} s"
                )
        if announced.isdecimal() and len(data) != int(announced):
            raise TransferError(
                f"{self.shown_url}{path} announced {announced} bytes and sent {len(data)}"
            )
        return bytes(data)

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        if isinstance(error, requests.exceptions.SSLError):
            why = f"its certificate was not accepted ({_certificate_problem(error)}); give its authority with --ca-file"
        elif isinstance(error, requests.ConnectTimeout):
            why = f"no connection within {self.limits.connect_s:g} s"
        elif isinstance(error, _LATE):
            why = f"no answer within {self.limits.read_s:g} s"
        elif "refused" in str(error).lower():
            why = "connection refused"
        else:
            why = "the connection failed or broke"
        return ServerUnreachable(
            f"no server answers at {self.shown_url} ({why}); start ComfyUI there or check the address, "
            "or use --server embedded"
        )


class _BoundedSocket(websocket.WebSocket):
    """A websocket that a server can neither fill the memory with nor hold up with dripping bytes."""

    message_bytes = 0
    deadline = math.inf
    _taken = 0

    def connect(self, url: str, **options: Any) -> None:
        """Connects, with an end to the hand-shake as a whole."""
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


def _certificate_problem(error: Exception) -> str:
    """The reason in an error of several layers."""
    found = re.search(r"certificate verify failed: ([^(\n]+)|(\[SSL[^\n]*)", str(error))
    return (
        " ".join((found[1] or found[2]).split())[:200]
        if found
        else "the connection is not TLS, or not readable"
    )


class EventSocket:
    """The /ws stream of one client id: texts in, nothing out. A hint only: every failure is silence."""

    def __init__(
        self,
        base_url: str,
        client_id: str,
        *,
        access: Access | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Raises ServerUnreachable: no websocket there."""
        access = access or Access()
        limits = limits or access.limits
        parts = urlsplit(base_url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        url = urlunsplit(
            (scheme, parts.netloc, parts.path + "/ws", urlencode({"clientId": client_id}), "")
        )
        try:
            self._socket: _BoundedSocket = websocket.create_connection(
                url,
                timeout=limits.connect_s,
                class_=_BoundedSocket,
                header=access.sent_headers(),
                sslopt={"ca_certs": _certificates(access)},
                http_no_proxy=["*"],
                redirect_limit=0,
                suppress_origin=True,
            )
        except (websocket.WebSocketException, OSError, ValueError) as error:
            why = access.hide(str(error))[:300]
            raise ServerUnreachable(
                f"no websocket at {without_secrets(base_url)}/ws: {why}"
            ) from None
        self._socket.message_bytes = limits.message_bytes

    def receive(self, *, timeout_s: float) -> str | bytes | None:
        """The next message; None when none came in time.

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
            raise ServerUnreachable(f"the websocket closed: {str(error)[:200]}") from error
        if message == "" and not self._socket.connected:
            raise ServerUnreachable("the websocket closed")
        return message

    def close(self) -> None:
        """Closes the socket without waiting for the other side."""
        self._socket.shutdown()


def _certificates(access: Access) -> str:
    """The file with the authorities that count: the user's own, else those that come with requests."""
    return str(access.ca_file) if access.ca_file else str(DEFAULT_CA_BUNDLE_PATH)


def _with_access_of(url: str, access: Access) -> tuple[str, Access]:
    """The URL without user name and password, and the access with them."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url, access
    if access.sent_headers().get("Authorization") or access.basic is not None:
        raise AccessError(
            f"{without_secrets(url)}: the address holds a user name, and a token or password is given too"
        )
    basic = (unquote(parts.username or ""), unquote(parts.password or ""))
    return without_secrets(url), replace(access, basic=basic)


def _is_safe(url: str) -> bool:
    """Whether nobody on the way can read what is sent: https, or the machine itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse_giant(data: bytes, most_pixels: int, where: str) -> None:
    """Looks at the size in an image's header, before anybody unpacks it. What is no image is for others to refuse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data)) as image:
                width, height = image.size
    except Image.DecompressionBombError as error:
        raise TooLarge(f"{where} sends an image that is too large: {error}") from None
    except (OSError, SyntaxError, ValueError):
        return
    if width * height > most_pixels:
        raise TooLarge(
            f"{where} sends an image of {width}x{height} pixels; the limit is {most_pixels} pixels"
        )


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
        raise ServerUnreachable(
            f"'{url}' is not a server address; expected something like http://127.0.0.1:8188"
        )
    return text


def without_secrets(url: str) -> str:
    """The URL without user name, password and query, for messages and records."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return "an address that cannot be read"
