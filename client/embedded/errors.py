"""The engine's part of the exception tree: SynthGridError -> ClientError -> EmbeddedError."""

from __future__ import annotations

from ..errors import ClientError


class EmbeddedError(ClientError):
    """A server that cannot start, or a checkpoint that the engine cannot load."""
