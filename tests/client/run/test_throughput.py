"""The speed of a run, computed from its events: images/s, classes, and a time left that settles."""

import pytest

from client.commands.console import duration, progress_lines
from client.run import events
from client.run.runner import RunProgress
from client.run.throughput import ServerThroughput, Throughput


def begun(servers=("a",), classes=None, existing=None):
    figures = Throughput(classes or {"bat": 500, "bear": 500}, existing or {})
    figures.take(
        events.RunStarted(
            at=0, folder="x", plan_id="p", total=figures.total, existing=0, servers=tuple(servers)
        )
    )
    for each in servers:
        figures.take(events.ServerUp(at=0, server=each, url=f"http://{each}"))
    return figures


def post(figures, server, number, at):
    figures.take(
        events.JobPosted(
            at=at,
            server=server,
            prompt_id=f"{server}{number}",
            batch_index=number,
            indices=(),
            attempt=0,
            found=False,
        )
    )


def finish(figures, server, number, at, images):
    for index in range(images):
        figures.take(
            events.ImageSaved(at=at, server=server, index=index, label="bat", file_name="f")
        )
    figures.take(
        events.JobFinished(
            at=at, server=server, prompt_id=f"{server}{number}", batch_index=number, images=images
        )
    )


@pytest.mark.parametrize(("load_s", "job_s", "images"), [(0, 1.0, 4), (25, 4.0, 8), (10, 9.0, 16)])
def test_the_time_left_settles_within_the_first_minute(load_s, job_s, images):
    """The first job also loads the model; that time must not count for the others."""
    figures, at, number = begun(), 0.0, 0
    post(figures, "a", 0, 0.0)
    while at + (load_s if number == 0 else 0) + job_s <= 60:
        at += job_s + (load_s if number == 0 else 0)
        finish(figures, "a", number, at, images)
        number += 1
        post(figures, "a", number, at)
    truth = (figures.total - figures.done) * job_s / images
    assert figures.eta_s(at) == pytest.approx(truth, rel=0.05)


def test_the_speeds_of_servers_add_up_and_a_lost_one_counts_no_more():
    figures = begun("ab")
    for number in range(6):
        for server, job_s in (("a", 1.0), ("b", 2.0)):
            post(figures, server, number, number * job_s)
            finish(figures, server, number, (number + 1) * job_s, 2)
    assert figures.images_per_s(12.0) < 3.0  # a is late
    speeds = {each.name: each.images_per_s for each in figures.servers(6.5)}
    assert speeds["a"] == pytest.approx(2.0)
    assert speeds["b"] == pytest.approx(1.0)
    figures.take(events.ServerDown(at=12.0, server="a", state="down", reason="gone"))
    assert figures.images_per_s(12.0) == pytest.approx(1.0)
    assert figures.servers(12.0)[0] == ServerThroughput("a", "down", 12, 0.0, 0, "gone")


def test_before_anything_is_made_the_time_left_is_not_known():
    figures = begun(existing={"bat": 3})
    assert figures.eta_s(5.0) is None
    assert (figures.done, figures.total) == (3, 1000)


def test_classes_and_jobs_are_counted():
    figures = begun(existing={"bat": 3})
    post(figures, "a", 0, 0.0)
    post(figures, "a", 1, 0.0)
    finish(figures, "a", 0, 1.0, 2)
    assert figures.done_by_class["bat"] == 5
    assert figures.servers(1.0)[0].jobs == 1


def test_progress_in_plain_lines():
    servers = (
        ServerThroughput("gpu-1", "up", 20, 1.25, 2),
        ServerThroughput("gpu-22", "hung", 3, 0.0, 0, "has not moved"),
    )
    progress = RunProgress(
        done=25, total=60, made=23, failed=1, images_per_s=1.25, eta_s=27.2, servers=servers,
        classes={"bat": 20, "bear": 5}, planned={"bat": 30, "bear": 30},
    )  # fmt: skip
    assert progress_lines(progress) == [
        "25 of 60 images, 1.2/s, 27 s left, 1 failed, classes bat 20/30, bear 5/30",
        "  gpu-1   20 images, 1.2/s, 2 jobs on it",
        "  gpu-22  3 images, hung: has not moved",
    ]
    many = RunProgress(
        done=7,
        total=40,
        made=7,
        classes={str(n): n % 3 for n in range(20)},
        planned={str(n): 2 for n in range(20)},
    )
    assert progress_lines(many) == [
        "7 of 40 images, 0.0/s, 6 of 20 classes complete, at least 0 images each"
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (100, "2 min"), (5000, "83 min"), (7500, "2 h 05 min")],
)
def test_durations_for_people(seconds, text):
    assert duration(seconds) == text
