"""What every test may rely on, wherever the tests are started from."""

import gc
import os
import signal

import pytest

# Workers share the cores: threads of torch that wait for each other cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A script's background jobs ignore Ctrl-C, and so would every process that a test starts and
# interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """What is imported by now stays: the collector of garbage need not visit it again."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    """One embedded server for the tests that leave it alive."""
    from tests.client.helpers import ServerProcess  # which imports NumPy: after the threads are set

    server = ServerProcess(tmp_path_factory.mktemp("engine")).start()
    yield server
    server.kill()
