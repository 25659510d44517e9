"""A run: jobs handed to servers, images collected and checked, events, and the state that other processes can read."""

from .dispatch import Dispatcher
from .runner import RunProgress, RunSummary, run_plan

__all__ = [
    "Dispatcher",
    "RunProgress",
    "RunSummary",
    "run_plan",
]
