"""What a check rejects is made again, everything else stays, and no kill loses an image.

Covers: client.commands.regenerate, client.run.regenerate, client.workflow.attempts.
"""

import argparse
import io
import itertools
import json
import random
import time
from pathlib import Path

import pytest
from PIL import Image

from client.__main__ import main
from client.commands.regenerate import regenerate
from client.commands.servers import add_executor_options, add_fleet_options
from client.errors import FolderError, WorkflowError
from client.folder.repair import repair
from client.folder.run_folder import RunFolder, read_generation
from client.folder.verify import verify
from client.run.plan_jobs import PlanWork
from client.run.regenerate import Doubtful, Failing, doubtful, failing, newest_check
from client.run.regenerate import until_full as until_full_of
from client.run.runner import RunSummary, run_plan
from client.run.status import status
from client.workflow.attempts import refuse_older_batcher
from client.workflow.changes.options import Options, patch
from comfy_nodes.labelset import rejected_attempts, set_aside
from comfy_nodes.labelset.quality.verdicts import (
    Verdict,
    quality_folder,
    quarantine_folder,
    write_verdicts,
)
from comfy_nodes.plan import ClassEntry, GenerationPlan, PromptTemplates
from tests.client.helpers import read_records, stub_workflow

NOBODY = "http://127.0.0.1:9"


def images(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.glob("[!.]*/*")}


@pytest.fixture
def server(stub_servers):
    return stub_servers[0].url


@pytest.fixture
def make(server, tmp_path, capsys):
    """Makes a folder of a new plan; returns it and the workflow's file."""

    def build(seed, **values):
        out, path = tmp_path / f"syn{seed}", tmp_path / f"workflow{seed}.json"
        how = {"names": ("bat", "bear"), "per_class": 4, "batch_size": 3, "seconds": 0.0}
        graph = stub_workflow(seed=seed, **(how | values)).graph
        path.write_text(json.dumps(graph), encoding="utf-8")
        assert main(["run", str(path), "--server", server, "--out", str(out)]) == 0
        capsys.readouterr()
        return out, path

    return build


def check(root, rejects, name="scripted.csv"):
    """A check that rejects the records for which `rejects` is true; returns its file."""
    path = quality_folder(root) / name
    write_verdicts(
        path,
        [
            Verdict(
                each["sha256"],
                each["file_name"],
                each["label"],
                "looks wrong" if rejects(each) else "",
                {"label": 0.125},
            )
            for each in read_records(root)
        ],
    )
    return path


def attempts(root):
    return {each["index"]: each.get("attempt", 0) for each in read_records(root)}


def until_full(root, rejects, server, **more):
    """What the front door does with `--until-full`."""
    values = {"folder": root, "verdicts": None, "attempts": 3, "server": [server]} | more
    parser = argparse.ArgumentParser()
    add_fleet_options(parser)
    add_executor_options(parser)
    args = parser.parse_args(["--server", server])
    for name, value in values.items():
        setattr(args, name, value)
    return regenerate(args, lambda folder: check(folder, rejects))


