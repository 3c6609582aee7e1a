"""Bad input: each case is refused by name, or works, and loses nothing."""

import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skflowfm import AugmentedClassifier, FlowFMSampler, FlowFMTransformer
from skflowfm._validation import Rows, seed_of


@pytest.fixture(scope="module")
def windows():
    return np.random.default_rng(0).normal(size=(40, 3, 16))


@pytest.fixture(scope="module")
def table():
    return np.random.default_rng(1).normal(size=(40, 4))


def transformer(**parameters):
    return FlowFMTransformer(max_steps=1, random_state=0, **parameters)


def with_value(X, value, at):
    X = X.copy()
    X[at] = value
    return X


BAD_FIT = [
    (np.empty((0, 3, 16)), ValueError, "0 sample(s)"),
    (np.empty((5, 3, 0)), ValueError, "at least 1 time step per window, got 0"),
    (np.empty((5, 0)), ValueError, "0 feature(s)"),
    (np.ones((1, 3, 16)), ValueError, "1 sample(s)"),
    (np.ones((4, 3, 16, 2)), ValueError, "got 4 dimensions"),
    (np.ones(4), ValueError, "Expected 2D array, got 1D array"),
    (np.ones((4, 3, 16), dtype=object), TypeError, "got dtype=object"),
    (np.ones((4, 3, 16), dtype=complex), ValueError, "Complex data not supported"),
    ([[[1.0, 2.0]], [[1.0, 2.0, 3.0]]], ValueError, "got a ragged list"),
    (iter([[1.0, 2.0]]), TypeError, "one by one use skflowfm.stream"),
    ([["a", "b"], ["c", "d"]], ValueError, "string"),
    (scipy.sparse.eye_array(4, format="csr"), TypeError, "Sparse data was passed"),
    (
        pd.DataFrame(
            {"x": np.ones(4)}, index=pd.MultiIndex.from_product([[0, 1], [0, 1]])
        ),
        TypeError,
        "MultiIndex of 2 levels",
    ),
]


@pytest.mark.parametrize(("X", "error", "message"), BAD_FIT, ids=lambda v: str(v)[:25])
def test_fit_refuses_by_name(X, error, message):
    with pytest.raises(error, match=re.escape(message)):
        transformer().fit(X)


@pytest.mark.parametrize(
    ("value", "named"),
    [(np.nan, "got NaN"), (np.inf, "got inf"), (1e300, "got 1e+300")],
)
def test_values_that_float32_cannot_hold_are_located(windows, value, named):
    X = with_value(windows, value, (7, 2, 11))
    with pytest.raises(ValueError, match=re.escape(named)) as caught:
        transformer().fit(X)
    assert "(7, 2, 11)" in str(caught.value)


