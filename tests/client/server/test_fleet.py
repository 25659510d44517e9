"""Servers by address, handle or file: nonsense is refused by name, and no token is shown."""

import json
import sys

import pytest

from client.errors import ClientError
from client.server.fleet import Patience, ServerSpec, read_servers, seats_of
from client.server.server import ComfyServer

ENTRIES = [
    {"url": "http://10.0.0.5:8188/"},
    {"url": "gpu.example", "name": "big", "weight": 2, "token_env": "SYNTHGRID_TEST_TOKEN"},
]


def test_a_json_file_of_servers(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHGRID_TEST_TOKEN", "s3cret")
    for value in (ENTRIES, {"servers": ENTRIES}):
        (tmp_path / "servers.json").write_text(json.dumps(value), encoding="utf-8")
        first, second = read_servers(tmp_path / "servers.json")
        assert first == ServerSpec("http://10.0.0.5:8188", name="10.0.0.5:8188")
        assert (second.url, second.name, second.weight) == ("http://gpu.example", "big", 2)
        assert second.access.token == "s3cret"
        assert "s3cret" not in repr(second)


def test_a_token_in_the_file_is_not_shown(tmp_path):
    (tmp_path / "servers.json").write_text(
        '[{"url": "https://a", "token": "s3cret", "read_s": 7}]', encoding="utf-8"
    )
    (spec,) = read_servers(tmp_path / "servers.json")
    assert (spec.access.token, spec.access.limits.read_s) == ("s3cret", 7)
    assert "s3cret" not in repr(spec)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_a_toml_file_of_servers(tmp_path):
    (tmp_path / "servers.toml").write_text(
        '[[servers]]\nurl = "http://10.0.0.5:8188"\nname = "a"\nweight = 0.5\n', encoding="utf-8"
    )
    assert read_servers(tmp_path / "servers.toml") == (
        ServerSpec("http://10.0.0.5:8188", name="a", weight=0.5),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid json"),
        ("[]", "lists no servers"),
        ('{"server": []}', "lists no servers"),
        ('[{"name": "x"}]', "server 1 has no url"),
        ('["http://a", {"url": "ftp://b"}]', "server 2"),
        ('[{"url": "http://a", "weigth": 2}]', "server 1: weigth: no such setting"),
        (
            '[{"url": "http://a", "token": "x", "token_env": "PATH"}]',
            "server 1: give one of token",
        ),
        ('[{"url": "http://a", "name": 3}]', "name must be a string"),
        ('[{"url": "http://a", "weight": 0}]', "weight is 0"),
        ('[{"url": "http://a", "weight": "2"}]', "weight is '2'"),
        ('[{"url": "http://a", "token_env": "SYNTHGRID_NOT_SET"}]', "SYNTHGRID_NOT_SET is not set"),
    ],
)
def test_a_file_that_makes_no_sense_names_the_entry(tmp_path, text, message):
    path = tmp_path / "servers.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ClientError, match=message) as caught:
        read_servers(path)
    assert "\n" not in str(caught.value)
    assert "servers.json" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ClientError, match="cannot read the servers file"):
        read_servers(tmp_path / "none.json")


def test_servers_of_every_kind_get_a_name():
    with ComfyServer("http://127.0.0.1:1") as handle:
        seats = seats_of(
            [handle, "http://127.0.0.1:2", ServerSpec("http://127.0.0.1:3", name="x")],
            patience=Patience(),
        )
    assert [seat.name for seat in seats] == ["127.0.0.1:1", "127.0.0.1:2", "x"]
    assert [seat.stays_open for seat in seats] == [True, False, False]


def test_a_patience_that_makes_no_sense_is_refused():
    with pytest.raises(ClientError, match="stall_s"):
        Patience(stall_s=0)
