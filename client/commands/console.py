"""What the command line shows: the plan table, and progress as a bar or lines. Prints nothing."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from comfy_nodes.labelset import folder_names
from comfy_nodes.plan.caption_plan import AnyPlan, CaptionPlan
from comfy_nodes.plan.strengths import strengths_text

from ..run.events import UP
from ..run.runner import RunProgress
from ..run.throughput import ServerThroughput

log = logging.getLogger(__name__)

LINE_EVERY_S = 5.0
FIRST_PROMPTS = 5
MOST_CLASSES = 40
_FEW_CLASSES = 12  # up to so many, each class is shown; above, only how many are complete


class ProgressBar:
    """Shows RunProgress: on a terminal a bar with a line per server, else log lines."""

    def __init__(self, *, line_every_s: float = LINE_EVERY_S) -> None:
        self._line_every_s = line_every_s
        self._bars: list[Any] = []
        self._stack = ExitStack()
        self._last_line = time.monotonic()
        self._first = True

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for bar in self._bars:
            bar.close()
        self._stack.close()

    def __call__(self, progress: RunProgress) -> None:
        """Shows the newest state."""
        if sys.stderr.isatty():
            self._draw(progress)
        elif self._first or time.monotonic() - self._last_line >= self._line_every_s:
            self._first, self._last_line = False, time.monotonic()
            for line in progress_lines(progress):
                log.info("%s", line)

    def _draw(self, progress: RunProgress) -> None:
        if not self._bars:
            self._stack.enter_context(logging_redirect_tqdm())
            self._bars = [
                tqdm(total=progress.total, initial=progress.done, unit="image", dynamic_ncols=True)
            ]
        servers = _server_lines(progress)
        while len(self._bars) <= len(servers):
            self._bars.append(
                tqdm(bar_format="{desc}", position=len(self._bars), leave=False, dynamic_ncols=True)
            )
        bar = self._bars[0]
        if progress.done > bar.n:
            bar.update(progress.done - bar.n)
        bar.set_postfix_str(_postfix(progress), refresh=True)
        for each, line in zip(self._bars[1:], servers, strict=False):
            each.set_description_str(line)


def progress_lines(progress: RunProgress) -> list[str]:
    """The state of a run as lines of text: the whole, and each server if there are several."""
    parts = [f"{progress.done} of {progress.total} images"]
    if progress.made:
        parts.append(f"{progress.images_per_s:.1f}/s")
    if progress.eta_s is not None:
        parts.append(f"{duration(progress.eta_s)} left")
    parts += [f"{progress.failed} failed"] if progress.failed else []
    parts += [classes_text(progress)] if progress.made and progress.planned else []
    return [", ".join(parts), *_server_lines(progress)]


def _postfix(progress: RunProgress) -> str:
    parts = [
        progress.note,
        f"{duration(progress.eta_s)} left" if progress.eta_s is not None else "",
    ]
    parts.append(f"{progress.failed} failed" if progress.failed else "")
    return ", ".join(part for part in parts if part)


def _server_lines(progress: RunProgress) -> list[str]:
    """A line per server, if there are several."""
    if len(progress.servers) < 2:
        return []
    width = max(len(each.name) for each in progress.servers)
    return [f"  {each.name.ljust(width)}  {_server_text(each)}" for each in progress.servers]


def _server_text(server: ServerThroughput) -> str:
    if server.state == UP:
        return f"{server.images} images, {server.images_per_s:.1f}/s, {server.jobs} jobs on it"
    return f"{server.images} images, {server.state}" + (
        f": {server.reason[:80]}" if server.reason else ""
    )


def classes_text(progress: RunProgress) -> str:
    """How complete the classes are: each of a few, or a summary of many."""
    counts = {
        name: (progress.classes.get(name, 0), planned) for name, planned in progress.planned.items()
    }
    if len(counts) <= _FEW_CLASSES:
        return "classes " + ", ".join(
            f"{name} {done}/{planned}" for name, (done, planned) in counts.items()
        )
    complete = sum(done >= planned for done, planned in counts.values())
    fewest = min(done for done, _ in counts.values())
    return f"{complete} of {len(counts)} classes complete, at least {fewest} images each"


def duration(seconds: float) -> str:
    """A duration as text: "42 s", "3 min", "2 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def plan_values(plan: AnyPlan, batch_size: int, rows: range | None = None) -> dict[str, Any]:
    """What `plan --json` prints: exact counts and the first prompts, of all rows or of these.

    Raises:
        LabelsetError: two classes would share a folder.
    """
    folders = folder_names(plan.labels)
    rows = range(len(plan)) if rows is None else rows
    first = [plan.row(index) for index in rows[:FIRST_PROMPTS]]
    counts = plan.counts(rows)
    return {
        "plan_id": plan.plan_id,
        "classes": [
            {
                "name": label,
                **_entries(plan, place),
                "folder": folders[label],
                "images": counts.get(label, 0),
            }
            for place, label in enumerate(plan.labels)
        ],
        **_amounts(plan),
        **({"strengths": list(plan.strengths)} if plan.strengths else {}),
        "images": len(plan),
        "rows": [rows.start, rows.stop],
        "batch_size": batch_size,
        "batches": -(-rows.stop // batch_size) - rows.start // batch_size,
        "seed": plan.seed,
        "first_prompts": [
            {"index": row.index, "label": row.label, "prompt": row.prompt, "seed": row.seed}
            | ({} if row.strength is None else {"strength": row.strength})
            for row in first
        ],
    }


def _entries(plan: AnyPlan, place: int) -> dict[str, Any]:
    """What a class's prompts are made from; nothing for captions."""
    if isinstance(plan, CaptionPlan):
        return {}
    entry, texts = plan.classes[place], plan.templates
    return {
        "definition": texts.definition(entry),
        "contexts": len(texts.bank("context", entry.name)),
        "styles": len(texts.bank("style", entry.name)),
    }


def _amounts(plan: AnyPlan) -> dict[str, int]:
    if isinstance(plan, CaptionPlan):
        total, per_caption = plan.captions.total, plan.images_per_caption
        return {"captions": total, "images_per_prompt": per_caption}
    return {
        "images_per_class": plan.images_per_class,
        "images_per_prompt": plan.images_per_prompt,
    }


def plan_table(plan: AnyPlan, batch_size: int, rows: range | None = None) -> str:
    """The same as text."""
    values = plan_values(plan, batch_size, rows)
    part = f"rows {rows.start}:{rows.stop} of them, " if rows is not None else ""
    shown = values["classes"][:MOST_CLASSES]
    cells = [(each["name"], each["folder"], str(each["images"])) for each in shown]
    lines = _table(("class", "folder", "images"), cells)
    if len(values["classes"]) > len(shown):
        lines.append(f"... and {len(values['classes']) - len(shown)} more classes")
    lines += [
        "",
        f"{_product(plan)} = {len(plan)} images, {part}"
        f"in {values['batches']} batch{'es' * (values['batches'] != 1)} of {batch_size} "
        f"(plan {plan.plan_id}, seed {plan.seed})",
        *([f"each at one strength of {strengths_text(plan.strengths)}"] if plan.strengths else []),
        "",
        "first prompts:",
        *(f"  {row['index']}: {row['prompt']}" for row in values["first_prompts"]),
    ]
    return "\n".join(lines)


def _product(plan: AnyPlan) -> str:
    if isinstance(plan, CaptionPlan):
        return f"{plan.captions.total} captions x {plan.images_per_caption} images"
    return f"{len(plan.classes)} classes x {plan.images_per_class} images"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]


@contextmanager
def image_bar() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere; to be called with (images done, all images)."""
    with tqdm(unit="image", disable=None, leave=False, dynamic_ncols=True) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = max(done, total)
            bar.update(done - bar.n)

        yield progress
