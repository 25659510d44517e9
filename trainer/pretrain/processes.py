"""Several processes that train one network together, as torchrun starts them.

Every process takes its share of a step's captions, and all compute the loss of the joint batch:
projections are gathered with their gradient, and batch normalisation takes its statistics over all
processes. DistributedDataParallel then averages the parameters' gradients, which are those of one
process with the joint batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.errors import ConfigError


def rank() -> int:
    """This process's number, 0 where there is only one."""
    return distributed.get_rank() if together() else 0


def count() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if together() else 1


def together() -> bool:
    """Whether this process is one of several."""
    return distributed.is_available() and distributed.is_initialized()


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Meets the other processes of a torchrun, if it was torchrun that started this one, and leaves
    them at the end; NCCL on CUDA, one device each, gloo on CPUs. Yields the device to compute on.

    Raises:
        ConfigError: there are more processes on this machine than CUDA devices.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "MASTER_ADDR" not in os.environ:
        yield device
        return
    if device.type == "cuda":
        local, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= found:
            raise ConfigError(f"process {local} has no CUDA device of its own; {found} are here")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def wait() -> None:
    """Until all processes are here."""
    if together():
        distributed.barrier()


def check_shares(drawn: int) -> None:
    """Raises ConfigError if `drawn` captions or images of a step cannot be shared out evenly."""
    if drawn % count():
        raise ConfigError(
            f"--batch draws {drawn} captions or images for each update, which {count()} processes "
            "cannot share evenly; choose another --batch or number of processes"
        )


def share_of(views: int, drawn: int, number: int) -> torch.Tensor:
    """The places of process `number` in a joint batch [views x drawn], a view after the other: the
    same columns of every view. int64 [views x drawn / processes]."""
    each = drawn // count()
    places = torch.arange(views * drawn).view(views, drawn)
    return places[:, number * each : (number + 1) * each].flatten()


class _Gathered(torch.autograd.Function):
    """[n, ...] of every process to [processes x n, ...]; a gradient returns to where it belongs."""

    @staticmethod
    def forward(context: Any, own: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(own) for _ in range(count())]
        distributed.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total.chunk(count())[rank()]


def gathered(own: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, one process after the other, with gradient; all have equally
    many."""
    if not together():
        return own
    found: torch.Tensor = _Gathered.apply(own)
    return found


class _Summed(torch.autograd.Function):
    """The sum over processes; so is its gradient."""

    @staticmethod
    def forward(context: Any, own: torch.Tensor) -> torch.Tensor:
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


class JointBatchNorm(_BatchNorm):
    """Batch normalisation over the images of all processes, which hold equally many. torch's own,
    SyncBatchNorm, does not run on a CPU."""

    def _check_input_dim(self, values: torch.Tensor) -> None:
        pass

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[n, channels, ...], same shape; in evaluation as any batch normalisation."""
        if not (self.training and together()):
            return super().forward(values)
        axes = [0, *range(2, values.ndim)]
        shape = [1, -1] + [1] * (values.ndim - 2)
        mean = self._over_all(values.mean(dim=axes))
        centred = values - mean.view(shape)
        variance = self._over_all(centred.square().mean(dim=axes))
        self._remember(mean.detach(), variance.detach(), values.numel() // len(mean) * count())
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        return scaled * self.weight.view(shape) + self.bias.view(shape)

    def _over_all(self, mean: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = _Summed.apply(mean)
        return total / count()

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor, values: int) -> None:
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            return
        unbiased = variance * values / (values - 1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


def shared(learner: nn.Module, device: torch.device) -> nn.Module:
    """The network as it is called in training: itself, or, among several processes, one whose
    gradients are averaged over them. Its parameters are those of `learner`."""
    if not together():
        return learner
    from torch.nn.parallel import DistributedDataParallel

    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(learner, device_ids=ids)


def with_joint_norms(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with its batch normalisation over all processes: SyncBatchNorm on CUDA, on a CPU
    JointBatchNorm. As it is if this process is alone. Names and values stay."""
    if not together():
        return network
    if device.type == "cuda":
        converted: nn.Module = _converter()(network)
        return converted
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in (nn.BatchNorm1d, nn.BatchNorm2d):
                setattr(parent, name, _as_joint(child))
    return network


def _converter() -> Callable[[nn.Module], nn.Module]:
    """timm's also knows its own layers, which have their activation inside."""
    try:
        found: Callable[[nn.Module], nn.Module] = import_module(
            "timm.layers"
        ).convert_sync_batchnorm
    except ImportError:
        found = nn.SyncBatchNorm.convert_sync_batchnorm
    return found


def _as_joint(norm: Any) -> JointBatchNorm:
    made = JointBatchNorm(norm.num_features, norm.eps, norm.momentum)
    made.load_state_dict(norm.state_dict())
    return made
