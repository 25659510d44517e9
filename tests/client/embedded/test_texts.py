"""The workflow that makes a bank of a text runs on the embedded engine too.

Covers: client.embedded.nodes.texts.
"""

import json

import pytest

from client.embedded.execution.prompt import QueuedPrompt
from client.embedded.execution.running import PromptExecution
from client.embedded.execution.validation import validate_prompt
from client.embedded.nodes.texts import PreviewAny
from client.embedded.registry import Registry
from comfy_nodes import host
from comfy_nodes.banks.prompt_bank import read_prompt_bank
from comfy_nodes.graph import queued
from tests.workflows.shipped import api


def test_the_text_of_a_model_becomes_a_bank_that_is_shown_and_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "_output_directory", tmp_path)
    queued.remember({})
    graph, classes = json.loads(api("bank_from_text").read_text("utf-8")), Registry().classes
    assert validate_prompt(graph, classes).error is None
    done = PromptExecution(QueuedPrompt(0, "id", graph, {}, ["4", "5"]), classes, lambda *_: None)
    outcome = done.run()
    assert outcome.succeeded, outcome.messages
    saved = tmp_path / "synthgrid" / "bank.json"
    assert set(read_prompt_bank(saved).classes) == {"crane", "seal"}
    assert list(outcome.outputs["5"]["text"]) == [saved.read_text(encoding="utf-8")]
    assert "seal: 6 contexts, 3 styles" in outcome.outputs["4"]["text"][0]


@pytest.mark.parametrize(
    ("value", "text"),
    [("a\nb", "a\nb"), (1.5, "1.5"), ({"a": 1}, '{\n    "a": 1\n}'), ({2}, "{2}")],
)
def test_any_value_is_shown_as_text(value, text):
    assert PreviewAny().main(value)["result"] == (text,)
