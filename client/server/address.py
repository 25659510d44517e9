"""Addresses of servers: what is a valid one, and what may be shown of it."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit, urlunsplit

from ..errors import ServerUnreachable


def checked_url(url: str) -> str:
    """The base URL without a trailing slash.

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


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL: http://GPU/x -> http://gpu:80.

    Raises:
        ServerUnreachable: not an http or https address.
    """
    parts = urlsplit(checked_url(url))
    host = (parts.hostname or "").rstrip(".")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def is_safe(url: str) -> bool:
    """Whether nobody on the way can read what is sent: https, or the machine itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
