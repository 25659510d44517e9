"""Tokens, passwords, headers and certificates: from environment or file, to one server only."""

import base64
import json
import logging
import pickle
from pathlib import Path

import pytest

from client.errors import AccessError, RunIncomplete, ServerRefused, ServerUnreachable
from client.run.runner import run_plan
from client.run.status import StateKeeper
from client.server.access import Access, Limits, access_from, load_access
from client.server.event_socket import EventSocket
from client.server.server import ComfyServer
from client.server.transport import Transport
from client.wording import HIDDEN
from client.workflow.changes.options import Options, patch
from comfy_nodes.plan import ClassEntry
from tests.client.stand_in import StandIn, answer, answer_json

CERTIFICATES = Path(__file__).parent / "certificates"
AUTHORITY = CERTIFICATES / "test-only-authority.pem"
TOKEN = "a-token-that-nobody-may-see"
QUICK = Limits(connect_s=2.0, read_s=2.0, whole_s=5.0)


@pytest.fixture
def stand_in(object_info):
    server = StandIn(object_info, authorization=f"Bearer {TOKEN}")
    yield server
    server.stop()


@pytest.fixture
def tls_stand_in(object_info):
    """Makes stand-ins that speak TLS with one of the certificates of the tests."""
    started = []

    def start(name, **options):
        certificate = (CERTIFICATES / f"{name}.pem", CERTIFICATES / "test-only-server.key")
        started.append(StandIn(object_info, certificate=certificate, **options))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def two_images(workflow):
    return patch(workflow, Options(classes=(ClassEntry("ant"),), images_per_class=2))


def transport(url, access):
    return Transport(url, access=access, limits=QUICK, pauses=lambda: iter(()))


def test_a_run_with_a_token_leaves_it_in_no_file_and_no_message(
    stand_in, workflow, tmp_path, caplog
):
    """Not even where the server sends it back: in its versions, in a job's error, in a page."""
    caplog.set_level(logging.DEBUG)
    stand_in.stats = {
        "system": {"comfyui_version": f"0.8 {TOKEN}", "python_version": TOKEN},
        "devices": [{"name": TOKEN}],
    }
    with ComfyServer(stand_in.url, access=Access(token=TOKEN), poll_s=0.1) as server:
        summary = run_plan(two_images(workflow), server, tmp_path / "out")
    assert summary.made == 2
    assert all(
        TOKEN.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    )
    assert HIDDEN in (tmp_path / "out" / "generation.json").read_text(encoding="utf-8")
    assert TOKEN not in caplog.text
    assert all(headers["Authorization"] == f"Bearer {TOKEN}" for _, _, headers in stand_in.asked)
    assert any(path.startswith("/ws") for _, path, _ in stand_in.asked)


def test_a_record_with_the_token_in_its_settings_is_not_saved_and_not_shown(
    stand_in, workflow, tmp_path, caplog
):
    """The file inside which there is no such setting is not the image of that record."""
    caplog.set_level(logging.DEBUG)
    stand_in.change = lambda record, data: ({**record, "settings": {TOKEN: [TOKEN]}}, data)
    with (
        ComfyServer(stand_in.url, access=Access(token=TOKEN), poll_s=0.1) as server,
        pytest.raises(RunIncomplete) as caught,
    ):
        run_plan(two_images(workflow), server, tmp_path / "out", tries=1)
    assert TOKEN not in f"{caught.value} {caplog.text}"
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert all(TOKEN.encode() not in data for data in files)


@pytest.mark.parametrize("value", ["1", "true", "ten", "success", "output", "synthgrid", "10"])
def test_a_header_whose_value_is_an_everyday_word_changes_no_answer(
    stand_in, workflow, tmp_path, value
):
    access = Access(token=TOKEN, headers={"X-Flag": value})
    kittens = patch(workflow, Options(classes=(ClassEntry("kitten 1"),), images_per_class=12))
    with ComfyServer(stand_in.url, access=access, poll_s=0.1) as server:
        assert server.object_info() == stand_in.object_info
        assert run_plan(kittens, server, tmp_path / "out").made == 12


