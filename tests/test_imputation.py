"""Gaps: known values stay, the rest is drawn given them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.frozen import FrozenEstimator

from skflowfm import FlowFMSampler, FlowFMTransformer, load
from skflowfm._generation import decode
from skflowfm._imputation import ROUNDS, complete, fill_by_hand, match, of_donors
from skflowfm._standing import module_of
from skflowfm._steps import steps_of
from skflowfm.datasets import make_wearable
from skflowfm.nets.coordinates import Standardise
from skflowfm.nets.scores import TableCoordinates


@pytest.fixture(scope="module")
def X():
    return make_wearable(90, n_timesteps=32, random_state=0, return_X_y=True)[0]


@pytest.fixture(scope="module")
def windows(X):
    transformer = FlowFMTransformer(8, max_steps=5, random_state=0).fit(X)
    frozen = FrozenEstimator(transformer)
    return FlowFMSampler(frozen, quality=2, random_state=1).fit(X)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(5, 3, size=(80, 3)), columns=["a", "b", "n"])
    transformer = FlowFMTransformer(3, max_steps=5, random_state=0).fit(X)
    frozen = FrozenEstimator(transformer)
    return FlowFMSampler(frozen, quality=2, random_state=1).fit(X), X


def with_gaps(X, share, seed):
    rng = np.random.default_rng(seed)
    gaps = rng.random(X.shape) < share
    gaps.reshape(len(X), -1)[:, 0] = False
    return np.where(gaps, np.nan, X), gaps


@given(share=st.floats(0, 1), seed=st.integers(0, 10_000))
def test_known_values_stay_to_the_bit_and_no_gap_is_left(windows, X, share, seed):
    holed, gaps = with_gaps(X[:4].astype(np.float64), share, seed)
    before = holed.copy()
    filled = windows.impute(holed)
    assert filled.dtype == holed.dtype
    assert np.isfinite(filled).all()
    assert np.array_equal(filled[~gaps], X[:4][~gaps])
    assert np.array_equal(holed, before, equal_nan=True)


def test_row_i_depends_on_the_seed_and_on_row_i(windows, X):
    holed, gaps = with_gaps(X[:70], 0.3, seed=0)
    filled = windows.impute(holed)
    assert np.array_equal(windows.impute(holed[:5]), filled[:5])
    other = windows.impute(holed, random_state=2)
    assert not np.allclose(other[gaps], filled[gaps])


def test_a_frame_keeps_its_columns_index_and_whole_numbers(table):
    sampler, X = table
    X = X.head(9).set_index(pd.Index(list("abcdefghi")))
    X["n"] = X["n"].round().astype("Int64")
    holed = X.copy()
    holed.loc["b", "a"], holed.loc["d", "n"] = np.nan, pd.NA
    filled = sampler.impute(holed)
    assert filled.notna().all(axis=None)
    assert filled.dtypes.equals(X.dtypes)
    changed = filled.ne(X)
    assert not changed.drop(index=["b", "d"]).any(axis=None)
    assert filled.index.equals(X.index)


def test_gaps_of_whole_and_true_columns_are_filled_alike(tmp_path):
    """With gaps they come as floats and objects; what they hold is known from fit."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"n": rng.integers(0, 9, 60), "b": rng.random(60) > 0.5})
    X["x"] = rng.normal(size=60)
    model = FrozenEstimator(FlowFMTransformer(3, max_steps=5, random_state=0).fit(X))
    sampler = FlowFMSampler(model, quality=2, random_state=0).fit(X)
    holed = X.astype({"n": float, "b": object})
    holed.loc[:9, "n"], holed.loc[5:20, "b"] = np.nan, None
    sampler.save(tmp_path / "model")
    for one in (sampler, load(tmp_path / "model")):
        filled = one.impute(holed)
        assert (filled["n"] % 1 == 0).all()
        assert set(filled["b"].map(type)) == {bool}
        assert (filled["x"] == X["x"]).all()


def test_draws_stay_within_the_bounds(windows, X):
    holed, gaps = with_gaps(X[:20], 0.5, seed=0)
    bounded = FlowFMSampler(
        windows.transformer, quality=2, bounds=(-0.1, 0.1), random_state=1
    ).fit(X)
    filled = bounded.impute(holed)
    assert np.abs(filled[gaps]).max() <= np.float32(0.1)
    assert np.array_equal(filled[~gaps], holed[~gaps])


