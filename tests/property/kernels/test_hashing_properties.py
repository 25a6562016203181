"""Event hashes against Python's integers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sluice.kernels.hashing import order_digest, sample_mask, splitmix64

IDS = hnp.arrays(np.uint64, st.integers(0, 20))
SALT = st.integers(0, 2**64 - 1)
WORD = 2**64


def mixed(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def hashed(event_id, salt):
    return mixed((event_id + mixed(salt) + 0x9E3779B97F4A7C15) % WORD)


@given(IDS, SALT)
def test_splitmix64_is_its_definition(ids, salt):
    out = np.empty_like(ids)
    splitmix64(ids, salt, out)
    assert out.tolist() == [hashed(event_id, salt) for event_id in ids.tolist()]


@given(IDS, SALT, st.floats(0, 1))
def test_sampled_is_the_hash_below_the_fraction(ids, salt, fraction):
    out = np.empty(ids.shape, bool)
    sample_mask(ids, salt, fraction, out)
    assert out.tolist() == [hashed(i, salt) < int(fraction * WORD) for i in ids.tolist()]


@given(IDS)
def test_digest_is_the_sum_of_hashes_by_place(ids):
    gamma = 0x9E3779B97F4A7C15
    places = enumerate(ids.tolist(), 1)
    assert order_digest(ids) == sum(mixed((i + place * gamma) % WORD) for place, i in places) % WORD


@given(hnp.arrays(np.uint64, st.integers(2, 20), unique=True), st.randoms())
def test_digest_tells_another_order_and_another_length(ids, random):
    other = ids.tolist()
    random.shuffle(other)
    same = other == ids.tolist()
    assert (order_digest(np.array(other, np.uint64)) == order_digest(ids)) == same
    assert order_digest(ids[:-1].copy()) != order_digest(ids)
