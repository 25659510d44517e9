"""File names whose parts the editor fills in; the expected names are a browser's (1.49.6)."""

import pytest

from client.workflow.convert import convert
from client.workflow.convert.placeholders import filled

VALUES = {
    ("Folder", "text"): "compare/it",
    ("KSampler", "steps"): 20.0,
    ("KSampler", "cfg"): 7.5,
    ("Switch", "on"): True,
    ("Switch", "off"): None,
}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("plain", "plain"),
        ("%Folder.text%/%KSampler.steps%-%KSampler.cfg%", "compare_it/20-7.5"),
        ("%Switch.on%%Switch.off%", "true"),
        ("%Folder.other%", "%Folder.other%"),
        ("%width%x%height%", "%width%x%height%"),
        ("%a.b.c%", "%a.b.c%"),
        ("%date:yyyy-MM-dd%/%date:hhmmss%", "%year%-%month%-%day%/%hour%%minute%%second%"),
        ("%date:yy-M-d%", "%date:yy-M-d%"),
        ("50% of %Folder.text%", "50% of %Folder.text%"),
    ],
)
def test_parts_are_filled_in_as_the_browser_does(text, name):
    assert filled(text, lambda *place: VALUES[place]) == name


STRING = ["STRING", {}]
INFO = {
    "Text": {"input": {"required": {"text": STRING}}},
    "SaveImage": {"input": {"required": {"filename_prefix": STRING}}},
    "PackSaver": {"input": {"required": {"filename_prefix": STRING}}},
}


def node(number, kind, *values, title="", **properties):
    return {
        "id": number,
        "type": kind,
        "title": title,
        "widgets_values": list(values),
        "properties": properties,
    }


def sent(*nodes):
    return convert({"nodes": list(nodes), "links": []}, INFO).graph["1"]["inputs"][
        "filename_prefix"
    ]


def test_a_saver_of_core_gets_the_value_of_the_node_that_is_called_so():
    saver = node(1, "SaveImage", "%Folder.text%")
    by_title = node(2, "Text", "by title", title="Folder")
    by_name = node(3, "Text", "by name") | {"properties": {"Node name for S&R": "Folder"}}
    assert sent(saver, by_title) == "by title"
    assert sent(saver, by_title, by_name) == "by name"
    assert sent(saver) == "%Folder.text%"


def test_the_saver_of_a_pack_is_sent_as_it_is():
    assert sent(node(1, "PackSaver", "%F.text%"), node(2, "Text", "x", title="F")) == "%F.text%"
