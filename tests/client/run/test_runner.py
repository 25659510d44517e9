"""A plan becomes exactly its labelled folder, on a real embedded server, whatever goes wrong.

Covers: client, client.run.runner, client.run.plan_jobs, client.server.launch."""

import hashlib
import io
import itertools
import json
import os
import shutil
import signal
import time
import uuid
from dataclasses import replace

import pytest
from PIL import Image

from client.errors import (
    FolderError,
    RunIncomplete,
    ServerRefused,
    ServerUnreachable,
    TransferError,
    WorkflowError,
)
from client.run.dispatch.collect import check_image, check_record
from client.run.runner import run_plan
from client.server.fleet import Patience
from client.server.launch import EmbeddedServer
from client.server.protocol import SUCCESS
from client.server.server import ComfyServer
from client.server.transport import Transport
from client.workflow.changes.options import Options, patch
from client.workflow.roles import BATCHER, SAVER
from comfy_nodes.errors import LabelsetError
from comfy_nodes.labelset import ImageRecord, encode_image
from comfy_nodes.plan import ClassEntry
from tests.client.helpers import assert_exact
from tests.client.helpers import read_records as records

NOBODY = "http://127.0.0.1:9"
_seeds = itertools.count(1000)


def classes(*names):
    return tuple(ClassEntry(name) for name in names)


@pytest.fixture
def small(workflow):
    """A small workflow: two classes of two images, two steps, and a plan seed of its own."""

    def build(**options):
        values = {
            "classes": classes("1", "2"), "images_per_class": 2, "batch_size": 2, "steps": 2,
            "width": 64, "height": 64,
            "checkpoint": "tiny-digits",
        }  # fmt: skip
        values.setdefault("plan_seed", seed)
        return patch(workflow, Options(**(values | options)))

    seed = next(_seeds)
    return build


@pytest.fixture
def server(shared_server):
    with ComfyServer(shared_server.url) as server:
        yield server


def quick(url):
    """A server handle that gives up soon."""
    return ComfyServer(url, pauses=lambda: iter((0.05, 0.1)), poll_s=0.2)


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.glob("*/*")}


def test_the_folder_holds_exactly_the_plan(small, server, tmp_path):
    workflow, seen = small(images_per_class=3, batch_size=4), []
    summary = run_plan(workflow, server, tmp_path / "out", on_progress=seen.append)
    assert_exact(tmp_path / "out", workflow)
    assert (summary.total, summary.made, summary.existing) == (6, 6, 0)
    assert [progress.done for progress in seen if not progress.note] == list(range(7))
    generation = json.loads((tmp_path / "out" / "generation.json").read_text("utf-8"))
    assert generation["plan"] == workflow.plan().to_dict()
    assert generation["settings"]["checkpoint"] == "tiny-digits"
    assert generation["server"]["devices"]
    assert "| 1 | 3 |" in (tmp_path / "out" / "README.md").read_text("utf-8")


@pytest.mark.parametrize(("name", "suffix"), [("WebP", ".webp"), ("JPEG", ".jpg")])
def test_a_workflow_that_saves_another_format_makes_a_folder_of_it(
    small, server, tmp_path, name, suffix
):
    """Fetched, checked and written like PNG, and repaired from the files alone."""
    saver, batcher = (small().only_id_of(node) for node in (SAVER, BATCHER))
    resuming = {
        (saver, "format"): name,
        (batcher, "resume_folder"): "synthgrid",
        (saver, "folder"): "synthgrid",
    }
    workflow = small().with_values(resuming)
    assert run_plan(workflow, server, tmp_path / "out").made == 4
    assert_exact(tmp_path / "out", workflow)
    assert {path.suffix for path in tmp_path.glob("out/*/*")} == {suffix}
    before = records(tmp_path / "out")
    (tmp_path / "out" / "metadata.jsonl").unlink()
    assert run_plan(workflow, NOBODY, tmp_path / "out").existing == 4
    assert records(tmp_path / "out") == before


def test_again_makes_nothing_and_asks_no_server(small, server, tmp_path):
    run_plan(small(), server, tmp_path / "out")
    before = contents(tmp_path / "out")
    summary = run_plan(small(), NOBODY, tmp_path / "out")
    assert (summary.made, summary.existing) == (0, 4)
    assert contents(tmp_path / "out") == before


