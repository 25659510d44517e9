"""Two processes that train together are one process with the joint batch, also after a kill.

Covers: trainer.pretrain.processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, load_file

from synthgrid.__main__ import main
from trainer.pretrain.checkpoint import CHECKPOINT
from trainer.pretrain.processes import (
    JointBatchNorm,
    check_shares,
    gathered,
    joined,
    share_of,
    with_joint_norms,
)
from trainer.pretrain.views import Changes, change, generator_at

CPU = torch.device("cpu")
REPOSITORY = Path(__file__).resolve().parents[3]


def test_alone_nothing_is_shared() -> None:
    values = torch.randn(4, 3)
    assert gathered(values) is values
    check_shares(7)
    assert share_of(2, 3, 0).tolist() == [0, 1, 2, 3, 4, 5]
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    assert with_joint_norms(network, CPU) is network
    assert not any(isinstance(each, JointBatchNorm) for each in network.modules())
    with joined(CPU) as device:
        assert device == CPU


@pytest.mark.parametrize("size_px", [32, 96])
def test_part_of_a_batch_is_changed_as_in_the_whole(size_px: int) -> None:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (12, 3, size_px, size_px), generator=random).to(torch.uint8)
    every = Changes(rescale=0.5)
    whole = change(pixels, every, generator_at(1, "views", 2))
    part = torch.tensor([1, 4, 7, 10, 11])
    found = change(pixels[part], every, generator_at(1, "views", 2), part=part, of=12)
    assert torch.allclose(found, whole[part], atol=1e-6)


PROGRAM = """
import sys, torch
from torch import nn
from trainer.pretrain import processes as p

torch.manual_seed(0)
values, weights = torch.randn(6, 3, 4), torch.randn(6, 3, 4)
norm = nn.BatchNorm1d(3)
nn.init.normal_(norm.weight)
with p.joined(torch.device("cpu")):
    net = p.with_joint_norms(nn.Sequential(norm), torch.device("cpu")).train()
    assert type(net[0]).__name__ == "JointBatchNorm"
    own = values.chunk(2)[p.rank()].clone().requires_grad_()
    averaged = p.shared(net, torch.device("cpu"))
    every = p.gathered(averaged(own))
    (every * weights).sum().backward()
    once = nn.BatchNorm1d(3)
    once.load_state_dict({**net[0].state_dict(), "running_mean": torch.zeros(3),
                          "running_var": torch.ones(3), "num_batches_tracked": torch.tensor(0)})
    whole = values.clone().requires_grad_()
    expected = once.train()(whole)
    (expected * weights).sum().backward()
    assert torch.allclose(every, expected, atol=1e-6)
    # Both processes have the whole loss: what one value gets is twice that, what DDP averages once.
    assert torch.allclose(own.grad / 2, whole.grad.chunk(2)[p.rank()], atol=1e-6)
    assert torch.allclose(net[0].weight.grad, once.weight.grad, atol=1e-5)
    assert torch.allclose(net[0].bias.grad, once.bias.grad, atol=1e-5)
    for name, value in once.state_dict().items():
        assert torch.allclose(net[0].state_dict()[name].float(), value.float(), atol=1e-6), name
    try:
        p.check_shares(5)
    except Exception as error:
        assert "cannot share evenly" in str(error)
    else:
        raise AssertionError
    assert p.share_of(2, 4, 1).tolist() == [2, 3, 6, 7]
