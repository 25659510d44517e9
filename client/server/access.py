"""How a server is reached: secrets, certificate, timeouts. No network.

Secrets come from the environment or from files, never from a command line, and stay out of every
message.

    access = load_access(token_env="COMFY_TOKEN", ca_file=Path("our-ca.pem"))
    ComfyServer("https://gpu-1.example:8188", access=access)
"""

from __future__ import annotations

import base64
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import AccessError
from ..wording import hide, printable, with_texts
from .address import origin_of

MIB = 2**20
MOST_SECRET_BYTES = 64 * 1024
# A shorter value of a header, such as "1" or "yes", is a setting: hiding it would garble messages.
_SHORTEST_SECRET_HEADER = 5
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = {
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "accept-encoding",
    "upgrade",
}


@dataclass(frozen=True)
class Limits:
    """Timeouts in seconds and sizes in bytes.

    Args:
        connect_s: the longest wait for a connection.
        read_s: the longest silence of the server.
        whole_s: the longest time that one request may take, from connecting to the last byte.
        slow_s: an answer that takes longer than this must come with `least_bytes_per_s`.
        job_s: the longest time that one queued job may run, even if it moves.
        message_bytes: the largest message on the websocket.
        image_pixels: the largest size, width times height, of a downloaded image once decoded.

    Raises:
        AccessError: a limit is not positive.
    """

    connect_s: float = 5.0
    read_s: float = 60.0
    whole_s: float = 300.0
    slow_s: float = 30.0
    least_bytes_per_s: float = 1000.0
    job_s: float = 86400.0
    json_bytes: int = 64 * MIB
    file_bytes: int = 256 * MIB
    message_bytes: int = 64 * MIB
    image_pixels: int = 64 * MIB

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise AccessError(f"{name} is {value!r}; expected a number above 0")


@dataclass(frozen=True)
class Access:
    """What a server requires of its clients. `repr` shows no secret.

    `token` is sent as "Authorization: Bearer", `basic` (user, password) as "Authorization: Basic",
    `headers` as they are. With `ca_file`, a PEM file, only certificates signed by it are accepted,
    and not those that the system trusts. `origin`, the scheme, host and port of a server, says for
    whom the secrets are: see `for_server`.

    Raises:
        AccessError: a header that HTTP does not allow, two kinds of authorization, or no readable
            certificate.
    """

    token: str = field(default="", repr=False)
    basic: tuple[str, str] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: Path | None = None
    limits: Limits = field(default_factory=Limits)
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        given = [
            bool(self.token),
            self.basic is not None,
            any(name.lower() == "authorization" for name in self.headers),
        ]
        if sum(given) > 1:
            raise AccessError(
                "give one of token, user and password, and Authorization header, not several"
            )
        if self.basic is not None and ":" in self.basic[0]:
            raise AccessError("a user name for basic authorization cannot contain ':'")
        for name, value in {
            **self.headers,
            **({"Authorization": self.token} if self.token else {}),
        }.items():
            _check_value(name, value)
        for name in self.headers:
            _check_name(name)
        if self.ca_file is not None:
            _check_certificates(self.ca_file)

    def sent_headers(self) -> dict[str, str]:
        """The headers of every request, including the websocket's."""
        sent = dict(self.headers)
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        elif self.basic is not None:
            sent["Authorization"] = f"Basic {_encoded(self.basic)}"
        return sent

    def for_server(self, url: str) -> Access:
        """This access, for the server at `url` and no other.

        Raises:
            AccessError: its token, password or headers are meant for another server.
        """
        origin = origin_of(url)
        if self.origin and self.origin != origin and self.sent_headers():
            raise AccessError(
                f"the token, password or headers given are for {self.origin} and are not sent to "
                f"{origin}; give every server its own, in a file with --servers"
            )
        return replace(self, origin=origin)

    def hide(self, text: str) -> str:
        """The text without the secrets: a server may send back what it was sent."""
        return hide(text, self._secrets())

    def shown(self, text: str) -> str:
        """What a server said, as it may be shown: without secrets and control characters."""
        return printable(self.hide(text))

    def shown_value(self, value: Any) -> Any:
        """The same for a JSON value, and the texts in it; for showing only."""
        return with_texts(value, self.shown)

    def hide_in(self, value: Any) -> Any:
        """A JSON value without the secrets; for recording only."""
        return with_texts(value, self.hide)

    def _secrets(self) -> set[str]:
        values = {*self.headers.values()}
        values |= {value.partition(" ")[2] for value in values}
        found = {each for each in values if len(each) >= _SHORTEST_SECRET_HEADER} | {self.token}
        if self.basic is not None:
            found |= {self.basic[1], _encoded(self.basic)}
        return found