def test_bad_input(windows, table, X):
    holed = X[:3].copy()
    holed[1] = np.nan
    with pytest.raises(ValueError, match="without any known value, the first at in"):
        windows.impute(holed)
    with pytest.raises(ValueError, match="rows of shape"):
        windows.impute(X[:3, :, :20])
    with pytest.raises(ValueError, match="3-D windows"):
        windows.impute(X[0])
    with pytest.raises(ValueError, match="got inf"):
        windows.impute(np.where(X[:3] == X[0, 0, 0], np.inf, X[:3]))
    with pytest.raises(TypeError, match="X must be numeric"):
        table[0].impute(pd.DataFrame({"a": ["x"], "b": [1.0], "n": [2.0]}))
    with pytest.raises(TypeError, match="X must be numeric"):
        table[0].impute(np.array([["x", 1.0, 2.0]], dtype=object))


# ------------------------------------------------------------------- what is drawn
def test_gaps_are_first_filled_along_lines():
    ramp = np.arange(12.0).reshape(1, 2, 6)
    holed = ramp.copy()
    holed[0, 0, 2:4] = np.nan
    np.testing.assert_allclose(fill_by_hand(holed, np.zeros((2, 1))), ramp)
    holed[0, 1] = np.nan
    filled = fill_by_hand(holed, np.array([[0.0], [7.0]]))
    assert (filled[0, 1] == 7).all()
    assert fill_by_hand(np.array([[np.nan, 1]]), np.array([3.0, 4])).tolist() == [
        [3, 1]
    ]


@given(st.floats(0.5, 2), st.floats(-5, 5), st.integers(0, 99))
def test_a_window_off_by_scale_and_level_is_matched_where_much_is_known(
    scale, level, seed
):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(3, 2, 2000, generator=generator)
    known = torch.arange(2000).expand_as(truth) < 1800
    found = match(scale * truth + level, truth, known)
    torch.testing.assert_close(found, truth, rtol=1e-2, atol=1e-2)


@given(st.floats(0.1, 10), st.floats(-5, 5), st.integers(2, 19), st.integers(0, 99))
def test_the_level_of_what_is_known_is_matched_exactly(scale, level, n, seed):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(3, 2, 20, generator=generator)
    known = torch.arange(20).expand_as(truth) < n
    found = match(scale * truth + level, truth, known)[..., :n].mean(dim=-1)
    torch.testing.assert_close(found, truth[..., :n].mean(dim=-1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("same", ["drawn", "known"])
def test_two_known_values_that_agree_do_not_set_the_scale(same):
    x, truth = torch.randn(2, 50, 1, 300, generator=torch.Generator().manual_seed(0))
    (x if same == "drawn" else truth)[..., :2] = 0.1
    known = torch.arange(300).expand_as(truth) < 2
    share = match(x, truth, known).std(dim=-1) / x.std(dim=-1)
    assert 0.4 < share.min()
    assert share.max() < 2.5


def test_gaps_stay_within_reach_of_the_data_where_little_is_known(windows, X):
    holed = X[:40].copy()
    holed[:, 0, 2:] = np.nan
    filled = windows.impute(holed)[:, 0]
    middle, reach = X[:, 0].mean(), np.abs(X[:, 0] - X[:, 0].mean()).max()
    assert np.abs(filled - middle).max() < 2 * reach


@pytest.mark.parametrize("n_known", [0, 1])
def test_a_channel_of_which_next_to_nothing_is_known_is_left_alone(n_known):
    """One value says neither how large a channel is nor where it lies."""
    x, truth = torch.randn(2, 4, 3, 8, generator=torch.Generator().manual_seed(0))
    known = torch.ones(4, 3, 8, dtype=torch.bool)
    known[:, 1, n_known:] = False
    assert torch.equal(match(x, truth, known)[:, 1], x[:, 1])


def gaussian_model(covariance):
    """The exact velocity field of N(0, covariance), in place of a trained one."""
    eye = torch.eye(len(covariance))

    class Field(torch.nn.Module):
        def forward(self, x, t, z):
            t = float(t[0])
            precision = torch.linalg.inv(t**2 * covariance + (1 - t) ** 2 * eye)
            return x @ (precision @ (t * covariance - (1 - t) * eye))

    n = len(covariance)
    standardise = Standardise(torch.zeros(n), torch.ones(n))
    return SimpleNamespace(
        standardise=standardise,
        drawn=standardise.drawn,
        coordinates=TableCoordinates(n),  # before fit, the values themselves
        stem=torch.nn.Identity(),
        encode=torch.nn.Identity(),
        velocity_field=Field(),
        axes=SimpleNamespace(mean=torch.zeros(1)),
    )


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.6])
def test_draws_of_a_gaussian_follow_what_is_known(correlation):
    """As nearly as the method can: it falls short of the correlation by a tenth."""
    covariance = torch.tensor([[1.0, correlation], [correlation, 1.0]])
    rows = np.random.default_rng(0).normal(size=(4000, 2)).astype(np.float32)
    rows[:, 1] = np.nan
    drawn = complete(gaussian_model(covariance), rows, 0, n_steps=64)
    x, y = drawn.astype(np.float64).T
    slope = (x * y).mean() / (x * x).mean()
    assert slope == pytest.approx(correlation, abs=0.12)
    assert (y - slope * x).std() == pytest.approx((1 - correlation**2) ** 0.5, rel=0.25)


