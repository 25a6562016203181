"""Readers of foreign bytes refuse by SluiceError and nothing else; `make fuzz` looks longer."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

_FUZZ = Path(__file__).resolve().parents[1] / "fuzz"


def _load(name: str):
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", _FUZZ / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


targets, runner = _load("targets"), _load("run")
every_target = pytest.mark.parametrize("target", sorted(targets.TARGETS))


@every_target
def test_sound_input_is_read(target):
    for seed in targets.seeds(target):
        targets.TARGETS[target](seed)


@every_target
def test_nothing_at_all_is_refused_or_read(target):
    targets.survive(target, b"")


@every_target
def test_what_once_broke_it_does_so_no_more(target):
    for path in sorted((_FUZZ / "corpus" / target).glob("*")):
        targets.survive(target, path.read_bytes())


@every_target
@given(random=st.randoms(use_true_random=False), which=st.integers(0, 9))
def test_altered_input_is_refused_or_read(target, random, which):
    seeds = targets.seeds(target)
    targets.survive(target, runner.mutate(seeds[which % len(seeds)], random))


@every_target
@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(target, data):
    targets.survive(target, data)


def test_a_fault_would_be_seen(monkeypatch, tmp_path):
    """`survive` catches only expected errors: any other exception gets through."""

    def broken(data: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(targets.TARGETS, "key", broken)
    with pytest.raises(ZeroDivisionError):
        targets.survive("key", b"")
