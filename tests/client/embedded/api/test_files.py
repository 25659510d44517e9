"""Files that the engine serves and takes: nothing that a browser runs, nothing through a link."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from client.embedded import runtime
from client.embedded.api import files
from client.embedded.engine import Engine
from client.embedded.registry import Registry
from comfy_nodes import host


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runtime.Folders:
    monkeypatch.setattr(host, "_input_directory", None)
    monkeypatch.setattr(host, "_output_directory", None)
    monkeypatch.setattr(runtime, "_folders", None)
    runtime.use_folders(runtime.Folders.create(tmp_path / "engine", (), None))
    return runtime.folders()


def asked(act: Any) -> Any:
    """What `act` gets from a client of the two routes."""

    async def exchange() -> Any:
        app = web.Application()
        app.router.add_get("/view", files.view)
        app.router.add_post("/upload/image", files.upload_image)
        async with TestClient(TestServer(app)) as client:
            return await act(client)

    return asyncio.run(exchange())


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.png", "image/png"), ("a.txt", "text/plain"), ("a.json", "application/json")]
    + [(f"a.{end}", "application/octet-stream") for end in ("html", "svg", "xml", "xhtml", "js")]
    + [(f"a.{end}", "application/octet-stream") for end in ("rss", "xsl", "unknown")],
)
def test_what_a_browser_would_run_is_a_download(
    folders: runtime.Folders, name: str, kind: str
) -> None:
    (folders.output / name).write_text("<a/>")

    async def act(client: Any) -> tuple[str, str]:
        answer = await client.get("/view", params={"filename": name})
        return answer.content_type, answer.headers["X-Content-Type-Options"]

    assert asked(act) == (kind, "nosniff")


@pytest.mark.parametrize("overwrite", ["true", "false"])
def test_an_upload_does_not_write_through_a_link(folders: runtime.Folders, overwrite: str) -> None:
    outside = folders.input.parent / "outside.txt"
    outside.write_text("mine")
    try:
        (folders.input / "cat.png").symlink_to(outside)
    except OSError:
        pytest.skip("this user may not make links")

    async def act(client: Any) -> str:
        form = aiohttp.FormData({"overwrite": overwrite})
        form.add_field("image", b"new", filename="cat.png")
        answer = await client.post("/upload/image", data=form)
        return str((await answer.json())["name"])

    name = asked(act)
    assert outside.read_text() == "mine"
    assert (folders.input / name).read_bytes() == b"new"
    assert not (folders.input / name).is_symlink()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), "nan", "-inf"])
def test_a_prompt_takes_no_number_that_json_cannot_say(number: float | str) -> None:
    engine = Engine(Registry(), lambda *_: None)
    with pytest.raises(ValueError, match="expected a finite number"):
        engine.submit({"prompt": {}, "number": number})