def test_nan_in_transform_is_refused_too(windows):
    fitted = transformer().fit(windows)
    with pytest.raises(ValueError, match="must be finite"):
        fitted.transform(with_value(windows, np.nan, (0, 0, 0)))
    with pytest.raises(ValueError, match="must be finite"):
        fitted.score_samples(with_value(windows, np.nan, (0, 0, 0)))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (np.ones((2, 3, 15)), "rows of shape (3, 16) as in fit, got (3, 15)"),
        (np.ones((2, 4, 16)), "windows of 3 channels as in fit, got 4"),
        (np.ones((2, 48)), "must be 3-D windows with rows of shape (3, 16)"),
    ],
)
def test_other_shapes_at_transform(windows, other, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        transformer().fit(windows).transform(other)


def test_windows_after_a_table(table, windows):
    with pytest.raises(ValueError, match="must be a 2-D table"):
        transformer().fit(table).transform(windows)


def test_changed_column_names(table):
    frame = pd.DataFrame(table, columns=list("abcd"))
    fitted = transformer().fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.transform(frame.rename(columns={"d": "e"}))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 65}, "n_components must be at most 64 for a row of shape"),
        ({"n_components": 0}, "n_components must be an integer of at least 1"),
        ({"n_components": 2.5}, "n_components=2.5"),
        ({"max_steps": -1}, "max_steps must be an integer of at least 0"),
        ({"max_time": -1.0}, "max_time must be a number"),
        ({"max_time": 0}, "max_time must be a number in (0, inf), got max_time=0"),
        ({"max_time": "2min"}, "max_time='2min'"),
        ({"alignment": -0.1}, "alignment must be a number"),
        ({"alignment": np.nan}, "alignment must be a number"),
        (
            {"validation_fraction": 1.0},
            "validation_fraction must be a number in [0, 1)",
        ),
        ({"views": "strong"}, "views must be 'auto', None or a callable"),
        ({"device": "abacus"}, "device must be 'auto' or a device that torch can use"),
        ({"random_state": -3}, "random_state must be None, a non-negative integer"),
        ({"random_state": "zero"}, "random_state='zero'"),
        ({"encoder": torch.nn.Linear(16, 5)}, "encoder must map rows"),
        ({"encoder": torch.nn.Dropout(0.5)}, "must not contain dropout"),
    ],
)
def test_bad_parameters_are_named_with_their_value(windows, parameters, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        FlowFMTransformer(**{"max_steps": 1} | parameters).fit(windows)


def test_a_class_instead_of_an_encoder(windows):
    with pytest.raises(TypeError, match="must be an instance of"):
        transformer(encoder=torch.nn.Linear).fit(windows)


def test_wrong_lengths(windows):
    values = np.repeat([0, 1], 10)
    with pytest.raises(ValueError, match="groups must have one entry per row"):
        transformer().fit(windows, groups=values)
    with pytest.raises(ValueError, match="y must have one entry per row"):
        FlowFMSampler(transformer()).fit(windows, values)


def test_wrong_length_of_y_in_the_meta_estimator(table):
    with pytest.raises(ValueError, match="y must have one entry per row"):
        AugmentedClassifier(sampler=FlowFMSampler(transformer())).fit(table, [0, 1])


def test_wrong_number_of_components(windows):
    fitted = transformer(n_components=4).fit(windows)
    with pytest.raises(ValueError, match="Z must have the 4 components"):
        fitted.inverse_transform(np.ones((2, 5)))


def test_one_feature_and_constant_channels_work(windows):
    one = np.random.default_rng(0).normal(size=(30, 1))
    assert np.isfinite(transformer().fit_transform(one)).all()
    flat = windows.copy()
    flat[:, 1] = 7.0
    fitted = transformer(n_components=4).fit(flat)
    assert np.isfinite(fitted.transform(flat)).all()
    drawn = fitted.inverse_transform(fitted.transform(flat))
    np.testing.assert_allclose(drawn[:, 1], 7.0, atol=0.01)


def test_a_read_only_float32_memmap_works_and_is_not_written(tmp_path, windows):
    path = tmp_path / "windows.npy"
    np.save(path, windows.astype(np.float32))
    before = path.read_bytes()
    X = np.load(path, mmap_mode="r")
    fitted = transformer(n_components=4).fit(X)
    sampler = FlowFMSampler(transformer(n_components=4), quality=1).fit(X)
    expected = transformer(n_components=4).fit(np.array(X)).transform(np.array(X))
    np.testing.assert_array_equal(fitted.transform(X), expected)
    sampler.sample_like(X)
    assert path.read_bytes() == before


def test_a_writable_float32_array_is_not_written(windows):
    X = windows.astype(np.float32)
    before = X.copy()
    fitted = FlowFMTransformer(4, max_steps=3, random_state=0).fit(X)
    fitted.transform(X)
    fitted.score_samples(X)
    FlowFMSampler(transformer(n_components=4)).fit(X).sample_like(X)
    np.testing.assert_array_equal(X, before)


def test_negative_strides_and_float16(windows):
    X = windows.astype(np.float16)
    backwards = transformer(n_components=4).fit(X[::-1])
    copied = transformer(n_components=4).fit(np.ascontiguousarray(X[::-1]))
    np.testing.assert_array_equal(backwards.transform(X), copied.transform(X))


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(2, 9000),
    offset=st.floats(-1e4, 1e4),
    scale=st.floats(0.1, 1e3),
    seed=st.integers(0, 99),
)
def test_chunked_moments_are_those_of_the_whole(n, offset, scale, seed):
    X = np.random.default_rng(seed).normal(offset, scale, size=(n, 2))
    mean, deviation = Rows(X).moments()
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-5, atol=1e-5 * scale)
    np.testing.assert_allclose(deviation, X.std(axis=0), rtol=1e-4)


def test_seed_of():
    assert seed_of(5) == 5
    assert seed_of(np.int64(5)) == 5
    assert seed_of(np.random.RandomState(0)) == seed_of(np.random.RandomState(0))
    assert seed_of(np.random.default_rng(0)) == seed_of(np.random.default_rng(0))
    assert seed_of(None) != seed_of(None)
