"""A token is valid for one assignment of one batch of one run, and for nothing else."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.pipeline.engine.workers.batch_token import (
    SECRET_BYTES,
    Assignment,
    TokenKey,
    new_secret,
)

ASSIGNMENTS = st.builds(
    Assignment,
    seq=st.integers(0, 2**64 - 1),
    events=st.integers(0, 2**20),
    session=st.integers(1, 2**32 - 1),
    epoch=st.integers(0, 2**24),
    segment=st.integers(0, 100),
    rung=st.integers(0, 255),
)
SECRETS = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)


@given(SECRETS, ASSIGNMENTS)
def test_the_token_is_that_of_the_specification(secret, assignment):
    seq, events, session, epoch, segment, rung = assignment
    fields = struct.pack("<QIIIHB", seq, events, session, epoch, segment, rung)
    expected = hashlib.blake2b(fields, key=secret, digest_size=8).digest()
    assert TokenKey(secret).token(assignment) == int.from_bytes(expected, "little")


@given(SECRETS, ASSIGNMENTS, ASSIGNMENTS)
def test_assignments_that_differ_have_different_tokens(secret, one, other):
    key = TokenKey(secret)
    assert (key.token(one) == key.token(other)) == (one == other)


@pytest.mark.parametrize("field", Assignment._fields)
def test_every_field_counts(field):
    key, assignment = TokenKey(bytes(SECRET_BYTES)), Assignment(5, 64, 7, 1, 2, 3)
    other = assignment._replace(**{field: getattr(assignment, field) + 1})
    assert key.token(other) != key.token(assignment)


@given(SECRETS, SECRETS, ASSIGNMENTS)
def test_another_run_has_other_tokens(one, other, assignment):
    same = TokenKey(one).token(assignment) == TokenKey(other).token(assignment)
    assert same == (one == other)


def test_secrets_do_not_repeat():
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(secret) for secret in secrets} == {SECRET_BYTES}
