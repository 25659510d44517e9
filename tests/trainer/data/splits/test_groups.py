"""Which images belong together; test_split.py has what a split makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.data.samples import Sample
from trainer.data.splits.groups import find_groups, prefix
from trainer.errors import DataError


def samples(**contents: str) -> list[Sample]:
    """One image per name, in folder a, with this content."""
    return [Sample(Path(name), f"a/{name}.png", "a", each) for name, each in contents.items()]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("cat/clip7_0012.jpg", "cat/clip7"),
        ("cat/a/clip7-12.jpg", "cat/a/clip7"),
        ("cat/shot (3).jpg", "cat/shot"),
        ("cat/0012.jpg", "cat/0012.jpg"),
        ("cat/garden.jpg", "cat/garden.jpg"),
        ("cat/v1.2.png", "cat/v1"),
    ],
)
def test_a_prefix_ends_before_the_last_number(file: str, expected: str) -> None:
    assert prefix(file) == expected


def test_links_join_groups_even_through_a_third_image() -> None:
    """x1 and x2 share a prefix, x2 and y their content; the group is named after its first file."""
    found = find_groups(samples(x1="one", x2="two", y="two", z="four"), "prefix")
    assert found == {"a/x1.png": "a/x1.png", "a/x2.png": "a/x1.png", "a/y.png": "a/x1.png"} | {
        "a/z.png": "a/z.png"
    }


def test_equal_files_are_one_group_without_any_rule() -> None:
    found = find_groups(samples(x1="same", x2="two", y="same"), None)
    assert found["a/y.png"] == found["a/x1.png"] == "a/x1.png"
    assert found["a/x2.png"] == "a/x2.png"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("g.json", "[1]", "expected an object with a string or a number for each image"),
        ("g.csv", "file,group\na.png,1", "expected the columns image and group"),
        ("g.csv", "image,group\n,1", "line 2 has no image or no group"),
        ("g.csv", "image,group\nx1.png,1", "has no group for 1 images: 'a/y.png'"),
    ],
)
def test_a_file_that_does_not_group_every_image_is_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        find_groups(samples(x1="one", y="two"), str(tmp_path / name))


def test_a_bare_file_name_is_enough_where_it_is_unique(tmp_path: Path) -> None:
    (tmp_path / "g.json").write_text('{"x1.png": 7, "a/y.png": "7"}', encoding="utf-8")
    found = find_groups(samples(x1="one", y="two"), str(tmp_path / "g.json"))
    assert set(found.values()) == {"a/x1.png"}
