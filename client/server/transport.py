"""HTTP to one server.

Every call has timeouts, a time limit as a whole (watch.py), and a size limit. Redirects are
refused, and proxies, netrc files and certificates named by the environment are never used, so that
nothing meant for one machine reaches another. Nothing a server sends is unpacked before its size is
known, and what is shown of it is without secrets (client.wording). Requests that may safely be sent
twice are retried (`backoff`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from typing import Any, TypeVar
from urllib.parse import unquote, urlencode, urlsplit

import requests
import urllib3
from PIL import Image

from comfy_nodes.labelset.images.openimage import OWN_FORMATS

from ..errors import AccessError, ServerRefused, ServerUnreachable, TransferError
from .access import Access, Limits
from .address import checked_url, is_safe, without_secrets
from .event_socket import EventSocket, authorities_file
from .watch import WatchedSession

log = logging.getLogger(__name__)

T = TypeVar("T")

_CHUNK = 64 * 1024
_SHOWN_BYTES = 8000  # of an answer that is shown in part
# What requests and urllib3 raise for the many ways in which a connection ends.
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
_LATE = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)


class TooLarge(TransferError):
    """More bytes than the limit; trying again does not help."""


def backoff(
    *, first_s: float = 0.2, factor: float = 2.0, most_s: float = 5.0, total_s: float = 15.0
) -> Iterator[float]:
    """Pauses in seconds between attempts, growing up to `most_s`, up to `total_s` in all."""
    pause, spent = first_s, 0.0
    while spent < total_s:
        yield pause
        spent += pause
        pause = min(pause * factor, most_s)


class Transport:
    """Requests to one base URL. For one thread at a time."""

    def __init__(
        self,
        base_url: str,
        *,
        access: Access | None = None,
        limits: Limits | None = None,
        pauses: Callable[[], Iterator[float]] = backoff,
    ) -> None:
        """`limits` override those of `access`; user and password in the URL mean `access.basic`."""
        self.base_url, found = _with_access_of(checked_url(base_url), access or Access())
        self.access = found.for_server(self.base_url)
        self.shown_url = without_secrets(self.base_url)
        self.limits = limits or self.access.limits
        self._pauses = pauses
        self._answered = False
        # Since when a request has waited for its server (monotonic); None between requests.
        self.busy_since: float | None = None
        self._session = WatchedSession()
        # A proxy variable must never redirect a request to loopback.
        self._session.trust_env = False
        self._session.verify = authorities_file(self.access)
        self._session.headers.update(self.access.sent_headers())
        if self.access.sent_headers() and not is_safe(self.base_url):
            log.warning(
                "%s is not https: its token, password or headers can be read on the way",
                self.shown_url,
            )

    def open_socket(self, client_id: str) -> EventSocket:
        """The server's stream of events. Raises ServerUnreachable if there is no websocket."""
        return EventSocket(self.base_url, client_id, access=self.access, limits=self.limits)

    def close(self) -> None:
        """Closes the connections that were kept open."""
        self._session.close()

    def get_json(self, path: str, *, retry: bool = True) -> Any:
        """The parsed answer of GET.

        Raises:
            ServerUnreachable: no answer, even after retrying.
            ServerRefused: any status but 200, or an answer that is not JSON.
        """
        return self._retried(lambda: self._json("GET", path), retry)

    def post_json(
        self, path: str, body: Mapping[str, Any], *, retry: bool = False
    ) -> tuple[int, Any]:
        """HTTP status and parsed answer (None if empty) of POST. Raises as `get_json`."""
        return self._retried(lambda: self._post(path, body), retry)

    def download(self, path: str, params: Mapping[str, str]) -> bytes:
        """A whole file.

        Raises:
            ServerUnreachable: no answer, even after retrying.
            ServerRefused: any status but 200.
            TransferError: larger than the limit, packed or unpacked; a page instead of a file; or
                not as long as announced, even after retrying.
        """
        return self._retried(lambda: self._download(f"{path}?{urlencode(params)}"), True)

    def _retried(self, call: Callable[[], T], retry: bool) -> T:
        for pause in self._pauses() if retry else ():
            try:
                return call()
            except TooLarge:
                raise
            except (ServerUnreachable, TransferError) as error:
                if not self._answered:
                    raise  # nobody ever answered: the address is wrong, and waiting will not help
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
            return json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError):
            raise ServerRefused(
                f"{self.shown_url}{path} answered HTTP {status} with something that is not JSON "
                f"({self._excerpt(data)}); "
                "is a ComfyUI server at that address?",
                status=status,
            ) from None

    def _download(self, path: str) -> bytes:
        status, kind, data = self._request("GET", path, limit=self.limits.file_bytes)
        if status != 200:
            raise self._refused(path, status, data)
        if kind.startswith("text/") or kind == "application/json":
            raise TransferError(
                f"{self.shown_url}{path} answered with {self.access.shown(kind)[:60]}, "
                f"not an image: {self._excerpt(data)}"
            )
        _refuse_giant(data, self.limits.image_pixels, f"{self.shown_url}{path}")
        return data

    def _refused(self, path: str, status: int, data: bytes) -> ServerRefused:
        advice = {
            401: "; give its token or password "
            "(--token-env, --token-file, --basic-env, --basic-file)",
            403: "; the token or password given is not accepted",
        }.get(status, "")
        said = f"{self.shown_url}{path} answered HTTP {status}: {self._excerpt(data)}{advice}"
        return ServerRefused(said, status=status)

    def _excerpt(self, data: bytes) -> str:
        """The beginning of an answer, as it may be shown."""
        text = data[:_SHOWN_BYTES].decode("utf-8", errors="replace")
        if len(data) > _SHOWN_BYTES:  # a secret that is cut off would not be recognised
            text = text[: -_SHOWN_BYTES // 2]
        text = self.access.shown(" ".join(text.split()))
        return (text[:120] + "...") if len(text) > 120 else (text or "nothing")

    def _request(
        self, method: str, path: str, *, limit: int, content: bytes | None = None
    ) -> tuple[int, str, bytes]:
        """(HTTP status, content type, body)."""
        headers = {"Accept-Encoding": "identity"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            with (
                self._limited(path),
                self._session.request(
                    method,
                    self.base_url + path,
                    data=content,
                    headers=headers,
                    timeout=(self.limits.connect_s, self.limits.read_s),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
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

    @contextlib.contextmanager
    def _limited(self, path: str) -> Iterator[None]:
        """A request within the time for the whole of it: what is cut off is an error, not short."""
        late = ServerUnreachable(
            f"{self.shown_url}{path} is still sending after {self.limits.whole_s:g} s"
        )
        self.busy_since = time.monotonic()
        try:
            with self._session.watch.limit(self.limits.whole_s):
                yield
        except Exception as error:
            if self._session.watch.late:
                raise late from error
            raise
        finally:
            self.busy_since = None
        if self._session.watch.late:
            raise late

    def _refuse_redirect(self, path: str, response: requests.Response) -> None:
        if 300 <= response.status_code < 400:
            target = without_secrets(response.headers.get("Location", "nowhere"))
            raise ServerRefused(
                f"{self.shown_url}{path} redirects to {self.access.shown(target)[:200]}; "
                "redirects are not followed: give the final address",
                status=response.status_code,
            )

    def _body(self, path: str, response: requests.Response, limit: int) -> bytes:
        packed = response.headers.get("Content-Encoding", "identity").strip().lower()
        if packed not in ("", "identity"):
            raise TransferError(
                f"{self.shown_url}{path} answers packed with {self.access.shown(packed)[:20]}, "
                "which was not asked for"
            )
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) > limit:
            raise TooLarge(
                f"{self.shown_url}{path} announces {announced} bytes; the limit is {limit}"
            )
        begun = time.monotonic()
        data = bytearray()
        # read1 returns what has arrived; read waits for the whole chunk. Neither unpacks anything.
        read = getattr(response.raw, "read1", response.raw.read)
        while chunk := read(_CHUNK):
            data += chunk
            if len(data) > limit:
                raise TooLarge(f"{self.shown_url}{path} sends more than the limit of {limit} bytes")
            self._check_speed(path, len(data), time.monotonic() - begun)
        if announced.isdecimal() and len(data) != int(announced):
            raise TransferError(
                f"{self.shown_url}{path} announced {announced} bytes and sent {len(data)}"
            )
        return bytes(data)

    def _check_speed(self, path: str, received: int, seconds: float) -> None:
        if received >= seconds * self.limits.least_bytes_per_s:
            self.busy_since = time.monotonic()
        elif seconds > self.limits.slow_s:
            raise ServerUnreachable(
                f"{self.shown_url}{path} sends {received / seconds:.0f} bytes/s after "
                f"{seconds:.0f} s; expected at least {self.limits.least_bytes_per_s:g}: "
                "check the network"
            )

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        if isinstance(error, requests.exceptions.SSLError):
            problem = _certificate_problem(error)
            why = f"its certificate was not accepted ({problem}); give its authority with --ca-file"
        elif isinstance(error, requests.ConnectTimeout):
            why = f"no connection within {self.limits.connect_s:g} s"
        elif isinstance(error, _LATE):
            why = f"no answer within {self.limits.read_s:g} s"
        elif "refused" in str(error).lower():
            why = "connection refused"
        else:
            why = "the connection failed or broke"
        return ServerUnreachable(
            f"no server answers at {self.shown_url} ({why}); start ComfyUI there or check the "
            "address, or use --server embedded"
        )


def _certificate_problem(error: Exception) -> str:
    """The reason in an error of several layers."""
    found = re.search(r"certificate verify failed: ([^(\n]+)|(\[SSL[^\n]*)", str(error))
    return (
        " ".join((found[1] or found[2]).split())[:200]
        if found
        else "the connection is not TLS, or not readable"
    )


def _with_access_of(url: str, access: Access) -> tuple[str, Access]:
    """The URL without user name and password, and the access with them."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url, access
    if access.sent_headers().get("Authorization") or access.basic is not None:
        raise AccessError(
            f"{without_secrets(url)}: the address holds a user name, "
            "and a token or password is given too"
        )
    basic = (unquote(parts.username or ""), unquote(parts.password or ""))
    return without_secrets(url), replace(access, basic=basic)


def _refuse_giant(data: bytes, most_pixels: int, where: str) -> None:
    """Refuses an image by the size in its header, before it is unpacked; lets non-images pass."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=OWN_FORMATS) as image:
                width, height = image.size
    except Image.DecompressionBombError as error:
        raise TooLarge(f"{where} sends an image that is too large: {error}") from None
    except (OSError, SyntaxError, ValueError):
        return
    if width * height > most_pixels:
        raise TooLarge(
            f"{where} sends an image of {width}x{height} pixels; the limit is {most_pixels} pixels"
        )
