"""Progress without a terminal: a log line now and then, none at the start."""

from __future__ import annotations

import logging

import pytest

from trainer import progress
from trainer.progress import Progress


def test_a_line_says_how_far_it_is_and_what_was_done_last(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "_LINE_EVERY_S", -1.0)
    with Progress("runs", total=3, unit="runs") as counter:
        counter.advance(2, note="cnn")
    assert [record.getMessage() for record in caplog.records] == ["runs: 2 of 3 runs (cnn)"]
    assert counter.count == 2


def test_quick_work_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Progress("images", total=2, unit="images") as counter:
        counter.advance()
        counter.advance()
    assert not caplog.records
