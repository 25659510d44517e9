"""The labelled folder as the client uses it: the folder of a run, its verification and repair."""

from .run_folder import Generation, RunFolder, read_generation

__all__ = [
    "Generation",
    "RunFolder",
    "read_generation",
]
