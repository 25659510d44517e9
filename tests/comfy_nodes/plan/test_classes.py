"""Classes come from text, JSON, files and folders, and a mistake names its place."""

import pytest

from comfy_nodes.errors import PlanError
from comfy_nodes.plan.classes import ClassEntry, parse_classes, read_classes


@pytest.mark.parametrize(
    "text",
    [
        "bat\ncrane: a bird",
        "\ufeff# animals\n\n bat \r\ncrane:a bird",
        '["bat", {"name": "crane", "definition": "a bird"}]',
        '{"bat": "", "crane": "a bird"}',
    ],
)
def test_classes_come_from_lines_or_json(text):
    assert parse_classes(text) == (ClassEntry("bat"), ClassEntry("crane", "a bird"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n \n# only a comment", "no classes"),
        ("bat\nbat", "more than once: 'bat'"),
        (": a bird", "no class name before the colon"),
        ('["bat"', "starts like JSON"),
        ('["bat", 3]', "entry 2"),
        ("[]", "no classes"),
        ('[{"name": " "}]', "entry 1"),
    ],
)
def test_a_bad_class_list_is_refused(text, message):
    with pytest.raises(PlanError, match=message):
        parse_classes(text)


def test_classes_are_read_from_a_file_or_a_folder(tmp_path):
    (tmp_path / "classes.txt").write_text("蝙蝠\nbat", encoding="utf-8")
    (tmp_path / "classes.json").write_text('["蝙蝠", "bat"]', encoding="utf-8-sig")
    folder = tmp_path / "folder"
    for name in ("蝙蝠", "bat", ".cache"):
        (folder / name).mkdir(parents=True)
    (folder / "notes.txt").touch()
    expected = {ClassEntry("蝙蝠"), ClassEntry("bat")}
    for path in (tmp_path / "classes.txt", tmp_path / "classes.json", folder):
        assert set(read_classes(path)) == expected


def test_an_unreadable_class_source_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00bat")
    (tmp_path / "broken.json").write_text("{")
    for name, message in (
        ("missing.txt", "does not exist"),
        ("empty", "no class folders"),
        ("binary.txt", "UTF-8"),
        ("broken.json", "not valid JSON"),
    ):
        with pytest.raises(PlanError, match=message) as caught:
            read_classes(tmp_path / name)
        assert name in str(caught.value)
