"""Bodies of requests: read within bounds, and parsed where they hold nobody up.

JSON is bounded by its bytes and by its lists and objects: a document of many small ones takes up to
25 times its size in memory, and the loop stands still for as long as Python holds its lock over it.
ComfyUI bounds JSON only as it does uploads, by 100 MB.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import web

from ..limits import MIB, MOST_JSON_BYTES, MOST_JSON_PARTS

T = TypeVar("T")


async def read_json(request: web.Request, *, empty: Any = None) -> Any:
    """The body as JSON; `empty`, if given, for a body of no bytes.

    Raises:
        HTTPRequestEntityTooLarge: it is larger than MOST_JSON_BYTES; nothing more of it is read.
        ValueError: it is no JSON.
    """
    body = await read_bounded(request)
    return empty if not body and empty is not None else await aside(lambda: parse(body))


async def read_bounded(request: web.Request) -> bytes:
    """The body, of JSON that can be parsed within bounds.

    Raises:
        HTTPRequestEntityTooLarge: it is larger than MOST_JSON_BYTES, after which it is read no
            further, or holds more than MOST_JSON_PARTS lists and objects.
    """
    parts, size = [], request.content_length or 0
    if size <= MOST_JSON_BYTES:
        size = 0
        async for part in request.content.iter_any():
            size += len(part)
            parts.append(part)
            if size > MOST_JSON_BYTES:
                break
    body = b"" if size > MOST_JSON_BYTES else b"".join(parts)
    if size > MOST_JSON_BYTES or body.count(b"[") + body.count(b"{") > MOST_JSON_PARTS:
        raise web.HTTPRequestEntityTooLarge(
            max_size=MOST_JSON_BYTES,
            actual_size=size,
            text=f"the body is larger than {MOST_JSON_BYTES // MIB} MB, or has more than "
            f"{MOST_JSON_PARTS:,} lists and objects; put long texts into files in the input "
            "folder, or post several prompts",
        )
    return body


def parse(body: bytes) -> Any:
    """JSON in UTF-8. Raises ValueError if it is no JSON, or nested too deeply."""
    try:
        return json.loads(body.decode("utf-8"))
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


async def aside(work: Callable[[], T]) -> T:
    """Does something that takes its time on a thread of its own, so that the loop goes on.

    Unlike those of an executor, the thread is not waited for when the server ends.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(result)  # type: ignore[arg-type]
        else:
            done.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # handed on to the one who waits
            failure = error
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    threading.Thread(target=run, name="aside", daemon=True).start()
    return await done
