"""The job table: every image is delivered once or fails, whatever the servers do."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from client.run.dispatch.jobs import HOPELESS_JOBS, Job, Jobs, Outcome

SERVERS = ("a", "b", "c")


def batches(count, size=2):
    return [
        Job(number, tuple(range(number * size, (number + 1) * size))) for number in range(count)
    ]


@pytest.fixture
def jobs():
    """Three batches of two images, and two servers."""
    table = Jobs(iter(batches(3)))
    table.join("a")
    table.join("b")
    return table


def deliver_all(jobs, server, job):
    for index in job.indices:
        jobs.deliver(job, index)
    return jobs.finish(server, job)


def fail(jobs, server, job):
    return jobs.finish(server, jobs.posted(server, job))


def test_nothing_is_drawn_before_a_server_has_room():
    drawn = []
    jobs = Jobs(job for job in batches(100) if not drawn.append(job))
    jobs.join("a")
    jobs.take("a")
    assert len(drawn) == 1
    jobs.ahead(2)
    assert len(drawn) == 3


def test_jobs_of_a_lost_server_are_the_next_that_are_taken(jobs):
    first, second = jobs.take("a"), jobs.take("a")
    jobs.leave("a")
    assert [jobs.take("b").batch_index for _ in range(3)] == [
        first.batch_index,
        second.batch_index,
        2,
    ]


def test_a_late_delivery_counts_once(jobs):
    job = jobs.take("a")
    jobs.leave("a")
    again = jobs.take("b")
    assert jobs.deliver(again, 0)
    assert not jobs.deliver(job, 0)
    assert jobs.deliver(job, 1)
    assert not jobs.deliver(again, 1)
    assert jobs.finish("b", again).again == ()


def test_a_job_that_failed_goes_to_another_server_first(jobs):
    job = jobs.take("a")
    assert fail(jobs, "a", job).again == job.indices
    assert jobs.take("a").batch_index == 1
    assert jobs.take("b").batch_index == job.batch_index
    jobs.leave("b")
    assert jobs.take("a").batch_index == job.batch_index


def test_after_three_failures_its_images_have_failed_and_the_rest_goes_on(jobs):
    outcomes = []
    for server in ("a", "b", "a"):
        job = jobs.take(server)
        assert job.batch_index == 0
        outcomes.append(fail(jobs, server, job))
    assert [(each.again, each.failed, each.failures) for each in outcomes] == [
        ((0, 1), (), 1),
        ((0, 1), (), 2),
        ((), (0, 1), 3),
    ]
    for _ in range(2):
        deliver_all(jobs, "a", jobs.take("a"))
    assert jobs.over
    assert jobs.delivered == 4


def test_what_an_earlier_client_left_behind_is_not_held_against_a_job(jobs):
    job = jobs.renumber("a", jobs.take("a"))
    assert job.attempt == 1
    assert jobs.finish("a", job).failures == 0
    assert jobs.take("a").failures == 0


def test_only_the_oldest_job_is_blamed_for_the_loss_of_its_server(jobs):
    for _ in range(2 * jobs.tries - 1):
        jobs.join("a")
        assert [jobs.take("a").batch_index for _ in range(2)] == [0, 1]
        assert jobs.leave("a")[1].failed == ()
    jobs.join("a")
    assert jobs.take("a").losses == 2 * jobs.tries - 1
    assert jobs.take("a").losses == 0
    assert jobs.leave("a")[1].failed == (0, 1)


def test_a_server_that_is_back_takes_its_jobs_back_unless_others_have_them(jobs):
    first, second = (jobs.posted("a", jobs.take("a")) for _ in range(2))
    jobs.leave("a")
    taken = jobs.take("b")
    jobs.join("a")
    assert taken.batch_index == first.batch_index
    assert not jobs.reclaim("a", first)
    assert jobs.reclaim("a", second)
    assert [job.batch_index for job in jobs.on("a")] == [second.batch_index]
    assert jobs.on("a")[0].posted


def test_a_job_that_is_found_again_did_not_bring_its_server_down(jobs):
    for _ in range(4 * jobs.tries):
        job = jobs.posted("a", jobs.take("a")) if not jobs.on("a") else jobs.on("a")[0]
        assert jobs.leave("a")[1].failed == ()
        jobs.join("a")
        assert jobs.reclaim("a", job)
        jobs.settle("a", job)
    assert jobs.on("a")[0].losses == 0


def test_a_reserved_job_waits_for_its_server_while_that_is_there(jobs):
    jobs.ahead(2)
    jobs.reserve("b", [0])
    assert jobs.take("a").batch_index == 1
    assert jobs.take("b").batch_index == 0
    jobs.reserve("b", [2])
    assert jobs.take("a") is None
    jobs.leave("b")
    assert jobs.take("a").batch_index == 0


@pytest.mark.parametrize("how", ["finish", "forget"])
def test_a_reserved_job_that_failed_on_its_server_may_go_to_another(jobs, how):
    jobs.join("a")
    jobs.join("b")
    jobs.reserve("a", [0])
    job = jobs.posted("a", jobs.take("a"))
    assert job.batch_index == 0
    getattr(jobs, how)("a", job)
    taken = jobs.take("b")
    assert taken is not None
    assert taken.batch_index == 0


def test_a_job_that_is_reserved_after_it_failed_there_may_go_to_another(jobs):
    jobs.join("a")
    jobs.join("b")
    jobs.finish("a", jobs.posted("a", jobs.take("a")))
    jobs.reserve("a", [0])
    assert jobs.take("b").batch_index == 0


def test_when_the_first_jobs_all_fail_it_is_hopeless():
    jobs = Jobs(iter(batches(9)), tries=1)
    jobs.join("a")
    for _ in range(HOPELESS_JOBS):
        assert not jobs.hopeless
        fail(jobs, "a", jobs.take("a"))
    assert jobs.hopeless


def test_a_run_is_over_only_when_every_batch_was_drawn_and_delivered():
    jobs = Jobs(iter(batches(1)))
    assert not jobs.over
    jobs.join("a")
    job = jobs.take("a")
    assert not jobs.over
    deliver_all(jobs, "a", job)
    assert jobs.over
    assert not jobs.deliver(job, 0)
    assert jobs.delivered == 2


def test_jobs_and_outcomes_are_values():
    assert {Job(0, (1,)), Job(0, (1,))} == {Job(0, (1,), 0, 0, 0, False, frozenset())}
    assert {Outcome()} == {Outcome((), (), 0)}


def test_what_was_found_on_a_server_counts_as_a_failure_from_the_twentieth_attempt_on(jobs):
    job = jobs.take("a")
    for attempt in range(20):
        assert job.attempt == attempt
        assert jobs.finish("a", job) == Outcome(again=(0, 1))
        job = jobs.take("a")
        assert job.failed_on == frozenset()
    assert (job.attempt, job.failures) == (20, 0)
    assert jobs.finish("a", job) == Outcome(again=(0, 1), failures=1)
    assert jobs.take("b").failed_on == {"a"}


def test_every_new_try_has_the_next_attempt_number_and_a_lost_job_keeps_its_own(jobs):
    fail(jobs, "a", jobs.take("a"))
    job = jobs.take("b")
    assert (job.attempt, job.failures, job.losses) == (1, 1, 0)
    jobs.leave("b")
    job = jobs.take("a")
    assert (job.batch_index, job.attempt, job.losses, job.posted) == (0, 1, 1, False)
    job = jobs.renumber("a", jobs.posted("a", job))
    assert (job.attempt, job.failures, job.losses, job.posted) == (2, 1, 1, False)
    jobs.forget("a", jobs.posted("a", job))
    job = jobs.take("a")
    assert (job.attempt, job.failures, job.losses, job.posted) == (2, 1, 2, False)
    fail(jobs, "a", job)
    job = jobs.take("a")
    assert (job.attempt, job.failures, job.losses) == (3, 2, 2)


def test_only_images_that_are_missing_are_tried_again(jobs):
    job = jobs.posted("a", jobs.take("a"))
    jobs.deliver(job, 0)
    assert jobs.finish("a", job) == Outcome(again=(1,), failures=1)
    assert jobs.take("b").indices == (1,)


def test_a_job_that_its_server_forgets_too_often_fails_if_it_was_the_oldest(jobs):
    """A job behind another one was not running, so its server did not lose it over it."""
    for _ in range(5):
        first, second = jobs.take("a"), jobs.take("a")
        assert jobs.forget("a", second) == Outcome(again=(2, 3))
        assert jobs.forget("a", first) == Outcome(again=(0, 1))
    first, second = jobs.take("a"), jobs.take("a")
    assert (first.losses, second.losses) == (5, 0)
    assert jobs.forget("a", first) == Outcome(failed=(0, 1))
    assert jobs.forget("a", first) == Outcome()
    assert jobs.jobs_failed == 1


def test_a_loss_without_blame_is_not_counted(jobs):
    jobs.take("a")
    moved, outcome = jobs.leave("a", blame=False)
    assert ([job.losses for job in moved], outcome) == ([0], Outcome())
    assert jobs.leave("a") == ([], Outcome())


def test_a_server_gives_back_only_the_attempt_that_waits(jobs):
    job = jobs.posted("a", jobs.take("a"))
    jobs.leave("a", blame=False)
    jobs.join("a")
    renumbered = replace(job, attempt=1)
    assert not jobs.reclaim("a", renumbered)
    assert not jobs.reclaim("a", replace(job, batch_index=1))
    assert jobs.reclaim("a", job)


def test_a_reservation_belongs_to_the_first_server_that_makes_it(jobs):
    assert [job.batch_index for job in jobs.ahead(2)] == [0, 1]
    assert [job.batch_index for job in jobs.ahead(9)] == [0, 1, 2]
    jobs.reserve("a", [0])
    jobs.reserve("b", [0, 1])
    assert jobs.take("b").batch_index == 1
    assert jobs.has_work_for("b")
    assert jobs.take("b").batch_index == 2
    assert not jobs.has_work_for("b")
    assert jobs.take("a").batch_index == 0


def test_a_server_that_lost_a_job_can_neither_finish_nor_forget_it(jobs):
    job = jobs.posted("a", jobs.take("a"))
    jobs.leave("a")
    jobs.join("a")
    assert jobs.finish("a", job) == jobs.forget("a", job) == Outcome()
    assert [each.batch_index for each in jobs.ahead(9)] == [0, 1, 2]


def test_a_job_without_missing_images_is_not_tried_again(jobs):
    first, second = jobs.take("a"), jobs.take("a")
    for job in (first, second):
        for index in job.indices:
            jobs.deliver(job, index)
    assert jobs.finish("a", jobs.posted("a", first)) == jobs.forget("a", second) == Outcome()
    assert [each.batch_index for each in jobs.ahead(9)] == [2]


def test_late_copies_are_known_until_they_are_settled(jobs):
    job = jobs.take("a")
    jobs.leave("a")
    jobs.join("a")
    assert [each.batch_index for each in jobs.left_on("a")] == [job.batch_index]
    assert jobs.left_on("b") == []
    jobs.settle("a", job)
    jobs.settle("a", job)
    assert jobs.left_on("a") == []


def test_a_waiting_job_that_was_delivered_late_is_dropped(jobs):
    job = jobs.take("a")
    jobs.leave("a")
    for index in job.indices:
        assert jobs.deliver(job, index)
    assert jobs.take("b").batch_index == 1


def test_it_is_not_hopeless_after_a_single_image():
    jobs = Jobs(iter(batches(9)), tries=1)
    jobs.join("a")
    assert [fail(jobs, "a", jobs.take("a")).failures for _ in range(2)] == [1, 1]
    assert not jobs.hopeless
    fail(jobs, "a", jobs.take("a"))
    assert jobs.hopeless
    job = jobs.take("a")
    jobs.deliver(job, job.indices[0])
    assert not jobs.hopeless


class Farm(RuleBasedStateMachine):
    """Servers come and go, lose jobs, and keep copies of jobs that they should not have."""

    @initialize(count=st.integers(1, 6), size=st.integers(1, 3), tries=st.integers(1, 3))
    def begin(self, count, size, tries):
        self.all = set(range(count * size))
        self.jobs = Jobs(iter(batches(count, size)), tries=tries)
        self.delivered = []
        self.failed = []

    @rule(server=st.sampled_from(SERVERS))
    def join(self, server):
        self.jobs.join(server)

    @rule(server=st.sampled_from(SERVERS), blame=st.booleans())
    def leave(self, server, blame):
        before = self.jobs.on(server)
        moved, outcome = self.jobs.leave(server, blame=blame)
        assert [job.batch_index for job in moved] == [job.batch_index for job in before]
        self.failed += outcome.failed

    @precondition(lambda self: self.jobs.servers)
    @rule(data=st.data(), post=st.booleans(), renumber=st.booleans())
    def take(self, data, post, renumber):
        server = data.draw(st.sampled_from(sorted(self.jobs.servers)))
        expected = self.jobs.has_work_for(server)
        job = self.jobs.take(server)
        assert (job is not None) == expected
        if job is None:
            return
        assert self.jobs.wanted(job)
        if renumber:
            job = self.jobs.renumber(server, job)
        if post:
            self.jobs.posted(server, job)

    @rule(
        data=st.data(),
        server=st.sampled_from(SERVERS),
        how=st.sampled_from(("all", "some", "none", "forget")),
    )
    def finish(self, data, server, how):
        if not self.jobs.on(server):
            return
        job = data.draw(st.sampled_from(self.jobs.on(server)))
        if how == "forget":
            self.failed += self.jobs.forget(server, job).failed
            return
        images = {"all": job.indices, "some": job.indices[::2], "none": ()}[how]
        self.delivered += [index for index in images if self.jobs.deliver(job, index)]
        outcome = self.jobs.finish(server, job)
        self.failed += outcome.failed
        assert not set(outcome.again) & set(outcome.failed)

    @rule(data=st.data(), server=st.sampled_from(SERVERS), back=st.booleans())
    def hear_of_a_copy(self, data, server, back):
        left = self.jobs.left_on(server)
        if not left:
            return
        job = data.draw(st.sampled_from(left))
        if not (back and server in self.jobs.servers and self.jobs.reclaim(server, job)):
            self.delivered += [index for index in job.indices if self.jobs.deliver(job, index)]
        self.jobs.settle(server, job)

    @rule(server=st.sampled_from(SERVERS), count=st.integers(0, 4))
    def reserve(self, server, count):
        self.jobs.reserve(server, [job.batch_index for job in self.jobs.ahead(count)])

    @invariant()
    def every_image_is_delivered_or_failed_at_most_once(self):
        if hasattr(self, "jobs"):
            assert not [
                index for index, times in Counter(self.delivered + self.failed).items() if times > 1
            ]
            assert self.jobs.delivered == len(self.delivered)

    @invariant()
    def a_wanted_batch_has_exactly_one_owner(self):
        if hasattr(self, "jobs"):
            on = [
                job
                for server in self.jobs.servers
                for job in self.jobs.on(server)
                if self.jobs.wanted(job)
            ]
            owners = Counter(
                job.batch_index
                for job in [*on, *(j for j in self.jobs._waiting if self.jobs.wanted(j))]
            )
            assert set(owners) == set(self.jobs._wanted)
            assert set(owners.values()) <= {1}

    @invariant()
    def every_run_ends(self):
        """No job waits for a server that is there and may not take it."""
        if not hasattr(self, "jobs") or not self.jobs.servers:
            return
        for job in self.jobs._waiting:
            owner = self.jobs._reserved.get(job.batch_index)
            if self.jobs.wanted(job) and (owner is None or owner in self.jobs.servers):
                assert any(self.jobs._may_take(server, job) for server in self.jobs.servers)

    def teardown(self):
        """When servers behave again, the run comes to its end."""
        if not hasattr(self, "jobs"):
            return
        self.jobs.join("a")
        for server in self.jobs.servers:
            for job in self.jobs.on(server):
                self._finish_well(server, job)
        for server in {*SERVERS} - {"a"}:
            self.jobs.leave(server)
        while (job := self.jobs.take("a")) is not None:
            self._finish_well("a", job)
        assert self.jobs.over
        assert sorted(self.delivered + self.failed) == sorted(self.all)

    def _finish_well(self, server, job):
        self.delivered += [index for index in job.indices if self.jobs.deliver(job, index)]
        self.failed += self.jobs.finish(server, job).failed


TestFarm = Farm.TestCase
TestFarm.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
