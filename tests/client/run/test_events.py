"""What --json-events prints is what docs/reference/json-events.md says."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import client
from client.run import events

DOCS = Path(client.__file__).resolve().parents[1] / "docs" / "reference" / "json-events.md"
ROW = re.compile(r"^\| `(\w+)` \| .+ \| ((?:`\w+` ?)+) \|$", re.MULTILINE)
KINDS = {events.kind_of(each): each for each in get_args(events.AnyEvent)}
EXAMPLES = [
    events.RunStarted(folder="f", plan_id="p", total=3, existing=1, servers=("a", "b")),
    events.ServerUp(server="a", url="http://127.0.0.1:8188"),
    events.ServerDown(server="a", state=events.HUNG, reason="蝙蝠"),
    events.JobPosted(
        server="a", prompt_id="p", batch_index=0, indices=(0, 1), attempt=0, found=False
    ),
    events.JobFinished(server="a", prompt_id="p", batch_index=0, images=2),
    events.JobMoved(server="a", prompt_id="p", batch_index=0),
    events.JobRetried(server="a", batch_index=0, indices=(), failures=1, reason="r"),
    events.ImageSaved(server="a", index=0, label="bat", file_name="bat/p-000000.png"),
    events.ImageFailed(index=0, label="bat", reason="r"),
    events.RunEnded(outcome=events.COMPLETE, done=3, made=2, total=3, failed=0, seconds=1.5),
]
_ITEMS = {tuple[str, ...]: str, tuple[int, ...]: int}


def check(value):
    """A parsed line: exactly the fields of its kind, each with the type that the class declares."""
    kind = KINDS[value["event"]]
    types = {each.name: get_type_hints(kind)[each.name] for each in fields(kind)}
    assert set(value) == {"event", *types}
    for name, declared in types.items():
        found = value[name]
        if declared in _ITEMS:
            assert isinstance(found, list)
            assert all(type(each) is _ITEMS[declared] for each in found), (name, found)
        else:
            assert type(found) in ((int, float) if declared is float else (declared,)), (
                name,
                found,
            )


def test_every_kind_is_documented_with_its_fields_in_order():
    documented = {
        kind: re.findall(r"\w+", names)
        for kind, names in ROW.findall(DOCS.read_text(encoding="utf-8"))
    }
    assert documented == {
        kind: [each.name for each in fields(event) if each.name != "at"]
        for kind, event in KINDS.items()
    }


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_is_one_line_of_json_with_the_types_of_its_class(event):
    text = json.dumps(events.as_dict(event), ensure_ascii=False)
    assert "\n" not in text
    check(json.loads(text))


def test_there_is_an_example_of_every_kind():
    assert {type(each) for each in EXAMPLES} == set(KINDS.values())
