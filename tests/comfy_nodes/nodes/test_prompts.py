"""The prompt nodes, called as ComfyUI calls them: FUNCTION with the inputs of INPUT_TYPES."""

import inspect
import math

import pytest

from comfy_nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS, host
from comfy_nodes.errors import PlanError, SynthGridError
from comfy_nodes.graph import queued
from comfy_nodes.plan import PromptTemplates

TEXTS = {"templates": "a {class}", "negative_prompt": "", "contexts": "", "styles": ""}


@pytest.fixture(autouse=True)
def nothing_queued():
    queued.remember({})


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def validated(texts, **class_list):
    """What Prompt Templates answers in a graph with these texts and, if any, these classes."""
    texts = TEXTS | texts
    graph = {"1": node("SynthGridPromptTemplates", **texts)}
    if class_list:
        graph["2"] = node("SynthGridClassList", **{"path": ""} | class_list)
        graph["3"] = node("SynthGridClassPromptBatcher", classes=["2", 0], templates=["1", 0])
    queued.remember({"prompt": graph})
    known = texts["templates"] if isinstance(texts["templates"], str) else None
    return NODE_CLASS_MAPPINGS["SynthGridPromptTemplates"].VALIDATE_INPUTS(templates=known)


def call(name, **inputs):
    node = NODE_CLASS_MAPPINGS[name]
    return getattr(node(), node.FUNCTION)(**inputs)


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_every_node_explains_itself(name):
    node = NODE_CLASS_MAPPINGS[name]
    assert node.DESCRIPTION
    assert len(node.SEARCH_ALIASES) == len(set(node.SEARCH_ALIASES)) > 0
    assert node.CATEGORY == "SynthGrid"
    assert name.startswith("SynthGrid")
    assert NODE_DISPLAY_NAME_MAPPINGS[name].startswith("SynthGrid ")
    inputs = node.INPUT_TYPES()
    for section in ("required", "optional"):
        for input_name, (_, options) in inputs.get(section, {}).items():
            assert options.get("tooltip"), f"{name}.{input_name} has no tooltip"
    assert len(node.RETURN_TYPES) == len(getattr(node, "RETURN_NAMES", ()))


def test_the_class_list_reads_text_or_a_path(tmp_path):
    (tmp_path / "classes.txt").write_text("crane: a bird")
    assert call("SynthGridClassList", classes="bat", path="")[0][0].name == "bat"
    entry = call("SynthGridClassList", classes="bat", path=f' "{tmp_path / "classes.txt"}" ')[0][0]
    assert (entry.name, entry.definition) == ("crane", "a bird")


def test_a_changed_file_is_read_again(tmp_path):
    node = NODE_CLASS_MAPPINGS["SynthGridClassList"]
    path = tmp_path / "classes.txt"
    path.write_text("bat")
    before = node.IS_CHANGED(classes="", path=str(path))
    assert node.IS_CHANGED(classes="", path=str(path)) == before
    path.write_text("bat\ncat")
    assert node.IS_CHANGED(classes="", path=str(path)) != before


def test_templates_and_banks_are_read_line_by_line():
    (templates,) = call(
        "SynthGridPromptTemplates",
        templates="a {class}, {style}\n\na {class} in {context}",
        negative_prompt=" blurry ",
        contexts="snow\nrain",
        styles="ink",
    )
    assert templates == PromptTemplates(
        ("a {class}, {style}", "a {class} in {context}"), "blurry", ("snow", "rain"), ("ink",)
    )


def test_an_unknown_placeholder_is_named():
    with pytest.raises(PlanError, match=r"unknown placeholder '\{clas\}'"):
        call(
            "SynthGridPromptTemplates",
            templates="a {clas}",
            negative_prompt="",
            contexts="",
            styles="",
        )


@pytest.fixture
def wildcards(tmp_path, monkeypatch):
    """An input folder with two wildcards in files, and a secret outside it."""
    root = tmp_path / "input"
    (root / "wildcards" / "animals").mkdir(parents=True)
    (root / "wildcards" / "color.txt").write_text("red\n__animals/cats__ grey")
    (root / "wildcards" / "animals" / "cats.txt").write_text("lynx")
    (tmp_path / "secret.txt").write_text("password")
    (root / "wildcards" / "link.txt").symlink_to(tmp_path / "secret.txt")
    monkeypatch.setattr(host, "_input_directory", root)
    return root / "wildcards"


