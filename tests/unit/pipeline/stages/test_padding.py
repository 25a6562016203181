"""Lists reach a model padded or cut, and what it says of each event comes back in its place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sluice.pipeline.core.batch import EventBatch
from sluice.pipeline.core.errors import ConfigError, ModelError
from sluice.pipeline.core.ragged import Ragged
from sluice.pipeline.core.schema import Schema
from sluice.pipeline.inference.repository import find_model, read_model
from sluice.pipeline.inference.session import open_session
from sluice.pipeline.stages.infer import Infer

FEATURES, MAX_TRACKS = 3, 20
LISTS = st.lists(
    st.lists(st.tuples(*[st.integers(-9, 9)] * FEATURES), max_size=MAX_TRACKS + 5), max_size=20
)


@pytest.fixture(scope="module")
def models(tmp_path_factory, list_sum):
    root = tmp_path_factory.mktemp("models")
    list_sum(root)
    return root


@pytest.fixture(autouse=True)
def searched(models, monkeypatch):
    monkeypatch.setenv("SLUICE_MODELS", str(models))


def opened(events=64, **options):
    stage = Infer("sum", Infer.Options(model="list-sum", **options))
    stage.open(events)
    counter = np.zeros(1, np.uint64)
    stage.set_counter(counter)
    return stage, counter


def batch_of(lists):
    rng = np.random.default_rng(len(lists))
    scale = rng.integers(1, 5, len(lists)).astype(np.float32)
    return EventBatch({"tracks": Ragged.of(lists, "float32", (FEATURES,)), "scale": scale},
                      len(lists))  # fmt: skip


def assert_sums(stage, lists):
    batch = batch_of(lists)
    done = stage.process(batch)
    done.check(stage.provides, "stage")
    for row, tracks in enumerate(lists):
        kept = np.reshape(tracks[:MAX_TRACKS], (-1, FEATURES))
        total = np.sum(kept, axis=0) * batch["scale"][row]
        assert done["total"][row].tolist() == total.tolist()
        assert done["length"][row] == min(MAX_TRACKS, len(tracks))


@pytest.mark.parametrize("sizes", [None, (3, 8), (1, 2, 3, 4, 5, 20), (20,), (8, 3, 3)])
def test_results_do_not_depend_on_the_buckets(sizes):
    longest = max(sizes or (MAX_TRACKS,))
    stage, counter = opened(**({"buckets": {"tracks": sizes}} if sizes else {}))
    cut = 0

    @given(LISTS)
    def assert_any_lists(lists):
        nonlocal cut
        assert_sums(stage, [tracks[:longest] for tracks in lists])
        stage.process(batch_of(lists))
        cut += sum(len(tracks) > longest for tracks in lists)
        assert counter[0] == cut

    assert_any_lists()
    stage.close()


def test_no_events_empty_lists_and_slices():
    stage, counter = opened(buckets={"tracks": (4, 20)})
    assert_sums(stage, [])
    assert_sums(stage, [[]] * 3)
    whole = batch_of([[(i, i, i)] * i for i in range(12)])
    part = stage.process(whole.slice(5, 9))
    assert part["length"].tolist() == [5, 6, 7, 8]
    assert not counter[0]
    stage.close()


def test_short_events_do_not_pay_for_long_ones(monkeypatch):
    """What the model gets are groups of events of like length, each padded to its bucket alone."""
    stage, _ = opened(buckets={"tracks": (2, 20)})
    shapes = []
    infer = stage._session.infer
    monkeypatch.setattr(
        stage, "_session", type("Spy", (), {"infer": staticmethod(
            lambda inputs, outputs: shapes.append(inputs["tracks"].shape) or infer(inputs, outputs)
        ), "close": stage._session.close})(),
    )  # fmt: skip
    stage._sessions = {0: stage._session}
    assert_sums(stage, [[(1, 2, 3)]] * 30 + [[(4, 5, 6)] * 20] + [[]] * 30)
    assert sorted(shapes) == [(1, 20, FEATURES), (60, 2, FEATURES)]
    stage.close()


def test_large_batches_go_in_parts():
    stage, _ = opened(events=5000)
    lists = [[(i % 5, 1, 0)] * (i % 3) for i in range(5000)]
    done = stage.process(batch_of(lists))
    assert done["length"].tolist() == [i % 3 for i in range(5000)]
    stage.close()


def test_consumes_a_ragged_column_and_no_mask():
    stage = Infer("sum", Infer.Options(model="list-sum", inputs={"tracks": "pf"}))
    assert [(column.name, column.spec) for column in stage.consumes] == [
        ("pf", f"float32[*,{FEATURES}]"),
        ("scale", "float32"),
    ]
    assert isinstance(stage.consumes, Schema)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buckets": {"trakcs": (4,)}}, "takes no lists as 'trakcs'"),
        ({"buckets": {"scale": (4,)}}, "takes no lists as 'scale'"),
        ({"buckets": {"tracks": (4, 21)}}, "expected lengths of 1 to 20, got (4, 21)"),
        ({"buckets": {"tracks": ()}}, "expected lengths of 1 to 20, got ()"),
        ({"buckets": {"tracks": (0, 4)}}, "expected lengths of 1 to 20, got (0, 4)"),
        ({"inputs": {"real": "mask"}}, "has no tensor 'real'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError) as caught:
        Infer("sum", Infer.Options(model="list-sum", **options))
    assert message in str(caught.value)


def test_a_swapped_model_is_warmed_up_and_used(models):
    stage, counter = opened(buckets={"tracks": (4, 20)})
    stage.prepare(1, find_model("list-sum"))
    stage.activate(1)
    assert_sums(stage, [[(1, 2, 3)] * 25, [], [(4, 5, 6)]])
    assert counter[0] == 1
    stage.close()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"real": {"mask": "scale"}}, "expected an input with `max_items`, got 'scale'"),
        ({"number": {"length": "trakcs"}}, "expected an input with `max_items`, got 'trakcs'"),
        ({"real": {"shape": (2,)}}, "a mask or a length of numbers"),
        ({"tracks": {"max_items": -1}}, "max_items: expected"),
        ({"tracks": {"max_items": 1 << 30}}, "max_items: expected"),
        ({"number": {"mask": "tracks"}}, "got both"),
    ],
)
def test_manifests_that_contradict_themselves_are_refused(tmp_path, list_sum, changed, message):
    whole = list_sum(tmp_path).manifest.inputs
    inputs = tuple(replace(t, **changed.get(t.name, {})) for t in whole)
    model = list_sum(tmp_path, inputs=inputs)
    with pytest.raises(ModelError) as caught:
        read_model(model.folder)
    assert message in str(caught.value)


def test_a_file_with_lists_of_one_length_takes_that_length_only(tmp_path, list_sum, monkeypatch):
    list_sum(tmp_path, fixed=MAX_TRACKS)
    monkeypatch.setenv("SLUICE_MODELS", str(tmp_path))
    stage, _ = opened()
    assert_sums(stage, [[(1, 2, 3)], []])
    stage.close()
    with pytest.raises(ModelError, match="takes lists of 4 items"):
        opened(buckets={"tracks": (4, 20)})


def test_golden_lists_of_another_kind_are_refused(tmp_path, list_sum):
    whole = list_sum(tmp_path).manifest.inputs
    inputs = tuple(replace(t, shape=(4,)) if t.name == "tracks" else t for t in whole)
    model = list_sum(tmp_path, inputs=inputs)
    with pytest.raises(ModelError, match="tracks"):
        open_session(read_model(model.folder), "onnxruntime:cpu", "here")
