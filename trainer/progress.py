"""Progress on stderr: a bar in a terminal, otherwise an occasional log line."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

logger = logging.getLogger(__name__)
_LINE_EVERY_S = 10.0


class Progress:
    """Counts up to `total`. Use as a context manager and call `advance`.

    `unit` is what is counted, in the plural ("images").
    """

    def __init__(self, title: str, *, total: int, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.count = 0
        self._last_line_s = time.monotonic()
        terminal = sys.stderr.isatty()
        self._bar = (
            tqdm(total=total, desc=title, unit=f" {unit}", leave=False, file=sys.stderr)
            if terminal
            else None
        )

    def expect(self, total: int) -> None:
        """There will be `total` after all."""
        self.total = total
        if self._bar is not None:
            self._bar.total = total
            self._bar.refresh()

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """`count` more are done; `note` says what was done last."""
        self.count += count
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last_line_s > _LINE_EVERY_S:
            self._last_line_s = time.monotonic()
            logger.info(
                "%s: %d of %d %s%s",
                self.title,
                self.count,
                self.total,
                self.unit,
                f" ({note})" * bool(note),
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
