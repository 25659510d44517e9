"""Whether a server's nodes can make a row again, with the seed of another attempt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import WorkflowError
from .roles import BATCHER


def refuse_older_batcher(object_info: Mapping[str, Any]) -> None:
    """Looks into the batcher's own description of its input `only`, where "7@2" came in.

    Raises:
        WorkflowError: the nodes are of a version before that.
    """
    node = object_info.get(BATCHER)
    optional = ((node or {}).get("input") or {}).get("optional") or {}
    if node is not None and "@" not in str(optional.get("only")):
        raise WorkflowError(
            "the server's SynthGrid nodes cannot make a rejected image again with another seed; "
            "update them"
        )
