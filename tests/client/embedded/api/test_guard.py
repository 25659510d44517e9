"""A page of another site cannot talk to the engine, whatever name of loopback it uses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from client.embedded.api.guard import guarding, is_loopback


def statuses(listens_on: str, *headers: dict[str, str]) -> list[int]:
    """HTTP status of GET /, of POST / and of the websocket's handshake, which must agree, for each
    set of headers.
    """

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def socket(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        await response.close()
        return response

    async def exchange() -> list[int]:
        app = web.Application(middlewares=[guarding(listens_on)])
        app.router.add_get("/", answer)
        app.router.add_post("/", answer)
        app.router.add_get("/ws", socket)
        found = []
        async with TestClient(TestServer(app)) as client:
            for each in headers:
                sent = {
                    name: value.replace("PORT", str(client.port)) for name, value in each.items()
                }
                got = await client.get("/", headers=sent)
                posted = await client.post("/", headers=sent, data="{}")
                try:
                    async with client.ws_connect("/ws", headers=sent):
                        opened = 200
                except Exception as error:
                    opened = getattr(error, "status", 0)
                assert got.status == posted.status == opened
                found.append(got.status)
        return found

    return asyncio.run(exchange())


OWN: list[dict[str, Any]] = [
    {},
    {"Host": "localhost:PORT"},
    {"Host": "127.0.0.1:PORT"},
    {"Host": "[::1]:PORT"},
    {"Host": "LOCALHOST:PORT"},
    {"Host": "localhost:PORT", "Origin": "http://localhost:PORT"},
    {"Host": "localhost:PORT", "Origin": "http://LocalHost:PORT", "Sec-Fetch-Site": "same-origin"},
    {"Host": "127.0.0.1:PORT", "Sec-Fetch-Site": "none"},
]
FOREIGN: list[dict[str, Any]] = [
    {"Host": "foo.localhost:PORT"},
    {"Host": "localhost.:PORT"},
    {"Host": "0.0.0.0:PORT"},
    {"Host": "rebound.example:PORT"},
    {"Host": "rebound.example:PORT", "Origin": "http://rebound.example:PORT"},
    {"Host": "[::]:PORT"},
    {"Host": "localhost:x"},
    {"Host": "localhost:PORT", "Origin": "http://evil.example"},
    {"Host": "localhost:PORT", "Origin": "http://foo.localhost:PORT"},
    {"Host": "localhost:PORT", "Origin": "http://localhost:1"},
    {"Host": "localhost:PORT", "Origin": "http://localhost"},
    {"Host": "localhost:PORT", "Origin": "null"},
    {"Host": "localhost:PORT", "Origin": ""},
    {"Host": "localhost:PORT", "Sec-Fetch-Site": "cross-site"},
    {"Host": "localhost:PORT", "Sec-Fetch-Site": "Cross-Site"},
]


def test_on_loopback_programs_and_its_own_pages_are_answered() -> None:
    assert statuses("127.0.0.1", *OWN) == [200] * len(OWN)


def test_on_loopback_everybody_else_is_refused() -> None:
    assert statuses("127.0.0.1", *FOREIGN) == [403] * len(FOREIGN)


def test_on_another_address_any_host_may_be_asked_for_but_pages_of_other_sites_are_refused() -> (
    None
):
    asked = [
        {"Host": "gpu.lan:8188"},
        {"Host": "gpu.lan:8188", "Origin": "http://gpu.lan:8188"},
        {"Host": "gpu.lan:8188", "Origin": "http://evil.example"},
        {"Host": "gpu.lan:8188", "Sec-Fetch-Site": "cross-site"},
    ]
    assert statuses("0.0.0.0", *asked) == [200, 200, 403, 403]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("localhost.", False),
        ("192.168.1.2", False),
    ],
)
def test_what_loopback_is(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
