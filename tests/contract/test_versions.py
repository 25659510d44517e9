"""Which behaviour the tests expect of which version."""

import pytest

from tests.contract.versions import behaviour_of


@pytest.mark.parametrize(
    ("version", "takes_any"),
    [("0.8.0", True), ("0.8.2", True), ("0.33.0", False), ("v0.33.1", False), ("1.0", False)],
)
def test_a_version_behaves_like_the_newest_checked_one_that_is_not_newer(version, takes_any):
    assert behaviour_of(version).takes_any_prompt_id is takes_any


def test_a_version_older_than_all_checked_ones_is_expected_to_behave_like_the_oldest():
    assert behaviour_of("0.3.60") == behaviour_of("0.8.0")


def test_the_engine_cancels_jobs_whatever_version_it_speaks():
    assert behaviour_of("0.8.0", engine=True).cancels_jobs
    assert not behaviour_of("0.8.0").cancels_jobs
