"""The labelled folder as the client uses it: a run's own folder, its verification and its repair."""

from .run_folder import Generation, RunFolder, read_generation

__all__ = [
    "Generation",
    "RunFolder",
    "read_generation",
]
