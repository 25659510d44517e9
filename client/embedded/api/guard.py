"""Who may talk to the engine: programs on this machine and pages of its own address.

A page of another site, open in the user's browser, could otherwise queue prompts and read the
answers. It gives itself away in one of three ways, and each is refused with 403, on HTTP and on
the websocket alike:

- `Host` is not the address that the engine listens on: a name that leads to loopback
  ("foo.localhost", "localhost.", "0.0.0.0"), maybe only since the page was loaded (DNS rebinding);
- `Origin` is another site, or a page without one ("null");
- `Sec-Fetch-Site: cross-site`, which browsers send where they send no `Origin`.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guarding(listens_on: str) -> Middleware:
    """The middleware of an engine that listens on this host.

    On loopback, `Host` must be its address or "localhost". On any other address the names by which
    people reach the engine are not known here: only `Origin` and `Sec-Fetch-Site` are checked.
    """
    on_loopback = is_loopback(listens_on)

    @web.middleware
    async def refuse_strangers(request: web.Request, handler: Handler) -> web.StreamResponse:
        problem = _problem(request, on_loopback=on_loopback)
        if problem is None:
            return await handler(request)
        log.warning("refused a request: %s", ascii(problem))
        return web.Response(status=403, text=f"403 Forbidden: {problem}")

    return refuse_strangers


def is_loopback(host: str) -> bool:
    """Whether a host (without port) is loopback; no name but "localhost" is looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _problem(request: web.Request, *, on_loopback: bool) -> str | None:
    host = request.headers.get("Host", "")
    name, port = _address(f"//{host}")
    if on_loopback and not is_loopback(name or ""):
        return f"the host '{host[:100]}' is not this engine's address; use 127.0.0.1 or localhost"
    if request.headers.get("Sec-Fetch-Site", "").lower() == "cross-site":
        return "a page of another site asked for it"
    origin = request.headers.get("Origin")
    if origin is None:
        return None
    if _address(origin) != (name, port) or name is None:
        return f"the page '{origin[:100]}' is of another site"
    return None


def _address(url: str) -> tuple[str | None, int | None]:
    """(host, port), the port the scheme's usual one if missing; (None, None) if malformed."""
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None, None
