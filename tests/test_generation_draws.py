"""Counter-based randomness and blocks: sample i depends on the seed and i only."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import skflowfm._generation as generation
import skflowfm._steps as steps
from skflowfm import FlowFMTransformer
from skflowfm._building import build_model
from skflowfm._generation import (
    BLOCK,
    STREAMS,
    Steps,
    counter_uniform,
    decode,
    flow_shape,
    in_blocks,
    represent,
    score,
    source_rows,
)
from skflowfm._steps import (
    STOP,
    calibrated,
    gain_against,
    mean_log_spectrum,
    steps_of,
)
from skflowfm._validation import Rows
from skflowfm.nets.coordinates import equalised
from skflowfm.ode import SOLVERS, integrate

seeds = st.integers(0, 2**63 - 1)
streams = st.sampled_from(sorted(STREAMS))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------ counter_uniform
@given(
    seed=seeds,
    stream=streams,
    start=st.integers(0, 2**40),
    n=st.integers(1, 20),
    skip=st.integers(0, 30),
    size=st.integers(1, 13),
)
def test_a_row_depends_on_seed_stream_and_index(seed, stream, start, n, skip, size):
    rows = counter_uniform(seed, stream, start, n + skip, size)
    assert rows.shape == (n + skip, size)
    assert rows.dtype == torch.float64
    later = counter_uniform(seed, stream, start + skip, n, size)
    assert torch.equal(rows[skip:], later)


@given(seeds, seeds, streams, streams)
def test_other_seeds_and_streams_give_other_numbers(seed, other, stream, another):
    first = counter_uniform(seed, stream, 0, 5, 3)
    second = counter_uniform(other, another, 0, 5, 3)
    if (seed, stream) == (other, another):
        assert torch.equal(first, second)
    else:
        assert not torch.isin(first, second).any()


@pytest.mark.parametrize("bit", [1, 31, 32, 62])
def test_every_bit_of_a_seed_counts(bit):
    first = counter_uniform(5, "source", 0, 5, 3)
    assert not torch.isin(counter_uniform(5 ^ 2**bit, "source", 0, 5, 3), first).any()


def test_streams_are_told_apart():
    assert len(set(STREAMS.values())) == len(STREAMS)


def test_rows_do_not_overlap():
    """Neighbouring rows share no numbers, whatever the size of a row."""
    for size in (1, 3, 4, 5):
        rows = counter_uniform(0, "source", 0, 100, size)
        assert len(torch.unique(rows)) == 100 * size


@pytest.mark.parametrize("size", [1, 6, 64])
def test_numbers_are_uniform_and_uncorrelated(size):
    rows = counter_uniform(11, "representation", 5, 3000, size).numpy()
    assert rows.min() > 0
    assert rows.max() < 1
    assert stats.kstest(rows.ravel(), "uniform").pvalue > 0.01
    correlation = np.corrcoef(np.concatenate([rows[:-1], rows[1:]], axis=1).T)
    off_diagonal = correlation[~np.eye(2 * size, dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / 3000**0.5


def test_numbers_of_neighbouring_seeds_are_uncorrelated():
    a, b = (counter_uniform(s, "source", 0, 5000, 1)[:, 0] for s in (1, 2))
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / 5000**0.5


def test_numbers_are_inside_zero_and_one_at_the_ends_of_the_grid(monkeypatch):
    """numpy's doubles are multiples of 2^-53 in [0, 1): these are its two ends."""

    class Ends:
        def __init__(self, bits):
            pass

        def random(self, shape):
            return np.where(np.arange(shape[1]) % 2, 1 - 2.0**-53, 0.0) + np.zeros(
                shape
            )

    monkeypatch.setattr(generation.np.random, "Generator", Ends)
    numbers = counter_uniform(0, "source", 0, 1, 4)
    assert numbers.min() > 0
    assert numbers.max() < 1
    assert source_rows(0, "source", 0, 1, (4,)).isfinite().all()


@given(seeds, st.integers(0, 2**30), st.integers(1, 5))
def test_source_rows_depend_on_seed_and_index(seed, start, n):
    rows = source_rows(seed, "source", start, n + 3, (2, 5))
    assert rows.shape == (n + 3, 2, 5)
    assert rows.dtype == torch.float32
    assert torch.equal(rows[3:], source_rows(seed, "source", start + 3, n, (2, 5)))


