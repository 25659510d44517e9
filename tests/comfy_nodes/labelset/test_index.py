"""The compact sets behave like plain sets, for every key and name, at a few bytes each."""

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_nodes.labelset import image_file_name
from comfy_nodes.labelset.index import FileNames, RowSet

KEYS = st.tuples(
    st.sampled_from(["0123456789ab", "p", ""]),
    st.sampled_from([-1, 0, 1, 7, 300, 2**22 - 1, 2**22, 10**15]),
)
USUAL_NAMES = st.builds(
    "{}/{}-{:06d}{}".format,
    st.sampled_from(["bat", "cat", "蝙蝠"]),
    st.sampled_from(["p", "a-b", ""]),
    st.integers(0, 3),
    st.sampled_from([".png", ".webp", ".jpg"]),
)
ODD_NAMES = st.sampled_from(
    [
        "bat/p-0000001.png",
        "bat/p-1.png",
        "bat/p-٠٠٠٠٠١.png",
        "bat/p-000001.PNG",
        "bat/-000001.png",
        "x",
        "bat/p-9999999.png",
        "bat/p-123456789012345678.png",
        "bat/p-1234567890123456789.png",
        "bat/p\n-000001.png",
        "bat/mine.png",
        "a/b/p-000001.png",
    ]
)
NAMES = st.one_of(USUAL_NAMES, ODD_NAMES)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "discard"]), KEYS)))
def test_a_row_set_is_a_set(steps):
    plain, compact = set(), RowSet()
    for verb, key in steps:
        getattr(plain, verb)(key)
        getattr(compact, verb)(key)
        assert (key in compact) == (key in plain)
    assert len(compact) == len(plain)
    assert compact.plan_ids() == {plan_id for plan_id, _ in plain}
    for below in (0, 1, 8, 2**23):
        assert compact.count("p", below) == sum(
            key[0] == "p" and 0 <= key[1] < below for key in plain
        )


@given(st.lists(NAMES, unique=True), st.lists(NAMES))
def test_a_name_is_claimed_once_and_the_rest_is_left(names, claims):
    compact = FileNames()
    for name in names:
        compact.add(name)
    free = set(names)
    for name in claims:
        assert compact.claim(name) == (None if name not in names else name in free)
        free.discard(name)
    assert sorted(compact) == sorted(free)


def test_names_and_rows_take_less_than_ten_bytes_each():
    names = [
        image_file_name(f"class {index % 100}", "0123456789ab", index) for index in range(20_000)
    ]
    tracemalloc.start()
    compact, rows = FileNames(), RowSet()
    for index, name in enumerate(names):
        compact.add(name)
        rows.add(("0123456789ab", index))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000
    assert all(compact.claim(name) for name in names)


def test_one_row_each_of_many_plans_takes_little_however_large_its_index_is():
    """As the pages of dense rows would take 30 GB, whatever reads a folder would end there."""
    tracemalloc.start()
    compact, rows = FileNames(), RowSet()
    for number in range(1500):
        compact.add(image_file_name("bat", f"{number:012x}", 2**22 - 1))
        rows.add((f"{number:012x}", 2**22 - 1 + 10**12 * (number % 2)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) == len(list(compact)) == 1500
    assert peak < 4_000_000


def test_a_name_with_thousands_of_digits_is_kept_as_text():
    name = f"bat/p-{'9' * 5000}.png"
    compact = FileNames()
    assert compact.claim(name) is None
    compact.add(name)
    assert list(compact) == [name]
