"""A ComfyUI server: reaching it, its protocol, starting the embedded one; and lists of servers."""

from .access import Access, load_access
from .fleet import Patience, ServerSpec, read_servers
from .launch import EmbeddedServer
from .server import ComfyServer

__all__ = [
    "Access",
    "ComfyServer",
    "EmbeddedServer",
    "Patience",
    "ServerSpec",
    "load_access",
    "read_servers",
]
