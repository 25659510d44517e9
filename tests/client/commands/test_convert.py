"""`convert` and `validate` from the command line, on files of both formats, with real servers.

Covers: client.commands.convert, client.commands.validate.
"""

import json
from pathlib import Path

import pytest

from client.__main__ import main
from client.wording import HIDDEN
from tests.client.stand_in import StandIn
from tests.client.stand_in import answer as reply
from tests.workflows.shipped import api, editor, whole

EDITOR, API = editor("sd15_class_prompts"), api("sd15_class_prompts")
CORE = Path(__file__).parents[1] / "workflow" / "convert" / "pairs" / "object_info.json"
PAIR = Path(__file__).parents[1] / "workflow" / "convert" / "pairs" / "muted.json"


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def server(object_info):
    stand_in = StandIn(object_info)
    yield stand_in
    stand_in.stop()


@pytest.fixture
def saved_info(own_nodes, tmp_path):
    """A file with a server's answer to /object_info."""
    path = tmp_path / "object_info.json"
    path.write_text(json.dumps(read(CORE) | own_nodes), encoding="utf-8")
    return path


def test_a_file_is_converted_without_a_server(saved_info, capsys):
    assert main(["convert", str(EDITOR), "--object-info", str(saved_info)]) == 0
    assert whole(json.loads(capsys.readouterr().out)) == read(API)


def test_a_file_is_converted_for_a_server_and_nothing_is_overwritten_unasked(
    server, tmp_path, capsys
):
    out = tmp_path / "api.json"
    assert main(["convert", str(EDITOR), "--server", server.url, "--out", str(out)]) == 0
    assert whole(read(out)) == read(API)
    assert main(["convert", str(EDITOR), "--server", server.url, "--out", str(out)]) == 1
    assert "exists; choose another --out" in capsys.readouterr().err
    assert (
        main(["convert", str(API), "--server", server.url, "--out", str(out), "--overwrite"]) == 0
    )
    assert read(out) == read(API)


def test_what_is_left_out_is_said(saved_info, tmp_path, capsys):
    editor = tmp_path / "muted.json"
    editor.write_text(json.dumps(read(PAIR)["editor"]), encoding="utf-8")
    assert main(["convert", str(editor), "--object-info", str(saved_info)]) == 0
    captured = capsys.readouterr()
    assert "warning: node 6 'VAE Decode' is left out" in captured.err
    assert "6" not in json.loads(captured.out)


@pytest.mark.parametrize("workflow", [EDITOR, API])
def test_both_formats_are_validated_with_options_and_settings(server, workflow, capsys):
    options = ["--server", server.url, "--steps", "30", "--set", "Guidance.cfg=5"]
    assert main(["validate", str(workflow), *options]) == 0
    assert f"{workflow} can run on {server.url}: " in capsys.readouterr().out


@pytest.mark.parametrize("workflow", [EDITOR, API])
def test_both_formats_are_run(server, workflow, tmp_path, capsys):
    options = [
        "--server",
        server.url,
        "--per-class",
        "2",
        "--out",
        str(tmp_path / workflow.parent.name),
    ]
    assert main(["run", str(workflow), *options]) == 0
    assert "10 images, 10 of them new" in capsys.readouterr().out


def test_findings_are_printed_as_json_and_an_error_is_exit_code_1(server, capsys):
    options = [
        "--server",
        server.url,
        "--sampler",
        "euler_ancestral",
        "--set",
        "Guidance.cfg=900",
        "--json",
    ]
    assert main(["validate", str(API), *options]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert (printed["valid"], printed["images"]) == (False, 150)
    assert [(each["level"], each["code"], each["node"]) for each in printed["findings"]] == [
        ("error", "out_of_range", "10"), ("warning", "not_reproducible", "8"),
    ]  # fmt: skip


def test_a_workflow_without_the_plan_nodes_is_refused_with_the_way_out(tmp_path, server, capsys):
    editor = tmp_path / "other.json"
    editor.write_text(
        json.dumps({"nodes": [{"id": 1, "type": "KSamplerSelect"}], "links": []}), encoding="utf-8"
    )
    assert main(["validate", str(editor), "--server", server.url]) == 1
    assert "it needs the SynthGrid nodes" in capsys.readouterr().err


def test_a_token_is_named_not_given(server, monkeypatch, capsys, tmp_path):
    server.authorization = "Bearer quiet-word"
    assert main(["validate", str(API), "--server", server.url]) == 1
    assert "HTTP 401" in capsys.readouterr().err
    monkeypatch.setenv("THE_TOKEN", "quiet-word")
    assert (
        main(
            ["validate", str(API), "--server", server.url, "--token-env", "THE_TOKEN", "--verbose"]
        )
        == 0
    )
    captured = capsys.readouterr()
    assert "quiet-word" not in captured.out + captured.err
    with pytest.raises(SystemExit):
        main(["validate", str(API), "--server", server.url, "--token", "quiet-word"])


def test_plan_reads_a_file_in_editor_format_without_a_server(capsys):
    printed = []
    for path in (EDITOR, API):
        assert main(["plan", "--workflow", str(path), "--per-class", "2", "--json"]) == 0
        printed.append(json.loads(capsys.readouterr().out))
    assert printed[0] == printed[1]


def renamed_latent(server):
    """A file in API format with a class that the server calls otherwise."""
    old = read(API)
    number = next(key for key, each in old.items() if each["class_type"] == "VAEDecode")
    old[number]["class_type"] = "VAEDecodeOfOld"
    rule = {"new_node_id": "VAEDecode", "old_node_id": "VAEDecodeOfOld", "input_mapping": None}
    answer = json.dumps({"VAEDecodeOfOld": [rule]}).encode()
    server.tricks["/node_replacements"] = lambda handler: reply(handler, answer)
    return old, number


@pytest.mark.parametrize("command", ["validate", "run"])
def test_an_old_class_in_a_file_in_api_format_is_renamed(server, command, tmp_path, capsys):
    old, number = renamed_latent(server)
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old), encoding="utf-8")
    more = ["--per-class", "1", "--out", str(tmp_path / "out")]
    assert main([command, str(path), "--server", server.url, *more]) == 0
    assert f"node {number}: 'VAEDecodeOfOld' is called 'VAEDecode' today" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["convert", "validate", "run"])
def test_a_token_that_a_server_sends_back_in_its_description_is_not_shown(
    server, command, monkeypatch, tmp_path, capsys
):
    server.authorization = "Bearer quiet-word"
    server.object_info = json.loads(json.dumps(server.object_info))
    server.object_info["VAEDecode"]["display_name"] = "Decode quiet-word"
    server.object_info["CheckpointLoaderSimple"]["display_name"] = "quiet-word"
    monkeypatch.setenv("THE_TOKEN", "quiet-word")
    editor = read(EDITOR)
    for each in editor["nodes"]:
        each["title"] = ""
    path = tmp_path / "w.json"
    path.write_text(json.dumps(editor), encoding="utf-8")
    more = [] if command == "convert" else ["--per-class", "1", "--out", str(tmp_path / "out")]
    options = ["--server", server.url, "--token-env", "THE_TOKEN", *more]
    assert main([command, str(path), *options]) == 0
    captured = capsys.readouterr()
    shown = captured.out + captured.err
    assert "quiet-word" not in shown
    assert command != "convert" or f"Decode {HIDDEN}" in shown
