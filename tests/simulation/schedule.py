"""Schedules: what goes wrong in a simulated run, and when, by a seed."""

from __future__ import annotations

import functools
from random import Random

from .model import BATCH_EVENTS, make_graph
from .network import Disorder, Wire
from .processes import RemoteProcess
from .world import World

#: Batches of the earlier run, whose messages come again, and largest number of the main run's.
_EARLIER_BATCHES, _MAX_BATCHES = 8, 24
#: Longest time within which faults begin, s; for a short run as long as it may take.
_MAX_FAULTY_S = 8.0
_NAMES = ("north", "south")


def simulate(seed: int) -> World:
    """Run one schedule: an earlier run, then one with faults; both have the same run number.

    Raises
    ------
    AssertionError
        If something does not hold that must.
    """
    random = Random(seed)
    segments, workers = random.choice((1, 1, 2)), random.choice((0, 0, 1, 2))
    earlier = World(
        make_graph(segments, 0), random, _EARLIER_BATCHES * BATCH_EVENTS, salt=1, records=True
    )
    for name in _NAMES:
        _join(earlier, name)
    earlier.run()
    events = random.randint(BATCH_EVENTS, _MAX_BATCHES * BATCH_EVENTS)
    world = World(make_graph(segments, workers), random, events, salt=2)
    world.clock.now_s = earlier.clock.now_s + 100.0
    for name in _NAMES[: random.randint(0, 2) if workers else 2]:
        keep_joined(world, name)
    world.run(lambda: _plan_faults(world, earlier.network.sent))
    return world


def _join(world: World, name: str, age_s: float = 0.0) -> RemoteProcess:
    worker = RemoteProcess(world, name, age_s)
    world.remote.append(worker)
    return worker


def keep_joined(world: World, name: str) -> None:
    """Start a remote worker, and another one whenever it has ended, as systemd does."""
    worker = _join(world, name)

    def look() -> None:
        nonlocal worker
        if worker.exit_code is not None:
            worker = _join(world, name)
        world.clock.after(2.0, look)

    look()


def _plan_faults(world: World, earlier: list[Wire]) -> None:
    random, clock = world.random, world.clock
    batches = world.events / BATCH_EVENTS
    faulty_s = min(_MAX_FAULTY_S, 0.1 + batches * world.slowest_s * random.random())
    kinds = [
        lambda: _kill_local(world, sink=False),
        lambda: _kill_local(world, sink=False),
        lambda: _kill_local(world, sink=True),
        lambda: _suspend_local(world),
        lambda: _kill_remote(world),
        lambda: _leave(world),
        lambda: _suspend_remote(world),
        lambda: _take_name(world),
        lambda: _replay(world, earlier),
        lambda: _replay(world, earlier),
        lambda: world.network.break_connections(),
    ]
    if random.random() < 0.5:
        rate = random.choice((0.01, 0.1, 0.3))
        world.network.disorder = Disorder(rate * random.random(), rate * random.random())
        clock.after(faulty_s, lambda: setattr(world.network, "disorder", Disorder()))
    if random.random() < 0.5:
        _replay(world, earlier)
    if random.random() < 0.6:
        _plan_swaps(world, faulty_s)
    if random.random() < 0.3:
        for _ in range(random.randint(1, 3)):
            _plan_full_disk(world, faulty_s)
    for _ in range(random.randint(0, 12)):
        clock.after(random.uniform(0, faulty_s), random.choice(kinds))


def _plan_swaps(world: World, faulty_s: float) -> None:
    """Request swaps, a part of them to models that some workers cannot load."""
    random, swaps = world.random, world.swaps
    swaps.longest_load_s = faulty_s * random.choice((0.01, 0.1, 0.5))
    share = random.choice((0.0, 0.3, 1.0))
    stages = [stage.name for stage in world.graph.stages]
    for _ in range(random.randint(1, 6)):
        stage, bad = random.choice(stages), random.random() < share
        request = functools.partial(swaps.request, stage, bad=bad)
        world.clock.after(random.uniform(0, faulty_s), request)


def _plan_full_disk(world: World, faulty_s: float) -> None:
    seconds = world.random.choice((0.01, 0.5, 5.0, 20.0))
    world.clock.after(world.random.uniform(0, faulty_s), lambda: world.disk.fill(seconds))


def _kill_local(world: World, *, sink: bool) -> None:
    running = [
        process for process in world.local.values()
        if process.ready and process.exit_code is None and (process.role == "sink") == sink
    ]  # fmt: skip
    if running:
        world.random.choice(running).kill()


def _suspend_local(world: World) -> None:
    running = [process for process in world.local.values() if process.ready]
    if running:
        world.random.choice(running).suspend(world.random.choice((0.1, 1.0, 10.0)))


def _running(world: World) -> list[RemoteProcess]:
    return [worker for worker in world.remote if worker.exit_code is None]


def _kill_remote(world: World) -> None:
    if running := _running(world):
        world.random.choice(running).kill()


def _leave(world: World) -> None:
    if running := _running(world):
        world.random.choice(running).leaving = True


def _suspend_remote(world: World) -> None:
    if running := _running(world):
        world.random.choice(running).suspend(world.random.choice((0.1, 2.0, 10.0, 40.0)))


def _take_name(world: World) -> None:
    """Let a process that is older or newer than the worker of a name join under its name."""
    _join(world, world.random.choice(_NAMES), world.random.choice((0.0, 100.0)))


def _replay(world: World, earlier: list[Wire]) -> None:
    """Send messages of the earlier run again, as they were and to whoever runs now."""
    random = world.random
    first = random.randrange(len(earlier) or 1)
    targets = world.network.far_identities()
    for wire in earlier[first : first + random.randint(1, 40)]:
        if targets and random.random() < 0.3:
            endpoint, identity = random.choice(targets)
            wire = wire._replace(endpoint=endpoint, identity=identity)
        delay_s = random.uniform(0, 0.5)
        world.clock.after(delay_s, lambda wire=wire: world.network.inject(wire))  # type: ignore[misc]
