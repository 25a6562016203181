"""Simulated schedules hold what the protocol states; faults planted in the code are found."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from sluice.pipeline.core.errors import RunError, SluiceError
from sluice.pipeline.engine.distributed.dispatcher import Dispatcher
from sluice.pipeline.engine.distributed.in_flight import InFlight
from sluice.pipeline.engine.distributed.sessions import SessionError, Sessions
from sluice.pipeline.engine.distributed.swap_coordinator import SwapCoordinator
from sluice.pipeline.engine.group_commit import GroupCommit
from sluice.pipeline.engine.workers.result_reader import ResultReader
from sluice.pipeline.transport.run_messages import Result

from .model import BATCH_EVENTS, SimulatedChain, make_graph
from .processes import RemoteProcess
from .schedule import keep_joined, simulate
from .world import World

#: Schedules in each of the parts, which run one after the other or in several processes.
SCHEDULES, PARTS = 75, 4


@pytest.mark.parametrize("part", range(PARTS))
def test_schedules_hold_what_the_protocol_states(part):
    for seed in range(part * SCHEDULES, (part + 1) * SCHEDULES):
        simulate(seed)


def test_a_schedule_is_that_of_its_seed():
    one, other = simulate(7), simulate(7)
    assert one.clock.now_s == other.clock.now_s
    written, again = one.disk.records, other.disk.records
    assert [commit for commit, _, _ in written] == [commit for commit, _, _ in again]
    for (_, ids, values), (_, ids_again, values_again) in zip(written, again, strict=True):
        np.testing.assert_array_equal(ids, ids_again)
        np.testing.assert_array_equal(values, values_again)


def take_any_token(reader, header):
    return Result.from_header(header)


def forget_reclaim(dispatcher, worker):
    pass


def free_slots_of_open_batches(in_flight, worker, reclaim=InFlight.reclaim):
    slots = [slot for _, slot, _ in in_flight._assigned.get(worker, ()) if slot is not None]
    reclaim(in_flight, worker)
    return slots


def count_credit_again(in_flight, worker, asked, last_seq=None):
    in_flight._asked[worker] = asked
    entry = None if last_seq is None else in_flight.get(last_seq)
    return entry, in_flight._grant(worker, asked)


def begin_next_swap_at_once(in_flight, otherwise):
    return otherwise


def begin_swap_after_refusals(coordinator, worker, reply):
    coordinator._preparing.discard(worker)
    coordinator._ready.add(worker)


def forget_what_a_full_disk_refuses(committer):
    while committer._closed:
        batch, commit, payload = committer._closed.popleft()
        committer._sink.write(batch, commit)
        committer._acknowledge(commit.first, len(commit.events_by_batch), payload)


def acknowledge_before_writing(committer):
    while committer._closed:
        batch, commit, payload = committer._closed[0]
        committer._acknowledge(commit.first, len(commit.events_by_batch), payload)
        committer._sink.write(batch, commit)
        committer._closed.popleft()


def take_any_session(sessions, identity, header, *, remote):
    name = sessions.name_of(identity, remote=remote)
    if name is None:
        raise SessionError("unknown")
    return name


@pytest.mark.parametrize(
    ("owner", "method", "fault"),
    [(ResultReader, "verify", take_any_token), (Dispatcher, "reclaim", forget_reclaim),
     (InFlight, "reclaim", free_slots_of_open_batches),
     (InFlight, "add_credit", count_credit_again), (Sessions, "sender", take_any_session),
     (InFlight, "oldest_epoch", begin_next_swap_at_once),
     (SwapCoordinator, "on_reply", begin_swap_after_refusals),
     (GroupCommit, "_write", forget_what_a_full_disk_refuses),
     (GroupCommit, "_write", acknowledge_before_writing)],
)  # fmt: skip
def test_a_planted_fault_is_found(monkeypatch, owner, method, fault):
    monkeypatch.setattr(owner, method, fault)
    assert any(fails(seed) for seed in range(PARTS * SCHEDULES))


def fails(seed):
    try:
        simulate(seed)
    except (AssertionError, SluiceError):
        return True
    return False


def test_a_batch_that_ends_remote_workers_fails_after_the_fifth(monkeypatch):
    """It is not sent again for ever; the batches that these workers also had are decided."""
    ends = []

    def run(chain, batch, *rest, run=SimulatedChain.run):
        if 20 in batch["event_id"] and not rest[-1]:
            ends.append(batch["event_id"].tolist())
            raise RunError("as in a crash")
        return run(chain, batch, *rest)

    monkeypatch.setattr(SimulatedChain, "run", run)
    world = World(make_graph(1, 0), Random(3), events=20 * BATCH_EVENTS, salt=2)
    world.failed = BATCH_EVENTS
    for name in ("north", "south"):
        keep_joined(world, name)
    world.run()  # checks contents and ledger
    assert ends == 5 * [list(range(19, 19 + BATCH_EVENTS))]


@pytest.mark.parametrize(("age_s", "works"), [(100.0, "holder"), (0.0, "newcomer")])
def test_a_name_goes_to_the_newer_process(age_s, works):
    """An older process that joins under a taken name is refused, and the holder goes on."""
    world = World(make_graph(1, 0), Random(1), events=20 * BATCH_EVENTS, salt=2)
    world.slowest_s = 0.5
    processes = {"holder": RemoteProcess(world, "north")}

    def join():
        processes["newcomer"] = RemoteProcess(world, "north", age_s)

    world.run(lambda: world.clock.after(2.0, join))
    last = {name: process.worker for name, process in processes.items() if process.worker}
    assert last[works]._asked_for > 2  # it has processed batches
    assert ("newcomer" in last) == (works == "newcomer")
