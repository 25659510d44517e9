"""The engine as a server: ComfyUI's routes, with and without the prefix /api.

    from client.embedded.api.server import serve

    serve(port=8188, base_directory=Path("work"))

As in ComfyUI there is no authentication: listen on loopback, or behind a proxy that has one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from .. import runtime
from ..engine import Engine
from ..errors import EmbeddedError
from ..limits import MOST_BODY_BYTES
from ..packs import load_pack
from ..registry import Registry
from .bodies import aside
from .guard import guarding, is_loopback
from .routes import Routes, answer_failures
from .sockets import SocketHub

log = logging.getLogger(__name__)

_STOP_WITHIN_S = 5.0


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8188,
    base_directory: Path,
    checkpoint_directories: Sequence[Path] = (),
    input_directory: Path | None = None,
    node_packs: Sequence[Path] = (),
    device: str = "",
    exit_with_parent: bool = False,
    temporary: bool = False,
) -> None:
    """Serves until Ctrl-C or SIGTERM; logs "listening on http://host:port" when it is ready.

    Args:
        port: 0 picks a free one.
        base_directory: holds output/, input/, temp/ and models/checkpoints/, which are created.
        checkpoint_directories: further folders of diffusers folders.
        input_directory: replaces <base_directory>/input.
        node_packs: folders or files of V1 nodes, whose code is run; see packs.py.
        device: "cpu", "cuda" or "cuda:N"; by default a GPU, if there is one.
        exit_with_parent: exit as soon as standard input ends, as it does when the process at its
            other end is gone for whatever reason.
        temporary: remove the base directory at the end, unless Ctrl-C is the end.

    Raises:
        EmbeddedError: the folders cannot be created, a pack cannot be loaded, the device does not
            exist, or the address is taken.
        KeyboardInterrupt: Ctrl-C, after everything is closed. Once torch is loaded, both ends end
            the process here, with code 130 after Ctrl-C, else 0.
    """
    runtime.use_folders(
        runtime.Folders.create(base_directory, checkpoint_directories, input_directory)
    )
    runtime.use_device(device)
    registry = Registry()
    for pack in node_packs:
        load_pack(registry, pack)
    server = Server(registry, host)
    code = 0
    try:
        asyncio.run(_serve(server, port, exit_with_parent=exit_with_parent))
    except KeyboardInterrupt:
        code = 130
    if temporary and code == 0:
        shutil.rmtree(base_directory, ignore_errors=True)
    if server.engine.is_busy() and not server.engine.is_loading():
        log.warning("the running node did not stop within %.0f s; leaving it", _STOP_WITHIN_S)
    if "torch" in sys.modules:
        # Python takes seconds to unload torch, and aborts if one of its threads is still at work.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    if code:
        raise KeyboardInterrupt


async def _serve(server: Server, port: int, *, exit_with_parent: bool) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Windows has no such handlers; there the process just ends.
    with contextlib.suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGTERM, stopped.set)
    if exit_with_parent:
        _watch_parent(lambda: loop.call_soon_threadsafe(stopped.set))
    await server.start(port)
    try:
        await stopped.wait()
    finally:
        await server.stop()


class Server:
    """The routes of one engine on `host`. `start` and `stop` are called on the loop that serves."""

    def __init__(self, registry: Registry, host: str = "127.0.0.1") -> None:
        self._host = host
        self.hub = SocketHub(lambda: self.engine.status())
        self.engine = Engine(registry, self.hub.send)
        self.port = 0
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.3)

    async def start(self, port: int) -> None:
        """Starts to listen and to work. Raises EmbeddedError if the address is not available."""
        host = self._host
        if not is_loopback(host):
            log.warning(
                "warning: everybody who can reach %s can queue prompts and read the images: "
                "there is no password; use 127.0.0.1 or a proxy that asks for one",
                host,
            )
        self.hub.bind(asyncio.get_running_loop())
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except (OSError, OverflowError, UnicodeError) as error:
            await self._runner.cleanup()
            raise EmbeddedError(
                f"cannot listen on {host}:{port}: {error}; choose another port, or 0"
            ) from None
        self.port = self._runner.addresses[0][1]
        self.engine.start()
        shown = f"[{host}]" if ":" in host else host
        log.info("listening on http://%s:%d", shown, self.port)

    async def stop(self) -> None:
        """Interrupts what runs and closes every socket."""
        await aside(lambda: self.engine.stop(timeout_s=_STOP_WITHIN_S))
        await self.hub.close()
        await self._runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(
            client_max_size=MOST_BODY_BYTES, middlewares=[guarding(self._host), answer_failures]
        )
        Routes(self.engine, self.hub).add_to(app)
        return app


def _watch_parent(stop: Callable[[], object]) -> None:
    """Calls `stop` when standard input ends; some seconds later it kills the process."""

    def watch() -> None:
        # Not sys.stdin: Python aborts at exit if a thread waits inside a buffered reader.
        # Having no standard input at all counts as its end.
        with contextlib.suppress(OSError, AttributeError, ValueError):
            while os.read(sys.stdin.fileno(), 1024):
                pass
        log.info("the parent process is gone; stopping")
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            stop()
        threading.Event().wait(2 * _STOP_WITHIN_S)
        os._exit(0)

    threading.Thread(target=watch, name="parent", daemon=True).start()