# ------------------------------------------------------------------ in_blocks
@given(
    n=st.integers(0, 40),
    size=st.integers(1, 15),
    pad=st.booleans(),
    seed=st.integers(0, 99),
)
def test_blocks_give_what_the_whole_gives(n, size, pad, seed):
    x, y = normal(n, 2, 3, seed=seed), normal(n, seed=seed + 1)
    sizes = []

    def function(x, y):
        sizes.append(len(x))
        return x.sum(dim=1) * y[:, None]

    whole = function(x, y)
    sizes.clear()
    assert torch.equal(in_blocks(function, x, y, size=size, pad=pad), whole)
    if pad and n:
        assert set(sizes) == {size}
    assert max(sizes) <= size


def test_blocks_take_no_gradient():
    x = normal(5, 2).requires_grad_()
    assert not in_blocks(lambda x: 2 * x, x, size=2, pad=True).requires_grad


# ------------------------------------------------------------------ models
def model_of(row_shape):
    """An untrained model, but for a velocity that is not zero."""
    generator = torch.Generator().manual_seed(0)
    rows = Rows((3 + 2 * normal(64, *row_shape)).numpy())
    sizes = SimpleNamespace(n_components=4, encoder=None, velocity_field=None)
    model = build_model(sizes, rows, rows[:64], generator)
    with torch.no_grad():
        for parameter in model.velocity_field.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1, generator=generator)
    return model.eval()


@pytest.fixture(scope="module", params=[(5,), (2, 30)], ids=["table", "windows"])
def model(request):
    return model_of(request.param), request.param


