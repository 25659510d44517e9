"""A folder of captions, from the command line to the last image, and all that works on folders.

Covers: client.workflow.changes.captions.
"""

import argparse
import json

import pytest

from client.__main__ import main
from client.commands.sweeping import add_sweep_options, make_samples
from client.errors import FolderError
from client.folder.run_folder import read_generation
from client.run.regenerate import Failing, failing
from client.run.runner import run_plan
from client.run.status import status
from client.workflow.changes.options import Options, patch
from client.workflow.graph import parse_workflow
from comfy_nodes.labelset.quality.verdicts import Verdict, quality_folder, write_verdicts
from comfy_nodes.plan.caption_plan import CaptionPlan
from comfy_nodes.plan.captions import Captions, read_captions
from tests.client.helpers import read_records, stub_workflow

ODD = ["蝙蝠 🦇", '"{a|b}" __color__ {class}', "# a (red:1.2) bus", "y" * 10_000, "a fox", "a fox"]


@pytest.fixture
def server(stub_servers):
    return stub_servers[0].url


@pytest.fixture
def files(tmp_path):
    """(workflow, captions) as files."""
    workflow, captions = tmp_path / "workflow.json", tmp_path / "captions.txt"
    graph = stub_workflow(batch_size=4, seconds=0.0).graph
    workflow.write_text(json.dumps(graph), encoding="utf-8")
    captions.write_text("\n\n".join(ODD), encoding="utf-8-sig")
    return workflow, captions


def run(files, server, out, *more):
    workflow, captions = files
    given = ["--server", server, "--captions", str(captions), "--out", str(out), *more]
    return main(["run", str(workflow), *given])


def prompts(out):
    return [record["prompt"] for record in read_records(out)]


def test_odd_captions_arrive_letter_for_letter_and_the_folder_is_whole(files, server, tmp_path):
    out = tmp_path / "set"
    assert run(files, server, out, "--per-prompt", "2") == 0
    assert prompts(out) == ODD * 2
    assert {record["label"] for record in read_records(out)} == {"captions"}
    assert main(["verify", str(out)]) == 0
    found = status(out)
    assert (found.done, found.planned, found.classes) == (12, 12, {"captions": (12, 12)})
    assert read_captions(out / "captions.jsonl") == read_captions(files[1])
    assert "fox" not in (out / "generation.json").read_text(encoding="utf-8")


def test_a_run_is_finished_by_running_again_and_ranges_of_rows_are_parts_of_it(
    files, server, tmp_path, capsys
):
    out = tmp_path / "set"
    assert run(files, server, out, "--rows", "1:5") == 0
    assert [record["index"] for record in read_records(out)] == [1, 2, 3, 4]
    assert "4 of them new" in capsys.readouterr().out
    assert run(files, server, out) == 0
    assert prompts(out) == ODD
    assert "2 of them new" in capsys.readouterr().out
    assert run(files, server, out) == 0
    assert "all 6 images already exist" in capsys.readouterr().out


def test_labels_of_a_column_are_class_folders(files, server, tmp_path):
    files[1].with_suffix(".csv").write_text("caption,label\na fox,fox\na hen,\n", encoding="utf-8")
    files = (files[0], files[1].with_suffix(".csv"))
    assert run(files, server, tmp_path / "set", "--captions-label", "rest") == 0
    assert {path.parent.name for path in (tmp_path / "set").glob("*/*.png")} == {"fox", "rest"}


def test_more_images_of_each_caption_are_added_and_fewer_refused(files, server, tmp_path, capsys):
    out = tmp_path / "set"
    assert run(files, server, out) == 0
    before = read_records(out)
    assert main(["extend", str(out), "--per-prompt", "3", "--server", server]) == 0
    after = read_records(out)
    assert len(after) == 18
    assert after[:6] == before
    assert main(["extend", str(out), "--per-prompt", "2", "--server", server]) == 1
    assert "planned for 3 images per caption, and 2 are fewer" in capsys.readouterr().err
    assert main(["extend", str(out), "--per-class", "9", "--server", server]) == 1
    assert "planned by caption; give --per-prompt N" in capsys.readouterr().err
    assert main(["verify", str(out)]) == 0


def test_a_lost_image_is_made_again_and_a_rejected_one_with_another_seed(files, server, tmp_path):
    out = tmp_path / "set"
    assert run(files, server, out) == 0
    lost, rejected = read_records(out)[1], read_records(out)[4]
    (out / lost["file_name"]).unlink()
    assert main(["verify", str(out), "--repair"]) == 1
    check = quality_folder(out) / "check.csv"
    named = (rejected[name] for name in ("sha256", "file_name", "label"))
    write_verdicts(check, [Verdict(*named, "looks wrong")])
    assert main(["regenerate", str(out), "--from", str(check), "--server", server]) == 0
    again = read_records(out)
    assert again[1]["seed"] == lost["seed"]
    assert "attempt" not in again[1]
    assert again[4]["attempt"] == 1
    assert again[4]["prompt"] == "a fox"
    assert again[4]["seed"] != rejected["seed"]
    assert main(["verify", str(out)]) == 0


