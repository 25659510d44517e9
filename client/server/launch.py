"""Starts and stops the embedded engine as a child process: `--server embedded`.

The child reads a pipe from us and ends when it closes, so a killed client leaves no server behind.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ..errors import ClientError, ServerUnreachable
from .server import ComfyServer
from .transport import backoff
from .workplace import Workplace, remove_abandoned

log = logging.getLogger(__name__)

_LISTENING = re.compile(r"listening on (http://\S+)")
_EMBEDDED = re.compile(r"embedded(?::(cpu|cuda(?::\d{1,4})?))?")
_ROOT = Path(__file__).resolve().parents[2]


def embedded_device(server: str) -> str | None:
    """The device of "embedded[:DEVICE]", "" where none is named; None for a server's address.

    Raises:
        ClientError: "embedded:" with something that is no device.
    """
    if server != "embedded" and not server.startswith("embedded:"):
        return None
    found = _EMBEDDED.fullmatch(server)
    if not found:
        raise ClientError(
            f"server {server}: '{server.removeprefix('embedded:')}' is no device; "
            "write embedded, embedded:cpu, embedded:cuda:0, embedded:cuda:1, ..."
        )
    return found[1] or ""


def engine_name(server: str, number: int) -> str:
    """The name of the `number`-th engine, from 1, that is given as "embedded[:DEVICE]"."""
    return server if number == 1 else f"{server} ({number})"


def is_engine_name(name: str) -> bool:
    """Whether `engine_name` makes this name: such an engine ends with its client."""
    return bool(_EMBEDDED.fullmatch(re.sub(r" \(\d+\)$", "", name)))


class EmbeddedServer:
    """The embedded engine on a free loopback port; a context manager.

    `open` starts it and `close` stops it. A server that died is restarted up to `restarts` times;
    a start may take `start_s` seconds. `device` is "cpu", "cuda" or "cuda:N", by default a GPU if
    there is one; `name` tells several engines of a run apart.
    """

    def __init__(
        self,
        *,
        checkpoint_directories: Sequence[Path] = (),
        input_directory: Path | None = None,
        device: str = "",
        name: str = "embedded",
        restarts: int = 3,
        start_s: float = 180.0,
    ) -> None:
        self._checkpoint_directories = [Path(each) for each in checkpoint_directories]
        self._input_directory = input_directory
        self._device = device
        self.name = name
        self._restarts = self._most_restarts = restarts
        self._start_s = start_s
        self._process: subprocess.Popen[bytes] | None = None
        self._server: ComfyServer | None = None
        self._workplace: Workplace | None = None

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the server; None if it is not running."""
        return self._process.pid if self._process else None

    def open(self) -> ComfyServer:
        """Starts the engine, if it is not running, and waits until it listens.

        Raises:
            ClientError: its requirements are not installed.
            ServerUnreachable: it ended, or did not listen in time; the message has its last line,
                the log the last ones.
        """
        if self._server is not None:
            return self._server
        _refuse_missing_requirements()
        remove_abandoned()
        self._workplace = Workplace()
        log.info("starting the embedded engine")
        self._process = self._start(self._workplace)
        # A child that died stays dead: there is no reason to retry for long.
        address = self._wait_for_address()
        log.info("the embedded engine listens on %s (process %d)", address, self._process.pid)
        self._server = ComfyServer(address, pauses=lambda: backoff(total_s=2.0))
        return self._server

    def replace(self, error: ServerUnreachable) -> ComfyServer:
        """Restarts a lost engine, at most `restarts` times; then raises ServerUnreachable."""
        self._show_log()
        if self._restarts < 1:
            raise ServerUnreachable(
                "the embedded engine keeps ending; its last lines are above"
            ) from error
        self._restarts -= 1
        log.warning("the embedded engine ended; starting it again")
        self._stop()
        return self.open()

    def renew(self) -> None:
        """Stops an engine that is of no more use; `open` starts a new one, with new restarts."""
        self._stop()
        self._restarts = self._most_restarts

    def clear_output(self) -> None:
        """Removes the images that the engine has saved, now that they were collected."""
        if self._workplace is not None:
            shutil.rmtree(self._workplace.path / "output" / "synthgrid", ignore_errors=True)

    def close(self) -> None:
        """Stops the engine and removes its working folder."""
        self._stop()

    def _start(self, workplace: Workplace) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "client",
            "serve",
            "--port",
            "0",
            "--base-directory",
            str(workplace.path),
        ]
        for each in self._checkpoint_directories:
            command += ["--checkpoint-dir", str(each.expanduser().resolve())]
        if self._input_directory is not None:
            command += ["--input-directory", str(self._input_directory.expanduser().resolve())]
        if self._device:
            command += ["--device", self._device]
        with self._log_path.open("ab") as output:
            return subprocess.Popen(
                [*command, "--exit-with-parent", "--temporary"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=_ROOT,  # here `-m client` is this package, whatever the user's folder holds
                env=os.environ | {"PYTHONUTF8": "1"},
                # Ctrl-C in a terminal reaches the whole process group; the engine must outlive it,
                # so that its jobs can be cancelled.
                start_new_session=True,
                pass_fds=() if os.name == "nt" else (workplace.owner.fileno(),),
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )

    @property
    def _log_path(self) -> Path:
        assert self._workplace is not None
        return self._workplace.path / "server.log"

    def _log_text(self) -> str:
        try:
            return self._log_path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _wait_for_address(self) -> str:
        deadline = time.monotonic() + self._start_s
        while time.monotonic() < deadline:
            ended = self._process is None or self._process.poll() is not None
            found = _LISTENING.search(self._log_text())
            if found:
                return found.group(1).rstrip(".,")
            if ended:
                raise self._failure("ended while starting")
            time.sleep(0.05)
        raise self._failure(f"did not listen within {self._start_s:.0f} s")

    def _failure(self, what: str) -> ServerUnreachable:
        lines = [line for line in self._log_text().splitlines() if line.strip()]
        if len(lines) > 1:
            self._show_log()
        self._stop()
        said = lines[-1].removeprefix("error: ") if lines else "it said nothing"
        return ServerUnreachable(f"the embedded engine {what}: {said}")

    def _show_log(self, most: int = 20) -> None:
        for line in self._log_text().splitlines()[-most:]:
            log.error("engine: %s", line)

    def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        process, self._process = self._process, None
        if process is not None:
            _end(process)
        if self._workplace is not None:
            self._workplace.remove()
            self._workplace = None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the engine; closing its standard input is enough, unless it hangs."""
    if process.stdin:
        with suppress(OSError):
            process.stdin.close()  # this alone ends the engine
    try:
        process.wait(timeout=1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _refuse_missing_requirements() -> None:
    from ..embedded import missing_requirements

    missing = missing_requirements()
    if missing:
        needs = f"the embedded engine needs {', '.join(missing)}"
        raise ModuleNotFoundError(needs, name=missing[0])