def templates_of(templates, **more):
    inputs = {"templates": templates, "negative_prompt": "", "contexts": "", "styles": ""}
    defaults = {"wildcards_folder": "wildcards"}
    return NODE_CLASS_MAPPINGS["SynthGridPromptTemplates"]().read(**inputs | defaults | more)[0]


def test_wildcards_are_typed_in_or_come_from_files_of_the_input_folder(wildcards):
    texts = templates_of("a __color__ {class} __size__", wildcards="__size__:\nsmall\nlarge")
    assert texts.wildcards == (
        ("animals/cats", ("lynx",)),
        ("color", ("red", "__animals/cats__ grey")),
        ("size", ("small", "large")),
    )
    typed = templates_of("a __color__ {class}", wildcards="__color__:\nblue")
    assert typed.wildcards == (("color", ("blue",)),)


@pytest.mark.parametrize(
    ("text", "folder", "words"),
    [
        ("__link__", "wildcards", "outside the folders that may be read"),
        ("__size__", "wildcards", "there is no wildcard __size__"),
        ("__color__", "", "the wildcard __color__ has no entries"),
        ("__secret__", "..", "cannot be read here"),
        ("__secret__", "/", "cannot be read here|outside the folders|no wildcard"),
    ],
)
def test_wildcards_come_from_nowhere_else(wildcards, text, folder, words):
    with pytest.raises(SynthGridError, match=words) as caught:
        templates_of(f"a {text} {{class}}", wildcards_folder=folder)
    assert "password" not in str(caught.value)
    answer = validated({"templates": f"a {text} {{class}}", "wildcards_folder": folder})
    assert answer == str(caught.value)


def test_a_changed_wildcard_is_read_again(wildcards):
    node = NODE_CLASS_MAPPINGS["SynthGridPromptTemplates"]
    inputs = {"templates": "a __color__ {class}", "contexts": "", "styles": ""}
    inputs |= {"negative_prompt": "", "wildcards": "", "wildcards_folder": "wildcards"}
    before = node.IS_CHANGED(**inputs)
    assert node.IS_CHANGED(**inputs) == before
    (wildcards / "animals" / "cats.txt").write_text("puma")
    assert node.IS_CHANGED(**inputs) != before
    assert math.isnan(node.IS_CHANGED(**inputs | {"templates": None}))
    linked = inputs | {"templates": None, "wildcards_folder": "gone"}
    assert node.IS_CHANGED(**linked) == node.IS_CHANGED(**linked)


def test_a_bad_alternative_in_a_file_is_named_with_its_line(wildcards):
    (wildcards.parent / "t.txt").write_text("a {class}\na {x|y {class}")
    with pytest.raises(PlanError, match=r"t\.txt line 2: .*closing brace"):
        templates_of("", templates_file="t.txt")


def test_a_bad_class_list_is_refused_before_anything_is_queued(tmp_path):
    validate = NODE_CLASS_MAPPINGS["SynthGridClassList"].VALIDATE_INPUTS
    (tmp_path / "classes.txt").write_text("bat")
    assert validate(classes="bat", path="") is True
    assert validate(classes="", path=str(tmp_path / "classes.txt")) is True
    assert "more than once: 'bat'" in validate(classes="bat\nbat", path="")
    assert "does not exist" in validate(classes="bat", path=str(tmp_path / "gone.txt"))
    assert "does not exist" in validate(classes=None, path=str(tmp_path / "gone.txt"))
    for classes, path in ((None, ""), ("", None)):  # over a link: not known yet
        assert validate(classes=classes, path=path) is True


def test_bad_templates_are_refused_before_anything_is_queued(tmp_path):
    (tmp_path / "places.txt").write_text("in the rain")
    texts = {"templates": "a {class} {context}"}
    assert validated(texts | {"contexts_file": str(tmp_path / "places.txt")}) is True
    assert "there are no contexts" in validated(texts)
    assert "unknown placeholder" in validated(texts | {"templates": "a {clas}"})
    assert "no prompt template" in validated({"templates": ""})
    assert "does not exist" in validated(texts | {"contexts_file": str(tmp_path / "gone.txt")})
    assert "negative prompt" in validated({"negative_prompt": "{a|b}"})
    linked = ["9", 0]  # not known yet
    assert validated(texts | {"contexts": linked}) is True
    assert validated({"templates": linked}) is True
    assert "unknown placeholder" in validated({"templates": "{c}", "negative_prompt": linked})


