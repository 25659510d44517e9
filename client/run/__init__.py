"""A run: jobs for servers, images collected and checked, events, and the status for others."""

from .dispatch.dispatcher import Dispatcher
from .runner import RunProgress, RunSummary, run_plan

__all__ = [
    "Dispatcher",
    "RunProgress",
    "RunSummary",
    "run_plan",
]
