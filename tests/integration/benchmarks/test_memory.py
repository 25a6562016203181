"""The memory benchmark samples every process of a run that never ends by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from sluice.benchmarks.memory import measure_memory
from sluice.pipeline.core.schema import EVENT_ID, T_EVENT, Schema
from sluice.pipeline.detectors.wafer import WORDS
from sluice.pipeline.system.process_stats import process_tree, usage


def test_every_process_is_looked_at_again_and_again(wafers):
    schema = Schema((EVENT_ID, T_EVENT, WORDS))
    result = measure_memory(wafers.select(schema.names), schema, 3, 2, minute_s=0.3)
    names = {"engine", "fork-server", "sink", "compute-0", "compute-1"}
    assert [set(sample["processes"]) for sample in result["minutes"]] == [names] * 3
    assert set(result["growth_mb"]) == names
    seconds = [sample["at_s"] for sample in result["minutes"]]
    assert seconds == sorted(seconds)
    assert seconds[0] >= 0.3
    processed = [sample["events"] for sample in result["minutes"]]
    assert processed == sorted(processed)
    assert processed[0] > 0
    assert result["events"]["offered"] > 500  # the recording was read more than once
    for sample in result["minutes"]:
        for held in sample["processes"].values():
            assert 20 < held["rss_mb"] < 4000
            assert held["fds"] > 3
            assert held["threads"] >= 1


def test_usage_counts_threads_and_descriptors():
    before = usage(os.getpid())
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    block = bytearray(os.urandom(1 << 20) * 64)
    with open(os.devnull) as _, open(os.devnull) as _:
        now = usage(os.getpid())
    done.set()
    thread.join()
    assert now.threads == before.threads + 1
    assert now.fds == before.fds + 2
    assert now.rss_mb - before.rss_mb > 0.9 * len(block) / 1e6


def test_who_is_gone_holds_nothing_and_strangers_are_no_family():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert usage(child.pid) is not None
        assert process_tree(os.getpid()) == {"engine": os.getpid()}
        child.stdin.close()
    assert usage(child.pid) is None
