"""Wherever runs are trained: the same files, and a killed worker's run is trained again."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from comfy_nodes.errors import SynthGridError
from tests.ray_head import ray_head
from trainer.config import GridConfig
from trainer.data.dataset import load_dataset
from trainer.errors import ConfigError
from trainer.grid.executors import Executor, InProcess, Processes, RayCluster, executor_for
from trainer.grid.planning import plan_runs, training_configs
from trainer.training.batches.inputs import ModelInputs, prepare_inputs
from trainer.training.compute import pick_device
from trainer.training.run import PlannedRun

Work = tuple[list[PlannedRun], dict[str, ModelInputs]]
CPU = torch.device("cpu")
SAME = ("predictions.csv", "model.safetensors", "training_images.csv", "config.json")


@pytest.fixture
def one_thread() -> None:
    """Bits depend on the number of threads."""
    torch.set_num_threads(1)


@pytest.fixture
def config(real: Path, synthetic: Path, tmp_path: Path) -> GridConfig:
    return GridConfig(
        str(real),
        str(tmp_path / "grid"),
        str(synthetic),
        models=("cnn",),
        ratios=(0.0, 1.0),
        seeds=2,
        image_size_px=32,
        updates=8,
        quick=True,
        budgets=("updates",),
        threads=1,
    )


@pytest.fixture
def work(config: GridConfig, tmp_path: Path, one_thread: None) -> Work:
    """Four runs and their inputs."""
    dataset = load_dataset(Path(config.real), Path(str(config.synthetic)))
    runs = plan_runs(config, dataset, training_configs(config, dataset, {}), {})
    samples = [each for run in runs for each in run.images.all]
    inputs = prepare_inputs(
        {"cnn": samples}, sizes_px={"cnn": 32}, weights={}, cache=tmp_path / "cache", device=CPU
    )
    return runs, inputs


def run_all(executor: Executor, work: Work) -> dict[str, Mapping[str, bytes]]:
    return {run.run_id: files for run, files in executor.finished(*work)}


def assert_same(
    found: dict[str, Mapping[str, bytes]], expected: dict[str, Mapping[str, bytes]]
) -> None:
    assert found.keys() == expected.keys()
    for run_id, files in expected.items():
        assert "DONE" in found[run_id], found[run_id].get("error.txt")
        for name in SAME:
            assert found[run_id][name] == files[name], (run_id, name)


@pytest.mark.parametrize(
    "devices", [("cpu",), pytest.param(("cpu", "cpu"), marks=pytest.mark.slow)]
)
def test_processes_give_the_same_files_although_one_is_killed_at_work(
    work: Work, tmp_path: Path, devices: tuple[str, ...]
) -> None:
    found = {}
    executor = Processes(devices, scratch=tmp_path / "scratch", threads=1)
    for run, files in executor.finished(*work):
        if not found:
            multiprocessing.active_children()[0].kill()
        found[run.run_id] = files
    assert_same(found, run_all(InProcess(CPU), work))
    assert not (tmp_path / "scratch").exists()
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_run_that_kills_every_worker_fails_and_the_others_go_on(
    work: Work, tmp_path: Path
) -> None:
    killed: list[int | None] = []

    def kill_three() -> None:
        while len(killed) < 3:
            for process in multiprocessing.active_children():
                if process.pid not in killed and len(killed) < 3:
                    process.kill()
                    killed.append(process.pid)
            time.sleep(0.05)

    thread = threading.Thread(target=kill_three)
    thread.start()
    found = run_all(
        Processes(("cpu",), scratch=tmp_path / "scratch", threads=1), (work[0][:2], work[1])
    )
    thread.join()
    first, second = (found[run.run_id] for run in work[0][:2])
    assert b"its worker process died 3 times, the last time with exit code -9" in first["error.txt"]
    assert "DONE" not in first
    assert "DONE" in second


@pytest.mark.slow
def test_a_run_that_fails_in_a_process_says_why(work: Work, tmp_path: Path) -> None:
    runs = [
        replace(
            run,
            config=replace(run.config, training=replace(run.config.training, learning_rate=1e30)),
        )
        for run in work[0][:1]
    ]
    (files,) = run_all(
        Processes(("cpu",), scratch=tmp_path / "scratch", threads=1), (runs, work[1])
    ).values()
    assert b"at update" in files["error.txt"]


def test_options_choose_the_executor(config: GridConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert executor_for(config, pick_device("cpu")) == InProcess(CPU)
    two = executor_for(replace(config, devices=("cpu", "cpu")), CPU)
    assert two == Processes(("cpu", "cpu"), scratch=Path(config.out) / ".inputs", threads=1)
    ray = executor_for(replace(config, executor="ray", address="host:6379"), CPU)
    assert ray == RayCluster("host:6379", cuda=False, threads=1)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        shared = executor_for(replace(config, devices=("cuda:0", "cuda:0")), CPU)
    assert shared == replace(two, devices=("cuda:0", "cuda:0"))
    with pytest.raises(ConfigError, match="device 'cuda:99' does not exist"):
        executor_for(replace(config, devices=("cpu", "cuda:99")), CPU)


@pytest.mark.slow
def test_ray_gives_the_same_files_although_a_worker_is_killed(
    work: Work, tmp_path: Path, make_killer: Callable[[], threading.Thread]
) -> None:
    pytest.importorskip("ray")
    runs, inputs = work
    longer = [
        replace(run, config=replace(run.config, training=replace(run.config.training, updates=60)))
        for run in runs
    ]
    killer = make_killer()
    found = run_all(RayCluster(None, cuda=False, threads=1), (longer, inputs))
    killer.join(timeout=1)
    assert not killer.is_alive(), "no worker was killed"
    assert_same(found, run_all(InProcess(CPU), (longer, inputs)))


@pytest.fixture
def make_killer() -> Callable[[], threading.Thread]:
    """Starts a thread that kills the first Ray worker seen at work on a run of this process's."""
    psutil = pytest.importorskip("psutil")

    def kill() -> None:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            for process in psutil.Process().children(recursive=True):
                try:
                    if process.name().startswith("ray::_train_on"):
                        time.sleep(0.2)
                        process.kill()
                        return
                except psutil.Error:
                    continue
            time.sleep(0.02)

    def start() -> threading.Thread:
        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        return thread

    return start


