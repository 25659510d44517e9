"""The command line: exact plans, exit codes, one clear line per mistake, and kill -9 at any time.

Covers: client.__main__, client.errors, client.commands.console, client.commands.options,
client.commands.plan, client.commands.run, client.commands.serve, client.commands.servers,
client.commands.validate, client.server.launch.
"""

import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from client.__main__ import main

SMALL = [
    "--checkpoint",
    "tiny-digits",
    "--width",
    "64",
    "--height",
    "64",
    "--steps",
    "2",
    "--batch-size",
    "3",
]


@pytest.fixture
def class_file(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("1\n2\n3: the number three\n", encoding="utf-8")
    return path


def assert_exact(root, total):
    """Rows 0..total-1 once each, every record true to its file, no file besides."""
    lines = (root / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    assert sorted(record["index"] for record in found) == list(range(total))
    for record in found:
        data = (root / record["file_name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == record["sha256"]
        assert record["file_name"].startswith(record["label"] + "/")
    files = {path.relative_to(root).as_posix() for path in root.glob("*/*")}
    assert files == {record["file_name"] for record in found}


def failure(capsys, *arguments):
    """Runs a command that must fail; returns the one line that it says."""
    assert main([str(each) for each in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    return line


def test_plan_shows_exact_counts_for_people(class_file, capsys):
    assert (
        main(["plan", "--classes", str(class_file), "--per-class", "5", "--batch-size", "4"]) == 0
    )
    out = capsys.readouterr().out
    assert re.search(r"^3 +3 +5$", out, re.MULTILINE)
    assert "3 classes x 5 images = 15 images, in 4 batches of 4" in out
    assert "0: a photo of a 1" in out


def test_a_large_plan_names_the_sample_to_make_first(class_file, capsys):
    for count, named in ((16, False), (17, True)):
        assert main(["plan", "--classes", str(class_file), "--per-class", str(count)]) == 0
        lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
        run = f"synthgrid run WORKFLOW --server URL --classes {class_file} --per-class 16"
        assert (f"{run} --out SAMPLE" in lines) == named
        assert ("synthgrid estimate --real DIR --synthetic SAMPLE" in lines) == named


def test_plan_shows_exact_counts_for_scripts(class_file, capsys):
    contexts = class_file.parent / "contexts.txt"
    contexts.write_text("in snow\nin fog\n", encoding="utf-8")
    options = ["--template", "a {class} {context}", "--contexts", str(contexts), "--plan-seed", "7"]
    assert main(["plan", "--classes", str(class_file), "--json", *options]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["images"], value["batches"], value["images_per_class"], value["seed"]) == (
        90,
        12,
        30,
        7,
    )
    assert value["classes"][2] == {
        "name": "3",
        "definition": "the number three",
        "contexts": 2,
        "styles": 0,
        "folder": "3",
        "images": 30,
    }
    assert re.fullmatch("a 1 in (snow|fog)", value["first_prompts"][0]["prompt"])


def test_plan_of_a_workflow_uses_its_own_counts_and_templates(workflow_path, capsys):
    assert main(["plan", "--workflow", str(workflow_path), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["images"], value["batch_size"]) == (150, 8)
    assert value["classes"][0]["name"] == "badger"


def test_a_bank_makes_the_same_plan_with_and_without_a_workflow(
    class_file, workflow_path, tmp_path, capsys, caplog
):
    bank = tmp_path / "bank.json"
    own = {"contexts": ["on a door"], "definition": "the digit"}
    value = {"shared": {"contexts": ["in snow", "in fog"]}, "classes": {"3": own, "bat": own}}
    bank.write_text(json.dumps(value), encoding="utf-8")
    asked = ["plan", "--classes", str(class_file), "--template", "a {class} {context}", "--json"]
    asked += ["--bank", str(bank), "--per-prompt", "2", "--negative", "", "--per-class", "4"]
    plans = []
    for more in ([], ["--workflow", str(workflow_path)]):
        caplog.clear()
        assert main([*asked, *more]) == 0
        assert "classes that are not made: 'bat'" in caplog.text
        plans.append(json.loads(capsys.readouterr().out))
    assert plans[0]["plan_id"] == plans[1]["plan_id"]
    assert plans[0]["first_prompts"] == plans[1]["first_prompts"]
    assert [each["contexts"] for each in plans[0]["classes"]] == [2, 2, 1]
    prompts = [each["prompt"] for each in plans[0]["first_prompts"]]
    assert prompts[2] == "a 3 on a door"
    assert prompts[0] == prompts[3]
    contexts = tmp_path / "contexts.txt"
    contexts.write_text("in town\n", encoding="utf-8")
    assert main([*asked, "--contexts", str(contexts)]) == 0
    prompts = [each["prompt"] for each in json.loads(capsys.readouterr().out)["first_prompts"]]
    assert prompts[:3] == ["a 1 in town", "a 2 in town", "a 3 on a door"]


def test_a_bad_bank_is_refused_with_its_key(class_file, tmp_path, capsys):
    bank = tmp_path / "bank.json"
    bank.write_text('{"shared": {"contexts": "x"}}', encoding="utf-8")
    assert main(["plan", "--classes", str(class_file), "--bank", str(bank)]) == 1
    assert "shared.contexts must be a list" in capsys.readouterr().err


def test_plan_draws_alternatives_and_wildcards(class_file, tmp_path, capsys):
    (tmp_path / "color.txt").write_text("red\nblue")
    asked = ["plan", "--classes", str(class_file), "--template", "a {big|tiny} __color__ {class}"]
    assert main([*asked, "--wildcards", str(tmp_path), "--json"]) == 0
    prompts = [row["prompt"] for row in json.loads(capsys.readouterr().out)["first_prompts"]]
    assert all(prompt.split()[1] in ("big", "tiny") for prompt in prompts)
    assert {prompt.split()[2] for prompt in prompts} == {"red", "blue"}
    assert main(asked) == 1
    assert "--wildcards FOLDER" in capsys.readouterr().err


def test_plan_takes_a_folder_of_class_folders(tmp_path, capsys):
    for name in ("b", "a", ".hidden"):
        (tmp_path / "real" / name).mkdir(parents=True)
    assert main(["plan", "--classes", str(tmp_path / "real"), "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["classes"]] == ["a", "b"]


def test_a_plan_that_was_run_is_the_plan_that_was_shown(
    class_file, workflow_path, shared_server, tmp_path, capsys
):
    common = ["--classes", str(class_file), "--per-class", "1", "--template", "the digit {class}"]
    main(["plan", "--workflow", str(workflow_path), "--json", *common])
    plan = json.loads(capsys.readouterr().out)
    out = tmp_path / "out"
    assert (
        main(
            [
                "run",
                str(workflow_path),
                "--server",
                shared_server.url,
                "--out",
                str(out),
                *common,
                *SMALL,
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.startswith("3 images, 3 of them new at ")
    assert_exact(out, 3)
    records = sorted(
        map(json.loads, (out / "metadata.jsonl").read_text("utf-8").splitlines()),
        key=lambda r: r["index"],
    )
    assert records[0]["plan_id"] == plan["plan_id"]
    assert [r["prompt"] for r in records] == [row["prompt"] for row in plan["first_prompts"]]
    assert (
        main(
            [
                "run",
                str(workflow_path),
                "--server",
                "http://127.0.0.1:9",
                "--out",
                str(out),
                *common,
                *SMALL,
            ]
        )
        == 0
    )
    assert "all 3 images already exist" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [[], ["run"], ["plan", "--per-class", "x"], ["plan", "--no-such"]]
)
def test_wrong_usage_is_exit_code_2(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 2


def test_mistakes_in_the_classes_are_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\xff")
    (tmp_path / "bad.json").write_text("[1", encoding="utf-8")
    (tmp_path / "same.txt").write_text("a/b\na_b\n", encoding="utf-8")
    for name, told in [
        ("none.txt", "does not exist"),
        ("empty", "no class folders"),
        ("empty.txt", "no classes"),
        ("binary.txt", "cannot read classes"),
        ("bad.json", "not valid JSON"),
        ("same.txt", "would share the folder"),
    ]:
        assert told in failure(capsys, "plan", "--classes", tmp_path / name), name
    assert "--classes" in failure(capsys, "plan")


def test_mistakes_in_templates_and_counts_are_one_line(class_file, tmp_path, capsys):
    for options, told in [
        (["--template", "a {clas}"], r"unknown placeholder '{clas}'"),
        (["--template", "a {class} {style}"], "there are no styles"),
        (["--template", "{definition}"], "have none: '1', '2'"),
        (["--per-class", "0"], "must be 1 to 1000000"),
        (["--batch-size", "0"], "must be 1 to 4096"),
        (["--plan-seed", "-1"], "outside"),
        (["--contexts", tmp_path / "none.txt"], "cannot read"),
    ]:
        assert told in failure(capsys, "plan", "--classes", class_file, *options)


def test_mistakes_in_a_run_are_one_line_and_write_nothing(
    class_file, workflow_path, tmp_path, shared_server, capsys
):
    editor = tmp_path / "editor.json"
    editor.write_text('{"nodes": [], "links": []}', encoding="utf-8")
    bare = tmp_path / "bare.json"
    bare.write_text('{"1": {"class_type": "VAEDecode", "inputs": {}}}', encoding="utf-8")
    photos = tmp_path / "photos" / "cat"
    photos.mkdir(parents=True)
    (photos / "1.jpg").write_bytes(b"x")
    before = sorted(tmp_path.rglob("*"))
    url, out = shared_server.url, tmp_path / "out"
    for workflow, server, target, options, told in [
        (tmp_path / "none.json", url, out, [], "does not exist"),
        (class_file, url, out, [], "not valid JSON"),
        (editor, url, out, ["--classes", class_file], "editor format"),
        (bare, url, out, [], "has no SynthGridClassList node"),
        (workflow_path, "http://127.0.0.1:9", out, [], "no server answers at http://127.0.0.1:9"),
        (workflow_path, "ftp://x", out, [], "not a server address"),
        (workflow_path, url, out, ["--checkpoint", "sd15"], "it has tiny-digits"),
        (workflow_path, url, out, ["--width", "65"], "multiple of 8"),
        (workflow_path, url, out, ["--scheduler", "karas"], "scheduler 'karas'"),
        (workflow_path, url, tmp_path / "photos", [], "did not write (cat)"),
        (workflow_path, url, class_file, [], "is a file"),
        (workflow_path, url, class_file / "out", [], "cannot write"),
    ]:
        line = failure(
            capsys, "run", workflow, "--server", server, "--out", target, *SMALL, *options
        )
        assert told in line, line
    assert sorted(tmp_path.rglob("*")) == before


def test_validate_says_what_would_run(class_file, workflow_path, shared_server, capsys):
    command = [
        "validate",
        workflow_path,
        "--server",
        shared_server.url,
        "--classes",
        class_file,
        *SMALL,
    ]
    assert main([str(each) for each in (*command, "--per-class", "4")]) == 0
    assert "12 images in 4 batches" in capsys.readouterr().out
    assert "nearest" not in failure(capsys, *command, "--checkpoint", "x")


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="limits the size of files as a full disk would"
)
def test_a_full_disk_ends_in_one_line_and_a_true_folder(
    class_file, workflow_path, shared_server, tmp_path, run_client
):
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (12000, 12000));"
        "from client.__main__ import main; sys.exit(main())"
    )
    out = tmp_path / "out"
    options = [
        "run",
        workflow_path,
        "--server",
        shared_server.url,
        "--classes",
        class_file,
        "--out",
        out,
        *SMALL,
    ]
    command = [*map(str, options), "--per-class", "12"]
    limited = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, timeout=60
    )
    assert limited.returncode == 1
    assert re.search(r"error: cannot write .*metadata.jsonl: .*large; check space", limited.stderr)
    assert "Traceback" not in limited.stderr
    done = len((out / "metadata.jsonl").read_text(encoding="utf-8").splitlines())
    assert done == len(list(out.glob("*/*.png"))) > 0
    assert run_client(*command).returncode == 0
    assert_exact(out, 36)


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(
    class_file, workflow_path, shared_server, tmp_path, start_client
):
    out = tmp_path / "out"
    options = [
        "--classes",
        class_file,
        "--per-class",
        "40",
        "--plan-seed",
        30,
        "--out",
        out,
        *SMALL,
    ]
    client = start_client("run", workflow_path, "--server", shared_server.url, *options)
    wait_for_images(out, 2, client)
    client.send_signal(signal.SIGINT)
    _, err = client.communicate(timeout=30)
    assert client.returncode == 130
    assert re.search(r"interrupted\. \d+ of 120 images are in .*run the same command again", err)
    assert "Traceback" not in err


def test_two_clients_cannot_write_one_folder(
    class_file, workflow_path, shared_server, tmp_path, start_client, run_client
):
    out = tmp_path / "out"
    options = [
        "--classes",
        class_file,
        "--per-class",
        "40",
        "--plan-seed",
        31,
        "--out",
        out,
        *SMALL,
    ]
    first = start_client("run", workflow_path, "--server", shared_server.url, *options)
    wait_for_images(out, 1, first)
    second = run_client("run", workflow_path, "--server", shared_server.url, *options)
    assert second.returncode == 1
    assert "another client is writing" in second.stderr


def wait_for_images(out, count, client):
    """Until the folder has so many records."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        path = out / "metadata.jsonl"
        if path.exists() and len(path.read_bytes().splitlines()) >= count:
            return
        assert client.poll() is None, client.communicate()
        time.sleep(0.02)
    raise AssertionError("no images came")


def test_killed_at_several_moments_and_run_again_it_completes(
    class_file, workflow_path, shared_server, tmp_path, start_client, run_client
):
    """kill -9 of the client, from its first request to its writes; then a whole run."""
    out = tmp_path / "out"
    options = [
        "--classes",
        class_file,
        "--per-class",
        "25",
        "--plan-seed",
        32,
        "--out",
        out,
        *SMALL,
    ]
    command = ["run", workflow_path, "--server", shared_server.url, *options]
    for moment_s in (0.3, 0.8, 1.4):
        client = start_client(*command)
        time.sleep(moment_s)
        client.kill()
        client.communicate()
    last = run_client(*command)
    assert last.returncode == 0, last.stderr
    assert_exact(out, 75)
    left = {path.name for path in out.iterdir() if path.is_file()}
    assert left == {"metadata.jsonl", "README.md", "generation.json", ".synthgrid-state.json"}


@pytest.mark.slow
def test_killed_with_its_embedded_engine_it_leaves_no_server_and_completes(
    class_file, workflow_path, tmp_path, start_client, run_client
):
    out = tmp_path / "out"
    options = [
        "--classes",
        class_file,
        "--per-class",
        "20",
        "--steps",
        2,
        "--batch-size",
        "3",
        "--out",
        out,
    ]
    command = ["run", workflow_path, "--server", "embedded", *options]
    for count in (1, 20, 40):
        client = start_client(*command)
        wait_for_images(out, count, client)
        client.kill()
        _, err = client.communicate()
        port = int(re.search(r"listens on http://127\.0\.0\.1:(\d+)", err)[1])
        wait_until_closed(port)
    assert run_client(*command).returncode == 0
    assert_exact(out, 60)


def test_embedded_needs_no_other_option_and_nothing_runs_when_all_is_there(
    class_file, workflow_path, tmp_path, run_client
):
    out = tmp_path / "out"
    options = ["--classes", class_file, "--per-class", "1", "--steps", "2", "--out", out]
    first = run_client("run", workflow_path, "--server", "embedded", *options)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("3 images, 3 of them new at ")
    assert_exact(out, 3)
    wait_until_closed(int(re.search(r"listens on http://127\.0\.0\.1:(\d+)", first.stderr)[1]))
    settings = json.loads((out / "generation.json").read_text("utf-8"))["settings"]
    assert (settings["checkpoint"], settings["width"], settings["height"]) == (
        "tiny-digits",
        64,
        64,
    )
    again = run_client("run", workflow_path, "--server", "embedded", *options)
    assert again.returncode == 0
    assert "starting the embedded engine" not in again.stderr


def wait_until_closed(port, timeout_s=15.0):
    """Until nothing listens on the port of loopback."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"something still listens on port {port}")
