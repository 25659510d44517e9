"""Which comparisons a grid's plan names before training, and which an earlier plan had named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.analysis.cellkey import CellKey, headline_keys
from trainer.runs import is_done


def planned_headlines(entries: Iterable[Mapping[str, Any]]) -> tuple[CellKey, ...]:
    """The headlines of each model in a plan, whose lines are those of grid.json's "runs"."""
    keys = dict.fromkeys(map(_key, entries))
    return tuple(
        key
        for model in dict.fromkeys(each.model for each in keys)
        for key in headline_keys([each for each in keys if each.model == model])
    )


def former_headlines(
    before: Mapping[str, Any], out: Path, now: Sequence[CellKey]
) -> tuple[CellKey, ...]:
    """Headlines of earlier plans of the folder, of which a run is done, so that results may be
    known, and which the plan of `now` does not name. `before` is the grid.json that it replaces, or
    {}."""
    entries = before.get("runs", ())
    done = {_key(each) for each in entries if is_done(out, each["run_id"])}
    told = [CellKey(**each) for each in before.get("former_headlines", ())]
    earlier = [*told, *(key for key in planned_headlines(entries) if key in done)]
    return tuple(key for key in dict.fromkeys(earlier) if key not in now)


def _key(entry: Mapping[str, Any]) -> CellKey:
    """A line of the plan as the cell it belongs to."""
    names = ("model", "arm", "budget", "regime", "ratio", "source")
    return CellKey(**{name: entry[name] for name in names})
