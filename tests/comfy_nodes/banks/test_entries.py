"""Banks in files: text, JSON and CSV give the same entries; errors name the file and the line."""

import pytest

from comfy_nodes import host
from comfy_nodes.banks import read_bank
from comfy_nodes.errors import PlanError
from comfy_nodes.nodes.prompts import PromptTemplatesNode

EMPTY = {"templates": "a {class}, {context}", "negative_prompt": "", "contexts": "", "styles": ""}


def bank(tmp_path, name, data, kind="contexts"):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return [entry.text for entry in read_bank(path, kind)]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.txt", "# mine\nin the rain\r\n\n  at dusk, late \n"),
        ("x", "\ufeffin the rain\nat dusk, late"),
        ("x.json", '["in the rain", " at dusk, late "]'),
        ("x.json", '{"styles": [], "contexts": ["in the rain", "at dusk, late"]}'),
        ("x.csv", 'place,context\r\nUK,in the rain\r\n\r\nUS,"at dusk, late"\r\n'),
        ("x.csv", 'Contexts\nin the rain\n"at dusk, late"\n'),
        ("x.CSV", 'what\nin the rain\n"at dusk, late"\n'),
        ("x.tsv", "place\tcontext\nUK\tin the rain\nUS\tat dusk, late\n"),
    ],
)
def test_every_format_gives_the_same_entries(tmp_path, name, data):
    assert bank(tmp_path, name, data) == ["in the rain", "at dusk, late"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "x.txt",
            b"fine\nfine\ncaf\xe9\n",
            r"contexts_file \S+x\.txt line 3 is not UTF-8 text; save the file as UTF-8",
        ),
        ("x.txt", b"fine\nb\x00d\n", r"x\.txt line 2 has the control character '\\x00'"),
        ("x.txt", "\n# nothing\n", r"x\.txt has no entries; write one per line"),
        ("x.json", '["fine",\n "torn', r"x\.json line 2 is not valid JSON: "),
        ("x.json", '["fine", 7]', r"x\.json entry 2 must be one line of text$"),
        ("x.json", '["two\\nlines"]', r"x\.json entry 1 must be one line of text"),
        ("x.json", '{"styles": ["fine"]}', r"x\.json has no key 'contexts'; expected"),
        ("x.json", '"fine"', r"x\.json: expected a list of texts, not str"),
        ("x.json", "[" * 100_000, r"x\.json is not a list of texts"),
        (
            "x.csv",
            "place,context\nUK,fine\nUS\n",
            r"x\.csv line 3: expected 2 cells, with one line of text in column 2",
        ),
        ("x.csv", "place,context\nUK,\n", r"x\.csv line 2: expected 2 cells"),
        ("x.csv", 'context\n"torn\n', r"x\.csv line 2 is not valid CSV: "),
        (
            "x.csv",
            "place,style\nUK,fine\n",
            r"x\.csv has no column 'contexts' in line 1$",
        ),
        ("x.csv", "context\n", r"x\.csv has no entries"),
    ],
)
def test_errors_name_the_file_and_the_line(tmp_path, name, data, message):
    with pytest.raises(PlanError, match=message):
        bank(tmp_path, name, data)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        PlanError, match=r"contexts_file \S+gone\.txt does not exist; give a text file"
    ):
        read_bank(tmp_path / "gone.txt", "contexts")
    with pytest.raises(PlanError, match="cannot read contexts_file"):
        read_bank(tmp_path, "contexts")


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_input_directory", tmp_path)
    (tmp_path / "banks").mkdir()
    (tmp_path / "banks" / "rain.txt").write_text("in the rain\nin the sun", encoding="utf-8")
    (tmp_path / "templates.txt").write_text(
        "# two\na {class} {context}\n\nthe {Class}\n", encoding="utf-8"
    )
    return tmp_path


def test_a_file_replaces_the_text_and_is_found_in_the_input_folder(inputs):
    node = PromptTemplatesNode()
    for name in ("banks/rain.txt", str(inputs / "banks" / "rain.txt"), ' "banks/rain.txt" '):
        (made,) = node.read(**(EMPTY | {"contexts": "at dusk"}), contexts_file=name)
        assert made.contexts == ("in the rain", "in the sun")
    (made,) = node.read(**(EMPTY | {"contexts": "at dusk"}))
    assert made.contexts == ("at dusk",)


def test_a_bad_template_in_a_file_is_named_with_its_line(inputs):
    with pytest.raises(
        PlanError, match=r"templates_file \S+templates\.txt line 4: unknown placeholder '\{Class\}'"
    ):
        PromptTemplatesNode().read(
            **(EMPTY | {"contexts": "at dusk"}), templates_file="templates.txt"
        )


def test_a_changed_file_is_read_again(inputs):
    before = PromptTemplatesNode.IS_CHANGED(**EMPTY, contexts_file="banks/rain.txt")
    assert PromptTemplatesNode.IS_CHANGED(**EMPTY, contexts_file="banks/rain.txt") == before
    (inputs / "banks" / "rain.txt").write_text("in the snow")
    assert PromptTemplatesNode.IS_CHANGED(**EMPTY, contexts_file="banks/rain.txt") != before
    assert "does not exist" in PromptTemplatesNode.IS_CHANGED(**EMPTY, contexts_file="gone")