def test_exactly_the_missing_images_are_made_again(small, proxy, tmp_path):
    workflow = small(batch_size=4)
    run_plan(workflow, quick(proxy.url), tmp_path / "out")
    before = contents(tmp_path / "out")
    gone = sorted((tmp_path / "out").glob("*/*"))[1]
    gone.unlink()
    assert run_plan(workflow, quick(proxy.url), tmp_path / "out").made == 1
    assert [graph["4"]["inputs"]["only"] for graph in proxy.graphs] == [
        "",
        str(int(gone.stem[-6:])),
    ]
    assert_exact(tmp_path / "out", workflow)
    after = contents(tmp_path / "out")
    name = gone.relative_to(tmp_path / "out")
    assert {path: data for path, data in after.items() if path != name} == {
        path: data for path, data in before.items() if path != name
    }
    old, new = (Image.open(io.BytesIO(each[name])) for each in (before, after))
    assert max(abs(a - b) for a, b in zip(old.tobytes(), new.tobytes(), strict=True)) <= 2


def test_more_images_a_class_extend_the_folder(small, server, tmp_path):
    run_plan(small(), server, tmp_path / "out")
    before = contents(tmp_path / "out")
    larger = small(images_per_class=3, batch_size=5)
    assert run_plan(larger, server, tmp_path / "out").made == 2
    assert_exact(tmp_path / "out", larger)
    assert before.items() <= contents(tmp_path / "out").items()
    assert run_plan(small(), NOBODY, tmp_path / "out").made == 0


def test_class_names_of_every_kind_simply_work(small, server, tmp_path):
    workflow = small(
        classes=classes("../x", "CON", "a/b", "蝙蝠", "[1]", "# x", " y "),
        images_per_class=1,
        batch_size=8,
    )
    run_plan(workflow, server, tmp_path / "out")
    assert_exact(tmp_path / "out", workflow)
    assert [record["label"] for record in records(tmp_path / "out")] == [
        "../x",
        "CON",
        "a/b",
        "蝙蝠",
        "[1]",
        "# x",
        " y ",
    ]


def test_a_second_folder_of_the_same_plan_is_made_anew_and_equal(
    small, shared_server, proxy, tmp_path
):
    """Nothing on the server is taken over: the checkpoint may have changed under its name."""
    run_plan(small(), shared_server.url, tmp_path / "one")
    run_plan(small(), proxy.url, tmp_path / "two")
    assert proxy.count("POST", "/prompt") == 2
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one.keys() == two.keys()
    for name, data in one.items():
        assert Image.open(io.BytesIO(data)).tobytes() == Image.open(io.BytesIO(two[name])).tobytes()


