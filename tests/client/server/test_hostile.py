"""Hostile servers: refused in one clear line, nothing written outside, memory bounded.

Covers: client.server.event_socket, client.server.transport, client.run.dispatch.collect.
"""

import hashlib
import struct
import sys
import time
import zlib
from functools import cache

import pytest

from client.errors import (
    ClientError,
    RunIncomplete,
    ServerRefused,
    ServerUnreachable,
    TransferError,
)
from client.run.runner import run_plan
from client.server.access import MIB, Limits
from client.server.event_socket import EventSocket
from client.server.fleet import Patience
from client.server.server import ComfyServer
from client.server.transport import Transport
from client.workflow.changes.options import Options, patch
from comfy_nodes.plan import ClassEntry
from tests.client.stand_in import StandIn, answer, answer_json, endless, websocket_upgrade

LIMITS = Limits(
    connect_s=1.0,
    read_s=1.0,
    whole_s=1.5,
    json_bytes=4 * MIB,
    file_bytes=4 * MIB,
    message_bytes=MIB,
)
PATIENCE = Patience(probe_s=0.05, give_up_s=2.0)
MOST_GROWTH = 100 * MIB  # far below what each of the attacks would take


@pytest.fixture
def hostile(object_info):
    server = StandIn(object_info)
    yield server
    server.stop()


@pytest.fixture
def attack(hostile, workflow, tmp_path):
    """Runs a plan of two images; returns the error. Only the run's folder may exist after it."""

    def run():
        job = patch(workflow, Options(classes=(ClassEntry("ant"),), images_per_class=2))
        before = peak_memory()
        with ComfyServer(
            hostile.url, limits=LIMITS, poll_s=0.1, pauses=lambda: iter((0.0,))
        ) as server:
            try:
                result = run_plan(job, server, tmp_path / "out", tries=1, patience=PATIENCE)
            except ClientError as error:
                result = error
        assert "\n" not in str(result)
        assert {path.name for path in tmp_path.iterdir()} <= {"out"}
        assert peak_memory() - before < MOST_GROWTH
        return result

    return run


def peak_memory():
    """Bytes; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def images_in(folder):
    return sorted(path.name for path in folder.rglob("*.png"))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width, height):
    """A grey PNG of this size, a thousandth of its pixels in bytes."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def text_bomb():
    """A tiny PNG with a text of 128 MB, packed into 128 KB."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(MIB)) for _ in range(128)) + packer.flush()
    small = png_bomb(8, 8)
    at = small.index(b"IDAT") - 4
    return small[:at] + chunk(b"zTXt", b"synthgrid\0\0" + packed) + small[at:]


@cache
def gzip_bomb():
    """128 MB of zeros, packed into 128 KB."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(128)) + packer.flush()


def with_bytes(data):
    return lambda record, _: ({**record, "sha256": hashlib.sha256(data).hexdigest()}, data)


def test_without_a_trick_the_stand_in_serves_a_whole_run(attack, tmp_path):
    assert attack().made == 2
    assert len(images_in(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    "name",
    [
        "../../outside.png",
        "/outside.png",
        "C:\\outside.png",
        "ant/../../outside.png",
        "\\\\host\\share\\x.png",
        "ant/a\0b.png",
    ],
)
def test_a_file_name_that_leads_elsewhere_is_refused(hostile, attack, tmp_path, name):
    hostile.change = lambda record, data: ({**record, "file_name": name}, data)
    error = attack()
    assert isinstance(error, ServerRefused)
    assert "names its file" in str(error)
    assert images_in(tmp_path) == []


@pytest.mark.parametrize("field", ["label", "plan_id", "prompt"])
def test_a_record_that_is_not_the_planned_one_is_refused(hostile, attack, tmp_path, field):
    hostile.change = lambda record, data: ({**record, field: "../../outside"}, data)
    assert isinstance(attack(), ServerRefused)
    assert images_in(tmp_path) == []


def test_where_the_server_keeps_an_image_decides_nothing_here(hostile, attack, tmp_path):
    hostile.locate = lambda name: {
        "filename": f"../../../{name}",
        "subfolder": "/etc",
        "type": "output",
    }
    assert attack().made == 2
    assert all(
        path.is_relative_to(tmp_path / "out" / "ant") for path in (tmp_path / "out").rglob("*.png")
    )


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (
            lambda handler: answer(handler, b"<html>please log in</html>", kind="text/html"),
            "answered with text/html",
        ),
        (lambda handler: answer_json(handler, {"error": "no"}), "answered with application/json"),
        (
            lambda handler: answer(handler, b"x", kind="image/png", length=10**10),
            "announces 10000000000 bytes",
        ),
        (lambda handler: endless(handler, kind="image/png"), "sends more than the limit"),
        (
            lambda handler: answer(handler, gzip_bomb(), kind="image/png", Content_Encoding="gzip"),
            "packed with gzip",
        ),
        (
            lambda handler: answer(handler, b"", status=307, Location="http://other.invalid/"),
            "redirects to",
        ),
        (
            lambda handler: answer(handler, b"\x89PNG\r\n", kind="image/png"),
            "other bytes than the server saved",
        ),
    ],
)
def test_a_page_instead_of_an_image_is_refused(hostile, attack, tmp_path, caplog, page, why):
    hostile.tricks["/view"] = page
    error = attack()
    assert isinstance(error, RunIncomplete)
    assert images_in(tmp_path) == []
    assert why in caplog.text


