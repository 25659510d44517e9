"""Paths that a widget, a route or a workflow names stay where they may be, whatever they are."""

import os
import sys

import pytest

from comfy_nodes import host, paths
from comfy_nodes.errors import LabelsetError, SynthGridError
from comfy_nodes.nodes.prompts import ClassList, PromptTemplatesNode
from comfy_nodes.nodes.realimages import RealFolder

SECRET = "hunter2 is the secret"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An output and an input folder, and a secret beside them."""
    monkeypatch.setattr(host, "_output_directory", tmp_path / "output")
    monkeypatch.setattr(host, "_input_directory", tmp_path / "input")
    monkeypatch.delenv(paths.ROOTS_VARIABLE, raising=False)
    for name in ("output", "input", "elsewhere/secret.d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "elsewhere" / "secret.txt").write_text(SECRET)
    return tmp_path


def link(path, target):
    try:
        path.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        pytest.skip("this user may not make links")


def test_a_folder_is_one_inside_the_output_folder(folders):
    root = (folders / "output").resolve()
    assert paths.folder_in_output(" animals/first try ") == root / "animals" / "first try"
    link(folders / "output" / "out", folders / "elsewhere")
    for name in (
        "",
        " ",
        ".",
        "..",
        "../x",
        "a/../../b",
        str(folders / "elsewhere"),
        "out/x",
        "a\0b",
    ):
        with pytest.raises(LabelsetError, match="must be a folder inside"):
            paths.folder_in_output(name)


def test_a_folder_of_real_images_is_one_inside_the_input_folder(folders):
    assert paths.folder_in_input(" set/real ") == folders / "input" / "set" / "real"
    for name in (
        "",
        ".",
        "../x",
        "set/../../x",
        "/tmp",
        "C:\\x",
        "a\0b",
        "\\\\host\\share",
        "//host/x",
        "~",
    ):
        with pytest.raises(LabelsetError, match="must be a folder inside"):
            paths.folder_in_input(name)


def test_a_list_is_a_file_or_folder_in_the_input_folder(folders):
    assert paths.list_to_read(' "classes.txt" ') == folders / "input" / "classes.txt"
    assert paths.list_to_read("set/classes.txt") == folders / "input" / "set" / "classes.txt"
    (folders / "input" / "set").mkdir()
    assert paths.list_to_read("set") == folders / "input" / "set"


OUTSIDE = [
    "ELSEWHERE/secret.txt",
    "ELSEWHERE",
    "../elsewhere/secret.txt",
    "a/../../elsewhere/secret.txt",
    "..\\elsewhere\\secret.txt",
    "~/x",
    "~root/x",
    "\\\\host\\share\\x",
    "//host/share/x",
    "C:\\x",
    "C:x",
    "/etc/passwd",
    "/proc/self/environ",
    "/dev/zero",
    "x\0y",
    "linked.txt",
    "linked/secret.txt",
    "loop/x",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_outside_is_read_and_no_message_quotes_what_is_there(folders, name):
    link(folders / "input" / "linked.txt", folders / "elsewhere" / "secret.txt")
    link(folders / "input" / "linked", folders / "elsewhere")
    (folders / "input" / "loop").symlink_to("loop")
    name = name.replace("ELSEWHERE", str(folders / "elsewhere"))
    for read in (
        lambda: ClassList().read("", name),
        lambda: PromptTemplatesNode().read("a {class}, {context}", "", "", "", contexts_file=name),
    ):
        with pytest.raises(SynthGridError) as refused:
            read()
        assert "hunter2" not in str(refused.value)
        assert "secret.d" not in str(refused.value)
        assert "\0" not in str(refused.value)
    assert "hunter2" not in ClassList.IS_CHANGED("", name)
    assert "hunter2" not in PromptTemplatesNode.IS_CHANGED(contexts_file=name)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_a_pipe_or_a_device_is_refused_at_once(folders):
    os.mkfifo(folders / "input" / "pipe")
    with pytest.raises(LabelsetError, match="is not a regular file"):
        paths.list_to_read("pipe")


def test_a_file_too_large_to_be_a_list_is_refused(folders):
    with (folders / "input" / "large.txt").open("wb") as file:
        file.truncate(paths.LARGEST_LIST)
        assert paths.list_to_read("large.txt")
        file.truncate(paths.LARGEST_LIST + 1)
    with pytest.raises(LabelsetError, match="too many for a list"):
        paths.list_to_read("large.txt")


def test_whoever_runs_the_server_may_list_more_folders(folders, monkeypatch):
    secret = folders / "elsewhere" / "secret.txt"
    link(folders / "input" / "linked", folders / "elsewhere")
    with pytest.raises(LabelsetError, match=paths.ROOTS_VARIABLE):
        paths.list_to_read(str(secret))
    monkeypatch.setenv(
        paths.ROOTS_VARIABLE, os.pathsep.join(["", "relative", str(folders / "elsewhere")])
    )
    assert paths.list_to_read(str(secret)) == secret
    assert paths.list_to_read("linked/secret.txt").read_text() == SECRET
    assert paths.folder_in_input("linked") == folders / "input" / "linked"
    with pytest.raises(LabelsetError, match="outside the folders that may be read"):
        paths.list_to_read(str(folders / "elsewhere2"))


def test_outside_any_host_a_path_is_the_callers_own(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "_input_directory", None)
    assert paths.list_to_read(str(tmp_path)) == tmp_path


def test_links_below_a_folder_of_real_images_stay_inside_and_loops_end(folders):
    bat = folders / "input" / "real" / "bat"
    bat.mkdir(parents=True)
    (bat / "a.png").touch()
    link(bat / "round", folders / "input" / "real")
    (bat / "again").symlink_to(".")
    assert RealFolder(folders / "input" / "real", "real").images("bat") == ["bat/a.png"]
    link(bat / "stolen.png", folders / "elsewhere" / "secret.txt")
    with pytest.raises(LabelsetError, match=r"stolen.png is outside the folders"):
        RealFolder(folders / "input" / "real", "real").images("bat")