@pytest.mark.slow
def test_a_grid_on_ray_has_the_same_results_file(
    config: GridConfig, tmp_path: Path, one_thread: None
) -> None:
    pytest.importorskip("ray")
    from trainer.grid.grid import run_grid
    from trainer.report import write_report

    here, there = (
        run_grid(config),
        run_grid(replace(config, executor="ray", out=str(tmp_path / "ray"))),
    )
    for grid in (here, there):
        write_report(grid.root)
    assert (here.root / "results.csv").read_bytes() == (there.root / "results.csv").read_bytes()
    assert (
        json.loads((there.root / "grid.json").read_text(encoding="utf-8"))["config"]["executor"]
        == "ray"
    )


@pytest.mark.slow
def test_a_grid_through_a_rays_client_server_has_the_same_results_file(
    real: Path, synthetic: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("grpc")
    found = []
    with ray_head() as (_, address, environment):
        for name, more in (("here", ()), ("there", ("--executor", "ray", "--address", address))):
            done = subprocess.run(
                [sys.executable, "-m", "synthgrid", "grid", "--real", str(real),
                 "--synthetic", str(synthetic), "--models", "cnn", "--recipe", "classic",
                 "--ratios", "0,2", "--seeds", "2", "--updates", "6", "--budgets", "updates",
                 "--image-size", "32", "--device", "cpu", "--threads", "1",
                 "--out", str(tmp_path / name), *more],
                env=environment, capture_output=True, text=True, timeout=300,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            found.append((tmp_path / name / "results.csv").read_bytes())
    assert found[0] == found[1]


def test_a_ray_address_that_nobody_answers_is_one_line(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found out before Ray itself is asked, which would wait."""
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    with pytest.raises(
        SynthGridError, match=r"cannot reach a Ray cluster at 127\.0\.0\.1:9"
    ) as caught:
        run_all(RayCluster("127.0.0.1:9", cuda=False, threads=1), work)
    assert "\n" not in str(caught.value)
