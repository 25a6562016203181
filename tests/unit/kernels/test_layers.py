"""Small nets as one kernel: against plain matrix products in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.kernels.compiler.simd import OUTPUTS, TILE
from sluice.kernels.layers import CUT, RELU, SOFTMAX, Layer, compile_layers, run, workspace

NONE = np.float32(1)
#: What rounding to float32 may change, as a share.
HALF_ULP = 2.0**-24


def outputs_of(layers, x, extra=None, scale=1.0, cut=False):
    """Run a net through the kernel."""
    program = compile_layers(layers)
    extra = np.empty((len(x), 0), np.float32) if extra is None else extra
    y = np.full((len(x), len(layers[-1].bias)), np.nan, np.float32)
    run(
        x, extra, np.float32(scale), cut, program.steps, program.sources, program.numbers,
        program.rows, workspace(program), y,
    )  # fmt: skip
    return y


def oracle(layers, x, scale=1.0, cut=False):
    """Compute the same layer by layer, in float64."""
    x = x.astype(np.float64) * scale
    x = np.trunc(x) if cut else x
    for weight, bias, activation in layers:
        x = x @ weight.astype(np.float64).T + bias
        x = np.maximum(x, 0) if activation & RELU else x
        x = np.trunc(x) if activation & CUT else x
        if activation & SOFTMAX:
            x = np.exp(x - x.max(1, keepdims=True))
            x /= x.sum(1, keepdims=True)
    return x


def integers(rng, shape):
    """Return small whole numbers, some of them zero: float32 adds them without rounding."""
    return (rng.integers(-4, 5, shape) * (rng.random(shape) < 0.6)).astype(np.float32)


@given(
    seed=st.integers(0, 2**32 - 1),
    events=st.integers(0, 2 * TILE + 3),
    widths=st.lists(st.integers(1, 37), min_size=2, max_size=4),
    activations=st.lists(st.sampled_from([0, RELU, RELU | CUT]), min_size=3, max_size=3),
    cut=st.booleans(),
)
def test_whole_numbers_come_out_exactly(seed, events, widths, activations, cut):
    """Any depth, any widths, zeros anywhere, any number of events: equal to the last bit."""
    rng = np.random.default_rng(seed)
    layers = [
        Layer(integers(rng, (after, before)), integers(rng, after), activation)
        for before, after, activation in zip(widths, widths[1:], activations, strict=False)
    ]
    x = integers(rng, (events, widths[0]))
    np.testing.assert_array_equal(outputs_of(layers, x, cut=cut), oracle(layers, x, cut=cut))


@given(seed=st.integers(0, 2**32 - 1), outputs=st.integers(1, 20))
def test_softmax_is_that_of_float64(seed, outputs):
    """Probabilities agree as far as float32 allows, also where the scores are far apart."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 3, (outputs, 17)).astype(np.float32)
    layers = [Layer(weight, np.zeros(outputs, np.float32), SOFTMAX)]
    x = rng.normal(0, 3, (TILE + 5, 17)).astype(np.float32)
    got, expected = outputs_of(layers, x).astype(np.float64), oracle(layers, x)
    # A score of 17 products in float32 is wrong by less than this, and each exponential by twice.
    scores = 18 * HALF_ULP * (np.abs(x).astype(np.float64) @ np.abs(weight).astype(np.float64).T)
    share = np.expm1(2 * scores.max(1, keepdims=True)) + (outputs + 8) * HALF_ULP
    # The kernel has no score further than 87 below the largest.
    assert (np.abs(got - expected) <= share * expected + 1.01 * np.exp(-87.0)).all()
    assert (np.abs(got.sum(1) - 1.0) <= (outputs + 1) * HALF_ULP).all()


def test_an_event_does_not_depend_on_its_batch():
    """The same event gives the same bits at any place of any batch."""
    rng = np.random.default_rng(5)
    layers = [
        Layer(rng.normal(size=(32, 17)).astype("f4"), rng.normal(size=32).astype("f4"), RELU),
        Layer(rng.normal(size=(3, 32)).astype("f4"), rng.normal(size=3).astype("f4"), SOFTMAX),
    ]
    x = rng.normal(size=(3 * TILE + 1, 17)).astype(np.float32)
    whole = outputs_of(layers, x)
    for start, stop in ((0, 1), (5, 5 + TILE), (TILE, 2 * TILE + 7), (3 * TILE, 3 * TILE + 1)):
        np.testing.assert_array_equal(outputs_of(layers, x[start:stop]), whole[start:stop])


def test_scale_cut_and_more_inputs():
    """Inputs are scaled, then cut toward zero; further inputs come as they are."""
    layers = [Layer(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), 0)]
    x = np.array([[0.49, -0.49]], np.float32)
    extra = np.array([[0.25]], np.float32)
    np.testing.assert_array_equal(outputs_of(layers, x, extra, 4.0, cut=True), [[1.0, -1.0, 0.25]])


def test_outputs_that_share_inputs_are_computed_together():
    """A convolution written as a matrix costs its taps, not the matrix."""
    weight = np.kron(np.eye(4), np.ones((OUTPUTS, 9))).astype(np.float32)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(weight))
    program = compile_layers([Layer(weight[order], np.zeros(len(weight), np.float32), 0)])
    assert program.numbers.size == 4 * OUTPUTS * (9 + 1)
    x = integers(rng, (40, 36))
    layers = [Layer(weight[order], np.zeros(len(weight), np.float32), 0)]
    np.testing.assert_array_equal(outputs_of(layers, x), oracle(layers, x))


def test_shapes_that_do_not_fit_are_refused():
    """Also where the memory to work in is another net's."""
    net = compile_layers([Layer(np.eye(8, dtype=np.float32), np.zeros(8, np.float32), 0)])
    none, y = np.empty((4, 0), np.float32), np.empty((4, 8), np.float32)
    rest = (net.steps, net.sources, net.numbers, net.rows)
    with pytest.raises(ValueError, match="expected x"):
        run(np.zeros((3, 8), np.float32), none, NONE, False, *rest, workspace(net), y)
    with pytest.raises(ValueError, match="working memory"):
        run(np.zeros((4, 400), np.float32), none, NONE, False, *rest, workspace(net), y)