"""


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def torchrun(arguments: list[str]) -> None:
    done = subprocess.run(
        [*TORCHRUN, *arguments],
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def killed_at(arguments: list[str], checkpoint: Path, update: int, *, all_of_them: bool) -> None:
    """Starts two processes, and kills them with their torchrun, or only the second one, once
    `checkpoint` is that of `update` or later."""
    with subprocess.Popen(
        [*TORCHRUN, *arguments],
        cwd=REPOSITORY,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as parent:
        while updates_of(checkpoint) < update:
            assert parent.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert len(children) == 2
        # torchrun first: it would stop its processes in order.
        for number in [parent.pid, *map(int, children)] if all_of_them else [int(children[1])]:
            os.kill(number, signal.SIGKILL)
        assert parent.wait(timeout=60) != 0
    for number in children:
        wait_for_the_end_of(int(number))


def updates_of(checkpoint: Path) -> int:
    if not checkpoint.is_file():
        return 0
    with safe_open(checkpoint, framework="pt") as file:
        return int(json.loads(file.metadata()["position"])["update"])


def wait_for_the_end_of(number: int) -> None:
    """An orphan that was killed is gone, or a zombie that nobody has asked for."""
    for _ in range(1500):
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.02)
    raise AssertionError(f"process {number} lives on")


@pytest.mark.slow
def test_joint_norms_and_gathered_rows_have_the_values_and_gradients_of_one_process(
    tmp_path: Path,
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    torchrun([str(tmp_path / "program.py")])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["stablerep+", "supervised"])
def test_two_processes_have_the_gradients_of_one_with_the_joint_batch(
    captioned: Path, tmp_path: Path, method: str
) -> None:
    given = ["pretrain", "--images", str(captioned), "--method", method, "--device", "cpu"]
    given += ["--updates", "1", "--batch", "12", "--per-caption", "3", "--image-size", "32"]
    given += ["--text-width", "64", "--text-layers", "1"]
    assert main([*given, "--out", str(tmp_path / "one")]) == 0
    torchrun(["-m", "synthgrid", *given, "--out", str(tmp_path / "two")])
    one, two = (load_file(tmp_path / each / CHECKPOINT) for each in ("one", "two"))
    assert one.keys() == two.keys()
    # After one update AdamW's mean of the gradients is a tenth of the gradient. Weights are no
    # measure: where a gradient is nearly 0, its first step is that of the rounding error.
    compared = [
        name for name in one if name.endswith("exp_avg") or "running" in name or "scale" in name
    ]
    assert len(compared) > 20
    for name in compared:
        apart = float((one[name].double() - two[name].double()).abs().max())
        assert apart <= 1e-7 + 5e-4 * float(one[name].double().abs().max()), (name, apart)
    curves = [json.loads((tmp_path / each / "curve.json").read_text()) for each in ("one", "two")]
    assert curves[0][0]["loss"] == pytest.approx(curves[1][0]["loss"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="children are found in /proc")
@pytest.mark.parametrize("method", ["stablerep", "stablerep+"])
def test_two_processes_killed_twice_end_with_the_weights_of_an_undisturbed_run(
    captioned: Path, tmp_path: Path, method: str
) -> None:
    given = ["-m", "synthgrid", "pretrain", "--images", str(captioned), "--method", method]
    given += ["--device", "cpu", "--updates", "60", "--checkpoint-every", "1"]
    given += ["--batch", "12", "--per-caption", "3", "--image-size", "32", "--base-rate", "0.01"]
    given += ["--text-width", "64", "--text-layers", "1", "--curve-every", "50"]
    killed, whole = ([*given, "--out", str(tmp_path / each)] for each in ("killed", "whole"))
    checkpoint = tmp_path / "killed" / CHECKPOINT
    killed_at(killed, checkpoint, 3, all_of_them=True)
    first = updates_of(checkpoint)
    killed_at(killed, checkpoint, first + 3, all_of_them=False)
    assert 3 <= first < updates_of(checkpoint) < 60
    torchrun(killed)
    torchrun(whole)
    for name in ("model.safetensors", "curve.json", CHECKPOINT):
        one, other = ((tmp_path / each / name).read_bytes() for each in ("killed", "whole"))
        if name == CHECKPOINT:  # safetensors writes its entries in any order
            one, other = (
                {key: value.numpy().tobytes() for key, value in load(each).items()}
                for each in (one, other)
            )
        assert one == other, name
