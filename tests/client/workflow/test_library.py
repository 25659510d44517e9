"""Workflows that come with SynthGrid are found by name, from any folder."""

import pytest

from client.errors import WorkflowError
from client.workflow import load_workflow
from client.workflow.library import bundled_names, find_workflow


@pytest.mark.parametrize("name", bundled_names())
def test_a_bundled_workflow_is_loaded_by_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_workflow(name).graph == load_workflow(f"{name}.json").graph


def test_a_file_of_that_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"{bundled_names()[0]}.json"
    (tmp_path / name).write_text('{"1": {"class_type": "Mine"}}')
    assert list(load_workflow(name).graph) == ["1"]


@pytest.mark.parametrize(
    "given", ["nowhere", "nowhere.json", "folder/sd15_class_prompts", "sd15_class_prompts.txt"]
)
def test_any_other_name_is_refused_with_the_names_there_are(given, tmp_path):
    with pytest.raises(
        WorkflowError, match=r"does not exist; .*sd15_class_prompts, sd15_class_prompts_banks"
    ):
        find_workflow(tmp_path / given if "/" in given else type(tmp_path)(given))