def escaped(text):
    """As a server may spell it in JSON: a backslash, u, and four digits for each character."""
    return "".join(f"\\u{ord(each):04x}" for each in text)


def test_a_token_that_comes_back_in_json_escapes_reaches_no_file_and_no_message(
    stand_in, workflow, tmp_path, caplog
):
    said = escaped(TOKEN)
    stats = f'{{"system": {{"comfyui_version": "{said}"}}, "devices": [{{"name": "{said}"}}]}}'
    stand_in.tricks["/system_stats"] = lambda handler: answer(handler, stats.encode())
    failed = f'["execution_error", {{"node_id": "4", "exception_message": "{said}"}}]'
    status = f'{{"status_str": "error", "messages": [{failed}]}}'
    job = two_images(workflow)
    access = Access(token=TOKEN)
    out = tmp_path / "out"
    with (
        ComfyServer(stand_in.url, access=access, poll_s=0.1) as server,
        StateKeeper(out) as keeper,
    ):
        assert run_plan(job, server, out, on_event=keeper.take).made == 2
        generation = (out / "generation.json").read_text(encoding="utf-8")
        assert HIDDEN in generation
        stand_in.finish = lambda entry: {**entry, "status": json.loads(status)}
        with pytest.raises(RunIncomplete) as caught:
            run_plan(job, server, tmp_path / "failed", tries=1, on_event=keeper.take)
        assert "failed" in str(caught.value) or "could not be made" in str(caught.value)
        stand_in.tricks["/queue"] = lambda handler: answer(handler, said.encode(), status=500)
        with pytest.raises(ServerRefused, match=r"HTTP 500: \[hidden\]") as refused:
            server.queue()
    shown = f"{caught.value} {refused.value} {caplog.text}"
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for spelled in (TOKEN, said):
        assert spelled not in shown
        assert all(spelled.encode() not in data for data in files)


def test_a_refusal_by_the_server_shows_neither_the_token_nor_control_characters(stand_in):
    said = {"error": {"message": f"\x1b]0;owned\x07 {TOKEN}", "details": "\x9b31m"}}
    stand_in.tricks["/prompt"] = lambda handler: answer(
        handler, json.dumps(said).encode(), status=400
    )
    with (
        ComfyServer(stand_in.url, access=Access(token=TOKEN)) as server,
        pytest.raises(ServerRefused) as caught,
    ):
        server.submit({}, prompt_id="p")
    assert TOKEN not in str(caught.value)
    assert str(caught.value).isprintable()
    assert HIDDEN in str(caught.value)


def test_without_its_token_a_server_is_refused_with_the_way_out(stand_in):
    with pytest.raises(ServerRefused, match=r"HTTP 401: .*--token-env") as caught:
        transport(stand_in.url, Access()).get_json("/queue")
    assert caught.value.status == 401


def test_a_server_that_sends_the_token_back_in_an_error_page_does_not_get_it_into_the_message(
    stand_in,
):
    stand_in.tricks["/queue"] = lambda handler: answer(
        handler, handler.headers["Authorization"].encode(), status=500, kind="text/plain"
    )
    with pytest.raises(ServerRefused, match=r"HTTP 500: Bearer \[hidden\]"):
        transport(stand_in.url, Access(token=TOKEN)).get_json("/queue")
    assert transport(stand_in.url, Access(token=TOKEN)).post_json("/queue", {}) == (
        500,
        f"Bearer {HIDDEN}",
    )


@pytest.mark.parametrize("path", ["/queue", "/ws"])
def test_a_redirect_to_another_server_takes_no_secret_there(stand_in, object_info, path):
    other = StandIn(object_info)
    target = (other.url.replace("http", "ws") if path == "/ws" else other.url) + f"/ws?t={TOKEN}"
    stand_in.tricks[path] = lambda handler: answer(handler, b"", status=302, Location=target)
    reach = transport(stand_in.url, Access(token=TOKEN))
    with pytest.raises((ServerRefused, ServerUnreachable)) as caught:
        reach.get_json(path) if path == "/queue" else reach.open_socket("c")
    other.stop()
    assert other.asked == []
    assert TOKEN not in str(caught.value)


