"""Parts that misbehave on purpose, registered as anyone's would be: a package of the tests."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import numpy as np
from msgspec import Struct

from sluice.pipeline.core.schema import EVENT_ID, Column, Schema
from sluice.pipeline.sinks.recording import RecordingSink


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    ids: tuple[int, ...] = ()
    seconds: float = 0.0
    once: str = ""


class Delay:
    """Sleeps `seconds` over each batch."""

    Options = Options
    consumes = Schema((EVENT_ID,))
    provides = Schema()

    def __init__(self, name, options):
        self.name = name
        self.options = options

    def open(self, events):
        pass

    def hit(self, batch):
        return bool(np.isin(batch["event_id"], np.array(self.options.ids, np.uint64)).any())

    def process(self, batch):
        if batch["event_id"].any():  # not at warm-up
            time.sleep(self.options.seconds)
        return batch

    def close(self):
        pass


class Slow(Delay):
    """Sleeps `seconds` over each event on its first rung, not at all on its second."""

    rungs = 2
    rung = 0

    def set_rung(self, rung):
        self.rung = min(rung, 1)
        return True

    def rung_models(self):
        return {}

    def process(self, batch):
        if not self.rung:
            time.sleep(batch.events * self.options.seconds)
        return batch


class Trap(Delay):
    """Raises on some events."""

    def process(self, batch):
        if self.hit(batch):
            raise ArithmeticError("sprung")
        return batch


class Broken(Delay):
    """Raises on every batch but blank ones."""

    def process(self, batch):
        if batch["event_id"].any():
            raise ArithmeticError("broken for good")
        return batch


class Cold(Delay):
    """Raises at warm-up already."""

    def process(self, batch):
        raise ArithmeticError("cannot even warm up")


class Poison(Delay):
    """Kills its process on some events; where `once` names a file, only the first time."""

    def process(self, batch):
        if self.hit(batch):
            mark = Path(self.options.once) if self.options.once else None
            if mark is None or not mark.exists():
                if mark:
                    mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return batch


class Spin(Delay):
    """Never returns from a batch with one of the events."""

    def process(self, batch):
        while self.hit(batch):
            pass
        return batch


class Hang(Delay):
    """Sleeps for an hour on some events; where `once` names a file, only the first time."""

    def process(self, batch):
        mark = Path(self.options.once) if self.options.once else None
        if self.hit(batch) and not (mark and mark.exists()):
            if mark:
                mark.touch()
            time.sleep(3600)
        return batch


class KilledSink(RecordingSink):
    """Kills its process before or after the writes that commit some batches, each once."""

    class Options(RecordingSink.Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
        before: tuple[int, ...] = ()
        after: tuple[int, ...] = ()
        #: Folder in which a file shows that the process was killed at a batch.
        marks: str

    def __init__(self, name, options):
        super().__init__(name, options)
        self.options = options

    def write(self, batch, commit):
        committed = range(commit.first, commit.next)
        self.kill_once(set(self.options.before) & set(committed))
        super().write(batch, commit)
        self.kill_once(set(self.options.after) & set(committed))

    def kill_once(self, seqs):
        for seq in seqs:
            mark = Path(self.options.marks, f"killed-{seq}")
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)


class SlowWatch(Delay):
    """A monitor that sleeps `seconds` over each sample."""

    class Options(Options):
        sample: float = 1.0

    metric = "sluice_slow_watch"
    labels: ClassVar = {}

    def __init__(self, name, options):
        super().__init__(name, options)
        self.sample = options.sample

    def observe(self, batch):
        time.sleep(self.options.seconds)
        return np.ones(batch.events, np.float32)


class BrokenSource:
    """Breaks in a way nobody foresaw, after a few batches."""

    Options = Options
    exhausted = False
    corruption = expected = socket = None

    def __init__(self, name, options):
        self.schema = Schema(
            (
                EVENT_ID,
                Column("t_event", "int64"),
                Column("t_ingest", "int64"),
                Column("words", "uint32", (12,)),
            )
        )
        self.given = 0

    def open(self):
        pass

    def receive(self):
        pass

    def available(self):
        from sluice.pipeline.sources.base import UNLIMITED

        return UNLIMITED

    def read(self, max_events):
        from sluice.pipeline.core.batch import EventBatch

        self.given += 1
        if self.given > 3:
            raise ZeroDivisionError("nobody foresaw this")
        columns = {c.name: np.zeros_like(c.empty(10)) for c in self.schema}
        columns["t_ingest"] += time.monotonic_ns()
        return EventBatch(columns, 10)

    def stop(self):
        self.exhausted = True

    def losses(self):
        from sluice.pipeline.sources.base import Losses

        return Losses()

    def close(self):
        pass


class Exhausting(Delay):
    """Takes every descriptor of its process, or raises what `once` names, at the first batch."""

    def process(self, batch):
        what = self.options.once
        if not batch["event_id"].any():  # at warm-up
            return batch
        if what == "descriptors":
            self.taken = []
            with suppress(OSError):
                while True:
                    self.taken.append(os.open(os.devnull, os.O_RDONLY))
            return batch
        raise {"memory": MemoryError, "interrupt": KeyboardInterrupt, "exit": SystemExit}[what]
