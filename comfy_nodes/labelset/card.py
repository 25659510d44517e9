"""The data set card of a labelled folder, made from running counts. Standard library only."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .record import ImageRecord

CARD_MARK = (
    "<!-- written by SynthGrid and kept up to date by it; "
    "remove this line to keep changes of your own -->"
)
_BAR = "\\|"  # inside a Markdown table
_MOST_SETTINGS = 20  # a seed in the graph can give every batch settings of its own
_LONG = ("files", "chain")


class Tally:
    """Counts of records by label, plan and generator settings, and of those from a real image."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.plans: Counter[str] = Counter()
        self.from_real = 0
        # By a digest, because with a chain they are long; the texts of the first few.
        self._settings: Counter[bytes] = Counter()
        self._texts: dict[bytes, str] = {}
        # Settings and their digest: most records have the settings of the one before.
        self._latest: tuple[Mapping[str, Any], bytes] | None = None

    def add(self, record: ImageRecord, times: int = 1) -> None:
        """Counts a record; `times` = -1 removes it again."""
        self.labels[record.label] += times
        self.plans[record.plan_id] += times
        self.from_real += times * bool(record.source_image)
        if self._latest is None or record.settings != self._latest[0]:
            self._latest = (record.settings, self._noted(record.settings))
        digest = self._latest[1]
        self._settings[digest] += times
        if not self._settings[digest]:
            self._latest = None
            del self._settings[digest]
            self._texts.pop(digest, None)

    def _noted(self, settings: Mapping[str, Any]) -> bytes:
        text = json.dumps(dict(settings), sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
        if len(self._texts) < _MOST_SETTINGS:
            self._texts.setdefault(digest, text)
        return digest

    def settings(self) -> tuple[list[dict[str, Any]], int]:
        """The different settings, at most 20 of them, and how many more there are."""
        known = [json.loads(text) for text in sorted(self._texts.values())]
        return known, len(self._settings) - len(known)


def data_set_card(tally: Tally) -> str:
    """The text of a data set card: what the images are, how many per class, and their settings."""
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
        *card_body(tally),
        "",
    ]
    return "\n".join(lines)


def card_body(tally: Tally, *, unit: str = "line", records: str = "`metadata.jsonl`") -> list[str]:
    """The lines of a card below its front matter; each `unit` of `records` is one record."""
    counts = {label: count for label, count in sorted(tally.labels.items()) if count > 0}
    plans = sorted(plan for plan, count in tally.plans.items() if count > 0)
    settings, more = tally.settings()
    return [
        "# Synthetic images by class",
        "",
        f"{sum(counts.values())} images of {len(counts)} classes, made by a diffusion model from "
        f"{_made_from(tally)}. None is a photograph.",
        f"Each {unit} of {records} gives one image's label, prompt, seed, settings and SHA-256.",
        *_recorded(settings),
        "",
        "| class | images |",
        "| --- | --- |",
        *(f"| {label.replace('|', _BAR)} | {count} |" for label, count in counts.items()),
        "",
        "Plans: " + ", ".join(f"`{plan}`" for plan in plans),
        "",
        "Generator settings:",
        "",
        *(line for each in settings for line in _settings_lines(each)),
        *([f"- and {more} more, in {records}"] if more else []),
    ]


def _recorded(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    if not any(name in each for each in settings for name in _LONG):
        return []
    return [
        "The settings name the model files with their SHA-256 (`files`) and every node between "
        'them and the image with all its inputs (`chain`). There "@3.0" is output 0 of node 3, '
        'counted from 0, and "@record" is the label, prompt and seed of the line itself.'
    ]


def _settings_lines(settings: Mapping[str, Any]) -> Iterator[str]:
    """One line for the single values, and one below it for each model file and node."""
    lists = {name: each for name in _LONG if isinstance(each := settings.get(name), list)}
    short = {name: value for name, value in settings.items() if name not in lists}
    yield f"- `{json.dumps(short, sort_keys=True, ensure_ascii=False)}`"
    yield from (f"  - file `{line}`" for line in lists.get("files", []))
    yield from (f"  - node {place} `{line}`" for place, line in enumerate(lists.get("chain", [])))


def _made_from(tally: Tally) -> str:
    return (
        f"text prompts, {tally.from_real} of them also from a real image that its record names"
        if tally.from_real
        else "text prompts"
    )


def yaml_text(text: str) -> str:
    """The text as a YAML string in double quotes, on one line."""
    return '"' + "".join(map(_yaml_character, text)) + '"'


def _yaml_character(each: str) -> str:
    if each in '"\\':
        return "\\" + each
    return each if each.isprintable() else f"\\U{ord(each):08x}"
