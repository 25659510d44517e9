"""Folder and file names are legal on every file system, and no two classes share one."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import folder_name, folder_names, image_file_name, image_file_names


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("bat", "bat"),
        ("polar bear", "polar bear"),
        ("蝙蝠", "蝙蝠"),
        ("../x", "_x"),
        ("a/b", "a_b"),
        ("CON", "_CON"),
        ("con.txt", "_con.txt"),
        ("a. ", "a"),
        (".hidden", "hidden"),
        ("...", "_"),
        (". a", "a"),
        (" .. . b", "b"),
        ("a . .", "a"),
        ("~ . x. ", "~ . x"),
        ('<>:"|?*', "_______"),
    ],
)
def test_folder_names_are_legal_on_windows_too(label, folder):
    assert folder_name(label) == folder


@example(". a")
@given((st.text(min_size=1) | st.text("aN/ .\u0301\t", min_size=1)).filter(str.strip))
def test_a_folder_name_is_one_short_plain_path_part_and_stays_so(label):
    name = folder_name(label)
    assert folder_name(name) == name
    assert 0 < len(name.encode("utf-8", "surrogatepass")) <= 122
    assert not set(name) & set('<>:"/\\|?*\0\n')
    assert name == name.rstrip(". ")
    assert not name.startswith((".", " "))


@pytest.mark.parametrize(
    "labels", [("Bat", "bat"), ("a/b", "a_b"), ("é", "e\u0301"), ("bat", "bat.")]
)
def test_classes_that_would_share_a_folder_are_refused(labels):
    with pytest.raises(LabelsetError, match="would share the folder"):
        folder_names(labels)


def test_a_blank_class_name_is_refused():
    with pytest.raises(LabelsetError, match="blank"):
        folder_name(" ")


def test_a_file_name_holds_class_plan_and_index():
    assert image_file_name("a/b", "0123456789ab", 7) == "a_b/0123456789ab-000007.png"
    assert image_file_name("bat", "p", 12_345_678, ".webp") == "bat/p-12345678.webp"


def test_an_image_may_have_one_name_per_format():
    assert image_file_names("bat", "p", 1) == (
        "bat/p-000001.png",
        "bat/p-000001.webp",
        "bat/p-000001.jpg",
    )