@pytest.mark.parametrize("n", [0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_decoded_rows_do_not_depend_on_how_many_there_are(model, n):
    model, row_shape = model
    z = normal(150, 4, seed=2)
    every = decode(model, z, row_shape, 3, Steps(2, "midpoint"))
    assert every.shape == (150, *row_shape)
    few = decode(model, z[:n], row_shape, 3, Steps(2, "midpoint"))
    assert torch.equal(few, every[:n])


def test_decoded_rows_do_not_depend_on_how_many_sources_are_drawn_at_once(
    model, monkeypatch
):
    model, row_shape = model
    z = normal(150, 4, seed=2)
    every = decode(model, z, row_shape, 3, Steps(1, "euler"))
    monkeypatch.setattr(generation, "ROWS_AT_A_TIME", BLOCK)
    again = decode(model, z, row_shape, 3, Steps(1, "euler"))
    assert torch.equal(again, every)


def test_a_decoded_row_does_not_depend_on_the_other_representations(model):
    model, row_shape = model
    z = normal(100, 4, seed=2)
    every = decode(model, z, row_shape, 3, Steps(2, "midpoint"))
    others = normal(100, 4, seed=5)
    others[80] = z[80]
    again = decode(model, others, row_shape, 3, Steps(2, "midpoint"))
    assert torch.equal(again[80], every[80])
    assert not torch.equal(again[79], every[79])


def test_decoding_uses_the_counter_based_source_of_each_row(model):
    model, row_shape = model
    z = normal(70, 4, seed=2)
    rows = decode(model, z, row_shape, 3, Steps(2, "rk4"))
    shape = flow_shape(model, row_shape)
    x_0 = source_rows(3, "source", 0, 70, shape)
    with torch.inference_mode():
        expected = model.decode(z, x_0, 2, "rk4")
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-4)
    other = decode(model, z, row_shape, 4, Steps(2, "rk4"))
    assert not torch.allclose(rows, other, atol=0.1)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(generation, "TRANSFORM_BLOCK", 16)


@pytest.mark.parametrize("n", [0, 3, 16, 33])
def test_representations_do_not_depend_on_blocks(model, n, small_blocks):
    model, row_shape = model
    X = normal(33, *row_shape, seed=6)
    z = represent(model, Rows(X[:n].numpy()))
    assert z.shape == (n, 4)
    with torch.inference_mode():
        torch.testing.assert_close(z, model.represent(X)[:n], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [0, 3, 16, 33])
def test_scores_do_not_depend_on_blocks(model, n, small_blocks):
    model, row_shape = model
    X = normal(33, *row_shape, seed=6).numpy()
    every = score(model, Rows(X), 0)
    few = score(model, Rows(X[:n]), 0)
    assert few.shape == (n,)
    torch.testing.assert_close(few, every[:n], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(score(model, Rows(X), 1), every)


class Itself(torch.nn.Module):
    """The point as its own velocity; its loss is (2 - t)^2 + (1 - t)^2 x_1^2."""

    def forward(self, x_t, t, z):
        return x_t


def test_scores_average_over_all_times_and_add_the_distance():
    model = model_of((2000,))
    model.velocity_field = Itself()
    X = 3 + 2 * normal(20, 2000, seed=7)
    scores = score(model, Rows(X.numpy()), 0)
    x_1 = model.coordinates(model.standardise(X))
    loss = 7 / 3 + x_1.square().mean(dim=1) / 3
    with torch.inference_mode():
        distance = model.axes.distance(model.represent(X))
    expected = -loss.log() - distance.log()
    torch.testing.assert_close(scores, expected, rtol=0, atol=0.03)


class WrongLevels(torch.nn.Module):
    """Far off in the level and scale of a window, at rest in its shape."""

    def forward(self, x_t, t, z):
        return torch.cat([0 * x_t[..., :-2], 0 * x_t[..., -2:] + 100], dim=-1)


def test_a_wrong_level_costs_a_score_as_much_at_any_length():
    losses = []
    for n_timesteps in (10, 300):
        model, X = model_of((2, n_timesteps)), 3 + 2 * normal(9, 2, n_timesteps)
        model.velocity_field = WrongLevels()
        with torch.inference_mode():
            distance = model.axes.distance(model.represent(X))
        losses.append((-score(model, Rows(X.numpy()), 0)).exp() / distance)
    torch.testing.assert_close(losses[0], losses[1], rtol=0.1, atol=0)


# ---------------------------------------------------------------- how it is solved
@given(
    st.integers(1, 40),
    st.sampled_from(("auto", *SOLVERS)),
    st.sampled_from((1.0, STOP)),
)
def test_no_more_evaluations_are_spent_than_allowed(n_evaluations, solver, stop):
    if solver != "auto" and n_evaluations < SOLVERS[solver].nfe_per_step:
        return  # the sampler refuses it
    times = []

    def v(x, t):
        times.append(t)
        return x

    integrate(v, torch.ones(1), *steps_of(n_evaluations, solver, stop)[:3])
    assert n_evaluations - SOLVERS.get(solver, (0, 0, 2))[2] < len(times)
    assert len(times) <= n_evaluations
    if solver == "auto" and n_evaluations > 1 and stop < 1:
        assert times[-1] == pytest.approx(stop)


def test_the_gain_undoes_what_drawing_does_to_the_spectrum(monkeypatch):
    """Draws that lose amplitude towards high frequencies get it back."""
    rows = Rows(normal(300, 2, 40).numpy())
    loss = torch.stack([torch.linspace(0, -1, 41), torch.linspace(0, 0.5, 41)]).exp()

    def drawn(model, z, row_shape, seed, solved):
        index = torch.linspace(0, 299, len(z)).long()
        level_and_scale = torch.zeros(len(z), 2, 2)
        blurred = torch.cat([rows[index], level_and_scale], dim=-1)
        return equalised(blurred, loss)[..., :-2]

    monkeypatch.setattr(steps, "decode", drawn)
    _, gain = calibrated(model_of((2, 40)), rows, 8, seed=0)
    middle = slice(5, -5)  # at the ends a mean over neighbours is one-sided
    np.testing.assert_allclose((gain * loss.numpy())[:, middle], 1, atol=0.02)


def test_tables_are_solved_to_the_end(monkeypatch):
    monkeypatch.setattr(steps, "decode", None)
    rows = Rows(np.zeros((5, 3), np.float32))
    assert calibrated(None, rows, 8, seed=0) == (1, None)


def test_an_even_excess_has_an_even_gain_up_to_the_ends():
    gain = gain_against(torch.full((1, 48), 1.0))
    np.testing.assert_allclose(gain[0, 1:-1], 10**-0.5, rtol=1e-5)


def test_each_window_counts_alike_in_the_mean_log_spectrum():
    x = normal(9, 2, 32)
    both = mean_log_spectrum(torch.cat([x, 100 * x]))  # of 10,000 times the power
    torch.testing.assert_close(both, mean_log_spectrum(x) + 2, rtol=1e-3, atol=1e-3)


def test_the_gain_stays_with_any_number_of_steps():
    gain = np.ones((1, 9))
    assert all(steps_of(n, "auto", STOP, gain).gain is gain for n in (1, 2, 8))


def test_the_gain_is_learned_from_rows_throughout(monkeypatch):
    asked = []

    def represent_and_note(model, rows):
        asked.extend(rows[:, 0, 0].tolist())
        return represent(model, rows)

    monkeypatch.setattr(steps, "represent", represent_and_note)
    X = np.random.default_rng(0).normal(size=(40, 1, 16)).astype(np.float32)
    X[:, 0, 0] = np.arange(40)  # as if sorted by class
    model = FlowFMTransformer(4, max_steps=1, random_state=0).fit(X).module_
    steps.gain_of(model, Rows(X), Steps(2, "euler"), 0, n_rows=4)
    assert asked == [0, 13, 26, 39]
