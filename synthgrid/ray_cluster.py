"""The way to a Ray cluster, which `run`, `regenerate` and `grid` share.

The client and the trainer may not import each other; this stands below both.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

from comfy_nodes.errors import SynthGridError

_KNOCK_S = 10.0


def connect(address: str | None) -> Any:
    """The module `ray`, connected, without its dashboard and its usage report.

    Args:
        address: HOST:PORT of a cluster that this machine is part of, or ray://HOST:PORT of its
            client server; None starts Ray on this machine, on loopback only.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        SynthGridError: no cluster at this address, or it refuses us.
    """
    try:
        _knock(address)
    except (OSError, UnicodeError) as error:
        raise _unreachable(address, error) from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        # A Ray of one machine then listens on loopback only, as it does on Windows and macOS.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        options["include_dashboard"] = False
    import ray

    try:
        ray.init(address=address or "local", **options)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise _unreachable(address, error) from error
    return ray


def _knock(address: str | None) -> None:
    """Raises OSError if nothing answers at HOST:PORT, UnicodeError if HOST cannot be a name: Ray
    itself would wait for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def _unreachable(address: str | None, error: BaseException) -> SynthGridError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return SynthGridError(
        f"cannot reach a Ray cluster at {address or 'this machine'}: {reason}; "
        "check --address, and set RAY_AUTH_MODE=token if the cluster asks for a token"
    )