def test_what_a_killed_client_had_queued_is_collected_and_not_made_again(small, proxy, tmp_path):
    def die(progress):
        if progress.made == 1:
            raise SystemExit  # with the jobs left on the server, as kill -9 leaves them

    proxy.fault = lambda method, path, number: (
        "lose request" if (method, path) == ("POST", "/queue") else None
    )
    workflow = small(images_per_class=3)
    with pytest.raises(SystemExit):
        run_plan(workflow, quick(proxy.url), tmp_path / "out", on_progress=die)
    run_plan(workflow, quick(proxy.url), tmp_path / "out")
    assert_exact(tmp_path / "out", workflow)
    posts = proxy.count("POST", "/prompt")
    assert posts == 4  # three batches, and the one image that was missing of the first


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"checkpoint": "tiny-digit"}, WorkflowError, "it has tiny-digits"),
        ({"sampler": "eulr"}, WorkflowError, "sampler_name 'eulr'"),
        ({"width": 16384 + 8}, WorkflowError, "above the largest"),
        ({"classes": classes("a/b", "a_b")}, LabelsetError, "would share"),
    ],
)
def test_what_cannot_run_writes_nothing(small, server, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        run_plan(small(**options), server, tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []


def test_no_server_writes_nothing(small, tmp_path):
    with pytest.raises(ServerUnreachable, match="no server answers"):
        run_plan(small(), quick(NOBODY), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_other_settings_for_the_same_folder_are_refused(small, server, tmp_path):
    run_plan(small(), server, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(FolderError, match=r"steps 2 -> 3\b"):
        run_plan(small(steps=3), server, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_files_that_an_earlier_job_lost_do_not_count_as_a_failure(
    small, shared_server, proxy, tmp_path
):
    def die(progress):
        if progress.made == 1:
            raise SystemExit

    proxy.fault = lambda method, path, number: (
        "lose request" if (method, path) == ("POST", "/queue") else None
    )
    with pytest.raises(SystemExit):
        run_plan(small(images_per_class=3), quick(proxy.url), tmp_path / "out", on_progress=die)
    with ComfyServer(shared_server.url) as server:
        while server.queue().running or server.queue().pending:
            time.sleep(0.02)
    run_id = json.loads((tmp_path / "out" / "generation.json").read_text("utf-8"))["run_id"]
    shutil.rmtree(shared_server.directory / "output" / "synthgrid" / run_id)
    run_plan(small(images_per_class=3), quick(proxy.url), tmp_path / "out", tries=1)
    assert_exact(tmp_path / "out", small(images_per_class=3))


@pytest.fixture
def junk(small, shared_server, server, tmp_path):
    """Puts files where the server will save row 0 in these attempts, so that the saver fails."""

    def put(attempts):
        with pytest.raises(KeyboardInterrupt):
            run_plan(small(), server, tmp_path / "out", on_progress=interrupt)
        run_id = json.loads((tmp_path / "out" / "generation.json").read_text("utf-8"))["run_id"]
        for attempt in attempts:
            name = run_id + (f"-{attempt}" if attempt else "")
            path = (
                shared_server.directory
                / "output"
                / "synthgrid"
                / name
                / "1"
                / f"{small().plan().plan_id}-000000.png"
            )
            path.parent.mkdir(parents=True)
            path.write_bytes(b"not an image")

    def interrupt(progress):
        raise KeyboardInterrupt

    return put


def test_a_job_that_fails_is_tried_again(small, junk, server, tmp_path):
    junk([0, 1])
    assert run_plan(small(), server, tmp_path / "out").made == 4
    assert_exact(tmp_path / "out", small())


def test_a_job_that_fails_three_times_is_listed_and_the_rest_goes_on(
    small, junk, server, tmp_path, caplog
):
    junk([0, 1, 2])
    with pytest.raises(RunIncomplete, match=r"2 images could not be made .*2 of 4 images are in"):
        run_plan(small(), server, tmp_path / "out")
    assert "missing: row 0 (1), 1 (2): node 13 (SynthGridLabelledImageSaver) failed" in caplog.text
    assert [record["index"] for record in records(tmp_path / "out")] == [2, 3]
    assert run_plan(small(), server, tmp_path / "out").made == 2
    assert_exact(tmp_path / "out", small())


def test_when_nothing_works_it_stops_early(small, shared_server, server, tmp_path):
    broken = shared_server.directory / "models" / "checkpoints" / "broken"
    for part in ("scheduler", "text_encoder", "tokenizer", "unet", "vae"):
        (broken / part).mkdir(parents=True)
    with pytest.raises(RunIncomplete, match="the first 3 jobs all failed 3 times: node 1 "):
        run_plan(small(checkpoint="broken", images_per_class=50), server, tmp_path / "out")
    shutil.rmtree(broken)


def test_a_lost_answer_to_a_post_does_not_post_twice(small, proxy, tmp_path):
    proxy.fault = lambda method, path, number: (
        "lose answer" if (method, path, number) == ("POST", "/prompt", 0) else None
    )
    run_plan(small(), quick(proxy.url), tmp_path / "out")
    assert_exact(tmp_path / "out", small())
    assert proxy.count("POST", "/prompt") == 2


def test_a_lost_post_is_sent_again(small, proxy, tmp_path):
    proxy.fault = lambda method, path, number: (
        "lose request" if path == "/prompt" and number < 2 else None
    )
    run_plan(small(), quick(proxy.url), tmp_path / "out")
    assert_exact(tmp_path / "out", small())


@pytest.mark.parametrize("fault", ["cut", "corrupt", "lose answer"])
def test_an_image_that_comes_damaged_once_is_fetched_again(small, proxy, tmp_path, fault):
    proxy.fault = lambda method, path, number: (
        fault if path == "/view" and number in (0, 2) else None
    )
    run_plan(small(), quick(proxy.url), tmp_path / "out")
    assert_exact(tmp_path / "out", small())


def test_images_that_always_come_damaged_never_count(small, proxy, tmp_path, caplog):
    proxy.fault = lambda method, path, number: "corrupt" if path == "/view" else None
    with pytest.raises(RunIncomplete, match="4 images could not be made"):
        run_plan(small(), quick(proxy.url), tmp_path / "out")
    assert "arrived with other bytes" in caplog.text
    assert not list((tmp_path / "out").glob("*/*"))


def test_jobs_that_the_server_forgets_are_posted_again(small, server, shared_server, tmp_path):
    """As after a restart of the server: neither in its queue nor in its history."""
    workflow, forgot = small(images_per_class=6), []

    def forget(progress):
        if progress.made == 1 and not forgot:
            queue = server.queue()
            server.cancel(queue.running | queue.pending)
            Transport(shared_server.url).post_json("/history", {"clear": True})
            forgot.append(queue)

    run_plan(workflow, server, tmp_path / "out", on_progress=forget)
    assert forgot
    assert_exact(tmp_path / "out", workflow)


def test_a_server_that_goes_away_ends_the_run_and_another_completes_it(
    small, proxy, server, tmp_path
):
    workflow = small(images_per_class=4)
    with pytest.raises(
        RunIncomplete, match=r"no server answers .* of 8 images .*run the same command again"
    ):
        run_plan(
            workflow, quick(proxy.url), tmp_path / "out",
            on_progress=lambda progress: proxy.stop() if progress.made == 3 else None,
            patience=Patience(give_up_s=0.5),
        )  # fmt: skip
    assert len(records(tmp_path / "out")) == 3
    run_plan(workflow, server, tmp_path / "out")
    assert_exact(tmp_path / "out", workflow)


@pytest.mark.slow
def test_a_server_that_restarts_in_the_middle_is_used_again(small, own_server, tmp_path):
    def restart(progress):
        if progress.made == 1 and own_server.starts == 1:
            own_server.kill()
            own_server.start()

    workflow = small(images_per_class=4)
    run_plan(workflow, own_server.url, tmp_path / "out", on_progress=restart)
    assert own_server.starts == 2
    assert_exact(tmp_path / "out", workflow)


def test_an_embedded_engine_that_cannot_start_says_why_in_one_line(small, tmp_path):
    with (
        EmbeddedServer(checkpoint_directories=[tmp_path / "none"]) as engine,
        pytest.raises(
            ServerUnreachable, match=r"ended while starting: checkpoint directory .* does not exist"
        ) as caught,
    ):
        run_plan(small(), engine, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert engine.pid is None
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_embedded_engine_is_started_again_when_it_dies(small, tmp_path):
    workflow, killed = small(images_per_class=4), []

    def kill_once(progress):
        if progress.made == 1 and not killed:
            killed.append(engine.pid)
            os.kill(engine.pid, getattr(signal, "SIGKILL", signal.SIGTERM))

    with EmbeddedServer() as engine:
        run_plan(workflow, engine, tmp_path / "out", on_progress=kill_once)
    assert killed
    assert engine.pid is None
    assert_exact(tmp_path / "out", workflow)


def test_ctrl_c_cancels_own_jobs_only_and_keeps_finished_images(
    small, server, shared_server, tmp_path
):
    other = small(images_per_class=3, batch_size=1).for_batch(0, folder="synthgrid/other")
    theirs = [str(uuid.uuid4()) for _ in range(3)]

    def interrupt(progress):
        if progress.made == 1:
            for each in theirs:
                server.submit(other, prompt_id=each)
            raise KeyboardInterrupt

    workflow = small(images_per_class=3, steps=20)
    with pytest.raises(KeyboardInterrupt):
        run_plan(workflow, server, tmp_path / "out", on_progress=interrupt)
    run_id = json.loads((tmp_path / "out" / "generation.json").read_text("utf-8"))["run_id"]
    assert {record["index"] for record in records(tmp_path / "out")} <= {0, 1}
    assert len(contents(tmp_path / "out")) == len(records(tmp_path / "out")) == 1
    for each in theirs:
        finished = server.wait([each], timeout_s=60)
        assert finished.result.outcome == SUCCESS
    assert len(list((shared_server.directory / "output" / "synthgrid" / run_id).glob("*/*"))) <= 2
    run_plan(workflow, server, tmp_path / "out")
    assert_exact(tmp_path / "out", workflow)


def test_an_error_while_writing_keeps_the_folder_true(small, server, tmp_path):
    workflow = small()

    def block(progress):
        if (
            progress.made == 1
        ):  # the class folder of the next image cannot be made: a file has its name
            (tmp_path / "out" / "2").write_text("in the way", encoding="utf-8")

    with pytest.raises(LabelsetError, match="cannot write"):
        run_plan(workflow, server, tmp_path / "out", on_progress=block)
    assert [record["index"] for record in records(tmp_path / "out")] == [0]
    (tmp_path / "out" / "2").unlink()
    run_plan(workflow, server, tmp_path / "out")
    assert_exact(tmp_path / "out", workflow)


def planned_record(plan, index=0):
    row = plan.row(index)
    return ImageRecord(
        file_name=f"{row.label}/{plan.plan_id}-{index:06d}.png",
        label=row.label,
        prompt=row.prompt,
        negative_prompt="",
        seed=row.seed,
        index=index,
        plan_id=plan.plan_id,
        template=row.template,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"plan_id": "0" * 12}, {"label": "2"}, {"prompt": "x"}, {"seed": 1},
        {"index": 99}, {"index": -1}, {"attempt": 1},
        {"file_name": "1/0-000000.gif"}, {"file_name": "../../x.png"},
        {"file_name": "/etc/x.png"}, {"template": "x"}, {"context": "x"},
    ],
)  # fmt: skip
def test_a_record_that_is_not_the_planned_one_is_refused(small, changes):
    plan = small().plan()
    for suffix in (".png", ".webp", ".jpg"):
        check_record(
            replace(planned_record(plan), file_name=f"1/{plan.plan_id}-000000{suffix}"), plan
        )
    with pytest.raises(ServerRefused, match="update both"):
        check_record(replace(planned_record(plan), **changes), plan)


def test_a_record_of_another_attempt_than_was_asked_for_is_refused(small):
    plan = small().plan()
    first, third = planned_record(plan), plan.row(0, attempt=2)
    record = replace(first, seed=third.seed, attempt=2)
    check_record(record, plan, attempt=2)
    for wrong, attempt in ((first, 2), (record, 0), (record, 1), (replace(record, attempt=1), 2)):
        with pytest.raises(ServerRefused, match=r"attempt \d, the plan has \d|seed"):
            check_record(wrong, plan, attempt=attempt)


def test_bytes_that_are_not_the_recorded_image_are_refused(small):
    plan = small().plan()
    record, other = planned_record(plan), planned_record(plan, 1)
    image = Image.new("RGB", (8, 8))
    whole = encode_image(image, record)
    check_image(whole, hashed(record, whole))
    bare = io.BytesIO()
    image.save(bare, format="PNG")
    for data in (
        whole[: len(whole) // 2],
        b"",
        encode_image(image, other),
        bare.getvalue(),
        b"<html></html>",
    ):
        with pytest.raises(TransferError):
            check_image(data, hashed(record, data))
    with pytest.raises(TransferError, match="other bytes"):
        check_image(whole, hashed(record, whole + b"x"))


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "another"}, {"seed": 7}, {"settings": {"steps": 3}}, {"source_image": "a/b.png"},
        {"source_sha256": "0" * 64}, {"context": "x"}, {"template": "x"},
    ],
)  # fmt: skip
def test_an_image_that_verify_would_refuse_is_not_saved(small, changes):
    """The record that the server returns and the one inside its file differ in one field."""
    record = replace(planned_record(small().plan()), settings={"width": 8, "height": 8})
    data = encode_image(Image.new("RGB", (8, 8)), record)
    check_image(data, hashed(record, data))
    name = next(iter(changes))
    with pytest.raises(TransferError, match=f"do not agree: {name} "):
        check_image(data, hashed(replace(record, **changes), data))


def test_an_image_of_another_size_than_recorded_is_not_saved(small):
    record = replace(planned_record(small().plan()), settings={"width": 8, "height": 9})
    data = encode_image(Image.new("RGB", (8, 8)), record)
    with pytest.raises(TransferError, match="8x8, recorded as 8x9"):
        check_image(data, hashed(record, data))


def hashed(record, data):
    return replace(record, sha256=hashlib.sha256(data).hexdigest())
