"""HTTP and websocket against real sockets that behave badly.

Covers: client.server.transport, client.server.address, client.server.event_socket.
"""

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from client.errors import ServerRefused, ServerUnreachable, TransferError
from client.server.access import Limits
from client.server.address import checked_url, without_secrets
from client.server.event_socket import EventSocket
from client.server.transport import Transport, backoff

QUICK = Limits(connect_s=1.0, read_s=0.5, whole_s=1.0, json_bytes=1000, file_bytes=1000)


@contextlib.contextmanager
def serving(answer):
    """A server on loopback whose GET and POST call `answer(handler)`; yields (url, asked paths)."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            with contextlib.suppress(OSError):
                answer(self)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def send(handler, body, *, status=200, length=None, **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def transport(url):
    return Transport(url, limits=QUICK, pauses=lambda: iter((0.0, 0.0)))


def test_json_comes_back_parsed():
    with serving(lambda handler: send(handler, b'{"a": 1}')) as (url, asked):
        assert transport(url).get_json("/x") == {"a": 1}
        assert transport(url).post_json("/x", {}) == (200, {"a": 1})
        assert asked == ["/x", "/x"]


def test_an_html_page_is_refused_with_a_hint():
    with (
        serving(lambda handler: send(handler, b"<html><b>hello</b></html>")) as (url, _),
        pytest.raises(
            ServerRefused, match=r"not JSON \(<html>.*is a ComfyUI server at that address"
        ),
    ):
        transport(url).get_json("/x")


def test_an_error_page_is_refused_with_its_status():
    with (
        serving(lambda handler: send(handler, b"<html>\n no </html>", status=500)) as (url, _),
        pytest.raises(ServerRefused, match="HTTP 500") as caught,
    ):
        transport(url).get_json("/x")
    assert caught.value.status == 500
    assert "\n" not in str(caught.value)


def test_a_gateway_whose_server_restarts_is_asked_again():
    answers = iter([502, 503, 200])
    with serving(lambda handler: send(handler, b"{}", status=next(answers))) as (url, _):
        assert transport(url).get_json("/x") == {}


def test_redirects_are_never_followed():
    with serving(lambda handler: send(handler, b"{}")) as (other, asked_elsewhere):
        moved = serving(
            lambda handler: send(handler, b"", status=307, Location=other + "/y?token=secret")
        )
        with moved as (url, _), pytest.raises(ServerRefused, match="redirects to") as caught:
            transport(url).get_json("/x")
        assert asked_elsewhere == []
        assert "secret" not in str(caught.value)


def test_an_announced_giant_is_refused_before_it_is_read():
    with (
        serving(lambda handler: send(handler, b"x", length=10**10)) as (url, asked),
        pytest.raises(TransferError, match="limit"),
    ):
        transport(url).download("/view", {"filename": "a"})
    assert len(asked) == 1


def test_more_than_the_limit_without_announcement_is_refused():
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b"x" * 1000)

    with serving(endless) as (url, _), pytest.raises(TransferError, match="limit"):
        transport(url).download("/view", {"filename": "a"})


def test_half_a_file_is_tried_again_and_then_refused():
    with serving(lambda handler: send(handler, b"x" * 10, length=20)) as (url, asked):
        with pytest.raises((TransferError, ServerUnreachable)):
            transport(url).download("/view", {"filename": "a"})
        assert len(asked) == 3


def test_a_file_that_comes_whole_at_the_second_try_counts():
    answers = iter([20, 10])

    with serving(lambda handler: send(handler, b"x" * 10, length=next(answers))) as (url, _):
        assert transport(url).download("/view", {"filename": "a b&c"}) == b"x" * 10


def test_names_are_escaped_in_the_query():
    with serving(lambda handler: send(handler, b"x")) as (url, asked):
        transport(url).download("/view", {"filename": "a b&c=?蝠"})
    assert asked == ["/view?filename=a+b%26c%3D%3F%E8%9D%A0"]


def test_a_silent_server_times_out():
    with serving(lambda handler: time.sleep(2)) as (url, _):
        begun = time.monotonic()
        with pytest.raises(ServerUnreachable, match="no answer within"):
            transport(url).get_json("/x", retry=False)
        assert time.monotonic() - begun < 1.5


def test_a_server_that_drips_is_given_up():
    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.1)

    with serving(drip) as (url, _), pytest.raises(ServerUnreachable, match="still sending"):
        transport(url).get_json("/x", retry=False)


def test_nobody_there_is_one_clear_line():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(
        ServerUnreachable,
        match=rf"no server answers at http://127.0.0.1:{port} \(connection refused\)",
    ):
        Transport(f"http://127.0.0.1:{port}", pauses=lambda: iter((60.0,))).get_json(
            "/x"
        )  # without waiting


def test_a_post_is_sent_once_only():
    def cut(handler):
        handler.connection.close()

    with serving(cut) as (url, asked):
        with pytest.raises(ServerUnreachable):
            transport(url).post_json("/prompt", {})
        assert len(asked) == 1


def test_proxy_variables_are_ignored(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(lambda handler: send(handler, b"{}")) as (url, _):
        assert transport(url).get_json("/x") == {}


def test_a_server_without_websocket_is_told():
    with (
        serving(lambda handler: send(handler, b"{}", status=404)) as (url, _),
        pytest.raises(ServerUnreachable),
    ):
        EventSocket(url, "c", limits=QUICK)


def test_a_bad_status_with_a_json_body_is_handed_on():
    body = json.dumps({"error": {"message": "no"}}).encode()
    with serving(lambda handler: send(handler, body, status=400)) as (url, _):
        assert transport(url).post_json("/prompt", {}) == (400, {"error": {"message": "no"}})


@pytest.mark.parametrize(
    "url", ["", "ftp://host", "http://", "http://host:99999", "http://host?x=1", "http://[::1"]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ServerUnreachable, match="not a server address"):
        checked_url(url)


def test_an_address_may_lack_the_scheme_and_end_with_a_slash():
    assert checked_url("127.0.0.1:8188/") == "http://127.0.0.1:8188"


def test_secrets_in_an_address_are_not_shown():
    assert without_secrets("https://me:word@host:1/x?token=2") == "https://host:1/x"
    assert "word" not in Transport("http://me:word@host").shown_url


def test_pauses_grow_to_a_limit_and_end():
    pauses = list(backoff(first_s=1, factor=2, most_s=4, total_s=12))
    assert pauses == [1, 2, 4, 4, 4]
