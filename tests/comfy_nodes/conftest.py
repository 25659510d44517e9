"""Every test of the nodes starts outside any host, whatever engine an earlier test has started."""

import pytest

from comfy_nodes import host, paths


@pytest.fixture(autouse=True)
def outside_any_host(monkeypatch):
    monkeypatch.setattr(host, "_output_directory", None)
    monkeypatch.setattr(host, "_input_directory", None)
    monkeypatch.delenv(paths.ROOTS_VARIABLE, raising=False)
