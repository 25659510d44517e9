"""Draws are pinned to a hash of what they are for: what every data set so far was made with."""

import hashlib
import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from comfy_nodes.plan import MAX_SEED
from comfy_nodes.plan.draws import draw, hash_integer


@given(st.integers(0, MAX_SEED), st.text(), st.integers(0, 10**9), st.integers(2, 30))
def test_a_draw_is_the_hash_of_its_parts_as_json(seed, label, position, size):
    """Written out plainly, without the caches."""

    def plain(*parts):
        return int.from_bytes(hashlib.sha256(json.dumps(parts).encode("ascii")).digest()[:8], "big")

    assert hash_integer(seed, label, "seed", position) == plain(seed, label, "seed", position)
    round_number, place = divmod(position, size)
    order = sorted(range(size), key=lambda entry: plain(seed, label, "style", round_number, entry))
    assert draw(range(size), seed, label, "style", position) == order[place]


def test_a_bank_is_used_up_before_an_entry_comes_again():
    rounds = [[draw("abcdefgh", 1, "bat", "style", 8 * n + i) for i in range(8)] for n in range(3)]
    assert all(Counter(each) == Counter("abcdefgh") for each in rounds)
    assert len({tuple(each) for each in rounds}) == 3


def test_a_bank_of_one_entry_needs_no_draw():
    assert draw(["only"], 0, "bat", "style", 10**9) == "only"
