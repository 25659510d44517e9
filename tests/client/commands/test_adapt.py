"""`adapt` from the command line, up to a run of what it wrote.

Covers: client.commands.adapt.
"""

import json
from pathlib import Path

import pytest

from client.__main__ import main
from tests.client.stand_in import StandIn
from tests.client.workflow.stock_graphs import default, with_lora

CORE = Path(__file__).parents[1] / "workflow" / "convert" / "pairs" / "object_info.json"
PAIR = Path(__file__).parents[1] / "workflow" / "convert" / "pairs" / "widgets.json"


@pytest.fixture
def server(object_info):
    stand_in = StandIn(object_info)
    yield stand_in
    stand_in.stop()


@pytest.fixture
def stock(tmp_path):
    path = tmp_path / "stock.json"
    path.write_text(json.dumps(default(size=512)), encoding="utf-8")
    return path


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_stock_workflow_is_adapted_checked_and_run(stock, server, tmp_path, capsys):
    out = tmp_path / "ours.json"
    assert main(["adapt", str(stock), "--class-word", "cat", "--out", str(out)]) == 0
    said = capsys.readouterr().err
    assert "node 3: KSampler became SamplerCustomAdvanced" in said
    assert "'cat' became {class}" in said
    classes = tmp_path / "classes.txt"
    classes.write_text("tabby\nlynx\n", encoding="utf-8")
    options = ["--server", server.url, "--classes", str(classes), "--per-class", "2"]
    assert main(["validate", str(out), *options, "--steps", "3", "--cfg", "2"]) == 0
    assert main(["run", str(out), *options, "--out", str(tmp_path / "images")]) == 0
    assert "4 images, 4 of them new" in capsys.readouterr().out


def test_the_result_runs_on_the_embedded_engine(shared_server, tmp_path, capsys):
    path, out = tmp_path / "stock.json", tmp_path / "ours.json"
    graph = default(checkpoint="tiny-digits", prompt="a photo of a cat")
    path.write_text(json.dumps(graph), encoding="utf-8")
    options = ["--class-word", "cat", "--per-class", "3", "--batch-size", "2"]
    assert main(["adapt", str(path), *options, "--out", str(out)]) == 0
    assert main(["run", str(out), "--server", shared_server.url, "--out", str(tmp_path / "a")]) == 0
    assert "3 images, 3 of them new" in capsys.readouterr().out
    assert len(list((tmp_path / "a" / "cat").glob("*.png"))) == 3


def test_an_existing_file_is_never_replaced(stock, tmp_path, capsys):
    out = tmp_path / "ours.json"
    out.write_text("mine", encoding="utf-8")
    assert main(["adapt", str(stock), "--out", str(out)]) == 1
    assert "exists; choose another --out" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "mine"


def test_without_a_file_the_graph_is_printed_and_the_changes_are_not_in_it(stock, capsys):
    assert main(["adapt", str(stock)]) == 0
    captured = capsys.readouterr()
    assert "SynthGridClassList" in json.dumps(json.loads(captured.out))
    assert "{class} was put first" in captured.err


def test_the_changes_are_printed_as_json(stock, tmp_path, capsys):
    assert main(["adapt", str(stock), "--json", "--per-class", "4"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["out"] is None
    assert {"node": "7", "text": printed["changes"][4]["text"]} in printed["changes"]
    out = tmp_path / "ours.json"
    assert main(["adapt", str(stock), "--json", "--per-class", "4", "--out", str(out)]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["out"], again["graph"]) == (str(out), None)
    assert read(out) == printed["graph"]


def test_editor_format_needs_to_know_the_nodes(tmp_path, capsys):
    editor = tmp_path / "editor.json"
    editor.write_text(json.dumps(read(PAIR)["editor"]), encoding="utf-8")
    assert main(["adapt", str(editor)]) == 1
    assert "is in editor format, whose values only a server can name" in capsys.readouterr().err
    printed = []
    for name, graph in both_formats().items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(graph), encoding="utf-8")
        assert main(["adapt", str(path), "--object-info", str(CORE), "--json"]) == 0
        printed.append(json.loads(capsys.readouterr().out)["graph"])
    assert printed[0] == printed[1]


def both_formats():
    """A stock workflow as the editor saves it, and as it exports it."""
    pair = read(PAIR)
    for node in pair["editor"]["nodes"]:
        if node["id"] == 2:
            node["widgets_values"] = ["a cat"]
    pair["api"]["2"]["inputs"]["text"] = "a cat"
    return {"editor": pair["editor"], "api": pair["api"]}


@pytest.mark.parametrize("graph", [{}, {"1": {"class_type": "UNETLoader"}}, []])
def test_what_is_no_stock_workflow_ends_in_one_line(graph, tmp_path, capsys):
    path = tmp_path / "other.json"
    path.write_text(json.dumps(graph), encoding="utf-8")
    assert main(["adapt", str(path)]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("option", [("--per-class", "0"), ("--batch-size", "-1")])
def test_impossible_counts_are_refused(stock, option, capsys):
    assert main(["adapt", str(stock), *option]) == 1
    assert "it must be 1 to" in capsys.readouterr().err


def test_a_lora_is_kept(tmp_path, capsys):
    path = tmp_path / "lora.json"
    path.write_text(json.dumps(with_lora()), encoding="utf-8")
    assert main(["adapt", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["10"] == with_lora()["10"]
