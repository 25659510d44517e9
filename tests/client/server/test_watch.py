"""A server that drips is cut off, whatever part of its answer it makes last."""

import contextlib
import itertools
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from client.errors import ServerRefused, ServerUnreachable
from client.server.access import Access, Limits
from client.server.transport import Transport

CERTIFICATES = Path(__file__).parent / "certificates"
LIMITS = Limits(connect_s=1.0, read_s=0.5, whole_s=0.8)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
# What is sent first, and what is sent again and again after that.
DRIPS = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "one header": (HEAD + b"X: ", b"y"),
    "headers": (HEAD, b"X: y\r\n"),
    "100-continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "chunk size": (CHUNKED, b"0"),
    "chunk extension": (CHUNKED + b"1;", b"x"),
    "chunks": (CHUNKED, b"1\r\n \r\n"),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X: y\r\n"),
    "body": (HEAD + b"\r\n", b" "),
    "body that is announced": (HEAD + b"Content-Length: 500\r\n\r\n", b" "),
    "body to be followed by the end": (HEAD + b"Connection: close\r\n\r\n", b" "),
    "error page": (b"HTTP/1.1 500 No\r\nContent-Length: 500\r\n\r\n", b" "),
}


@contextlib.contextmanager
def raw_server(serve, *, context=None):
    """Calls `serve(connection)` for each connection, on a thread; yields the URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10.0)
    threads = []

    def one(connection):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(5.0)
            if context is None:
                return serve(connection)
            with context.wrap_socket(connection, server_side=True) as safe:
                serve(safe)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threads.append(threading.Thread(target=one, args=(listener.accept()[0],)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http{'s' if context else ''}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for each in (accepting, *threads):
            each.join()


def dripping(first, again):
    def serve(connection):
        connection.recv(65536)
        connection.sendall(first)
        for _ in range(60):  # six seconds, far above the limit
            connection.sendall(again)
            time.sleep(0.1)

    return serve


def ask(url, access=None):
    """One request and its error; the seconds that it took."""
    begun, transport = time.monotonic(), Transport(url, access=access, limits=LIMITS)
    with contextlib.closing(transport), pytest.raises(ServerUnreachable) as caught:
        transport.get_json("/queue", retry=False)
    return caught, time.monotonic() - begun


@pytest.mark.parametrize("part", DRIPS)
def test_a_server_that_drips_is_cut_off_in_time(part):
    with raw_server(dripping(*DRIPS[part])) as url:
        caught, seconds = ask(url)
    assert str(caught.value) == f"{url}/queue is still sending after 0.8 s"
    assert 0.7 < seconds < 1.8


def test_a_server_that_drips_over_tls_is_cut_off_in_time():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        CERTIFICATES / "test-only-server.pem", CERTIFICATES / "test-only-server.key"
    )
    with raw_server(dripping(*DRIPS["headers"]), context=context) as url:
        caught, seconds = ask(url, Access(ca_file=CERTIFICATES / "test-only-authority.pem"))
    assert "is still sending after 0.8 s" in str(caught.value)
    assert seconds < 1.8


def test_a_tls_hand_shake_that_drips_is_cut_off_in_time():
    hello = b"\x16\x03\x03\x40\x00"  # the head of a long message, which then never gets complete
    with raw_server(dripping(hello, b"\x02")) as url:
        caught, seconds = ask(url.replace("http:", "https:"))
    assert "is still sending after 0.8 s" in str(caught.value)
    assert seconds < 1.8


def test_the_second_request_on_a_kept_connection_is_cut_off_too():
    def serve(connection):
        connection.recv(65536)
        connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")
        dripping(*DRIPS["headers"])(connection)

    with (
        raw_server(serve) as url,
        contextlib.closing(Transport(url, limits=LIMITS)) as transport,
    ):
        assert transport.get_json("/a") == {}
        begun = time.monotonic()
        with pytest.raises(ServerUnreachable, match="still sending"):
            transport.get_json("/b", retry=False)
        assert time.monotonic() - begun < 1.8


@pytest.mark.parametrize("body", [b" ", b"x" * 65536])
def test_the_body_of_a_redirect_is_not_read(body):
    head = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n"
    with raw_server(dripping(head, body)) as url:
        begun, transport = time.monotonic(), Transport(url, limits=LIMITS)
        with contextlib.closing(transport), pytest.raises(ServerRefused, match="redirects to"):
            transport.get_json("/queue")
        assert time.monotonic() - begun < 0.5


def test_a_connection_that_was_cut_off_is_not_used_again():
    turns = itertools.count()

    def serve(connection):
        if next(turns) == 0:
            return dripping(*DRIPS["headers"])(connection)
        connection.recv(65536)
        return connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")

    with (
        raw_server(serve) as url,
        contextlib.closing(Transport(url, limits=LIMITS)) as transport,
    ):
        with pytest.raises(ServerUnreachable, match="still sending"):
            transport.get_json("/queue", retry=False)
        assert transport.get_json("/queue", retry=False) == {}


def test_an_answer_at_less_than_the_lowest_speed_is_given_up():
    limits = Limits(connect_s=1.0, read_s=0.5, whole_s=5.0, slow_s=0.3, least_bytes_per_s=1000.0)
    with (
        raw_server(dripping(HEAD + b"\r\n", b" " * 20)) as url,
        contextlib.closing(Transport(url, limits=limits)) as transport,
        pytest.raises(ServerUnreachable, match=r"sends \d+ bytes/s after 0 s; expected at least"),
    ):
        transport.get_json("/queue", retry=False)


def test_a_quick_answer_leaves_no_timer_behind():
    def serve(connection):
        while connection.recv(65536):
            connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")

    with (
        raw_server(serve) as url,
        contextlib.closing(Transport(url, limits=LIMITS)) as transport,
    ):
        for _ in range(3):
            assert transport.get_json("/queue") == {}
        assert not any(isinstance(each, threading.Timer) for each in threading.enumerate())