def _encoded(basic: tuple[str, str]) -> str:
    return base64.b64encode(":".join(basic).encode("utf-8")).decode("ascii")


def _check_name(name: str) -> None:
    if not _HEADER_NAME.fullmatch(name) or name.lower() in _OURS:
        raise AccessError(
            f"header {name[:60]!r} cannot be set; "
            "give the name of a header that the server asks for"
        )


def _check_value(name: str, value: str) -> None:
    """Raises AccessError without the value, which may be a secret."""
    if not value.isascii() or not value.isprintable() or value != value.strip() or not value:
        raise AccessError(
            f"the value of header {name[:60]!r} has characters or spaces that a header cannot carry"
        )


def _check_certificates(path: Path) -> None:
    try:
        ssl.create_default_context(cafile=str(path))
    except (OSError, ValueError) as error:
        raise AccessError(
            f"cannot use the certificates in {path}: {error}; expected a PEM file of the CA"
        ) from None


def load_access(
    *,
    token_env: str | None = None,
    token_file: Path | str | None = None,
    basic_env: str | None = None,
    basic_file: Path | str | None = None,
    header_file: Path | str | None = None,
    ca_file: Path | str | None = None,
    connect_s: float | None = None,
    read_s: float | None = None,
    whole_s: float | None = None,
    job_s: float | None = None,
) -> Access:
    """An Access whose secrets are read from environment variables (by name) or files.

    A basic file holds "user:password", a header file one "Name: value" per line. The command line
    and the entries of a servers file use the same names as these parameters.

    Raises:
        AccessError: a variable is not set, a file cannot be read, or its content cannot be sent.
    """
    given = {"connect_s": connect_s, "read_s": read_s, "whole_s": whole_s, "job_s": job_s}
    times: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return Access(
        token=_secret("token", token_env, token_file),
        basic=_user_and_password(_secret("user and password", basic_env, basic_file)),
        headers=_headers(Path(header_file)) if header_file else {},
        ca_file=Path(ca_file).expanduser() if ca_file else None,
        limits=Limits(**times),
    )


def access_from(values: Mapping[str, Any]) -> Access:
    """`load_access` with the keys of a JSON object.

    Raises:
        AccessError: as `load_access`; or a key that it does not know (such as the token itself).
    """
    known = load_access.__kwdefaults__ or {}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise AccessError(
            f"{', '.join(unknown)}: no such setting; known: {', '.join(known)} (secrets belong in "
            "the environment or in files, never here)"
        )
    for name, value in values.items():
        if not isinstance(value, (int, float) if name.endswith("_s") else str) or isinstance(
            value, bool
        ):
            expected = "a number" if name.endswith("_s") else "a string"
            raise AccessError(f"{name}: expected {expected}")
    return load_access(**values)


def _secret(what: str, variable: str | None, path: Path | str | None) -> str:
    if variable and path:
        raise AccessError(f"give the {what} in the environment or in a file, not in both")
    if variable:
        found = os.environ.get(variable, "").strip()
        if not found:
            raise AccessError(
                f"the environment variable {variable} is not set; it should hold the {what}"
            )
        return found
    if not path:
        return ""
    found = _text(Path(path)).strip()
    if not found or len(found.splitlines()) > 1:
        raise AccessError(f"{path} should hold the {what} on one line, and nothing else")
    return found


def _user_and_password(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    user, colon, password = text.partition(":")
    if not colon:
        raise AccessError("user and password should be written as user:password")
    return user, password


def _headers(path: Path) -> dict[str, str]:
    found = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        name, colon, value = line.partition(":")
        if line.strip() and not colon:
            raise AccessError(f"{path}, line {number}: expected 'Name: value'")
        if line.strip():
            found[name.strip()] = value.strip()
    return found


def _text(path: Path) -> str:
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(MOST_SECRET_BYTES + 1)
        if len(data) > MOST_SECRET_BYTES:
            raise AccessError(
                f"{path} is larger than {MOST_SECRET_BYTES} bytes; is it the right file?"
            )
        return data.decode("utf-8-sig")
    except OSError as error:
        raise AccessError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise AccessError(f"{path} is not UTF-8 text") from None