def test_rejected_images_are_made_again_and_all_others_stay_byte_for_byte(make, server, capsys):
    root, workflow = make(9100)
    before, records = images(root), read_records(root)
    path = check(root, lambda each: each["index"] in (2, 3, 7))
    assert main(["regenerate", str(root), "--server", server]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("8 images, 3 of them new at ")
    assert f"using the newest check: {path}" in captured.err
    assert "3 rejected images moved to" in captured.err
    assert "not checked yet: synthgrid check" in captured.err
    after = images(root)
    changed = {name for name in before if before[name] != after[name]}
    assert before.keys() == after.keys()
    assert changed == {each["file_name"] for each in records if each["index"] in (2, 3, 7)}
    assert attempts(root) == {0: 0, 1: 0, 2: 1, 3: 1, 4: 0, 5: 0, 6: 0, 7: 1}
    plan = stub_workflow(names=("bat", "bear"), per_class=4, seed=9100).plan()
    for old, new in zip(records, read_records(root), strict=True):
        assert new["prompt"] == old["prompt"]
        assert new["seed"] == plan.row(new["index"], attempt=new.get("attempt", 0)).seed
        assert (old == new) == (new["index"] not in (2, 3, 7))
    kept = images(quarantine_folder(root))
    assert sorted(kept.values()) == sorted(before[name] for name in changed)
    assert verify(root).sound
    # the same command again: what that check rejected is not there any more
    assert main(["regenerate", str(root), "--from", str(path), "--server", server]) == 0
    assert images(root) == after
    assert "3 images that scripted.csv rejects are not in the folder" in capsys.readouterr().err
    # and an ordinary run neither makes nor refuses those rows
    assert main(["run", str(workflow), "--server", NOBODY, "--out", str(root)]) == 0
    assert images(root) == after


def test_an_ordinary_run_after_a_quarantine_makes_the_next_attempt_and_says_so(
    make, server, capsys
):
    root, workflow = make(9200)
    check(root, lambda each: each["index"] in (1, 4))
    set_aside(root, _verdicts(root, {1, 4}), scorer="scripted.csv")
    (gone,) = (root / each["file_name"] for each in read_records(root) if each["index"] == 5)
    gone.unlink()
    assert status(root).done == 5
    assert main(["run", str(workflow), "--server", server, "--out", str(root)]) == 0
    assert "2 missing images were rejected by a check" in capsys.readouterr().err
    assert attempts(root) == {0: 0, 1: 1, 2: 0, 3: 0, 4: 1, 5: 0, 6: 0, 7: 0}
    assert verify(root).sound


def _verdicts(root, indices):
    return [
        Verdict(each["sha256"], each["file_name"], each["label"], "bad")
        for each in read_records(root)
        if each["index"] in indices
    ]


def test_until_full_an_impossible_class_stops_after_its_attempts_and_the_others_are_full(
    make, server, capsys, caplog
):
    root, _ = make(9300, names=("bat", "unicorn"), template="a {class}")
    seen = []

    def rejects(each):
        seen.append((each["index"], each.get("attempt", 0)))
        return each["label"] == "unicorn" or (each["index"] == 4 and each.get("attempt", 0) < 2)

    assert until_full(root, rejects, server) == 1
    text = caplog.text
    assert "rejected in every attempt: 4 of 8 images" in text
    assert "unicorn: 4 of 4 images, 'a {class}'" in text
    assert "another --cfg" in text
    assert capsys.readouterr().out.startswith("4 of 8 images, 0 of them new")
    assert attempts(root) == {0: 0, 2: 0, 4: 2, 6: 0}
    assert rejected_attempts(root, next(iter(read_records(root)))["plan_id"]) == {
        1: 3, 3: 3, 5: 3, 7: 3, 4: 1,
    }  # fmt: skip
    assert set(seen) >= {(1, 0), (1, 1), (1, 2), (1, 3)}
    assert (1, 4) not in seen
    assert len(images(quarantine_folder(root))) == 4 * 4 + 2
    assert verify(root).missing == {"unicorn": 4}
    state = status(root)
    assert (state.done, state.planned, state.rejected) == (4, 8, 5)
    # more attempts may be allowed later; those made so far count
    assert until_full(root, lambda each: False, server, attempts=4) == 0
    assert attempts(root) == {0: 0, 1: 4, 2: 0, 3: 4, 4: 2, 5: 4, 6: 0, 7: 4}
    assert verify(root).sound


def test_the_embedded_engine_fills_up_what_it_can_and_says_which_class_it_cannot(
    workflow, shared_server, tmp_path, caplog
):
    """With the bundled checkpoint: the pixels of each attempt differ, and no others change."""
    root = tmp_path / "digits"
    options = Options(
        classes=(ClassEntry("1"), ClassEntry("2")), images_per_class=2, batch_size=2, steps=2,
        width=64, height=64, checkpoint="tiny-digits", plan_seed=9350,
    )  # fmt: skip
    run_plan(patch(workflow, options), shared_server.url, root)
    before, name = images(root), {each["index"]: each["file_name"] for each in read_records(root)}

    def rejects(each):
        return each["label"] == "2" or (each["index"] == 2 and not each.get("attempt"))

    assert until_full(root, rejects, shared_server.url) == 1
    assert "2: 2 of 2 images" in caplog.text
    assert attempts(root) == {0: 0, 2: 1}
    assert images(root)[name[0]] == before[name[0]]
    kept = quarantine_folder(root)
    twos = [images(kept)[f"2/{Path(name[1]).stem}@{number}.png"] for number in range(4)]
    assert twos[0] == before[name[1]]
    pixels = {Image.open(io.BytesIO(each)).tobytes() for each in twos}
    assert len(pixels) == 4
    assert verify(root).problems == ()


def test_until_full_ends_at_once_where_nothing_is_rejected(make, server):
    root, _ = make(9400)
    before = images(root)
    assert until_full(root, lambda each: False, server) == 0
    assert images(root) == before
    assert not quarantine_folder(root).exists()


def test_a_row_that_is_used_up_keeps_no_other_from_being_made(make, server, capsys):
    root, _ = make(9450)
    command = ["regenerate", str(root), "--attempts", "1", "--server", server, "--json-events"]
    check(root, lambda each: each["index"] == 1)
    assert main(command) == 0
    check(root, lambda each: each["index"] in (1, 4))
    capsys.readouterr()
    assert main(command) == 1
    captured = capsys.readouterr()
    told = [json.loads(line) for line in captured.out.splitlines()]
    (failed,) = (each for each in told if each["event"] == "image_failed")
    assert (failed["index"], failed["reason"]) == (1, "a check rejected all 2 images made of it")
    assert (told[-1]["outcome"], told[-1]["done"], told[-1]["made"]) == ("incomplete", 7, 1)
    assert "7 of 8 images, 1 of them new" in captured.err
    assert "rejected in every attempt: 1 of 8 images" in captured.err
    assert attempts(root) == {0: 0, 2: 0, 3: 0, 4: 1, 5: 0, 6: 0, 7: 0}


def test_a_check_that_was_done_already_stands_for_the_first_alone():
    asked, answers = [], iter([2, 1, 0])

    def make_again(path):
        asked.append(path.name)
        return RunSummary(Path(), 8, next(answers), 0, 0.0)

    numbers = itertools.count(1)
    last = until_full_of(lambda: Path(f"check{next(numbers)}"), make_again, Path("given"))
    assert asked == ["given", "check1", "check2"]
    assert last.made == 0


def test_nothing_is_moved_where_no_server_answers(make):
    root, _ = make(9500)
    before = images(root)
    check(root, lambda each: each["index"] == 1)
    assert main(["regenerate", str(root), "--server", NOBODY]) == 1
    assert images(root) == before


def test_a_folder_without_a_check_is_told_how_to_get_one(make, capsys):
    root, _ = make(9600)
    assert main(["regenerate", str(root), "--server", NOBODY]) == 1
    assert f"make one with: synthgrid check {root}" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", "10000"])
def test_attempts_are_a_number(tmp_path, number):
    with pytest.raises(SystemExit):
        main(["regenerate", str(tmp_path), "--server", NOBODY, "--attempts", number])


def test_the_newest_check_is_the_last_written(tmp_path):
    root = tmp_path / "syn"
    with pytest.raises(FolderError, match="no check of"):
        newest_check(root)
    for name in ("b.csv", "a.csv"):
        write_verdicts(quality_folder(root) / name, [])
        time.sleep(0.01)
    (quality_folder(root) / "c.txt").touch()
    assert newest_check(root).name == "a.csv"


def test_what_cannot_be_made_is_listed_by_class_and_template():
    templates = PromptTemplates(("a {class}", "one {class}"))
    plan = GenerationPlan((ClassEntry("bat"), ClassEntry("bee")), templates, images_per_class=6)
    bees = [row.index for row in plan if row.label == "bee" and row.template == "a {class}"]
    bat = next(row for row in plan if row.label == "bat")
    assert failing(plan, [bat.index, *bees]) == [
        Failing("bee", "a {class}", 3, 6),
        Failing("bat", bat.template, 1, 6),
    ]


def test_a_class_of_which_most_images_were_rejected_is_doubtful_even_if_it_is_full():
    rejected = {"bat": 3, "bee": 4, "cat": 12, "gone": 5}
    accepted = {"bat": 4, "bee": 4, "cat": 4, "dog": 4, "gone": 0}
    assert doubtful(rejected, accepted) == [Doubtful("cat", 12, 4), Doubtful("bee", 4, 4)]


def test_what_passed_after_many_rejections_is_to_be_looked_at(make, server, caplog):
    root, _ = make(9670)
    assert until_full(root, lambda each: each["index"] % 2 and not each.get("attempt"), server) == 0
    assert "bear: 4 of 8 images made were rejected; those that passed may be wrong" in caplog.text
    assert "bat: " not in caplog.text
    assert "not checked yet" not in caplog.text


def test_older_nodes_are_refused_before_they_make_the_rejected_image_again(object_info):
    refuse_older_batcher(object_info)
    refuse_older_batcher({})
    older = json.loads(json.dumps(object_info))
    older["SynthGridClassPromptBatcher"]["input"]["optional"]["only"][1]["tooltip"] = "3, 7"
    with pytest.raises(WorkflowError, match="update them"):
        refuse_older_batcher(older)
    del older["SynthGridClassPromptBatcher"]["input"]["optional"]
    with pytest.raises(WorkflowError, match="update them"):
        refuse_older_batcher(older)


def test_a_run_that_would_make_rejected_images_again_refuses_older_nodes(make, own_nodes):
    own_nodes = json.loads(json.dumps(own_nodes))
    root, _ = make(9650)
    set_aside(root, _verdicts(root, {1}), scorer="a.csv")
    folder = RunFolder(root, read_generation(root).workflow)
    folder.open()
    del own_nodes["SynthGridClassPromptBatcher"]["input"]["optional"]["only"]
    with pytest.raises(WorkflowError, match="update them"):
        PlanWork(folder).check(own_nodes)


def test_repair_knows_attempts_and_a_wrong_one_is_found(make, server):
    root, _ = make(9700)
    check(root, lambda each: each["index"] in (2, 3))
    assert main(["regenerate", str(root), "--server", server]) == 0
    (root / "metadata.jsonl").unlink()
    assert repair(root).sound
    assert attempts(root)[2] == 1
    lines = (root / "metadata.jsonl").read_text(encoding="utf-8")
    for wrong in ('"attempt": 2', '"attempt": -1', '"attempt": 123456'):
        (root / "metadata.jsonl").write_text(
            lines.replace('"attempt": 1', wrong, 1), encoding="utf-8"
        )
        assert {each.kind for each in verify(root).problems} == {"plan", "inside"}


def test_jobs_of_other_attempts_have_other_ids_and_folders(make):
    root, _ = make(9800)
    generation = read_generation(root)
    folder = RunFolder(root, generation.workflow)
    folder.run_id = generation.run_id
    work = PlanWork(folder)
    seen = set()
    for rejected in ({}, {0: 0}, {0: 1}, {0: 0, 1: 0, 2: 0}, {0: 0, 1: 0}, {0: 1, 1: 0}):
        folder.rejected = rejected
        for path in root.glob("*/*"):
            path.unlink()
        folder.labelled.scan()
        (job, *_) = work.missing_jobs()
        graph = work.graph(job)
        inputs = {node["class_type"]: node["inputs"] for node in graph.values()}
        only = inputs["SynthGridClassPromptBatcher"]["only"]
        place = inputs["SynthGridLabelledImageSaver"]["folder"]
        assert only == (
            ",".join(f"{i}@{rejected[i] + 1}" if i in rejected else str(i) for i in range(3))
            if rejected
            else ""
        )
        assert place.startswith(f"synthgrid/{folder.run_id}")
        seen.add((work.prompt_id(job), place))
    assert len({prompt_id for prompt_id, _ in seen}) == len({place for _, place in seen}) == 6


@pytest.mark.slow
def test_killed_ten_times_at_any_moment_the_same_command_completes(make, start_stub, start_client):
    """SIGKILL at random moments, mostly while images are made; tests of set_aside kill the move."""
    root, _ = make(9900, per_class=60, batch_size=3, seconds=0.01)
    server = start_stub(STUB_SLOWER="15").url
    before = images(root)
    path = check(root, lambda each: each["index"] % 3 == 0)
    bad = {each["file_name"] for each in read_records(root) if each["index"] % 3 == 0}
    draw = random.Random(5)
    standing = []
    for _ in range(10):
        client = start_client("regenerate", root, "--from", path, "--server", server)
        time.sleep(draw.uniform(0.2, 1.0))
        assert client.poll() is None, client.communicate()
        client.kill()
        client.communicate()
        now, kept = images(root), images(quarantine_folder(root))
        for name, data in before.items():
            if name not in bad:
                assert now[name] == data
            elif now.get(name) != data:
                assert data in kept.values()
        standing.append(len(now))
    assert min(standing) < 120
    assert main(["regenerate", str(root), "--from", str(path), "--server", server]) == 0
    assert verify(root).sound
    assert attempts(root) == {index: int(index % 3 == 0) for index in range(120)}
    assert len(images(quarantine_folder(root))) == 40
