"""Which servers a run may use: `ServerSpec`, a file of them, and how to reopen a lost server.

servers.json                                        servers.toml (Python 3.11 or newer)
    [{"url": "http://10.0.0.5:8188"},                   [[servers]]
     {"url": "https://gpu.example",                     url = "https://gpu.example"
      "name": "big", "weight": 2,                       name = "big"
      "token_env": "BIG_TOKEN"}]                        weight = 2
                                                        token_env = "BIG_TOKEN"

An entry may also have "output_directory", "token", and every setting of access.py ("token_file",
"ca_file", "read_s", ...).
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from ..errors import ClientError, ServerUnreachable
from .access import Access, access_from
from .address import checked_url, without_secrets
from .server import ComfyServer
from .transport import backoff

log = logging.getLogger(__name__)

_OWN_KEYS = {"url", "name", "weight", "token", "output_directory"}


class ServerSource(Protocol):
    """Opens a server for a run, and again when it is lost."""

    def open(self) -> ComfyServer:
        """The server, for the calling thread. Raises ServerUnreachable."""

    def replace(self, error: ServerUnreachable) -> ComfyServer:
        """The server to try after `error`. Raises ServerUnreachable if trying again is useless."""


@dataclass(frozen=True)
class GivenServer:
    """A server handle that its owner opened and closes."""

    server: ComfyServer

    def open(self) -> ComfyServer:
        """The server itself."""
        return self.server

    def replace(self, error: ServerUnreachable) -> ComfyServer:
        """The same server: it may come back."""
        return self.server


@dataclass(frozen=True)
class ServerSpec:
    """A server by its address.

    Args:
        name: its name in messages and records; host and port by default.
        weight: scales how many jobs it has at a time; 1 means two, one running and one waiting.
        access: token, certificate, headers and timeouts; never shown.
        output_directory: the server's output folder, where this machine can reach it: images are
            moved out of it instead of being downloaded.

    Raises:
        ClientError: an invalid address, or a weight that is not between 0.5 and 100.
    """

    url: str
    name: str = ""
    weight: float = 1.0
    access: Access = field(default_factory=Access, repr=False)
    output_directory: Path | None = None

    def __post_init__(self) -> None:
        url = checked_url(self.url)
        object.__setattr__(self, "url", url)
        if not self.name:
            object.__setattr__(self, "name", urlsplit(without_secrets(url)).netloc)
        if not isinstance(self.weight, (int, float)) or not (
            math.isfinite(self.weight) and 0.5 <= self.weight <= 100
        ):
            raise ClientError(
                f"server {self.name}: weight is {self.weight!r}; expected a number from 0.5 to 100"
            )
        if self.output_directory is not None:
            object.__setattr__(self, "output_directory", Path(self.output_directory).expanduser())


@dataclass(frozen=True)
class Patience:
    """How long a run waits for what, in seconds.

    Args:
        answer_s: the longest silence of a server after a request.
        stall_s: a server on which nothing moves for this long hangs, and its jobs go to others.
        silent_s: a server that keeps one request waiting for this long loses its jobs to the
            others, if there are any.
        probe_s: the pause before a lost server is tried again; it doubles each time, up to
            `probe_most_s`.
        give_up_s: the run ends when no server was usable for this long.

    Raises:
        ClientError: a time that is not positive.
    """

    answer_s: float = 30.0
    stall_s: float = 900.0
    silent_s: float = 60.0
    probe_s: float = 0.5
    probe_most_s: float = 15.0
    give_up_s: float = 300.0

    def __post_init__(self) -> None:
        for each in fields(self):
            if not getattr(self, each.name) > 0:
                raise ClientError(
                    f"{each.name} is {getattr(self, each.name)!r}; expected seconds above 0"
                )


@dataclass(frozen=True)
class Seat:
    """A server's place in a run. `stays_open`: its owner, not the run, closes the handle."""

    name: str
    source: ServerSource
    weight: float = 1.0
    output_directory: Path | None = None
    stays_open: bool = True


@dataclass(frozen=True)
class _Addressed:
    """A server that the run opens and closes. The run retries by itself, so requests need not."""

    spec: ServerSpec
    patience: Patience

    def open(self) -> ComfyServer:
        access, answer_s = self.spec.access, self.patience.answer_s
        limits = replace(
            access.limits,
            connect_s=min(access.limits.connect_s, answer_s),
            read_s=min(access.limits.read_s, answer_s),
        )
        pauses = partial(
            backoff,
            first_s=min(0.2, self.patience.probe_s),
            total_s=min(2.0, 4 * self.patience.probe_s),
        )
        poll_s = min(2.0, self.patience.stall_s / 8)
        return ComfyServer(
            self.spec.url,
            access=access,
            limits=limits,
            poll_s=poll_s,
            stall_s=self.patience.stall_s,
            pauses=pauses,
        )

    def replace(self, error: ServerUnreachable) -> ComfyServer:
        return self.open()


