"""How many seeds a grid has, and what each draws anew: the checks of these options."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.config.fields import check_number, check_whole
from trainer.errors import ConfigError

AUTO = "auto"  # in place of a number of seeds
PILOT_SEEDS = 4  # of a grid that plans its own number


def check_seeds(
    seeds: int | str,
    *,
    detect: float | None,
    most_seeds: int,
    looks: Sequence[int],
    quick: bool,
) -> None:
    """Raises ConfigError unless there is a number of seeds, or all that planning one takes."""
    if seeds != AUTO:
        check_whole("seeds", seeds, low=1, high=1000)
    elif quick:
        raise ConfigError("seeds auto is not for quick grids; give a number")
    elif detect is None:
        raise ConfigError(
            "seeds auto needs the change to find, in points, as in --seeds auto --detect 2"
        )
    if detect is not None:
        check_number("detect", detect, low=0.0, low_excluded=True, high=100.0)
    check_whole("most_seeds", most_seeds, low=2 * PILOT_SEEDS, high=1000)
    for look in looks:
        check_whole("looks", look, low=2, high=1000)
    if sorted(set(looks)) != list(looks):
        raise ConfigError(f"looks are {','.join(map(str, looks))}; they must rise")


def check_test_share(test_share: float, *, given: Sequence[str]) -> None:
    """Raises ConfigError unless each seed can split the images anew; `given` are options that would
    choose or leave out images by what another seed tests on."""
    check_number("test_share", test_share, low=0.0, low_excluded=True, high=0.9)
    if given:
        raise ConfigError(
            f"{given[0]} is not for grids that split anew for each seed (test_share); leave it "
            "out, or split once: synthgrid split"
        )
