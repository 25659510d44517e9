"""Where the runs of a grid are trained: in this process, in one per device, or on a Ray cluster.

An executor takes runs that are not done and returns the files of each run's folder as it finishes;
the grid writes them. So workers need no shared disk, and a run whose worker was killed leaves
nothing behind and is trained again. With any executor, the same machine with the same number of
threads gives the same files.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.multiprocessing
from safetensors.torch import load_file, save_file

from synthgrid.ray_cluster import connect
from trainer.config import GridConfig
from trainer.errors import ConfigError, ReportError
from trainer.runs import INPUTS_FOLDER
from trainer.training.batches.inputs import ModelInputs
from trainer.training.compute import deterministic
from trainer.training.run import PlannedRun, failure, train

logger = logging.getLogger(__name__)
# Tries of a run whose worker dies: memory may be short for a moment, but hardly three times.
_TRIES = 3

Finished = tuple[PlannedRun, Mapping[str, bytes]]


class Executor(Protocol):
    """Trains runs somewhere."""

    def finished(
        self, pending: Sequence[PlannedRun], inputs: Mapping[str, ModelInputs]
    ) -> Iterator[Finished]:
        """Trains each run on its model's inputs; yields it with the files of its folder, in any
        order."""
        ...


def executor_for(config: GridConfig, device: torch.device) -> Executor:
    """The executor that a grid's options ask for. All GPUs are used unless `devices` names some.

    Raises:
        ConfigError: a device does not exist.
    """
    if config.executor == "ray":
        return RayCluster(config.address, cuda=device.type == "cuda", threads=config.threads or 1)
    names = config.devices or _every_gpu(device)
    for name in names:
        if name != "cpu" and int(name.removeprefix("cuda:")) >= torch.cuda.device_count():
            raise ConfigError(
                f"device '{name}' does not exist; torch finds {torch.cuda.device_count()} CUDA "
                "devices"
            )
    if len(names) > 1:
        return Processes(
            names,
            scratch=Path(config.out) / INPUTS_FOLDER,
            threads=_threads_each(config, len(names)),
        )
    return InProcess(torch.device(names[0]) if names else device)


def _every_gpu(device: torch.device) -> tuple[str, ...]:
    if device.type != "cuda" or device.index is not None:
        return ()
    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))


def _threads_each(config: GridConfig, processes: int) -> int:
    return config.threads or max(1, torch.get_num_threads() // processes)


@dataclass(frozen=True)
class InProcess:
    """One run after another, in this process."""

    device: torch.device

    def finished(
        self, pending: Sequence[PlannedRun], inputs: Mapping[str, ModelInputs]
    ) -> Iterator[Finished]:
        """See Executor."""
        with deterministic():
            for run in pending:
                yield run, train(run, inputs[run.config.model], device=self.device)


@dataclass(frozen=True)
class Processes:
    """One process per device, each given one run at a time. "cpu" may be named several times.

    The processes map their inputs from files in `scratch`, since shared memory is small in many
    containers. It is not a ProcessPoolExecutor, nor joblib's loky: with both, one worker that dies
    breaks the whole pool and all its runs.
    """

    devices: tuple[str, ...]
    scratch: Path
    threads: int

    def finished(
        self, pending: Sequence[PlannedRun], inputs: Mapping[str, ModelInputs]
    ) -> Iterator[Finished]:
        """See Executor."""
        workers: list[_Worker] = []
        try:
            stored = {
                model: _store(each, self.scratch / f"{number}")
                for number, (model, each) in enumerate(inputs.items())
            }
            queue = deque((run, 1) for run in pending)
            workers = [
                _Worker(device, self.threads, stored) for device in self.devices[: len(pending)]
            ]
            while queue or any(worker.busy for worker in workers):
                for worker in workers:
                    if queue and not worker.busy:
                        worker.give(*queue.popleft())
                for connection in wait([worker.connection for worker in workers if worker.busy]):
                    worker = next(each for each in workers if each.connection is connection)
                    run, tries = worker.busy[0]
                    files = worker.take()
                    if files is None and tries < _TRIES:
                        queue.appendleft((run, tries + 1))
                    else:
                        yield (
                            run,
                            failure(run, worker.last_words(tries)) if files is None else files,
                        )
        finally:
            for worker in workers:
                worker.stop()
            shutil.rmtree(self.scratch, ignore_errors=True)


class _Worker:
    """A process that trains the runs it is given; if it dies, another one replaces it."""

    def __init__(self, device: str, threads: int, stored: Mapping[str, _Stored]) -> None:
        # The run it has, and how many times that run has been tried.
        self.busy: list[tuple[PlannedRun, int]] = []
        self._arguments = (device, threads, stored)
        self._exit_code: int | None = None
        self._start()

    def _start(self) -> None:
        context = torch.multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, *self._arguments), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, run: PlannedRun, tries: int) -> None:
        self.busy = [(run, tries)]
        with suppress(OSError):  # it died between two runs; take() notices
            self.connection.send(run)

    def take(self) -> Mapping[str, bytes] | None:
        """The files of the run; None if the process died during it, in which case a new one was
        started."""
        self.busy = []
        try:
            files: Mapping[str, bytes] = self.connection.recv()
            return files
        except (EOFError, OSError):
            self.process.join()
            self._exit_code = self.process.exitcode
            logger.warning(
                "the worker on %s died (exit code %s)", self._arguments[0], self._exit_code
            )
            self.connection.close()
            self._start()
            return None

    def last_words(self, tries: int) -> str:
        return (
            f"its worker process died {tries} times, the last time with exit code "
            f"{self._exit_code}; it may have run out of memory"
        )

    def stop(self) -> None:
        self.process.terminate()
        self.process.join()
        self.connection.close()


@dataclass(frozen=True)
class _Stored:
    """A model's inputs with their rows in a file."""

    path: Path
    shell: ModelInputs