AnyServer: TypeAlias = str | ServerSpec | ComfyServer | ServerSource


def seats_of(servers: AnyServer | Sequence[AnyServer], *, patience: Patience) -> list[Seat]:
    """The servers with distinct names; nothing is connected yet.

    Raises:
        ClientError: no server, an invalid address, or the same server or name twice.
    """
    several = (
        servers if isinstance(servers, Sequence) and not isinstance(servers, str) else [servers]
    )
    seats = [_seat(each, patience) for each in several]
    if not seats:
        raise ClientError("no server; give one with --server URL or --servers FILE")
    twice = [name for name, count in Counter(seat.name for seat in seats).items() if count > 1]
    if twice:
        raise ClientError(
            f"server '{twice[0]}' is given twice; give every server once, with its own name"
        )
    return seats


def _seat(server: AnyServer, patience: Patience) -> Seat:
    spec = ServerSpec(server) if isinstance(server, str) else server
    if isinstance(spec, ServerSpec):
        return Seat(
            spec.name,
            _Addressed(spec, patience),
            spec.weight,
            spec.output_directory,
            stays_open=False,
        )
    if isinstance(spec, ComfyServer):
        return Seat(urlsplit(spec.url).netloc, GivenServer(spec))
    if isinstance(spec, GivenServer):
        return Seat(urlsplit(spec.server.url).netloc, spec)
    return Seat(getattr(spec, "name", "embedded"), spec)


def read_servers(path: Path | str) -> tuple[ServerSpec, ...]:
    """The servers in a JSON or TOML file: a list, or an object with the list under "servers".

    `token_env` names an environment variable that holds the token.

    Raises:
        ClientError: the file cannot be read, or an entry, which the message names, is not a server.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(
            f"cannot read the servers file {path}: {error}; expected JSON or TOML"
        ) from error
    try:
        value = _parsed(path, text)
    except (ValueError, RecursionError) as error:
        raise ClientError(
            f"{path} is not valid {path.suffix.lstrip('.') or 'JSON'}: {error}"
        ) from error
    entries = value.get("servers") if isinstance(value, dict) else value
    if not isinstance(entries, list) or not entries:
        raise ClientError(f'{path} lists no servers; expected [{{"url": "http://127.0.0.1:8188"}}]')
    return tuple(_spec(path, number, entry) for number, entry in enumerate(entries, 1))


class ServersFile:
    """A servers file that may change while a run goes on. Good for one thread.

    `every_s` is how often it is looked at; only a changed file is read.
    """

    def __init__(self, path: Path | str, *, every_s: float = 2.0) -> None:
        self.path = Path(path).expanduser()
        self._every_s = every_s
        self._looked = time.monotonic()
        self._stamp = self._now()
        self.specs = read_servers(self.path)

    def changed(self) -> tuple[ServerSpec, ...] | None:
        """The servers that it lists now, if it changed since the last look; else None.

        A file that cannot be read, as while somebody saves it, counts as unchanged: a warning
        says so, and the next look tries again once it has changed.
        """
        if time.monotonic() - self._looked < self._every_s:
            return None
        self._looked = time.monotonic()
        stamp = self._now()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            self.specs = read_servers(self.path)
        except ClientError as error:
            log.warning("warning: %s; the servers stay as they are", error)
            return None
        return self.specs

    def _now(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


def _parsed(path: Path, text: str) -> Any:
    if path.suffix.lower() != ".toml":
        return json.loads(text)
    if sys.version_info < (3, 11):
        raise ClientError(f"{path}: TOML needs Python 3.11 or newer; write the servers as JSON")
    return import_module("tomllib").loads(text)


def _spec(path: Path, number: int, entry: Any) -> ServerSpec:
    where = f"{path}, server {number}"
    if isinstance(entry, str):
        entry = {"url": entry}
    if not isinstance(entry, Mapping) or not isinstance(entry.get("url"), str):
        raise ClientError(f'{where} has no url; expected {{"url": "http://127.0.0.1:8188"}}')
    for key in {"name", "token", "output_directory"} & set(entry):
        if not isinstance(entry[key], str):
            raise ClientError(f"{where}: {key} must be a string")
    try:
        access = access_from({key: value for key, value in entry.items() if key not in _OWN_KEYS})
        if "token" in entry and access.token:
            raise ClientError("give one of token, token_env and token_file, not several")
        access = replace(access, token=entry["token"]) if "token" in entry else access
        directory = Path(entry["output_directory"]) if "output_directory" in entry else None
        return ServerSpec(
            entry["url"], entry.get("name", ""), entry.get("weight", 1.0), access, directory
        )
    except ClientError as error:
        raise ClientError(f"{where}: {error}") from error
