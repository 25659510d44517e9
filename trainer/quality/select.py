"""The images of a source that a check would keep, as a source of their own; see
trainer.config.selection."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from comfy_nodes.labelset import LabelsetError
from comfy_nodes.labelset.quality.verdicts import Verdict, checks_of, read_verdicts
from trainer.config.selection import Selection, Term
from trainer.data.dataset import Dataset
from trainer.data.samples import Sample
from trainer.errors import DataError

logger = logging.getLogger(__name__)


def with_selections(
    dataset: Dataset, selections: Sequence[Selection], folders: Mapping[str, Path]
) -> Dataset:
    """The data set with two more sources for each selection: the images that its check keeps, and
    as many of each class at random.

    Raises:
        DataError: a source has no check that knows its images, or nothing of a class is kept.
    """
    added: list[Sample] = []
    for selection in selections:
        pool = [each for each in dataset.synthetic if each.source == selection.source]
        kept = _kept(selection, pool, folders[selection.source])
        counts = Counter(each.label for each in kept)
        missing = [label for label in dataset.classes if not counts[label]]
        if missing:
            raise DataError(
                f"--select {selection.text} keeps no image of class '{missing[0]}'; ask for less, "
                "or make more images of it"
            )
        added += [replace(each, source=selection.name) for each in kept]
        added += [replace(each, source=selection.random) for each in _at_random(pool, counts)]
        logger.info("--select %s keeps %d of %d images", selection.text, len(kept), len(pool))
    names = [name for each in selections for name in (each.name, each.random)]
    return replace(
        dataset,
        synthetic=(*dataset.synthetic, *added),
        sources=(*dataset.sources, *names),
    )


def _at_random(pool: Sequence[Sample], counts: Mapping[str, int]) -> list[Sample]:
    """So many of each class, by the hash of their bytes, which knows nothing of the filter."""
    found: list[Sample] = []
    for label, count in counts.items():
        same = [each for each in pool if each.label == label]
        drawn = sorted(same, key=lambda each: hashlib.sha256(each.sha256.encode()).hexdigest())
        chosen = {id(each) for each in drawn[:count]}
        found += [each for each in same if id(each) in chosen]
    return found


def _kept(selection: Selection, pool: Sequence[Sample], folder: Path) -> list[Sample]:
    verdicts, thresholds = _newest_check(folder, {each.sha256 for each in pool})
    for term in selection.terms:
        if term.sign and not any(term.score in each.scores for each in verdicts.values()):
            known = sorted({name for each in verdicts.values() for name in each.scores})
            raise DataError(
                f"--select {selection.text}: the check has no score '{term.score}', only "
                f"{', '.join(known)}"
            )
    return [
        each
        for each in pool
        if all(_holds(term, verdicts[each.sha256], thresholds) for term in selection.terms)
    ]


def _holds(term: Term, verdict: Verdict, thresholds: Mapping[str, Any]) -> bool:
    if not verdict.scores:  # it could not even be decoded
        return False
    if term.sign:
        return term.holds(verdict.scores.get(term.score, float("nan")))
    if term.score == "copy":
        return verdict.scores["copy"] == 0.0
    if term.score == "blank":
        return not verdict.reason.startswith("blank:")
    limit, value = float(thresholds[term.score]["threshold"]), verdict.scores[term.score]
    return value <= limit if term.score == "outlier" else value >= limit


def _newest_check(
    folder: Path, needed: Iterable[str]
) -> tuple[dict[str, Verdict], Mapping[str, Any]]:
    """The rows of the newest check that knows every image, by hash, and its thresholds."""
    checks = checks_of(folder)
    wanted = set(needed)
    for path in checks:
        try:
            found = {each.sha256: each for each in read_verdicts(path)}
            thresholds = json.loads(path.with_suffix(".json").read_text("utf-8"))["thresholds"]
        except (LabelsetError, OSError, ValueError, KeyError) as error:
            logger.warning("%s is left out: %s", path, error)
            continue
        if wanted <= found.keys():
            return found, thresholds
    state = "no check in it knows all of its images" if checks else "it has not been checked"
    raise DataError(
        f"cannot select from {folder}: {state}; run: synthgrid check {folder} --real DIR"
    )