def test_user_and_password_go_out_as_basic_also_from_the_address(stand_in):
    expected = "Basic " + base64.b64encode("me:pass wörd".encode()).decode()
    stand_in.authorization = expected
    assert transport(stand_in.url, Access(basic=("me", "pass wörd"))).get_json("/queue")
    in_address = transport(stand_in.url.replace("//", "//me:pass%20w%C3%B6rd@"), None)
    assert in_address.get_json("/queue")
    in_address.open_socket("c").close()
    assert "@" not in in_address.base_url
    with pytest.raises(AccessError, match="holds a user name, and a token") as caught:
        transport("http://me:word@127.0.0.1", Access(token=TOKEN))
    assert "word" not in str(caught.value).replace("password", "")


def test_further_headers_go_out_with_requests_and_socket(stand_in):
    access = Access(token=TOKEN, headers={"CF-Access-Client-Id": "abc"})
    transport(stand_in.url, access).get_json("/queue")
    transport(stand_in.url, access).open_socket("c").close()
    assert [headers["CF-Access-Client-Id"] for _, _, headers in stand_in.asked] == ["abc", "abc"]


def test_a_secret_without_https_to_another_machine_is_warned_of(caplog):
    transport("http://gpu.example", Access(token=TOKEN))
    assert "http://gpu.example is not https" in caplog.text
    caplog.clear()
    for url in (
        "https://gpu.example",
        "http://127.0.0.1:8188",
        "http://[::1]:8188",
        "http://localhost",
    ):
        transport(url, Access(token=TOKEN))
    assert caplog.text == ""


def test_https_with_ones_own_authority(tls_stand_in, workflow, tmp_path):
    server = tls_stand_in("test-only-server", authorization=f"Bearer {TOKEN}")
    access = Access(token=TOKEN, ca_file=AUTHORITY, limits=QUICK)
    with ComfyServer(server.url, access=access, poll_s=0.1) as comfy:
        assert run_plan(two_images(workflow), comfy, tmp_path / "out").made == 2
    assert any(path.startswith("/ws") for _, path, _ in server.asked)


@pytest.mark.parametrize(
    ("name", "access", "why"),
    [
        (
            "test-only-server",
            Access(token=TOKEN),
            "unable to get local issuer certificate|self.signed",
        ),
        (
            "test-only-other-host",
            Access(token=TOKEN, ca_file=AUTHORITY),
            "IP address mismatch|doesn't match",
        ),
    ],
)
def test_a_certificate_of_another_authority_or_host_gets_no_request(
    tls_stand_in, name, access, why
):
    server = tls_stand_in(name)
    with pytest.raises(
        ServerUnreachable, match=f"certificate was not accepted .*({why}).*--ca-file"
    ) as caught:
        transport(server.url, access).get_json("/queue")
    assert "\n" not in str(caught.value)
    with pytest.raises(ServerUnreachable, match="no websocket"):
        transport(server.url, access).open_socket("c")
    assert server.asked == []


def test_an_authority_named_by_the_environment_is_not_trusted(tls_stand_in, monkeypatch):
    for name in (
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "SSL_CERT_FILE",
        "WEBSOCKET_CLIENT_CA_BUNDLE",
    ):
        monkeypatch.setenv(name, str(AUTHORITY))
    server = tls_stand_in("test-only-server")
    with pytest.raises(ServerUnreachable, match="certificate was not accepted"):
        transport(server.url, Access()).get_json("/queue")
    with pytest.raises(ServerUnreachable, match="no websocket"):
        transport(server.url, Access()).open_socket("c")


@pytest.mark.parametrize(
    "elsewhere",
    [
        "http://gpu.example:8188",
        "https://gpu.example:8189",
        "https://gpu.example",
        "https://gpu.example.org:8188",
    ],
)
def test_a_secret_is_for_one_scheme_host_and_port(elsewhere):
    access = Access(token=TOKEN).for_server("https://GPU.example:8188/some/path")
    assert access.for_server("https://gpu.example:8188") == access
    for reach in (
        lambda: transport(elsewhere, access),
        lambda: EventSocket(elsewhere, "c", access=access),
    ):
        with pytest.raises(AccessError, match=r"are for https://gpu\.example:8188 and") as caught:
            reach()
        assert TOKEN not in str(caught.value)


