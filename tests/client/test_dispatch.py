"""Many servers, one folder: whatever fails, every planned image is there exactly once and every record is true."""

import contextlib

import pytest

from client import events
from client.errors import RunIncomplete
from client.fleet import Patience
from client.runner import run_plan
from tests.client.fault_proxy import FaultProxy, Schedule
from tests.client.helpers import assert_exact, stub_workflow

QUICK = Patience(answer_s=0.5, stall_s=2.0, probe_s=0.05, probe_most_s=0.3, give_up_s=4.0)
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def proxies(stub_servers):
    """A fault proxy in front of each of two stub servers."""
    proxies = [FaultProxy(server.url, web_socket=True, hang_s=0.7) for server in stub_servers[:2]]
    yield proxies
    for proxy in proxies:
        proxy.thaw()
        proxy.down()


def kinds(seen, kind):
    return [event for event in seen if isinstance(event, kind)]


def run_under(schedule, workflow, urls, out):
    """Runs under faults, which begin when the run has, and may end it before it is complete."""

    def begin(event):
        if isinstance(event, events.RunStarted):
            schedule.begin()

    try:
        with contextlib.suppress(RunIncomplete):
            run_plan(workflow, urls, out, patience=QUICK, on_event=begin)
    finally:
        schedule.end()


def check_schedule(seed, proxies, out):
    workflow = stub_workflow(seed=seed, seconds=0.02 if seed % 3 else 0.1, batch_size=1 + seed % 4)
    urls = [proxy.url for proxy in proxies[: 1 + seed % 2]]
    run_under(Schedule(seed, proxies), workflow, urls, out)
    run_plan(workflow, urls, out, patience=QUICK)
    assert_exact(out, workflow)


@pytest.mark.parametrize("seed", range(10))
def test_under_random_faults_the_folder_is_exactly_the_plan(seed, proxies, tmp_path):
    check_schedule(seed, proxies, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 300))
def test_under_many_random_faults_the_folder_is_exactly_the_plan(seed, proxies, tmp_path):
    check_schedule(seed, proxies, tmp_path / "out")
