"""The workflow with a prompt bank: what its prompts say, and that it runs as it is.

Covers: client.workflow.graph.
"""

from client.__main__ import main
from client.workflow.graph import load_workflow
from tests.comfy_nodes.helpers import scanned_records
from tests.workflows.shipped import api

NAME = "sd15_diversified"


def prompts_of(label):
    plan = load_workflow(api(NAME)).plan()
    return [row.prompt for row in plan if row.label == label]


def test_every_prompt_says_which_meaning_of_the_class_it_wants():
    plan = load_workflow(api(NAME)).plan()
    meant = dict(plan.templates.per_class)
    assert {row.label for row in plan} == set(meant)
    assert all(f"{row.label}, {meant[row.label].definition}," in row.prompt for row in plan)


def test_a_class_has_its_own_contexts_and_styles_and_the_shared_ones_where_it_has_none():
    templates = load_workflow(api(NAME)).plan().templates
    crane = dict(templates.per_class)["crane"]
    assert templates.bank("style", "crane") == crane.styles
    assert templates.bank("context", "badger") == templates.contexts
    assert templates.bank("style", "bat") == templates.styles
    made = " ".join(prompts_of("crane"))
    assert all(each in made for each in (*crane.contexts, *crane.styles))


def test_half_of_the_prompts_are_a_subject_in_the_style_of_a_style():
    prompts = prompts_of("badger")
    styled = [each for each in prompts if " in the style of " in each]
    assert len(styled) == len(prompts) // 2
    assert len({each.split(" in the style of ")[1] for each in styled}) == 8


def test_it_runs_as_it_is_on_the_embedded_engine(shared_server, tmp_path, capsys):
    small = ["--checkpoint", "tiny-digits", "--width", "64", "--height", "64", "--steps", "1"]
    made = [*small, "--per-class", "1", "--batch-size", "5", "--out", str(tmp_path / "out")]
    command = ["run", NAME, "--server", shared_server.url, *made]
    assert main(command) == 0, capsys.readouterr().err
    records = scanned_records(tmp_path / "out").values()
    assert {record.label for record in records} == {"bat", "crane", "mouse", "seal", "badger"}
    assert all(record.label in record.prompt for record in records)