@pytest.mark.parametrize(
    "make_bomb",
    [lambda: png_bomb(12_000, 12_000), lambda: png_bomb(100_000, 700), text_bomb],
    ids=["square", "wide", "text"],
)
def test_an_image_that_would_unpack_to_gigabytes_is_refused_unread(
    hostile, attack, tmp_path, make_bomb
):
    bomb = make_bomb()
    assert len(bomb) < 2 * MIB
    hostile.change = with_bytes(bomb)
    assert isinstance(attack(), RunIncomplete)
    assert images_in(tmp_path) == []


JSON_TRICKS = {
    "html": lambda handler: answer(handler, b"<html>hello</html>", kind="text/html"),
    "half": lambda handler: answer(handler, b'{"a": [1, 2'),
    "deep": lambda handler: answer(handler, b"[" * 1_000_000),
    "long number": lambda handler: answer(handler, b"1" * 1_000_000),
    "no text": lambda handler: answer(handler, b'{"a": "\xff\xfe"}'),
    "gzip bomb": lambda handler: answer(handler, gzip_bomb(), Content_Encoding="gzip"),
    "giant": lambda handler: answer(handler, b"{", length=10**10),
    "endless": endless,
    "redirect": lambda handler: answer(
        handler, b"", status=302, Location="http://other.invalid/object_info"
    ),
    "wrong shape": lambda handler: answer_json(handler, [1, 2, 3]),
}


@pytest.mark.parametrize("path", ["/object_info", "/system_stats"])
@pytest.mark.parametrize("trick", JSON_TRICKS)
def test_an_answer_that_is_no_json_of_the_kind_is_refused_before_anything_is_queued(
    hostile, attack, tmp_path, path, trick
):
    hostile.tricks[path] = JSON_TRICKS[trick]
    error = attack()
    assert isinstance(error, (ServerRefused, TransferError))
    assert hostile.url in str(error)
    assert not any(path == "/prompt" for _, path, _ in hostile.asked)
    assert images_in(tmp_path) == []


@pytest.mark.parametrize("trick", ["html", "half", "deep", "redirect"])
def test_an_answer_to_the_post_that_is_no_json_is_refused(hostile, attack, tmp_path, trick):
    hostile.tricks["/prompt"] = JSON_TRICKS[trick]
    assert isinstance(attack(), ServerRefused)
    assert images_in(tmp_path) == []


@pytest.mark.parametrize(
    "output", [None, [], {"x": 1}, {"13": {"synthgrid_records": [[]], "images": [5]}}]
)
def test_a_history_of_another_shape_makes_no_image(hostile, attack, tmp_path, output):
    hostile.finish = lambda found: {"outputs": output, "status": {"status_str": "success"}}
    assert isinstance(attack(), RunIncomplete)
    assert images_in(tmp_path) == []


class ClaimsToKnowAll(dict):
    """A history that has an entry for every prompt there could be."""

    def __init__(self, status):
        self.entry = {
            "outputs": {},
            "status": {"status_str": status, "completed": status == "success", "messages": []},
        }

    def __contains__(self, prompt_id):
        return True

    def __getitem__(self, prompt_id):
        return self.entry


@pytest.mark.parametrize("status", ["success", "error"])
def test_a_server_that_claims_to_know_every_job_does_not_keep_the_run_going(
    hostile, attack, tmp_path, status
):
    hostile.history = ClaimsToKnowAll(status)
    assert isinstance(attack(), ClientError)
    assert images_in(tmp_path) == []


def frame(length, data=b"", *, first=0x81):
    return struct.pack(">BBQ", first, 127, length) + data


def send_forever(handler, piece, pause_s=0.0):
    while True:
        handler.wfile.write(piece)
        time.sleep(pause_s)


SOCKET_TRICKS = {
    "giant frame": lambda handler: send_forever(handler, frame(2**40) + bytes(MIB)),
    "endless fragments": lambda handler: (
        handler.wfile.write(frame(65536, bytes(65536), first=0x01)),
        send_forever(handler, frame(65536, bytes(65536), first=0x00)),
    ),
}


@pytest.mark.parametrize("trick", SOCKET_TRICKS)
def test_a_socket_message_without_end_closes_the_socket(hostile, trick):
    hostile.tricks["/ws"] = lambda handler: (
        websocket_upgrade(handler),
        SOCKET_TRICKS[trick](handler),
    )
    socket, before = EventSocket(hostile.url, "c", limits=LIMITS), peak_memory()
    with pytest.raises(ServerUnreachable, match="a message of more than"):
        socket.receive(timeout_s=5.0)
    assert peak_memory() - before < MOST_GROWTH
    socket.close()


def test_a_socket_message_that_drips_does_not_hold_up_the_client(hostile):
    hostile.tricks["/ws"] = lambda handler: (
        websocket_upgrade(handler),
        handler.wfile.write(frame(1000)),
        send_forever(handler, b" ", 0.05),
    )
    socket, begun = EventSocket(hostile.url, "c", limits=LIMITS), time.monotonic()
    assert socket.receive(timeout_s=0.3) is None
    assert time.monotonic() - begun < 1.0
    socket.close()


def test_a_hand_shake_without_end_is_cut(hostile):
    hostile.tricks["/ws"] = lambda handler: send_forever(
        handler, b"HTTP/1.1 101 X\r\nA: b\r\n", 0.01
    )
    begun = time.monotonic()
    with pytest.raises(ServerUnreachable, match="no websocket"):
        EventSocket(hostile.url, "c", limits=Limits(connect_s=0.3))
    assert time.monotonic() - begun < 2.0


def test_a_body_that_drips_is_given_up(hostile):
    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        send_forever(handler, b" ", 0.05)

    hostile.tricks["/queue"] = drip
    with pytest.raises(ServerUnreachable, match=r"still sending after 1\.5 s"):
        Transport(hostile.url, limits=LIMITS).get_json("/queue", retry=False)
