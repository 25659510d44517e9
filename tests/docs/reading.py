"""What the documentation's pages hold: links and commands, read from their Markdown."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
RUN = "sh"  # the language of the blocks that a slow test runs


class Block(NamedTuple):
    """A fenced block: its language, "" where none is named, and its text without indentation."""

    language: str
    text: str


def pages() -> list[Path]:
    """What people read: docs/, the README and CONTRIBUTING."""
    return [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [Block(language, textwrap.dedent(text)) for _, language, text in found]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of each line `synthgrid ...`; a line that ends in a backslash goes on.

    Inside a loop, `for x in a b; do`, `$x` is the first value.
    """
    values: dict[str, str] = {}
    for line in map(str.strip, text.replace("\\\n", " ").splitlines()):
        if loop := re.match(r"for (\w+) in (\S+)", line):
            values["$" + loop[1]] = loop[2].rstrip(";")
        if line.startswith("synthgrid "):
            for name, value in values.items():
                line = line.replace(name, value)
            yield shlex.split(re.split(r" \|(?: |$)", line)[0], comments=True)[1:]
