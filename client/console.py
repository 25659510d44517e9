"""What the command line shows: the plan table, progress as a bar or as plain lines. Nothing here prints by itself."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from comfy_nodes.labelset import folder_names
from comfy_nodes.plan import GenerationPlan

from .runner import RunProgress

log = logging.getLogger(__name__)

LINE_EVERY_S = 5.0
FIRST_PROMPTS = 5
MOST_CLASSES = 40


class ProgressBar:
    """Shows RunProgress as a bar when standard error is a terminal, else as a log line every few seconds."""

    def __init__(self, *, line_every_s: float = LINE_EVERY_S) -> None:
        self._line_every_s = line_every_s
        self._bar: Any = None
        self._stack = ExitStack()
        self._begun = self._last_line = time.monotonic()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        self._stack.close()

    def __call__(self, progress: RunProgress) -> None:
        """Takes the newest state."""
        if sys.stderr.isatty():
            self._draw(progress)
        elif time.monotonic() - self._last_line >= self._line_every_s:
            self._last_line = time.monotonic()
            rate = progress.made / (self._last_line - self._begun)
            log.info("%d of %d images%s", progress.done, progress.total, f", {rate:.1f}/s" if progress.made else "")

    def _draw(self, progress: RunProgress) -> None:
        if self._bar is None:
            self._stack.enter_context(logging_redirect_tqdm())
            self._bar = tqdm(total=progress.total, initial=progress.done, unit="image", dynamic_ncols=True)
        if progress.done > self._bar.n:
            self._bar.update(progress.done - self._bar.n)
        if progress.note:
            self._bar.set_postfix_str(progress.note, refresh=True)


def plan_values(plan: GenerationPlan, batch_size: int) -> dict[str, Any]:
    """What `plan --json` prints: exact counts and the first prompts. Raises LabelsetError where folders collide."""
    folders = folder_names(plan.counts())
    rows = [plan.row(index) for index in range(min(FIRST_PROMPTS, len(plan)))]
    return {
        "plan_id": plan.plan_id,
        "classes": [
            {"name": entry.name, "definition": entry.definition, "folder": folders[entry.name],
             "images": plan.images_per_class}
            for entry in plan.classes
        ],
        "images_per_class": plan.images_per_class,
        "images": len(plan),
        "batch_size": batch_size,
        "batches": plan.batch_count(batch_size),
        "seed": plan.seed,
        "first_prompts": [{"index": row.index, "label": row.label, "prompt": row.prompt, "seed": row.seed} for row in rows],
    }  # fmt: skip


def plan_table(plan: GenerationPlan, batch_size: int) -> str:
    """The same for people."""
    values = plan_values(plan, batch_size)
    shown = values["classes"][:MOST_CLASSES]
    rows = [(each["name"], each["folder"], str(each["images"])) for each in shown]
    lines = _table(("class", "folder", "images"), rows)
    if len(values["classes"]) > len(shown):
        lines.append(f"... and {len(values['classes']) - len(shown)} more classes")
    lines += [
        "",
        f"{len(plan.classes)} classes x {plan.images_per_class} images = {len(plan)} images, "
        f"in {values['batches']} batches of {batch_size} (plan {plan.plan_id}, seed {plan.seed})",
        "",
        "first prompts:",
        *(f"  {row['index']}: {row['prompt']}" for row in values["first_prompts"]),
    ]
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
