"""The workflows that come with SynthGrid, found by name from any folder."""

from __future__ import annotations

from pathlib import Path

from ..errors import WorkflowError

_HERE = Path(__file__).resolve()


def bundled_folder() -> Path:
    """The folder with every workflow in API format, in an installed package or a checkout."""
    installed = _HERE.parent / "bundled"
    return (installed if installed.is_dir() else _HERE.parents[2] / "workflows") / "api"


def bundled_names() -> list[str]:
    """The names of the workflows that come with SynthGrid, sorted."""
    return sorted(path.stem for path in bundled_folder().glob("*.json"))


def find_workflow(given: Path) -> Path:
    """The file for a path or a bundled name. A file of that name in the current folder wins.

    Raises:
        WorkflowError: neither a file nor a bundled workflow; the bundled names are listed.
    """
    given = given.expanduser()
    if given.exists():
        return given
    if given.name == str(given) and given.stem in bundled_names() and given.suffix in ("", ".json"):
        return bundled_folder() / f"{given.stem}.json"
    raise WorkflowError(
        f"{given} does not exist; give the path of a workflow file, "
        f"or the name of one that comes with SynthGrid: {', '.join(bundled_names())}"
    )
