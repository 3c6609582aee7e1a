"""Frames with columns of categories: in, through the model, and out again."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skflowfm import (
    AugmentedClassifier,
    FlowFMSampler,
    FlowFMTransformer,
    load,
    make_synthetic,
)
from skflowfm._columns import Columns, as_codes


def frame(n=240, seed=0):
    """A colour that decides the size, a count, and a shop that decides nothing."""
    rng = np.random.default_rng(seed)
    colour = rng.choice(["red", "green", "blue"], size=n, p=[0.5, 0.3, 0.2])
    size = np.select([colour == "red", colour == "green"], [10.0, 0.0], -10.0)
    return pd.DataFrame(
        {
            "colour": pd.Categorical(colour, categories=["red", "green", "blue"]),
            "size": size + rng.normal(size=n),
            "shop": pd.Categorical(rng.integers(3, 5, size=n)),
            "count": rng.poisson(4, size=n),
        }
    )


@pytest.fixture(scope="module")
def X():
    return frame()


@pytest.fixture(scope="module")
def y(X):
    return np.where(X["size"] > 5, "big", "small")


@pytest.fixture(scope="module")
def sampler(X, y):
    transformer = FlowFMTransformer(max_steps=400, random_state=0)
    return FlowFMSampler(transformer, random_state=0).fit(X, y)


@given(st.integers(0, 1000))
def test_spread_and_collapse_are_inverse(seed):
    X = frame(20, seed)
    columns = Columns(X)
    codes = as_codes(X).to_numpy(dtype=np.float64)
    spread = columns.spread(codes)
    assert spread.shape[1] == 3 + 1 + len(X["shop"].cat.categories) + 1
    assert np.array_equal(columns.collapse(spread), codes)


def test_drawn_rows_have_the_columns_and_categories_of_fit(sampler, X):
    drawn = sampler.sample(300)
    assert drawn.dtypes.equals(X.dtypes)
    assert list(drawn.columns) == list(X.columns)
    assert drawn.notna().all(axis=None)


def test_drawn_categories_are_as_frequent_and_mean_the_same(sampler, X):
    drawn = sampler.sample(1500)
    wanted = X["colour"].value_counts(normalize=True)
    found = drawn["colour"].value_counts(normalize=True)
    assert (found - wanted).abs().max() < 0.1
    sizes = drawn.groupby("colour", observed=True)["size"].median()
    assert sizes["red"] == pytest.approx(10, abs=1.5)
    assert sizes["green"] == pytest.approx(0, abs=2)
    assert sizes["blue"] == pytest.approx(-10, abs=1.5)


def test_resampled_frames_keep_what_was_there(sampler, X, y):
    resampler = FlowFMSampler(
        FlowFMTransformer(4, max_steps=20, random_state=0), quality=2, random_state=0
    )
    X_new, y_new = resampler.fit_resample(X, y)
    pd.testing.assert_frame_equal(X_new.iloc[: len(X)], X, check_index_type=False)
    assert X_new.dtypes.equals(X.dtypes)
    assert len(set(np.unique(y_new, return_counts=True)[1])) == 1
    drawn = make_synthetic(X, n_samples=5, sampler=resampler, random_state=0)
    assert drawn.dtypes.equals(X.dtypes)
    assert len(drawn) == 5


def test_variants_ways_and_gaps(sampler, X):
    assert sampler.sample_like(X.head(7)).dtypes.equals(X.dtypes)
    assert len(sampler.interpolate(X.head(2), X.tail(2), 4)) == 8
    holed = X.head(60).copy()
    holed["colour"] = holed["colour"].where(holed.index % 2 == 0)
    filled = sampler.impute(holed)
    assert filled.dtypes.equals(X.dtypes)
    pd.testing.assert_frame_equal(filled[::2], X.head(60)[::2])
    pd.testing.assert_frame_equal(
        filled.drop(columns="colour"), X.head(60).drop(columns="colour")
    )
    right = (filled["colour"] == X.head(60)["colour"])[1::2]
    assert right.mean() > 0.8


def test_inside_an_augmented_classifier(sampler, X, y):
    one_hot = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["colour", "shop"]),
        remainder="passthrough",
    )
    model = AugmentedClassifier(
        make_pipeline(one_hot, LogisticRegression(max_iter=1000)),
        FlowFMSampler(FlowFMTransformer(4, max_steps=20), quality=2),
        random_state=0,
    ).fit(X, y)
    assert model.score(X, y) > 0.95


def test_bad_input(sampler, X):
    with pytest.raises(ValueError, match="column 'colour' must have the categories of"):
        sampler.sample_like(X.assign(colour="red"))
    other = X.assign(colour=X["colour"].cat.rename_categories({"red": "pink"}))
    with pytest.raises(ValueError, match="'green', 'blue'"):
        sampler.sample_like(other)
    plain = X[["size", "count"]]
    transformer = FlowFMTransformer(2, max_steps=2, random_state=0).fit(plain)
    frozen = FlowFMSampler(FrozenEstimator(transformer), quality=1).fit(plain)
    with pytest.raises(ValueError, match="in fit it had none"):
        frozen.sample_like(plain.assign(size=pd.Categorical(plain["size"] > 0)))
    with pytest.raises(ValueError, match="missing category in column 'colour'"):
        FlowFMSampler().fit(X.assign(colour=X["colour"].where(X["size"] > 0)))


def test_columns_in_another_order_are_named(sampler, X):
    with pytest.raises(ValueError, match="columns of fit in the same order"):
        sampler.sample_like(X[X.columns[::-1]])


def test_a_frame_that_lacks_a_column_is_refused_by_the_number_of_columns():
    frame = pd.DataFrame({"a": [0.0, 1.0], "b": pd.Categorical(["x", "y"])})
    with pytest.raises(ValueError, match="the 2 columns of fit"):
        Columns(frame).codes_of(frame[["a"]])


@pytest.mark.parametrize("bounds", [(0, 1.5), (-3, -1), (100, 200)])
def test_bounds_spare_categories(bounds):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"size": rng.normal(size=80)})
    X["kind"] = pd.Categorical(rng.choice(list("abcd"), 80))
    plain, bounded = (
        FlowFMSampler(
            FlowFMTransformer(2, max_steps=1), quality=1, bounds=b, random_state=0
        )
        .fit(X)
        .sample(100)
        for b in (None, bounds)
    )
    pd.testing.assert_series_equal(bounded["kind"], plain["kind"])
    assert bounded["size"].between(*bounds).all()


def test_whole_numbers_stay_within_bounds():
    X = np.random.default_rng(0).integers(-5, 5, size=(60, 2))
    sampler = FlowFMSampler(
        FlowFMTransformer(2, max_steps=1), quality=1, bounds=(-2.6, 1.4), random_state=0
    )
    new, _ = sampler.fit_resample(X, np.repeat([0, 1], [40, 20]))
    assert new[60:].min() == -2
    assert new[60:].max() == 1


@pytest.mark.filterwarnings("ignore:pandas.DataFrame with sparse")
def test_sparse_columns_come_back():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "few": pd.arrays.SparseArray(rng.integers(0, 2, 60)),
            "x": rng.normal(size=60),
        }
    )
    sampler = FlowFMSampler(FlowFMTransformer(2, max_steps=1), quality=1)
    new, _ = sampler.fit_resample(X, np.repeat([0, 1], [40, 20]))
    assert new.dtypes.equals(X.dtypes)
    assert len(new) == 80


def tiny_sampler(**parameters):
    model = FlowFMTransformer(2, max_steps=1, random_state=0)
    return FlowFMSampler(model, quality=1, random_state=0, **parameters)


@pytest.mark.parametrize("bounds", [None, "data"])
@given(
    st.floats(-1e9, 1e9, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1),
    st.integers(-(2**40), 2**40),
)
def test_what_never_changes_is_drawn_as_it_is(bounds, number, whole):
    varied = np.random.default_rng(0).normal(size=12)
    y = np.repeat([0, 1], [8, 4])
    X = pd.DataFrame({"number": number, "varied": varied, "whole": whole})
    drawn = make_synthetic(X, n_samples=3, sampler=tiny_sampler(bounds=bounds))
    enlarged, _ = tiny_sampler(bounds=bounds).fit_resample(X, y)
    for frame in (drawn, enlarged):
        assert frame["number"].unique().tolist() == [number]
        assert frame["whole"].unique().tolist() == [whole]
        assert frame["varied"].nunique() == len(frame)
        pd.testing.assert_series_equal(frame.dtypes, X.dtypes)
    windows = np.stack([np.full((12, 5), number), varied[:, None] * np.arange(5)], 1)
    enlarged, _ = tiny_sampler(bounds=bounds).fit_resample(windows, y)
    assert (enlarged[:, 0] == number).all()
    assert enlarged[8:, 1].std() > 0


def test_a_column_that_varies_elsewhere_is_not_taken_for_constant():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    X[:8, 0] = 1.0
    sampler = tiny_sampler().set_params(sampling_strategy={1: 10})
    y = np.repeat([0, 1], 4)
    enlarged, _ = sampler.fit_resample(X[:8], y, X_unlabelled=X[8:])
    assert len(np.unique(enlarged[8:, 0])) > 1


@pytest.mark.parametrize("given_as", [np.ndarray.tolist, torch.tensor])
def test_whole_numbers_are_whole_however_they_come(given_as):
    X = np.random.default_rng(0).integers(0, 5, (60, 3))
    holed = X.astype(float)
    holed[0, 0] = np.nan
    one, other = (
        tiny_sampler(bounds=(0.5, 3.5)).fit(rows) for rows in (X, given_as(X))
    )
    np.testing.assert_array_equal(one.impute(holed), other.impute(holed))
    np.testing.assert_array_equal(one.sample(50), other.sample(50))
    assert one.sample(50).min() >= 1


def test_bounds_without_a_whole_number_are_refused():
    X = np.random.default_rng(0).integers(0, 5, (60, 3))
    with pytest.raises(ValueError, match="bounds must leave a whole number"):
        tiny_sampler(bounds=(0.2, 0.8)).fit(X)
    tiny_sampler(bounds=(0.2, 0.8)).fit(X.astype(float))


def test_objects_beside_categories_are_drawn_as_what_they_are(X, tmp_path):
    """Integers of Python, which may be missing elsewhere, and true and false."""
    given = X.assign(count=X["count"].astype(object), some=(X["size"] > 0))
    given["some"] = given["some"].astype(object)
    sampler = tiny_sampler().fit(given)
    sampler.save(tmp_path / "s.skflowfm")
    for drawn in (sampler.sample(20), load(tmp_path / "s.skflowfm").sample(20)):
        assert {type(value) for value in drawn["count"]} == {int}
        assert {type(value) for value in drawn["some"]} == {bool}
        assert drawn.dtypes.equals(given.dtypes)


@pytest.mark.parametrize("of", [int, bool])
def test_arrays_of_objects_are_drawn_as_frames_of_objects_are(of):
    rng = np.random.default_rng(0)
    X = np.c_[rng.poisson(2, 60), rng.integers(0, 2, 60)].astype(of).astype(object)
    y = np.repeat([0, 1], [45, 15])
    drawn, _ = tiny_sampler().fit_resample(X, y)
    as_frame, _ = tiny_sampler().fit_resample(pd.DataFrame(X), y)
    assert {type(value) for value in drawn.ravel()} == {of}
    np.testing.assert_array_equal(drawn, as_frame.to_numpy())
    holed = X.copy()
    holed[:5, 0] = None
    filled = tiny_sampler().fit(X).impute(holed)
    assert {type(value) for value in filled.ravel()} == {of}
    np.testing.assert_array_equal(filled[5:], X[5:])


def test_columns_of_one_name_are_refused_before_categories_are_counted(X, y):
    twice = pd.concat([X, X], axis=1)
    for fit in (tiny_sampler().fit, AugmentedClassifier(sampler=tiny_sampler()).fit):
        with pytest.raises(ValueError, match="got 'colour' more than once"):
            fit(twice, y)


def test_a_transformer_that_read_categories_as_numbers_is_refused_by_name(X, y):
    numbers = X[["size", "shop"]]
    transformer = FlowFMTransformer(2, max_steps=2, random_state=0).fit(numbers)
    sampler = FlowFMSampler(FrozenEstimator(transformer))
    with pytest.raises(ValueError, match=r"categories in \['shop'\].*3 in all"):
        sampler.fit(numbers, y)
    sampler.fit(numbers.astype(float), y)


@pytest.mark.parametrize("n_levels", [5, 20])
def test_categories_of_many_levels_are_drawn_as_often_as_they_come(n_levels):
    """And where a number says nearly which, they agree with it."""
    rng = np.random.default_rng(0)
    level = rng.integers(0, n_levels, 500)
    X = pd.DataFrame({"x": level + rng.normal(size=500), "k": pd.Categorical(level)})
    transformer = FlowFMTransformer(max_steps=150, random_state=0)
    drawn = FlowFMSampler(transformer, random_state=0).fit(X).sample(1000)
    share = drawn.k.value_counts(normalize=True)
    expected = X.k.value_counts(normalize=True)
    distance = share.sub(expected, fill_value=0).abs().sum() / 2
    assert distance < 0.15
    correlation = np.corrcoef(drawn.x.astype(float), drawn.k.astype(float))[0, 1]
    assert correlation > np.corrcoef(X.x, level)[0, 1] - 0.1
