"""Slow: the site builds without a warning and asks no other host for anything, and the commands
of the pages do what the pages say.

Covers: tools.docs_site.hooks.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.docs.reading import DOCS, ROOT, RUN, blocks, name_of
from tools.docs_site import reference

FETCHED = re.compile(r"<(?:script|img|iframe|source)[^>]+src=\"(https?:[^\"]+)|<link[^>]+(https?:)")
# A page whose commands need what another page has made -> that page.
AFTER = {DOCS / "how-to/hugging-face.md": DOCS / "tutorials/student.md"}
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if page not in AFTER and any(block.language == RUN for block in blocks(page))
]


@pytest.mark.slow
def test_the_site_builds_strictly_and_needs_no_other_host(tmp_path):
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("needs the extra docs")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all((site / path).with_suffix(".html").is_file() for path in reference.pages())
    for page in site.rglob("*.html"):
        assert not FETCHED.findall(page.read_text(encoding="utf-8")), page


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the blocks are for a POSIX shell")
@pytest.mark.parametrize("first", PAGES, ids=name_of)
def test_the_commands_of_a_page_run_from_its_top_to_its_end(first, tmp_path):
    pages = [first, *(page for page, before in AFTER.items() if before == first)]
    command = tmp_path / "bin" / "synthgrid"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m synthgrid "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join((str(command.parent), os.environ["PATH"]))
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for block in (block for page in pages for block in blocks(page) if block.language == RUN):
        done = subprocess.run(
            ["sh", "-ec", block.text], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, block.text + done.stderr