def test_comfyui_has_one_input_to_repeat_a_refusal_for():
    validate = NODE_CLASS_MAPPINGS["SynthGridPromptTemplates"].VALIDATE_INPUTS
    assert inspect.getfullargspec(validate).args == ["cls", "templates"]


DEFINED = {"templates": "a {class}, {definition}"}


def test_templates_that_do_not_fit_the_classes_are_refused_before_anything_is_queued(tmp_path):
    message = validated(DEFINED, classes="bat\ncrane: a bird")
    assert message.startswith("a template uses {definition} but these classes have none: 'bat';")
    assert validated(DEFINED, classes="crane: a bird") is True
    assert validated({}, classes="bat") is True
    (tmp_path / "classes.txt").write_text("bat")
    path = str(tmp_path / "classes.txt")
    assert "have none: 'bat'" in validated(DEFINED, classes="crane: a bird", path=path)


@pytest.mark.parametrize("classes", [["9", 0], "bat\nbat", ""])
def test_classes_that_are_not_known_or_wrong_say_nothing_about_templates(classes):
    assert validated(DEFINED, classes=classes) is True


def test_each_batcher_of_a_graph_has_its_own_classes_and_templates():
    graph = {
        "1": node("SynthGridClassList", classes="bat", path=""),
        "2": node("SynthGridClassList", classes="crane: a bird", path=""),
        "3": node("SynthGridPromptTemplates", **TEXTS | DEFINED),
        "4": node("SynthGridPromptTemplates", **TEXTS),
        "5": node("SynthGridClassPromptBatcher", classes=["1", 0], templates=["4", 0]),
        "6": node("SynthGridClassPromptBatcher", classes=["2", 0], templates=["3", 0]),
    }
    validate = NODE_CLASS_MAPPINGS["SynthGridPromptTemplates"].VALIDATE_INPUTS
    queued.remember({"prompt": graph})
    assert validate(templates=DEFINED["templates"]) is validate(templates="a {class}") is True
    graph["6"]["inputs"]["classes"] = ["1", 0]
    queued.remember({"prompt": graph})
    assert validate(templates="a {class}") is True
    assert "have none: 'bat'" in validate(templates=DEFINED["templates"])


BANK = '{"shared": {"contexts": ["in snow"]}, "classes": {"bat": {"contexts": ["in a cave"]}}}'


def test_a_bank_gives_each_class_its_own_prompts(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_input_directory", tmp_path)
    (tmp_path / "bank.json").write_text(BANK, encoding="utf-8")
    texts = TEXTS | {"templates": "a {class} {context}", "contexts": "not used"}
    for given in ({"bank": BANK}, {"bank": "ignored", "bank_file": "bank.json"}):
        (templates,) = call("SynthGridPromptTemplates", **texts, **given)
        assert templates.bank("context", "bat") == ("in a cave",)
        assert templates.bank("context", "bear") == ("in snow",)


def test_a_bank_is_checked_before_queueing_and_read_again_when_it_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_input_directory", tmp_path)
    path = tmp_path / "bank.json"
    texts = {"templates": "a {class} {context}", "bank_file": "bank.json"}
    assert "bank.json does not exist" in validated(texts, classes="bat")
    path.write_text('{"classes": {"bat": {"contexts": ["in a cave"]}}}', encoding="utf-8")
    assert validated(texts, classes="bat") is True
    assert "no contexts: 'bear'" in validated(texts, classes="bat\nbear")
    node = NODE_CLASS_MAPPINGS["SynthGridPromptTemplates"]
    before = node.IS_CHANGED(**TEXTS | texts)
    path.write_text('{"classes": {"bat": {"contexts": ["in a barn"]}}}', encoding="utf-8")
    assert node.IS_CHANGED(**TEXTS | texts) != before
    linked = {**TEXTS, **texts, "negative_prompt": None}
    before = node.IS_CHANGED(**linked)
    path.write_text(BANK, encoding="utf-8")
    assert node.IS_CHANGED(**linked) != before


def test_a_bank_outside_the_input_folder_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_input_directory", tmp_path / "input")
    (tmp_path / "bank.json").write_text(BANK, encoding="utf-8")
    with pytest.raises(SynthGridError, match="outside the folders that may be read"):
        call("SynthGridPromptTemplates", **TEXTS, bank_file=str(tmp_path / "bank.json"))
