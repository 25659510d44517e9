"""Where a grid trains: its devices and executor, checked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trainer.config.fields import check_choice, check_whole
from trainer.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")
EXECUTORS = ("local", "ray")
_DEVICE = re.compile(r"cpu|cuda:\d{1,3}")  # of one process


def check_machine(
    device: str,
    *,
    devices: Sequence[str],
    executor: str,
    address: str | None,
    threads: int | None,
) -> None:
    """Raises ConfigError for a name that is not known, and for options that exclude each other."""
    check_choice("device", device, DEVICES)
    check_choice("executor", executor, EXECUTORS)
    if address is not None and executor != "ray":
        raise ConfigError(f"address {address} is for a Ray cluster; add --executor ray")
    if devices and (executor != "local" or device != "auto"):
        raise ConfigError(
            "devices are for the processes of --executor local; leave --device and --executor out"
        )
    for name in devices:
        if not _DEVICE.fullmatch(name):
            raise ConfigError(
                f"devices has '{name}'; expected cpu or cuda:0, cuda:1, ..., as in cuda:0,cuda:1"
            )
    if threads is not None:
        check_whole("threads", threads, low=1, high=1024)
