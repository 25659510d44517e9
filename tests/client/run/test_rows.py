"""A range of a plan's rows is a job of its own; the ranges of several machines make one folder.

Covers: client.commands.options.
"""

import json
import shutil

import pytest
from PIL import Image

from client.__main__ import main
from client.commands.options import rows_of
from client.run.runner import run_plan
from comfy_nodes.errors import PlanError
from tests.client.helpers import assert_exact, read_records, stub_workflow


@pytest.fixture
def server(stub_servers):
    return stub_servers[0].url


def test_only_these_rows_are_made_and_counted(server, tmp_path):
    workflow, seen = stub_workflow(per_class=8, batch_size=3, seconds=0.0), []
    part = run_plan(workflow, server, tmp_path / "a", rows=range(4, 11), on_progress=seen.append)
    assert (part.total, part.made, part.existing) == (7, 7, 0)
    assert [each["index"] for each in read_records(tmp_path / "a")] == list(range(4, 11))
    assert dict(part.classes) == {"bat": 2, "bear": 3, "bee": 2}
    assert dict(seen[0].planned) == {"bat": 2, "bear": 3, "bee": 2}
    again = run_plan(workflow, "http://127.0.0.1:9", tmp_path / "a", rows=range(5, 11))
    assert (again.total, again.made, again.existing) == (6, 0, 6)
    more = run_plan(workflow, server, tmp_path / "a", rows=range(9, 24))
    assert (more.total, more.made, more.existing) == (15, 13, 2)
    whole = run_plan(workflow, server, tmp_path / "a")
    assert (whole.total, whole.made, whole.existing) == (24, 4, 20)
    assert_exact(tmp_path / "a", workflow)


def test_parts_made_apart_are_the_whole_when_their_files_are_put_together(server, tmp_path):
    workflow = stub_workflow(per_class=4, batch_size=5, seconds=0.0)
    run_plan(workflow, server, tmp_path / "whole")
    parts = [range(0, 3), range(3, 7), range(7, 12)]
    for number, rows in enumerate(parts):
        run_plan(workflow, server, tmp_path / f"part{number}", rows=rows)
    for number in (1, 2):
        for path in (tmp_path / f"part{number}").glob("*/*.png"):
            target = tmp_path / "part0" / path.parent.name / path.name
            target.parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
    main(["verify", str(tmp_path / "part0"), "--repair"])
    assert main(["verify", str(tmp_path / "part0")]) == 0
    assert_exact(tmp_path / "part0", workflow)
    for record in read_records(tmp_path / "whole"):
        with (
            Image.open(tmp_path / "whole" / record["file_name"]) as one,
            Image.open(tmp_path / "part0" / record["file_name"]) as other,
        ):
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    ("text", "rows"),
    [("0:9", range(9)), (":2", range(2)), ("3:", range(3, 9)), ("4:5", range(4, 5))],
)
def test_a_range_may_leave_out_either_end(text, rows):
    assert rows_of(text, stub_workflow(per_class=3).plan()) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "is not a range; write A:B"),
        ("-1:3", "is not a range"),
        ("1:2:3", "is not a range"),
        ("5:5", "is not within this plan, whose rows are 0:9"),
        ("0:10", "is not within this plan, whose rows are 0:9"),
        ("9:", "is not within this plan"),
    ],
)
def test_a_range_that_the_plan_does_not_have_is_refused(text, message):
    with pytest.raises(PlanError, match=message):
        rows_of(text, stub_workflow(per_class=3).plan())


def test_plan_shows_the_range(tmp_path, capsys):
    (tmp_path / "classes.txt").write_text("bat\nbear\nbee\n", encoding="utf-8")
    asked = ["plan", "--classes", str(tmp_path / "classes.txt"), "--per-class", "4"]
    assert main([*asked, "--batch-size", "4", "--rows", "2:7", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["rows"], found["batches"]) == (12, [2, 7], 2)
    assert [each["images"] for each in found["classes"]] == [2, 1, 2]
    assert [each["index"] for each in found["first_prompts"]] == [2, 3, 4, 5, 6]
    assert main([*asked, "--rows", "2:7"]) == 0
    assert "= 12 images, rows 2:7 of them, in 1 batch of 8" in capsys.readouterr().out
