"""The import arrows of the house, read from the source itself: between the rooms, inside them, and
no circle anywhere.

An import counts wherever it stands: inside a function, and under TYPE_CHECKING too.
"""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    "comfy_nodes",
    "client",
    "trainer",
    "synthgrid",
    "workflows",
    "tests",
    "tools",
    "benchmarks",
)
CORE = (
    "comfy_nodes.errors",
    "comfy_nodes.listing",
    "comfy_nodes.samplers",
    "comfy_nodes.banks",
    "comfy_nodes.labelset",
    "comfy_nodes.plan",
    "comfy_nodes.language",
)

# Who may import whom between the rooms.
OUTSIDE = {
    "comfy_nodes": (),
    "client": (*CORE, "synthgrid.ray_cluster"),
    "client.embedded": ("comfy_nodes",),  # it executes the nodes
    "trainer": (
        "synthgrid.ray_cluster",
        "comfy_nodes.errors",
        "comfy_nodes.banks",
        "comfy_nodes.banks.prompt_bank",  # its meanings are chosen by real images
        "comfy_nodes.language.wordnet",
        "comfy_nodes.labelset",
    ),
    # the front door
    "synthgrid": (
        "comfy_nodes.errors",
        "client.commands",
        "client.wording",
        "trainer.commands",
    ),
    # below client and trainer, which connect to Ray alike and may not import each other
    "synthgrid.ray_cluster": ("comfy_nodes.errors",),
    "client.__main__": ("synthgrid",),
    "trainer.__main__": ("synthgrid",),
}
# Inside a room a floor may import those above it in this list, and itself. What stands on one line
# has no arrow either way.
FLOORS = {
    "comfy_nodes": (
        ("comfy_nodes.errors", "comfy_nodes.listing", "comfy_nodes.samplers"),
        ("comfy_nodes.host", "comfy_nodes.textfile"),
        ("comfy_nodes.paths",),
        ("comfy_nodes.banks", "comfy_nodes.labelset"),
        ("comfy_nodes.plan", "comfy_nodes.graph"),
        ("comfy_nodes.language",),
        ("comfy_nodes.nodes",),
        ("comfy_nodes.server",),
    ),
    "client": (
        ("client.errors", "client.wording"),
        ("client.embedded",),
        ("client.workflow", "client.server"),
        ("client.prompts",),
        ("client.folder",),
        ("client.run",),
        ("client.commands",),
        ("client.__main__", "client"),
    ),
    "trainer": (
        ("trainer.errors", "trainer.progress"),
        ("trainer.arms", "trainer.models"),
        ("trainer.config", "trainer.runs"),
        ("trainer.data",),
        ("trainer.analysis",),
        ("trainer.training",),
        ("trainer.quality", "trainer.pretrain"),
        ("trainer.grid", "trainer.shipping", "trainer.report", "trainer.tracking"),
        ("trainer.commands",),
        ("trainer.experiments", "trainer.__main__"),
    ),
}
SOURCES = [
    path for room in OUTSIDE if "." not in room for path in sorted((ROOT / room).rglob("*.py"))
]
NAMES = [str(path.relative_to(ROOT)) for path in SOURCES]


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


@cache
def imported_names(path):
    """Absolute names of everything a file imports, relative imports resolved:
    "client.run.events.as_dict".
    """
    package, found = path.relative_to(ROOT).parent.parts, []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += [f"{module}.{alias.name}" for alias in node.names]
    return found


@cache
def imported_modules(path):
    """The modules of this house that a file imports: "client.run.events"."""
    found = set()
    for name in imported_names(path):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        if name:
            found.add(name)
    return found - {module_of(path)}


def within(name, allowed):
    return any(name == each or name.startswith(each + ".") for each in allowed)


def most_specific(module, keys):
    return max((each for each in keys if within(module, [each])), key=len, default=None)


def floor_of(module, floors):
    """How deep a module stands, counted from the bottom; the longest name in the list that fits
    decides.
    """
    key = most_specific(module, [each for floor in floors for each in floor])
    return next((number for number, floor in enumerate(floors) if key in floor), None)


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_imports_between_rooms_follow_the_arrows(path):
    module = module_of(path)
    allowed = (module.split(".")[0], *OUTSIDE[most_specific(module, OUTSIDE)])
    wrong = [
        name
        for name in imported_names(path)
        if name.split(".")[0] in ROOMS and not within(name, allowed)
    ]
    assert not wrong, f"{path.relative_to(ROOT)} must not import {wrong}"


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_imports_inside_a_room_go_down_its_floors(path):
    module = module_of(path)
    floors = FLOORS.get(module.split(".")[0], ())
    if module in FLOORS or not floors:
        return  # a room's own __init__ hands on names from every floor
    mine = floor_of(module, floors)
    assert mine is not None, f"{module} stands on no floor; add it to FLOORS"
    own = most_specific(module, floors[mine])
    room = module.split(".")[0]
    wrong = [
        each
        for each in imported_modules(path)
        if within(each, [room]) and not within(each, [own]) and not floor_of(each, floors) < mine
    ]
    assert not wrong, f"{module} must not import {wrong}"


def test_there_is_no_circle():
    graph = {module: imported_modules(path) for module, path in MODULES.items()}
    done, trail = set(), []

    def visit(module):
        assert module not in trail, (
            f"circle: {' -> '.join([*trail[trail.index(module) :], module])}"
        )
        if module in done:
            return
        trail.append(module)
        for each in sorted(graph[module]):
            visit(each)
        done.add(trail.pop())

    for module in graph:
        visit(module)


def test_the_node_pack_uses_relative_imports_that_stay_inside_it():
    """Linked alone into custom_nodes it has another name, and 'client' or 'utils' would be
    ComfyUI's own modules.
    """
    for path in sorted((ROOT / "comfy_nodes").rglob("*.py")):
        depth = len(path.relative_to(ROOT / "comfy_nodes").parent.parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(alias.name.split(".")[0] in ROOMS for alias in node.names), path
            if isinstance(node, ast.ImportFrom):
                assert node.level <= depth + 1, f"{path} reaches above the pack"
                assert node.level or node.module.split(".")[0] not in ROOMS, path


def test_importing_needs_no_torch():
    modules = (
        "comfy_nodes",
        "comfy_nodes.labelset",
        "client",
        "client.commands",
        "trainer.report",
        "trainer.analysis",
        "trainer.data",
        "trainer.commands",
        "trainer.models",
    )
    code = "import sys\n" + "".join(
        f"import {module}; assert 'torch' not in sys.modules, {module!r}\n" for module in modules
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_only_the_transport_knows_the_http_libraries():
    for path in sorted((ROOT / "client").rglob("*.py")):
        libraries = {name.split(".")[0] for name in imported_names(path)} & {
            "requests",
            "websocket",
            "urllib3",
        }
        known = path.name in ("transport.py", "event_socket.py", "watch.py")
        assert not libraries or known, f"{path} imports {libraries}"


def test_nothing_at_run_time_imports_the_tools():
    for path in SOURCES:
        assert not any(
            name.split(".")[0] in ("tools", "tests", "benchmarks") for name in imported_names(path)
        ), path