def _store(inputs: ModelInputs, path: Path) -> _Stored:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"values": _packed(inputs.values)}, path)
    except Exception as error:  # safetensors has no OSError for a full disk
        raise ReportError(f"cannot write {path}: {error}; check space and permissions") from error
    return _Stored(path, replace(inputs, values=torch.empty(0)))


def _packed(values: torch.Tensor) -> torch.Tensor:
    """Pixels with the channels last, as they lie in memory and are trained on: [N,H,W,C]; features
    as they are."""
    return (values.permute(0, 2, 3, 1) if values.ndim == 4 else values).contiguous()


def _unpacked(values: torch.Tensor) -> torch.Tensor:
    return values.permute(0, 3, 1, 2) if values.ndim == 4 else values


def _settle(threads: int) -> None:
    """Sets what determines a training's bits, the same in every worker as in the grid's own
    process."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)


def _work(connection: Connection, device: str, threads: int, stored: Mapping[str, _Stored]) -> None:
    """The main loop of a worker process; it ends when the parent's end of the connection closes."""
    # Ctrl-C is handled by the parent, which stops its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    _settle(threads)
    inputs: dict[str, ModelInputs] = {}
    with deterministic():
        try:
            while True:
                run: PlannedRun = connection.recv()
                model = run.config.model
                if model not in inputs:
                    inputs[model] = replace(
                        stored[model].shell,
                        values=_unpacked(load_file(stored[model].path)["values"]),
                    )
                connection.send(train(run, inputs[model], device=torch.device(device)))
        except (EOFError, OSError):
            return


@dataclass(frozen=True)
class RayCluster:
    """One Ray task per run; Ray moves a task whose worker or machine dies. `address` is as
    in `synthgrid.ray_cluster.connect`.

    Every machine of the cluster needs SynthGrid, and the weights that a fine-tuned model starts
    from at the same path, but no images.
    """

    address: str | None
    cuda: bool
    threads: int

    def finished(
        self, pending: Sequence[PlannedRun], inputs: Mapping[str, ModelInputs]
    ) -> Iterator[Finished]:
        """See Executor."""
        ray = connect(self.address)
        try:
            stored = {
                model: ray.put((replace(each, values=torch.empty(0)), _packed(each.values).numpy()))
                for model, each in inputs.items()
            }
            task = ray.remote(_train_on_ray).options(
                num_cpus=self.threads, num_gpus=int(self.cuda), max_retries=_TRIES - 1
            )
            device = "cuda" if self.cuda else "cpu"
            started = {
                task.remote(run, stored[run.config.model], device, self.threads): run
                for run in pending
            }
            while started:
                (ready, *_), _ = ray.wait(list(started), num_returns=1)
                run = started.pop(ready)
                try:
                    yield run, ray.get(ready)
                except ray.exceptions.RayError as error:
                    yield (
                        run,
                        failure(
                            run,
                            f"Ray gave up after {_TRIES} tries: {str(error).splitlines()[0]}",
                        ),
                    )
        finally:
            ray.shutdown()


def _train_on_ray(
    run: PlannedRun, stored: tuple[ModelInputs, np.ndarray], device: str, threads: int
) -> dict[str, bytes]:
    shell, values = stored
    _settle(threads)
    with deterministic(), warnings.catch_warnings():
        # Ray's memory is read-only, which is all we need.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return train(
            run,
            replace(shell, values=_unpacked(torch.from_numpy(values))),
            device=torch.device(device),
        )