def test_other_captions_or_a_plan_of_classes_are_another_run(files, server, tmp_path, capsys):
    out = tmp_path / "set"
    assert run(files, server, out) == 0
    files[1].write_text("a hen", encoding="utf-8")
    assert run(files, server, out) == 1
    assert "6 captions (" in capsys.readouterr().err
    assert main(["run", str(files[0]), "--server", server, "--out", str(out)]) == 1
    assert "-> no captions" in capsys.readouterr().err
    assert len(read_records(out)) == 6


def test_a_folder_without_its_captions_or_with_others_is_damaged(files, server, tmp_path):
    out = tmp_path / "set"
    assert run(files, server, out) == 0
    kept = (out / "captions.jsonl").read_bytes()
    (out / "captions.jsonl").write_text('{"caption": "a hen"}\n')
    with pytest.raises(FolderError, match="other captions: 1, SHA-256"):
        read_generation(out)
    with pytest.raises(FolderError, match=r"captions\.jsonl has other captions; move it away"):
        run_plan(_workflow(), server, out)
    (out / "captions.jsonl").unlink()
    with pytest.raises(FolderError, match=r"damaged \(captions\.jsonl beside it.* does not exist"):
        read_generation(out)
    assert run(files, server, out, "--per-prompt", "2") == 0
    assert (out / "captions.jsonl").read_bytes() == kept


def test_captions_that_a_killed_run_left_alone_in_the_folder_are_its_own(files, server, tmp_path):
    workflow = json.loads(files[0].read_text(encoding="utf-8"))
    for name, made in (("set", 0), ("other", 1)):
        out = tmp_path / name
        out.mkdir()
        text = "".join(_workflow().captions.lines()) if name == "set" else '{"caption": "a hen"}'
        (out / "captions.jsonl").write_text(text, encoding="utf-8")
        with pytest.raises(FolderError, match="holds 1 things that SynthGrid did not write"):
            run_plan(parse_workflow(workflow), server, out)
        assert run(files, server, out) == made
        assert (out / "captions.jsonl").read_text(encoding="utf-8") == text
    assert prompts(tmp_path / "set") == ODD


def test_a_folder_of_captions_typed_into_the_workflow_needs_no_file(server, tmp_path):
    graph = json.loads(json.dumps(_workflow().graph))
    (node,) = (node for node in graph.values() if node["class_type"] == "SynthGridCaptions")
    node["inputs"] |= {"captions": "a fox\na hen", "label": "birds"}
    out, path = tmp_path / "set", tmp_path / "typed.json"
    path.write_text(json.dumps(graph), encoding="utf-8")
    assert main(["run", str(path), "--server", server, "--out", str(out)]) == 0
    assert main(["extend", str(out), "--per-prompt", "3", "--server", server]) == 0
    assert not (out / "captions.jsonl").exists()
    assert prompts(out) == ["a fox", "a hen"] * 3
    assert main(["verify", str(out)]) == 0


def test_what_was_rejected_again_and_again_is_named_by_its_caption():
    plan = CaptionPlan(Captions([("a fox", "fox"), ("a hen", "hen"), ("a cub", "fox")]), "", 4)
    assert failing(plan, [0, 3, 1]) == [
        Failing("fox", "a fox", 2, 8),
        Failing("hen", "a hen", 1, 4),
    ]


def test_a_sweep_makes_an_image_of_each_caption_in_each_setting(files, server, tmp_path):
    parser = argparse.ArgumentParser()
    add_sweep_options(parser)
    given = ["--sweep", str(files[0]), "--vary", "StubImages.seconds=0,0.001", "--server", server]
    out = tmp_path / "sweep"
    args = parser.parse_args([*given, "--captions", str(files[1]), "--out", str(out)])
    made = make_samples(args)
    assert len(made) == 2
    assert all(prompts(folder) == ODD for folder in made.values())


def _workflow():
    captions = Captions((each, "captions") for each in ODD)
    options = Options(captions=captions, images_per_prompt=2)
    return patch(stub_workflow(batch_size=4, seconds=0.0), options)


def test_plan_shows_the_captions_as_text_and_json(files, capsys):
    given = ["plan", "--captions", str(files[1]), "--per-prompt", "2", "--rows", "2:9"]
    assert main([*given, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["captions"], values["images_per_prompt"], values["images"]) == (6, 2, 12)
    assert values["classes"] == [{"name": "captions", "folder": "captions", "images": 7}]
    assert values["first_prompts"][0]["prompt"] == ODD[2]
    assert main(given) == 0
    assert "6 captions x 2 images = 12 images, rows 2:9 of them" in capsys.readouterr().out
    assert main([*given, "--workflow", str(files[0]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan_id"] == values["plan_id"]


def test_validate_counts_captions_and_names_what_is_wrong(files, server, capsys):
    given = ["validate", str(files[0]), "--server", server]
    assert main([*given, "--captions", str(files[1]), "--per-prompt", "3"]) == 0
    assert "18 images in 5 batches" in capsys.readouterr().out
    assert main([*given, "--captions", str(files[1]), "--per-class", "3"]) == 1
    assert "cannot go with --per-class" in capsys.readouterr().err
    assert main([*given, "--captions-label", "x"]) == 1
    assert "give --captions FILE as well" in capsys.readouterr().err
    files[1].write_bytes(b"one\n\xff\n")
    assert main([*given, "--captions", str(files[1])]) == 1
    assert "line 2: this is not UTF-8 text" in capsys.readouterr().err
