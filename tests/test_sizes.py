"""Large rows: a few at a time, to the same effect."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.frozen import FrozenEstimator

import skflowfm._sizes as sizes
from skflowfm import FlowFMClassifier, FlowFMSampler, FlowFMTransformer, stream
from skflowfm._budget import Budget, batch_size
from skflowfm._draws import pool
from skflowfm._generation import block_size, rows_at_a_time
from skflowfm._sizes import LARGE_ROW, fewer, summary_rows
from skflowfm._validation import Rows
from skflowfm.datasets import make_wearable

shapes = st.one_of(
    st.tuples(st.integers(1, 10**5)),
    st.tuples(st.integers(1, 99), st.integers(1, 9999)),
)


@given(st.integers(1, 10**5), shapes, st.integers(1, 999))
def test_as_many_values_are_taken_unless_that_is_too_few_rows(n, shape, least):
    taken, values = fewer(n, shape, least), math.prod(shape)
    assert min(least, n) <= taken <= n
    if values <= LARGE_ROW:
        assert taken == n
    elif taken > least:
        assert taken * values <= n * LARGE_ROW < (taken + 1) * values


@given(shapes, st.sampled_from(["cpu", "cuda"]))
def test_rows_are_drawn_in_whole_blocks(shape, device):
    device = torch.device(device)
    size, at_a_time = block_size(device, shape), rows_at_a_time(device, shape)
    assert size <= at_a_time <= 4096
    assert at_a_time % size == 0


def test_budgets_count_values():
    assert batch_size(10**6, "cpu", (9, 900)) == 64
    assert batch_size(10**6, "cpu", (16, 1024)) == 32
    assert batch_size(10**6, "cpu", (60, 4096)) == 16
    assert batch_size(10**6, "cuda", (16, 1024)) == 256
    assert summary_rows((3, 300)) == summary_rows((8192,)) == 2000
    assert summary_rows((16, 1024)) == 1000
    index = torch.arange(50_000)
    assert [
        len(pool(index, index[:0], Budget(1000, None, batch), shape)[0])
        for batch, shape in ((64, (3, 300)), (32, (16, 1024)), (16, (60, 4096)))
    ] == [8000, 4000, 2000]


def test_scaling_reads_rows_bit_by_bit():
    X = np.random.default_rng(0).normal(3, 2, size=(9000, 2, 50)).astype(np.float32)
    tracemalloc.start()
    mean, scale, _ = Rows(X).moments()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.1 * 4096 * 100 * 8  # a chunk in double precision, and its squares
    np.testing.assert_allclose(mean[:, 0], X.mean(axis=(0, 2), dtype=float), rtol=1e-6)
    np.testing.assert_allclose(scale[:, 0], X.std(axis=(0, 2), dtype=float), rtol=1e-6)


@pytest.fixture(scope="module")
def data():
    return make_wearable(600, n_timesteps=32, random_state=0, return_X_y=True)


@pytest.fixture(scope="module")
def model(data):
    return FlowFMTransformer(8, max_steps=20, random_state=0).fit(data[0])


@pytest.fixture
def large(monkeypatch):
    """Windows of 3 x 32 count for twelve; returns how many rows each read has."""
    read, get = [], Rows.__getitem__

    def reading(rows, index):
        block = get(rows, index)
        read.append(len(block))
        return block

    monkeypatch.setattr(sizes, "LARGE_ROW", 8)
    monkeypatch.setattr(Rows, "__getitem__", reading)
    return read


def test_large_rows_are_read_a_few_at_a_time(data, model, large):
    X, y, _ = data
    FlowFMTransformer(8, max_steps=2, random_state=0).fit(X)
    assert sorted(large)[-2:] == [64, 500]  # the readout of training, the stem
    for use in (
        model.transform,
        model.score_samples,
        FlowFMClassifier(FrozenEstimator(model)).fit(X, y).predict,
        FlowFMSampler(FrozenEstimator(model), quality=1).fit(X, y).sample_like,
    ):
        large.clear()
        use(X)
        assert max(large) == 512 // 12


def test_what_is_said_of_large_rows_is_the_same(data, model, large, monkeypatch):
    X = data[0]
    sampler = FlowFMSampler(FrozenEstimator(model), random_state=0).fit(X[:100])
    gaps = np.where(np.arange(32) < 5, np.nan, X[:100])

    def results():
        yield model.transform(X)
        yield model.score_samples(X)
        yield sampler.sample(400)
        yield np.concatenate(list(stream(sampler.sample, 400)))
        yield sampler.impute(gaps)

    few = list(results())
    assert np.array_equal(few[2], few[3])
    monkeypatch.setattr(sizes, "LARGE_ROW", LARGE_ROW)
    for a, b in zip(few, results(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())