def test_what_is_no_secret_may_be_used_for_any_server():
    access = Access(limits=QUICK).for_server("https://gpu.example:8188")
    assert transport("http://127.0.0.1:1", access).limits == QUICK


def test_no_secret_is_shown():
    access = Access(token=TOKEN, headers={"X-Key": "another-secret"})
    assert TOKEN not in repr(access) + str(access)
    assert "another-secret" not in repr(access)
    assert pickle.loads(pickle.dumps(access)) == access
    basic = Access(basic=("me", "word-of-mine"))
    assert (
        basic.hide(f"{basic.sent_headers()['Authorization']} word-of-mine")
        == f"Basic {HIDDEN} {HIDDEN}"
    )


def test_secrets_come_from_environment_and_files(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFY_TOKEN", f"{TOKEN}\n")
    assert load_access(token_env="COMFY_TOKEN").token == TOKEN
    (tmp_path / "token").write_text(f"{TOKEN}\n", encoding="utf-8")
    assert load_access(token_file=tmp_path / "token").token == TOKEN
    (tmp_path / "basic").write_text("me:a:b\n", encoding="utf-8")
    assert load_access(basic_file=tmp_path / "basic").basic == ("me", "a:b")
    (tmp_path / "headers").write_text("X-Key: 1\n\nCookie: a=b; c=d\n", encoding="utf-8")
    assert load_access(header_file=tmp_path / "headers").headers == {
        "X-Key": "1",
        "Cookie": "a=b; c=d",
    }
    assert access_from({"token_env": "COMFY_TOKEN", "read_s": 5, "job_s": 60}) == Access(
        token=TOKEN, limits=Limits(read_s=5, job_s=60)
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"token_env": "NO_SUCH_VARIABLE"}, "variable NO_SUCH_VARIABLE is not set"),
        ({"token_file": "nowhere"}, "cannot read nowhere"),
        ({"token_env": "A", "token_file": "b"}, "not in both"),
        ({"token_file": "two"}, "two should hold the token on one line"),
        ({"basic_file": "one"}, "written as user:password"),
        ({"header_file": "one"}, "one, line 1: expected 'Name: value'"),
        ({"header_file": "injection"}, "header 'Bad Name' cannot be set"),
        ({"header_file": "host"}, "header 'Host' cannot be set"),
        ({"header_file": "authorization", "token_file": "one"}, "not several"),
        ({"token_file": "giant"}, "larger than"),
        ({"token_file": "binary"}, "not UTF-8"),
        ({"ca_file": "one"}, "expected a PEM file"),
        ({"ca_file": "nowhere"}, "cannot use the certificates"),
        ({"read_s": 0}, "read_s is 0"),
        ({"read_s": "5"}, "read_s: expected a number"),
        ({"token": TOKEN}, "token: no such setting; known: token_env"),
    ],
)
def test_what_cannot_be_used_is_refused_without_showing_it(tmp_path, monkeypatch, values, message):
    monkeypatch.chdir(tmp_path)
    texts = {
        "one": "hush-hush",
        "two": "hush\nhush",
        "injection": "Bad Name: hush",
        "host": "Host: hush",
    }
    for name, text in (
        texts | {"authorization": "authorization: hush", "giant": "hush" * 20_000}
    ).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AccessError, match=message) as caught:
        access_from(values)
    assert "hush" not in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("token", ["two\r\nX: lines", "späce", " padded", "tab\there"])
def test_a_token_that_no_header_can_carry_is_refused(token):
    with pytest.raises(AccessError, match="cannot carry") as caught:
        Access(token=token)
    assert token.strip() not in str(caught.value)


def test_time_outs_are_those_of_the_access(object_info):
    server = StandIn(object_info)
    server.tricks["/queue"] = lambda handler: (
        handler.connection.recv(1),
        answer_json(handler, json.loads("{}")),
    )
    with pytest.raises(ServerUnreachable, match=r"no answer within 0\.2 s"):
        Transport(server.url, access=Access(limits=Limits(read_s=0.2))).get_json(
            "/queue", retry=False
        )
    server.stop()
