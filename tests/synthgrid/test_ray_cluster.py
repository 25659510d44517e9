"""Connecting to Ray: what it is asked for, with a stand-in; what a wrong address says."""

import logging
import os
import socket
import sys
from types import SimpleNamespace

import pytest

from comfy_nodes.errors import SynthGridError
from synthgrid.ray_cluster import connect


class RayError(Exception):
    pass


@pytest.fixture
def asked(monkeypatch):
    """Arguments of every ray.init of a stand-in."""
    found = []
    ray = SimpleNamespace(
        init=lambda **options: found.append(options), exceptions=SimpleNamespace(RayError=RayError)
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(os, "environ", {})
    return found


def settings():
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_")}


@pytest.fixture
def port():
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_without_an_address_ray_starts_here_on_loopback_without_a_dashboard(asked):
    assert connect(None) is sys.modules["ray"]
    assert asked == [
        {
            "address": "local",
            "include_dashboard": False,
            "logging_level": logging.ERROR,
            "log_to_driver": False,
        }
    ]
    assert settings() == {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_is_handed_to_ray_as_it_is(asked, port, scheme):
    connect(f"{scheme}127.0.0.1:{port}")
    assert asked == [
        {
            "address": f"{scheme}127.0.0.1:{port}",
            "logging_level": logging.ERROR,
            "log_to_driver": False,
        }
    ]
    assert settings() == {"RAY_USAGE_STATS_ENABLED": "0"}


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "ray://[::1]:9"])
def test_an_address_that_nobody_answers_is_one_line_and_ray_is_not_asked(asked, address):
    with pytest.raises(SynthGridError) as caught:
        connect(address)
    assert str(caught.value).startswith(f"cannot reach a Ray cluster at {address}: ")
    assert "; check --address" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert asked == []


@pytest.mark.parametrize("address", ["a..b:80", f"{'a' * 64}:80"])
def test_a_host_that_cannot_be_a_name_is_one_line_too(asked, address):
    with pytest.raises(SynthGridError, match=r"cannot reach a Ray cluster at a.*codec"):
        connect(address)
    assert asked == []


def test_a_refusal_without_words_is_named_by_its_kind(asked, monkeypatch):
    def refuse(**options):
        raise TimeoutError

    monkeypatch.setattr(sys.modules["ray"], "init", refuse)
    with pytest.raises(SynthGridError, match=r"at this machine: TimeoutError; check --address"):
        connect(None)


@pytest.mark.parametrize("kind", [RuntimeError, ConnectionError, RayError])
def test_what_ray_refuses_is_its_first_line_and_the_token_is_named(asked, monkeypatch, kind):
    def refuse(**options):
        raise kind("the token is incorrect\nand much more")

    monkeypatch.setattr(sys.modules["ray"], "init", refuse)
    with pytest.raises(SynthGridError, match=r": the token is incorrect; .*RAY_AUTH_MODE=token"):
        connect(None)