def test_the_representation_is_found_again_from_the_filled_row():
    seen = []
    model = gaussian_model(torch.eye(2))
    model.encode = lambda x: seen.append(x) or x
    rows = np.array([[1.0, np.nan]] * 3, dtype=np.float32)
    drawn = complete(model, rows, 0, n_steps=4)
    assert len(seen) == ROUNDS
    assert torch.equal(seen[0][:3], torch.tensor([[1.0, 0.0]] * 3))
    assert (seen[1][:3, 1] != 0).all()
    assert (drawn[:, 0] == 1).all()


@pytest.fixture(scope="module")
def pair():
    """Two columns of correlation .9, and a sampler trained on them."""
    rng = np.random.default_rng(0)
    X = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 600)
    transformer = FlowFMTransformer(max_steps=150, random_state=0)
    return FlowFMSampler(transformer, random_state=0).fit(X), X


def test_draws_for_gaps_of_a_table_have_the_slope_and_the_spread_of_the_data(pair):
    sampler, X = pair
    holed = X.copy()
    holed[:, 1] = np.nan
    draws = np.stack([sampler.impute(holed, random_state=i)[:, 1] for i in range(6)])
    slope = (draws * X[:, 0]).mean() / (X[:, 0] ** 2).mean()
    assert slope == pytest.approx(0.9, abs=0.1)
    assert draws.std() == pytest.approx(1, abs=0.12)
    assert draws.std(axis=0).mean() == pytest.approx((1 - 0.81) ** 0.5, abs=0.12)


def test_a_donor_is_near_in_what_is_known_alone(pair):
    sampler, _ = pair
    model, z = module_of(sampler), sampler._density.rows[0]
    steps = steps_of(8, "auto", 1.0, None)
    rows = np.array([[x, np.nan] for x in (-1.5, 0.0, 1.5)])
    donors = of_donors(model, np.repeat(rows, 20, axis=0), z, 0, steps)
    drawn = decode(model, donors, (2,), 1, steps).numpy()
    gap = np.abs(drawn[:, 0].reshape(3, 20) - rows[:, :1])
    assert gap.max() < 0.5
    again = of_donors(model, np.repeat(rows, 20, axis=0)[20:30], z, 0, steps, first=20)
    assert torch.equal(donors[20:30], again)


def test_large_integers_that_are_known_stay():
    X = np.random.default_rng(0).integers(2**60, 2**61, (60, 3))
    transformer = FlowFMTransformer(max_steps=1, random_state=0)
    sampler = FlowFMSampler(transformer, quality=1, random_state=0).fit(X)
    np.testing.assert_array_equal(sampler.impute(X), X)


@pytest.mark.parametrize("gap", ["masked", "None"])
def test_masked_cells_and_none_are_gaps(table, gap):
    sampler, X = table
    holes = np.arange(X.size).reshape(X.shape) % 7 == 0
    values = X.to_numpy()
    expected = sampler.impute(
        pd.DataFrame(np.where(holes, np.nan, values)).set_axis(X.columns, axis=1)
    )
    given = np.ma.masked_where(holes, np.where(holes, -9999.0, values))
    if gap == "None":
        given = np.where(holes, None, values)
    with pytest.warns(UserWarning, match="valid feature names"):
        filled = sampler.impute(given)
    np.testing.assert_allclose(np.asarray(filled, float), expected, rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-18, 1e20])
def test_gaps_of_windows_are_filled_alike_in_any_unit(X, unit):
    holed = with_gaps(X[:20], 0.3, 0)[0].astype(np.float64)
    drawn = []
    for scale in (1.0, unit):
        transformer = FlowFMTransformer(8, max_steps=1, random_state=0)
        sampler = FlowFMSampler(transformer, quality=2, random_state=1)
        sampler.fit(X.astype(np.float64) * scale)
        drawn.append((sampler.stop_, sampler.impute(holed * scale) / scale))
    assert drawn[0][0] == drawn[1][0]
    np.testing.assert_allclose(drawn[0][1], drawn[1][1], atol=0.02)
