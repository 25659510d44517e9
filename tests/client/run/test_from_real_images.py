"""The workflow from real images through the client: options, preconditions, and a whole run.

Covers: client.workflow.changes.options, client.run.runner.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from client.__main__ import main
from client.errors import WorkflowError
from client.workflow.changes.options import Options, patch
from client.workflow.graph import load_workflow
from comfy_nodes.banks.prompt_bank import ClassBank, PromptBank
from comfy_nodes.labelset import sha256
from comfy_nodes.nodes.prompts import PromptTemplatesNode
from comfy_nodes.plan import ClassEntry, GenerationPlan
from tests.comfy_nodes.helpers import scanned_records

FOLDER = Path(__file__).resolve().parents[3] / "workflows" / "api"
WORKFLOW = FOLDER / "sd15_from_real_images.json"
CLASSES = (ClassEntry("bat"), ClassEntry("cat"))


def inputs_of(workflow, class_type):
    return next(
        node["inputs"] for node in workflow.graph.values() if node["class_type"] == class_type
    )


def test_strength_folder_and_size_go_to_the_nodes_that_carry_them():
    patched = patch(
        load_workflow(WORKFLOW), Options(strength=0.3, real_folder="mine", width=64, height=72)
    )
    assert inputs_of(patched, "BasicScheduler")["denoise"] == 0.3
    real = inputs_of(patched, "SynthGridRealImageLatent")
    assert (real["folder"], real["width"], real["height"]) == ("mine", 64, 72)


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.1, float("nan")])
def test_a_strength_that_no_sampler_could_take_is_refused(strength):
    with pytest.raises(WorkflowError, match="strength is"):
        Options(strength=strength)


STRENGTHS = (0.2, 0.9)


def test_several_strengths_are_part_of_the_plan_and_the_scheduler_takes_them_from_the_batcher():
    workflow = load_workflow(WORKFLOW)
    plain = patch(workflow, Options(classes=CLASSES))
    patched = patch(workflow, Options(classes=CLASSES, strengths=STRENGTHS))
    batcher = patched.only_id_of("SynthGridClassPromptBatcher")
    assert inputs_of(patched, "BasicScheduler")["denoise"] == [batcher, 2]
    assert patched.plan().strengths == STRENGTHS
    assert {row.strength for row in patched.plan()} == set(STRENGTHS)
    assert patched.plan().plan_id != plain.plan().plan_id
    again = patch(patched, Options(strengths=(0.4, 0.5)))
    assert again.plan().strengths == (0.4, 0.5)


def test_several_strengths_need_real_images_to_start_from():
    with pytest.raises(WorkflowError, match="start from workflows/api/sd15_from_real_images"):
        patch(load_workflow(FOLDER / "sd15_class_prompts.json"), Options(strengths=STRENGTHS))


def test_a_plan_shows_the_strengths(tmp_path, capsys):
    classes = tmp_path / "classes.txt"
    classes.write_text("bat\ncat\n", encoding="utf-8")
    command = ["plan", "--classes", str(classes), "--per-class", "4", "--strength"]
    assert main([*command, "0.2,0.9"]) == 0
    assert "each at one strength of 0.2, 0.9" in capsys.readouterr().out
    assert main([*command, "0.2, 0.9", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["strengths"] == [0.2, 0.9]
    assert {row["strength"] for row in values["first_prompts"]} == {0.2, 0.9}
    assert main([*command, "0.5", "--json"]) == 0, "one strength is a setting of the workflow"
    assert "strengths" not in json.loads(capsys.readouterr().out)
    assert main([*command, "0.2,much"]) == 1
    assert "'much' is not a number" in capsys.readouterr().err


def test_the_client_must_be_told_the_classes():
    with pytest.raises(WorkflowError, match="give them to the client: --classes"):
        load_workflow(WORKFLOW).plan()
    assert [
        entry.name
        for entry in patch(load_workflow(WORKFLOW), Options(classes=CLASSES)).plan().classes
    ] == [
        "bat",
        "cat",
    ]


def test_another_folder_of_real_images_is_another_data_set():
    plain, other = (
        patch(load_workflow(WORKFLOW), Options(classes=CLASSES, real_folder=name)) for name in "ab"
    )
    assert plain.fingerprint != other.fingerprint


@pytest.mark.parametrize("bank", ["templates", "contexts", "styles"])
def test_a_bank_file_on_the_server_is_refused_unless_the_client_is_given_the_bank(bank):
    graph = json.loads((FOLDER / "sd15_class_prompts_banks.json").read_text(encoding="utf-8"))
    node_id = next(
        key for key, node in graph.items() if node["class_type"] == "SynthGridPromptTemplates"
    )
    workflow = load_workflow(FOLDER / "sd15_class_prompts_banks.json").with_values(
        {(node_id, f"{bank}_file"): "x.txt"}
    )
    with pytest.raises(
        WorkflowError,
        match=f"reads {bank} from a file on the server; give them to the client: --{bank[:8]}",
    ):
        workflow.plan()
    given = ("a {class} {context} {style}",) if bank == "templates" else ("at night",)
    assert getattr(patch(workflow, Options(**{bank: given})).plan().templates, bank) == given


def test_a_prompt_bank_on_the_server_is_refused_unless_the_client_is_given_one():
    workflow = load_workflow(FOLDER / "sd15_class_prompts_banks.json")
    node_id = workflow.only_id_of("SynthGridPromptTemplates")
    workflow = workflow.with_values({(node_id, "bank_file"): "bank.json"})
    with pytest.raises(
        WorkflowError, match=r"reads a bank from a file on the server; give it .*--bank"
    ):
        workflow.plan()
    label = workflow.classes()[0].name
    bank = PromptBank(classes={label: ClassBank(contexts=("at night",))})
    plan = patch(workflow, Options(bank=bank)).plan()
    assert plan.templates.bank("context", label) == ("at night",)
    assert len(plan.templates.bank("context", workflow.classes()[1].name)) > 1


def test_client_and_nodes_agree_where_a_bank_replaces_contexts_with_wildcards():
    workflow = load_workflow(FOLDER / "sd15_class_prompts_banks.json")
    node_id = workflow.only_id_of("SynthGridPromptTemplates")
    workflow = workflow.with_values(
        {
            (node_id, "templates"): "a {small|large} {class} {context} {style}",
            (node_id, "contexts"): "in a __color__ room",
            (node_id, "wildcards"): "__color__:\nred\nblue",
        }
    )
    label = workflow.classes()[0].name
    bank = PromptBank(("at night",), classes={label: ClassBank(contexts=("at noon",))})
    patched = patch(workflow, Options(bank=bank))
    inputs = patched.graph[node_id]["inputs"]
    (texts,) = PromptTemplatesNode().read(**inputs)
    made = patched.plan()
    by_node = GenerationPlan(made.classes, texts, made.images_per_class, made.seed)
    assert by_node.plan_id == made.plan_id
    assert made.templates.wildcards == ()


def test_the_client_puts_images_where_they_belong_itself():
    workflow = load_workflow(FOLDER / "sd15_class_prompts.json")
    saver = next(
        key
        for key, node in workflow.graph.items()
        if node["class_type"] == "SynthGridLabelledImageSaver"
    )
    styled = workflow.with_values({(saver, "subfolders"): "{style}/{label}"})
    assert styled.for_batch(0, folder="a")[saver]["inputs"]["subfolders"] == "{label}"
    assert styled.fingerprint == workflow.fingerprint


def test_a_whole_run_on_the_embedded_engine(tmp_path, capsys):
    """Labels come from the folder; every record names the real image, by file and hash."""
    for label, colour in (("0", "white"), ("1", "grey")):
        for number in range(2):
            path = tmp_path / "input" / "photos" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (50 + number, 40), colour).save(path)
    command = [
        "run", str(WORKFLOW), "--server", "embedded", "--input-directory", str(tmp_path / "input"),
        "--classes", str(tmp_path / "input" / "photos"), "--real-folder", "photos",
        "--strength", "0.2",
        "--per-class", "3", "--batch-size", "4", "--steps", "5", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(command) == 0, capsys.readouterr().err
    records = scanned_records(tmp_path / "out")
    assert sorted(index for _, index in records) == list(range(6))
    for record in records.values():
        source = tmp_path / "input" / "photos" / record.source_image
        assert (source.parent.name, record.source_sha256) == (
            record.label,
            sha256(source.read_bytes()),
        )
        with Image.open(tmp_path / "out" / record.file_name) as image:
            brightness = image.convert("L").resize((1, 1)).getpixel((0, 0))
        assert (brightness > 190) == (record.label == "0"), (
            "little strength leaves a white image bright"
        )


def test_a_run_at_several_strengths_on_the_embedded_engine(shared_server, tmp_path, capsys):
    """A white image stays bright at little strength only, and verify finds every row as planned."""
    photos = shared_server.directory / "input" / "strengths"
    for label in "01":
        path = photos / label / "a.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (40, 40), "white").save(path)
    command = [
        "run", str(WORKFLOW), "--server", shared_server.url, "--checkpoint", "tiny-digits",
        "--classes", str(photos), "--real-folder", "strengths",
        "--strength", "0.2,1", "--plan-seed", "1", "--width", "64", "--height", "64",
        "--per-class", "4", "--batch-size", "8", "--steps", "5", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(command) == 0, capsys.readouterr().err
    records = list(scanned_records(tmp_path / "out").values())
    assert sorted((each.label, each.strength) for each in records) == sorted(
        (label, strength) for label in "01" for strength in (0.2, 0.2, 1.0, 1.0)
    )
    for record in records:
        assert "denoise" not in record.settings
        with Image.open(tmp_path / "out" / record.file_name) as image:
            brightness = image.convert("L").resize((1, 1)).getpixel((0, 0))
        assert (brightness > 190) == (record.strength == 0.2), (record, brightness)
    (tmp_path / "out" / records[0].file_name).unlink()
    assert main(command) == 0, "a missing image is made again, alone"
    made = scanned_records(tmp_path / "out")[records[0].key]
    # The file also holds the graph, which now names the one row.
    assert replace(made, sha256="") == replace(records[0], sha256="")
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "out")]) == 0, capsys.readouterr().out
