"""The engine's routes, with and without the prefix /api, and the models and jobs they tell of."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from aiohttp import web

from .. import runtime
from ..engine import Engine
from ..execution.jobs import JobQuery, full_description, wrong_ids
from . import files
from .bodies import aside, parse, read_bounded, read_json
from .sockets import FEATURES, SocketHub

log = logging.getLogger(__name__)

API_VERSION = "0.8.0"  # the ComfyUI release whose API tests/contract has been run against
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes:
    """The handlers. `add_to` puts them into an application."""

    def __init__(self, engine: Engine, hub: SocketHub) -> None:
        self.engine = engine
        self.hub = hub

    def add_to(self, app: web.Application) -> None:
        """Adds every route twice, as ComfyUI does; those of jobs are under /api only."""
        for prefix in ("", "/api"):
            app.router.add_routes(
                [
                    web.post(f"{prefix}/prompt", self.post_prompt),
                    web.get(f"{prefix}/prompt", self.get_status),
                    web.get(f"{prefix}/queue", self.get_queue),
                    web.post(f"{prefix}/queue", self.post_queue),
                    web.post(f"{prefix}/interrupt", self.post_interrupt),
                    web.get(f"{prefix}/history", self.get_history),
                    web.get(f"{prefix}/history/{{prompt_id}}", self.get_history_of),
                    web.post(f"{prefix}/history", self.post_history),
                    web.get(f"{prefix}/view", files.view),
                    web.post(f"{prefix}/upload/image", files.upload_image),
                    web.get(f"{prefix}/object_info", self.get_object_info),
                    web.get(f"{prefix}/object_info/{{name}}", self.get_object_info_of),
                    web.get(f"{prefix}/system_stats", self.get_system_stats),
                    web.get(f"{prefix}/features", self.get_features),
                    web.get(f"{prefix}/models", self.get_model_folders),
                    web.get(f"{prefix}/models/{{folder}}", self.get_models),
                    web.get(f"{prefix}/embeddings", self.get_embeddings),
                    web.post(f"{prefix}/free", self.post_free),
                    web.get(f"{prefix}/ws", self.hub.handle),
                ]
            )
        app.router.add_routes(
            [
                web.get("/api/jobs", self.get_jobs),
                web.post("/api/jobs/cancel", self.cancel_jobs),
                web.get("/api/jobs/{job_id}", self.get_job),
                web.post("/api/jobs/{job_id}/cancel", self.cancel_job),
            ]
        )

    async def post_prompt(self, request: web.Request) -> web.Response:
        """Parses, checks and queues on a thread: neither may hold up the other routes."""
        body = await read_bounded(request)
        answer, status = await aside(lambda: self._take_prompt(body))
        return web.json_response(text=answer, status=status)

    def _take_prompt(self, text: bytes) -> tuple[str, int]:
        """(JSON, status) of the answer to a POST /prompt."""
        body = parse(text)
        if "prompt" not in body:
            message = "No prompt provided"
            error = {"type": "no_prompt", "message": message, "details": message, "extra_info": {}}
            return json.dumps({"error": error, "node_errors": {}}), 400
        item, verdict = self.engine.submit(body)
        answer: dict[str, Any] = {"node_errors": verdict.node_errors}
        if item is None:
            error = verdict.error or {}
            log.warning("invalid prompt: %s: %s", error.get("type"), error.get("message"))
            return json.dumps({"error": error} | answer), 400
        return json.dumps({"prompt_id": item.prompt_id, "number": item.number} | answer), 200

    async def get_status(self, _request: web.Request) -> web.Response:
        return web.json_response(self.engine.status())

    async def get_queue(self, _request: web.Request) -> web.Response:
        return web.json_response(text=self.engine.queue.queue_json())

    async def post_queue(self, request: web.Request) -> web.Response:
        body = await read_json(request)
        if body.get("clear"):
            self.engine.queue.clear()
        if "delete" in body:
            self.engine.queue.delete(list(body["delete"]))
        return web.Response()

    async def post_interrupt(self, request: web.Request) -> web.Response:
        body = await read_json(request, empty={})
        self.engine.interrupt(body.get("prompt_id"))
        return web.Response()

    async def get_history(self, request: web.Request) -> web.Response:
        max_items, offset = request.query.get("max_items"), request.query.get("offset", "-1")
        count = None if max_items is None else int(max_items)
        text = self.engine.queue.history_json(max_items=count, offset=int(offset))
        return web.json_response(text=text)

    async def get_history_of(self, request: web.Request) -> web.Response:
        text = self.engine.queue.history_of(request.match_info["prompt_id"])
        return web.json_response(text=text)

    async def post_history(self, request: web.Request) -> web.Response:
        body = await read_json(request)
        if body.get("clear"):
            self.engine.queue.clear_history()
        if "delete" in body:
            self.engine.queue.delete_history(list(body["delete"]))
        return web.Response()

    async def get_jobs(self, request: web.Request) -> web.Response:
        try:
            query = JobQuery.read(request.query)
        except ValueError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(text=await aside(lambda: query.answer(self.engine.queue.jobs())))

    async def get_job(self, request: web.Request) -> web.Response:
        job_id = request.match_info["job_id"]
        text = await aside(lambda: self._describe_job(job_id))
        if text is None:
            return web.json_response({"error": "Job not found"}, status=404)
        return web.json_response(text=text)

    def _describe_job(self, job_id: str) -> str | None:
        """JSON; a finished prompt's description wins over that of one with its id that waits."""
        entry = self.engine.queue.finished(job_id)
        found = [job for job in self.engine.queue.jobs() if job.id == job_id]
        if not found:
            return None
        return found[0].text if entry is None else json.dumps(full_description(found[-1], entry))

    async def cancel_job(self, request: web.Request) -> web.Response:
        cancelled = self.engine.cancel(request.match_info["job_id"])
        return web.json_response({"cancelled": cancelled})

    async def cancel_jobs(self, request: web.Request) -> web.Response:
        try:
            body = await read_json(request)
        except ValueError:
            return web.json_response({"error": "Request body must be valid JSON"}, status=400)
        job_ids = body.get("job_ids") if isinstance(body, dict) else None
        if not isinstance(job_ids, list):
            return web.json_response({"error": "job_ids must be a list"}, status=400)
        wrong = wrong_ids(job_ids)
        if wrong:
            answer = {"error": "job_ids contains invalid id(s)", "invalid_ids": wrong}
            return web.json_response(answer, status=400)
        cancelled = [self.engine.cancel(each) for each in dict.fromkeys(job_ids)]
        return web.json_response({"cancelled": any(cancelled)})

    async def get_object_info(self, _request: web.Request) -> web.Response:
        return web.json_response(self.engine.registry.describe_all())

    async def get_object_info_of(self, request: web.Request) -> web.Response:
        name, registry = request.match_info["name"], self.engine.registry
        return web.json_response(
            {name: registry.describe(name)} if name in registry.classes else {}
        )

    async def get_features(self, _request: web.Request) -> web.Response:
        return web.json_response(FEATURES)

    async def get_model_folders(self, _request: web.Request) -> web.Response:
        return web.json_response(list(runtime.MODEL_FOLDERS))

    async def get_models(self, request: web.Request) -> web.Response:
        names = runtime.folders().list_models(request.match_info["folder"])
        return web.Response(status=404) if names is None else web.json_response(names)

    async def get_embeddings(self, _request: web.Request) -> web.Response:
        return web.json_response([])

    async def get_system_stats(self, _request: web.Request) -> web.Response:
        return web.json_response(await aside(_system_stats))

    async def post_free(self, request: web.Request) -> web.Response:
        body = await read_json(request)
        if body.get("unload_models") or body.get("free_memory"):
            self.engine.free()
        return web.Response()


@web.middleware
async def answer_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
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

    from ..diffusion.checkpoints import device

    where = device()
    free, total = torch.cuda.mem_get_info(where) if where.type == "cuda" else _memory()
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
                "name": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
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
