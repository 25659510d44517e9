"""One ComfyUI server: reaching it, speaking its protocol, starting the embedded one; and the list of those a run may use."""

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
