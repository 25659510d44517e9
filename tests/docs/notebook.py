"""The notebook's cells, and a small runner for them that needs no Jupyter."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import types
from pathlib import Path

from tests.docs.reading import ROOT

NOTEBOOK = ROOT / "notebooks" / "class-names-to-report.ipynb"
SHELL = re.compile(r"^( *)[!%](.+)$", re.MULTILINE)  # `!command`, or `%pip ...`


def load() -> dict:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def code_cells() -> dict[str, str]:
    """The id of each code cell -> its source, with lines that end in a backslash joined."""
    cells = (each for each in load()["cells"] if each["cell_type"] == "code")
    return {each["id"]: "".join(each["source"]).replace("\\\n", " ") for each in cells}


def as_python(source: str) -> str:
    """The cell with each `!command` and `%pip` as a call of `shell`."""
    return SHELL.sub(lambda line: f"{line[1]}shell({line[2]!r})", source)


def shell_lines(source: str) -> list[str]:
    return [command for _, command in SHELL.findall(source)]


def expand(command: str, values: dict) -> str:
    """`{expression}` replaced by its value, as IPython does before a command runs."""
    return re.sub(r"\{([^{}]+)\}", lambda found: str(eval(found[1], values)), command)


def constants() -> dict[str, object]:
    """The first literal that each name is given, in the order of the notebook."""
    found: dict[str, object] = {}
    for node in (
        node for cell in code_cells().values() for node in ast.walk(ast.parse(as_python(cell)))
    ):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            found.setdefault(node.targets[0].id, node.value.value)
    return found


def stand_in(shown: list) -> dict[str, types.ModuleType]:
    """`IPython.display` whose `display` adds to `shown`, and whose HTML is the text itself."""
    module = types.ModuleType("IPython.display")
    module.HTML, module.display = str, shown.append
    return {"IPython": types.ModuleType("IPython"), "IPython.display": module}


def run(folder: Path, environment: dict[str, str], cells: list[str]) -> dict:
    """Runs cells in order, from `folder`, which is current, and returns their variables.

    The first command that fails ends it with an AssertionError.
    """

    def shell(command: str) -> None:
        line = expand(command, names)
        done = subprocess.run(
            ["sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"

    names: dict = {"shell": shell}
    for source in cells:
        exec(compile(as_python(source), str(NOTEBOOK), "exec"), names)
    return names
