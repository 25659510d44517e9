"""The data set card of a labelled folder, made from running counts. Standard library only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from .record import ImageRecord

CARD_MARK = (
    "<!-- written by SynthGrid and kept up to date by it; "
    "remove this line to keep changes of your own -->"
)
_BAR = "\\|"  # inside a Markdown table


class Tally:
    """Counts of records by label, plan and generator settings, and of those from a real image."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.plans: Counter[str] = Counter()
        self.settings: Counter[str] = Counter()
        self.from_real = 0
        # Settings and their JSON text: most records have the settings of the one before.
        self._latest: tuple[Mapping[str, Any], str] = ({}, "{}")

    def add(self, record: ImageRecord, times: int = 1) -> None:
        """Counts a record; `times` = -1 removes it again."""
        self.labels[record.label] += times
        self.plans[record.plan_id] += times
        self.from_real += times * bool(record.source_image)
        if record.settings != self._latest[0]:
            text = json.dumps(dict(record.settings), sort_keys=True, ensure_ascii=False)
            self._latest = (record.settings, text)
        self.settings[self._latest[1]] += times


def data_set_card(tally: Tally) -> str:
    """The text of a data set card: what the images are, how many per class, and their settings."""
    counts = {label: count for label, count in sorted(tally.labels.items()) if count > 0}
    plans = sorted(plan for plan, count in tally.plans.items() if count > 0)
    settings = sorted(each for each, count in tally.settings.items() if count > 0)
    lines = [
        "---",
        "task_categories:",
        "- image-classification",
        "tags:",
        "- synthetic",
        "- synthgrid",
        "---",
        CARD_MARK,
        "",
        "# Synthetic images by class",
        "",
        f"{sum(counts.values())} images of {len(counts)} classes, made by a diffusion model from "
        f"{_made_from(tally)}. None is a photograph.",
        "Each line of `metadata.jsonl` gives one image's label, prompt, seed, settings and "
        "SHA-256.",
        "",
        "| class | images |",
        "| --- | --- |",
        *(f"| {label.replace('|', _BAR)} | {count} |" for label, count in counts.items()),
        "",
        "Plans: " + ", ".join(f"`{plan}`" for plan in plans),
        "",
        "Generator settings:",
        "",
        *(f"- `{each}`" for each in settings),
        "",
    ]
    return "\n".join(lines)


def _made_from(tally: Tally) -> str:
    return (
        f"text prompts, {tally.from_real} of them also from a real image that its record names"
        if tally.from_real
        else "text prompts"
    )
