"""The notebook is one that Colab opens, its commands are real, and it leads to a report."""

import json
import os
import re
import shlex
import shutil
import sys
from html import unescape

import numpy as np
import pytest
from PIL import Image

from synthgrid.__main__ import build_parser
from tests.docs import notebook
from tests.docs.reading import LINK, ROOT, commands

PAGES_THAT_NAME_IT = ("docs/tutorials/student.md", "docs/index.md")


def test_it_is_a_notebook_of_format_4_5_with_ids_that_are_words():
    book = notebook.load()
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert set(book) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert {"name", "display_name"} <= set(book["metadata"]["kernelspec"])
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]{0,63}", each) for each in ids)
    for cell in book["cells"]:
        wanted = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            wanted |= {"execution_count", "outputs"}
        assert set(cell) == wanted, cell["id"]
        assert all(line.endswith("\n") for line in cell["source"][:-1]), cell["id"]


def test_it_is_saved_without_outputs():
    for cell in notebook.load()["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            assert cell["metadata"] == {}


def test_every_synthgrid_command_in_it_parses_with_the_real_parser(capsys):
    lines = [line for cell in notebook.code_cells().values() for line in notebook.shell_lines(cell)]
    found = set()
    for line in lines:
        for name, value in notebook.constants().items():
            line = line.replace("{" + name + "}", str(value))
        for words in commands(line):
            if words == ["--version"]:
                continue
            try:
                build_parser([words[0]]).parse_args(words)
            except SystemExit:
                pytest.fail(f"synthgrid {shlex.join(words)}\n{capsys.readouterr()}")
            found.add(words[0])
    assert found == {
        *("check", "estimate", "export", "grid", "plan", "predict", "run"),
        *("sample-data", "split"),
    }


def test_it_installs_extras_that_exist_and_leaves_the_torch_of_colab_alone():
    (install,) = (
        line
        for cell in notebook.code_cells().values()
        for line in notebook.shell_lines(cell)
        if line.startswith("pip ")
    )
    known = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert set(re.search(r"\[([\w,]+)\]", install)[1].split(",")) <= set(known)
    assert "constraints" not in install
    assert "--upgrade" not in install


@pytest.mark.parametrize("page", PAGES_THAT_NAME_IT)
def test_the_pages_that_a_student_reads_name_it(page):
    name = notebook.NOTEBOOK.relative_to(ROOT).as_posix()
    text = (ROOT / page).read_text("utf-8")
    assert name in text
    assert not any(".ipynb" in target for target in LINK.findall(text))  # not part of the site


@pytest.fixture
def started(tmp_path, monkeypatch):
    """A fresh folder with a `synthgrid` of its own on the path -> folder, environment, shown."""
    command = tmp_path / "bin" / "synthgrid"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m synthgrid "$@"\n')
    command.chmod(0o755)
    folder, shown = tmp_path / "content", []
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, module in notebook.stand_in(shown).items():
        monkeypatch.setitem(sys.modules, name, module)
    path = os.pathsep.join((str(command.parent), os.environ["PATH"]))
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return folder, environment, shown


def photos(folder, classes, count):
    """`count` small images of noise in a folder for each class."""
    random = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(count):
            noise = random.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(noise).save(folder / name / f"{index}.png")


def with_own(cells, classes, images):
    """The cells up to that of one's own images, as somebody changes them who has some."""
    names = cells["classes"].replace(re.search(r"\[.+\]", cells["classes"])[0], str(classes))
    own = cells["own"].replace('MY_IMAGES = ""', f'MY_IMAGES = "{images}"')
    return [names, cells["real"], own]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the commands are for a POSIX shell")
def test_a_zip_file_of_class_folders_takes_the_place_of_the_digits(started):
    folder, environment, _ = started
    photos(folder / "packed" / "my photos", ["bee", "bat"], 50)
    shutil.make_archive(str(folder / "photos"), "zip", folder / "packed")
    cells = with_own(notebook.code_cells(), ["bat", "bee"], "photos.zip")
    names = notebook.run(folder, environment, cells)
    assert (names["RATIO"], names["MIRROR"]) == (1, "--mirror")
    for part, count in (("train", 20), ("test", 30)):
        for name in ("bat", "bee"):
            assert len(list((folder / names["REAL"] / part / name).iterdir())) == count


def test_images_without_a_folder_for_each_class_are_refused(started):
    folder, environment, _ = started
    photos(folder / "mine", ["bat", "bee"], 1)
    cells = with_own(notebook.code_cells(), ["bat", "wasp"], "mine")
    cells.pop(1)  # the digits
    with pytest.raises(ValueError, match=r"mine has no folder for some of \['bat', 'wasp'\]"):
        notebook.run(folder, environment, cells)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the commands are for a POSIX shell")
def test_all_its_cells_run_in_a_fresh_folder_and_end_with_the_report(started):
    folder, environment, shown = started
    names = notebook.run(folder, environment, list(notebook.code_cells().values()))
    report = folder / names["RUNS"] / "report.html"
    results = json.loads(report.with_name("results.json").read_text("utf-8"))
    assert results["cells"]
    framed = re.fullmatch(r'<div><iframe srcdoc="([^"]*)" style="[^"]*"></iframe></div>', shown[-1])
    assert unescape(framed[1]) == report.read_text("utf-8")
    assert [type(each) for each in shown[:-1]] == [Image.Image] * 10
    shutil.unpack_archive(folder / "answer.zip", folder / "unpacked")
    assert (folder / "unpacked" / "report.html").read_bytes() == report.read_bytes()
    assert list((folder / "unpacked" / "classifier").glob("*.safetensors"))
