"""The engine as a server: ComfyUI's routes, with and without the prefix /api.

    from client.embedded.server import serve

    serve(port=8188, base_directory=Path("work"))

As in ComfyUI there is no authentication: listen on loopback, or behind a proxy that has one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aiohttp import web

from . import files, runtime
from .engine import Engine
from .errors import EmbeddedError
from .guard import guarding, is_loopback
from .registry import Registry
from .sockets import SocketHub

log = logging.getLogger(__name__)

MAXIMUM_BODY = 100 * 1024 * 1024  # bytes; more is answered with 413
API_VERSION = "0.8.0"  # the ComfyUI release whose API tests/contract has been run against
_STOP_WITHIN_S = 5.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8188,
    base_directory: Path,
    checkpoint_directories: Sequence[Path] = (),
    input_directory: Path | None = None,
    exit_with_parent: bool = False,
) -> None:
    """Serves until Ctrl-C or SIGTERM; logs "listening on http://host:port" when it is ready.

    Args:
        port: 0 picks a free one.
        base_directory: holds output/, input/, temp/ and models/checkpoints/, which are created.
        checkpoint_directories: further folders of diffusers folders.
        input_directory: replaces <base_directory>/input.
        exit_with_parent: exit as soon as standard input ends, as it does when the process at its
            other end is gone for whatever reason.

    Raises:
        EmbeddedError: the folders cannot be created, or the address is taken.
        KeyboardInterrupt: Ctrl-C, after everything is closed.
    """
    runtime.use_folders(
        runtime.Folders.create(base_directory, checkpoint_directories, input_directory)
    )
    server = Server(Registry(), host)
    code = 0
    try:
        asyncio.run(_serve(server, port, exit_with_parent=exit_with_parent))
    except KeyboardInterrupt:
        code = 130
        raise
    finally:
        # A node in native code cannot be stopped, and Python would abort when it shuts down.
        if server.engine.is_busy():
            log.warning("the running node did not stop within %.0f s; leaving it", _STOP_WITHIN_S)
            logging.shutdown()
            os._exit(code)


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
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=1.0)

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
        await asyncio.to_thread(self.engine.stop, timeout_s=_STOP_WITHIN_S)
        await self.hub.close()
        await self._runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(
            client_max_size=MAXIMUM_BODY, middlewares=[guarding(self._host), _answer_failures]
        )
        for prefix in ("", "/api"):
            app.router.add_routes(
                [
                    web.post(f"{prefix}/prompt", self._post_prompt),
                    web.get(f"{prefix}/prompt", self._get_status),
                    web.get(f"{prefix}/queue", self._get_queue),
                    web.post(f"{prefix}/queue", self._post_queue),
                    web.post(f"{prefix}/interrupt", self._post_interrupt),
                    web.get(f"{prefix}/history", self._get_history),
                    web.get(f"{prefix}/history/{{prompt_id}}", self._get_history_of),
                    web.post(f"{prefix}/history", self._post_history),
                    web.get(f"{prefix}/view", files.view),
                    web.post(f"{prefix}/upload/image", files.upload_image),
                    web.get(f"{prefix}/object_info", self._get_object_info),
                    web.get(f"{prefix}/object_info/{{name}}", self._get_object_info_of),
                    web.get(f"{prefix}/system_stats", self._get_system_stats),
                    web.post(f"{prefix}/free", self._post_free),
                    web.get(f"{prefix}/ws", self.hub.handle),
                ]
            )
        return app

    async def _post_prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "prompt" not in body:
            message = "No prompt provided"
            error = {"type": "no_prompt", "message": message, "details": message, "extra_info": {}}
            return web.json_response({"error": error, "node_errors": {}}, status=400)
        item, verdict = self.engine.submit(body)
        if item is None:
            log.warning("invalid prompt: %s", verdict.error)
            return web.json_response(
                {"error": verdict.error, "node_errors": verdict.node_errors}, status=400
            )
        return web.json_response(
            {"prompt_id": item.prompt_id, "number": item.number, "node_errors": verdict.node_errors}
        )

    async def _get_status(self, _request: web.Request) -> web.Response:
        return web.json_response(self.engine.status())

    async def _get_queue(self, _request: web.Request) -> web.Response:
        running, pending = self.engine.queue.rows()
        return web.json_response({"queue_running": running, "queue_pending": pending})

    async def _post_queue(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("clear"):
            self.engine.queue.clear()
        if "delete" in body:
            self.engine.queue.delete(list(body["delete"]))
        return web.Response()

    async def _post_interrupt(self, request: web.Request) -> web.Response:
        body = json.loads(await request.text() or "{}")
        self.engine.interrupt(body.get("prompt_id"))
        return web.Response()

    async def _get_history(self, request: web.Request) -> web.Response:
        max_items, offset = request.query.get("max_items"), request.query.get("offset", "-1")
        count = None if max_items is None else int(max_items)
        return web.json_response(self.engine.queue.history(max_items=count, offset=int(offset)))

    async def _get_history_of(self, request: web.Request) -> web.Response:
        return web.json_response(self.engine.queue.history_of(request.match_info["prompt_id"]))

    async def _post_history(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("clear"):
            self.engine.queue.clear_history()
        if "delete" in body:
            self.engine.queue.delete_history(list(body["delete"]))
        return web.Response()

    async def _get_object_info(self, _request: web.Request) -> web.Response:
        return web.json_response(self.engine.registry.describe_all())

    async def _get_object_info_of(self, request: web.Request) -> web.Response:
        name, registry = request.match_info["name"], self.engine.registry
        return web.json_response(
            {name: registry.describe(name)} if name in registry.classes else {}
        )

    async def _get_system_stats(self, _request: web.Request) -> web.Response:
        return web.json_response(await asyncio.to_thread(_system_stats))

    async def _post_free(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("unload_models") or body.get("free_memory"):
            self.engine.free()
        return web.Response()


@web.middleware
async def _answer_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A malformed request is answered with 500, as in ComfyUI, and one line in the log."""
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except Exception as error:
        log.warning(
            "%s %s failed: %s: %s", request.method, request.path, type(error).__name__, error
        )
        log.debug("where it failed", exc_info=error)
        return web.Response(status=500, text=f"500 Internal Server Error\n\n{error}")


def _system_stats() -> dict[str, Any]:
    """The machine, according to the standard library and torch; unknown memory sizes are 0."""
    import torch

    from .diffusion.checkpoints import device

    where = device()
    free, total = torch.cuda.mem_get_info() if where.type == "cuda" else _memory()
    ram_free, ram_total = _memory()
    return {
        "system": {
            "os": sys.platform,
            "ram_total": ram_total,
            "ram_free": ram_free,
            "comfyui_version": API_VERSION,
            "engine": f"synthgrid-embedded {_synthgrid_version()}",
            "python_version": sys.version,
            "pytorch_version": torch.__version__,
            "embedded_python": False,
            "argv": sys.argv,
        },
        "devices": [
            {
                "name": torch.cuda.get_device_name() if where.type == "cuda" else "cpu",
                "type": where.type,
                "index": where.index,
                "vram_total": total,
                "vram_free": free,
                "torch_vram_total": total,
                "torch_vram_free": free,
            }
        ],
    }


def _memory() -> tuple[int, int]:
    """(free, total) bytes of main memory."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows, macOS
        return 0, 0


def _synthgrid_version() -> str:
    try:
        return version("synthgrid")
    except PackageNotFoundError:
        return "unknown"


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
