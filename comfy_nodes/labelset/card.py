"""The data set card of a labelled folder, from counts that are kept record by record. Standard library only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from .record import ImageRecord

CARD_MARK = "<!-- written by SynthGrid and kept up to date by it; remove this line to keep changes of your own -->"


class Tally:
    """How many records there are of each label, plan and set of generator settings, and how many from a real image."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.plans: Counter[str] = Counter()
        self.settings: Counter[str] = Counter()
        self.from_real = 0
        # Most records have the settings of the one before.
        self._latest: tuple[Mapping[str, Any], str] = ({}, "{}")

    def add(self, record: ImageRecord, times: int = 1) -> None:
        """Counts a record; `times` -1 takes it out again."""
        self.labels[record.label] += times
        self.plans[record.plan_id] += times
        self.from_real += times * bool(record.source_image)
        if record.settings != self._latest[0]:
            self._latest = (
                record.settings,
                json.dumps(dict(record.settings), sort_keys=True, ensure_ascii=False),
            )
        self.settings[self._latest[1]] += times


def data_set_card(tally: Tally) -> str:
    """The text of a data set card: what the images are, how many a class, and the settings they were made with."""
    counts = {label: count for label, count in sorted(tally.labels.items()) if count > 0}
    settings = sorted(each for each, count in tally.settings.items() if count > 0)
    lines = [
        "---", "task_categories:", "- image-classification", "tags:", "- synthetic", "- synthgrid", "---",
        CARD_MARK, "", "# Synthetic images by class", "",
        f"{sum(counts.values())} images of {len(counts)} classes, made by a diffusion model from {_made_from(tally)}. "
        "None is a photograph.",
        "Each line of `metadata.jsonl` gives one image's label, prompt, seed, settings and SHA-256.", "",
        "| class | images |", "| --- | --- |",
        *(f"| {label.replace('|', chr(92) + '|')} | {count} |" for label, count in counts.items()), "",
        "Plans: " + ", ".join(f"`{plan}`" for plan, count in sorted(tally.plans.items()) if count > 0), "",
        "Generator settings:", "", *(f"- `{each}`" for each in settings), "",
    ]  # fmt: skip
    return "\n".join(lines)


def _made_from(tally: Tally) -> str:
    return (
        f"text prompts, {tally.from_real} of them also from a real image that its record names"
        if tally.from_real
        else "text prompts"
    )
