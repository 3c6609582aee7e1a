"""Distances of clouds and of dependence, against closed forms and known laws."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances
from sklearn.preprocessing import StandardScaler

from skflowfm.metrics import (
    autocorrelation_distance,
    cross_correlation_distance,
    frechet_distance,
    mmd,
    precision_recall,
)
from skflowfm.metrics._dependence import _autocorrelation
from skflowfm.metrics._distribution import (
    _distances,
    _frechet,
    _gaussian_kernel,
    _neighbourhood_shares,
    _unbiased_mmd,
)


def noise(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def standardised(points):
    """The same points with mean 0 and covariance I, exactly."""
    centred = points - points.mean(axis=0)
    return centred @ np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T


def identity(X):
    return X


# ------------------------------------------------------------------ Fréchet
@settings(max_examples=30, deadline=None)
@given(
    scales=st.lists(st.floats(0, 5), min_size=3, max_size=3),
    scales_2=st.lists(st.floats(0, 5), min_size=3, max_size=3),
    shift=st.floats(-5, 5),
    seed=st.integers(0, 100),
)
def test_frechet_of_aligned_gaussians_is_their_closed_form(
    scales, scales_2, shift, seed
):
    turn = np.linalg.qr(noise(seed, 3, 3))[0]
    first = standardised(noise(1, 50, 3)) * scales @ turn
    second = (standardised(noise(2, 80, 3)) * scales_2 + shift) @ turn
    expected = np.sum((np.array(scales) - scales_2) ** 2) + 3 * shift**2
    assert _frechet(first, second) == pytest.approx(expected, abs=1e-6)


def test_frechet_of_covariances_that_do_not_commute():
    """Both ways of the textbook: the eigenvalues of a product of covariances."""
    first, second = noise(0, 60, 4) @ noise(3, 4, 4), noise(1, 60, 4) @ noise(4, 4, 4)
    a, b = np.cov(first.T), np.cov(second.T)
    root = np.sqrt(np.linalg.eigvals(a @ b).real.clip(0)).sum()
    shift = first.mean(axis=0) - second.mean(axis=0)
    expected = shift @ shift + np.trace(a) + np.trace(b) - 2 * root
    assert _frechet(first, second) == pytest.approx(expected)


def test_frechet_with_fewer_rows_than_features():
    first, second = noise(0, 5, 30), noise(1, 7, 30)
    padded = _frechet(np.pad(first, ((0, 0), (0, 9))), np.pad(second, ((0, 0), (0, 9))))
    assert _frechet(first, second) == pytest.approx(padded)
    assert _frechet(first, first) == pytest.approx(0, abs=1e-9)
    assert _frechet(first, second) == pytest.approx(_frechet(second, first))


def test_frechet_floor_is_what_equal_laws_reach():
    results = [
        frechet_distance(noise(s, 200, 4), noise(s + 50, 100, 4), random_state=s)
        for s in range(20)
    ]
    values, floors = ([getattr(r, k) for r in results] for k in ("value", "floor"))
    assert np.mean(values) == pytest.approx(np.mean(floors), rel=0.25)
    far = frechet_distance(noise(0, 200, 4), noise(1, 100, 4) + 1, random_state=0)
    assert far.interval[0] < far.value < far.interval[1]
    assert far.interval[0] > 5 * far.floor


def test_default_embedding_ignores_units_and_given_ones_do_not():
    X, Z, units = noise(0, 100, 3), noise(1, 100, 3), [1, 10, 0.01]
    plain = frechet_distance(X, Z + 1, random_state=0).value
    scaled = frechet_distance(X * units, (Z + 1) * units, random_state=0).value
    assert scaled == pytest.approx(plain)
    raw = frechet_distance(X * 10, (Z + 1) * 10, embedding=identity, random_state=0)
    once = frechet_distance(X, Z + 1, embedding=identity, random_state=0)
    assert raw.value == pytest.approx(100 * once.value)


def test_embedding_may_be_a_fitted_transformer():
    class FirstColumn:
        def transform(self, X):
            return X[:, :1]

    X, Z = noise(0, 100, 3), noise(1, 100, 3)
    result = frechet_distance(X, Z, embedding=FirstColumn(), random_state=0)
    same = frechet_distance(X[:, :1], Z[:, :1], embedding=identity, random_state=0)
    assert result == same


# ---------------------------------------------------------------------- MMD
def test_mmd_is_the_unbiased_u_statistic():
    x, y = noise(0, 9, 2), noise(1, 9, 2) + 0.5
    kernel = _gaussian_kernel(np.concatenate([x, y]))
    n, expected = 9, 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                expected += (kernel[i, j] + kernel[n + i, n + j]) / (n * (n - 1))
            expected -= 2 * kernel[i, n + j] / n**2
    side = np.repeat([1.0, -1.0], n)
    values = _unbiased_mmd(kernel, np.stack([side, -side]))
    np.testing.assert_allclose(values, expected)


def test_mmd_of_equal_laws_is_zero_on_average_with_uniform_p_values():
    results = [
        mmd(noise(s, 60, 2), noise(s + 900, 30, 2), n_permutations=99, random_state=s)
        for s in range(200)
    ]
    values, p = (
        np.array([getattr(r, k) for r in results]) for k in ("value", "p_value")
    )
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    for level in (0.1, 0.5, 0.9):  # four binomial deviations
        spread = np.sqrt(level * (1 - level) / len(p))
        assert np.mean(p <= level) == pytest.approx(level, abs=4 * spread)


def lognormal(rng, n):
    """A few rows are far out, and which side has them decides its scale."""
    return np.exp(1.5 * rng.normal(size=(n, 20)))


def test_mmd_keeps_its_level_where_few_rows_are_far_out():
    rng = np.random.default_rng(5)
    p_values = [
        mmd(lognormal(rng, 40), lognormal(rng, 20), n_permutations=39, random_state=i)
        for i in range(200)
    ]
    rejected = sum(result.p_value <= 0.05 for result in p_values)
    assert rejected <= 19  # of a binomial law of 200 and .05, .1 % are above


def test_value_and_floor_are_on_a_par_where_few_rows_are_far_out():
    rng = np.random.default_rng(6)
    above, recalled = [], []
    for i in range(60):
        X, X_new = lognormal(rng, 40), lognormal(rng, 20)
        distance = frechet_distance(X, X_new, random_state=i)
        recall = precision_recall(X, X_new, random_state=i).recall
        above.append(distance.value > distance.floor)
        recalled.append(recall.value - recall.floor)
    assert 15 <= sum(above) <= 45  # half of 60, give or take four deviations
    assert abs(np.mean(recalled)) < 4 * np.std(recalled) / 60**0.5


def test_a_rare_column_is_not_taken_in_its_own_units():
    rng = np.random.default_rng(0)
    X, X_new = rng.normal(size=(2, 200, 4))
    X[:, 3], X_new[:, 3] = 0, 0
    X[:3, 3], X_new[:2, 3] = 1e4, 1e4
    values = [frechet_distance(X, X_new, random_state=i) for i in range(20)]
    assert max(max(v.value, v.floor) for v in values) < 10


def test_mmd_sees_spread_and_shape_where_means_agree():
    X = noise(0, 400, 2)
    assert mmd(X, 2 * noise(1, 200, 2), random_state=0).p_value < 0.01
    signs = np.sign(noise(2, 800, 1))  # the same mean and variance
    assert mmd(noise(3, 1600, 1), signs, random_state=0).p_value < 0.01


# -------------------------------------------------- precision, recall and so on
def test_neighbourhoods_on_a_line():
    real, other = np.array([[0.0], [1.0], [3.0]]), np.array([[0.4], [2.9], [9.0]])
    shares = _neighbourhood_shares(*_distances(real, other), 1)
    # real balls: [-1, 1], [0, 2], [1, 5]; others': [-2.1, 2.9], [.4, 5.4], [2.9, 15.1]
    assert shares == pytest.approx([2 / 3, 1, 1, 1])


def test_intervals_of_the_shares_hold_what_is_expected():
    """In 19 of 20 repetitions; the neighbourhoods vary as well as the counted rows."""
    results = [
        precision_recall(noise(k, 120, 2), noise(1000 + k, 60, 2) + 0.3, random_state=0)
        for k in range(60)
    ]
    for name in ("precision", "recall", "density", "coverage"):
        every = [getattr(result, name) for result in results]
        expected = np.mean([one.value for one in every])
        inside = [one.interval[0] <= expected <= one.interval[1] for one in every]
        assert np.mean(inside) > 0.85, name


def test_a_transformer_of_frames_gets_frames_and_a_function_arrays():
    frame = pd.DataFrame(noise(0, 40, 2), columns=["a", "b"])
    pair, arrays = (frame, frame + 1), (frame.to_numpy(), frame.to_numpy() + 1)
    scaler = StandardScaler().fit(frame)  # warns of arrays
    named = frechet_distance(*pair, embedding=scaler, random_state=0)
    scaler = StandardScaler().fit(arrays[0])
    plain = frechet_distance(*arrays, embedding=scaler, random_state=0)
    assert named.value == pytest.approx(plain.value)
    frechet_distance(*pair, embedding=lambda X: X[:, 1:], random_state=0)


def test_few_rows_have_no_halves():
    result = precision_recall(noise(0, 20, 2), noise(1, 10, 2), random_state=0)
    assert result.precision.interval is None


def test_a_lost_mode_costs_recall_and_coverage_alone():
    X = np.concatenate([noise(0, 200, 2), noise(1, 200, 2) + 50])
    result = precision_recall(X, noise(2, 200, 2), random_state=0)
    assert result.precision.value > 0.9
    assert result.density.value > 0.8
    assert result.recall.value == pytest.approx(0.5, abs=0.1)
    assert result.coverage.value == pytest.approx(0.5, abs=0.1)


def test_an_invented_mode_costs_precision_and_density_alone():
    Z = np.concatenate([noise(0, 100, 2), noise(1, 100, 2) + 50])
    result = precision_recall(noise(2, 400, 2), Z, random_state=0)
    assert result.precision.value == pytest.approx(0.5, abs=0.1)
    assert result.density.value == pytest.approx(0.5, abs=0.1)
    assert result.recall.value > 0.9


def test_coverage_of_equal_laws_has_its_expected_value():
    """1 - prod (m - i) / (2 m - i): the k nearest of 2 m others are all of one side."""
    m, k = 100, 5
    expected = 1 - np.prod([(m - i) / (2 * m - 1 - i) for i in range(k)])
    draws = [
        precision_recall(noise(s, 2 * m, 2), noise(s + 99, m, 2), random_state=s)
        for s in range(30)
    ]
    for result in ("value", "floor"):
        coverage = [getattr(r.coverage, result) for r in draws]
        assert np.mean(coverage) == pytest.approx(expected, abs=0.01)
        density = [getattr(r.density, result) for r in draws]
        assert np.mean(density) == pytest.approx(1.0, abs=0.05)


def test_precision_recall_agree_with_an_independent_implementation():
    prdc = pytest.importorskip("prdc")
    real, other = noise(0, 60, 4), noise(1, 60, 4) + 0.7
    shares = _neighbourhood_shares(*_distances(real, other), 5)
    expected = prdc.compute_prdc(real, other, nearest_k=5)
    for name, ours in zip(expected, shares, strict=True):
        assert ours == pytest.approx(expected[name]), name


# --------------------------------------------------------------- dependence
def autoregression(seed, n, n_timesteps, coefficient):
    steps = noise(seed, n, 1, n_timesteps)
    for t in range(1, n_timesteps):
        steps[..., t] += coefficient * steps[..., t - 1]
    return steps


def test_autocorrelation_of_an_autoregression_is_a_power():
    X = autoregression(0, 40, 4000, 0.8)
    mean = _autocorrelation(X, 5).mean(axis=0)
    np.testing.assert_allclose(mean, 0.8 ** np.arange(1, 6), atol=0.02)


def test_autocorrelation_is_its_definition_and_ignores_units():
    X = noise(0, 3, 2, 17)
    centred = X - X.mean(axis=-1, keepdims=True)
    lagged = [
        (centred[..., k:] * centred[..., : 17 - k]).sum(axis=-1)
        / (centred**2).sum(axis=-1)
        for k in range(1, 17)
    ]
    ours = _autocorrelation(X, 16).reshape(3, 2, 16)
    np.testing.assert_allclose(ours, np.moveaxis(lagged, 0, -1), atol=1e-12)
    np.testing.assert_allclose(_autocorrelation(-30 * X + 7, 16), ours.reshape(3, -1))


def test_autocorrelation_distance_of_two_rhythms():
    X, Z = autoregression(0, 60, 2000, 0.8), autoregression(1, 60, 2000, 0.2)
    result = autocorrelation_distance(X, Z, max_lag=1, random_state=0)
    assert result.value == pytest.approx(0.6, abs=0.02)
    same = autocorrelation_distance(X[:30], X[30:], random_state=0)
    assert same.value < 3 * same.floor


def test_cross_correlation_distance_is_the_change_of_a_known_correlation():
    def pair(seed, rho):
        a, b = noise(seed, 2, 80, 2000)
        return np.stack([a, rho * a + np.sqrt(1 - rho**2) * b], axis=1)

    result = cross_correlation_distance(pair(0, 0.9), pair(1, 0.3), random_state=0)
    assert result.value == pytest.approx(0.6, abs=0.01)
    assert result.interval[0] < result.value < result.interval[1]
    scaled = pair(1, 0.3) * [[5.0], [0.1]] + 3
    again = cross_correlation_distance(pair(0, 0.9), scaled, random_state=0)
    assert again.value == pytest.approx(result.value)


@pytest.mark.parametrize(
    "distance", [autocorrelation_distance, cross_correlation_distance]
)
def test_windows_at_rest_are_uncorrelated(distance):
    rest, X = np.full((10, 2, 40), 0.1), np.sin(np.arange(40) + noise(0, 10, 2, 1))
    assert distance(rest, rest + 3, random_state=0).value == 0
    assert 0 < distance(rest, X, random_state=0).value <= 2


# ---------------------------------------------------------- shared promises
MEASURES = [
    frechet_distance,
    mmd,
    precision_recall,
    autocorrelation_distance,
    cross_correlation_distance,
]


@pytest.mark.parametrize("measure", MEASURES)
def test_seeds_repeat_inputs_stay_and_the_global_state_is_left_alone(measure):
    X, Z = noise(0, 24, 2, 16).astype(np.float32), noise(1, 24, 2, 16)
    kept, before = (X.copy(), Z.copy()), pickle.dumps(np.random.get_state())
    assert measure(X, Z, random_state=3) == measure(X, Z, random_state=3)
    assert measure(X, Z) != measure(X, Z, random_state=3)
    np.testing.assert_array_equal(X, kept[0])
    np.testing.assert_array_equal(Z, kept[1])
    assert pickle.dumps(np.random.get_state()) == before


X3, X2 = noise(0, 30, 2, 16), noise(0, 30, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: frechet_distance(X3, X2), ValueError, "shape of those of X_real"),
        (lambda: frechet_distance(X2[:3], X2), ValueError, "at least 4 rows, got 3"),
        (lambda: mmd(X2, X2 * np.nan), ValueError, "X_synthetic contains NaN"),
        (lambda: mmd(X2, X2, n_permutations=0), ValueError, "at least 1, got n_perm"),
        (
            lambda: precision_recall(X2, X2, n_neighbors=15),
            ValueError,
            "between 1 and 14",
        ),
        (
            lambda: mmd(X2, X2, embedding="z"),
            TypeError,
            "None, a fitted transformer or a callable",
        ),
        (
            lambda: mmd(X2, X2, embedding=lambda X: X[:, 0]),
            ValueError,
            r"features of shape \(30, n_features\), got shape \(30,\)",
        ),
        (lambda: autocorrelation_distance(X2, X2), ValueError, r"np.newaxis"),
        (
            lambda: autocorrelation_distance(X3, X3, max_lag=16),
            ValueError,
            "between 1 and 15",
        ),
        (
            lambda: cross_correlation_distance(X3[:, :1], X3[:, :1]),
            ValueError,
            "at least 2 channels, got 1",
        ),
    ],
)
def test_errors_say_what_was_expected_and_got(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_each_ball_has_its_own_radius():
    other = np.array([[0.0], [0.1], [0.2], [100.0], [110.0], [120.0]])
    real = other + 1  # near the three close ones, but in the balls of the others only
    distances = (
        pairwise_distances(*pair) for pair in ((real, other), (real,), (other,))
    )
    _, recall, *_ = _neighbourhood_shares(*distances, 1)
    assert recall == 0.5


def test_the_floor_of_mmd_is_about_real_rows_alone():
    X, X_new = noise(0, 2, 100, 2)
    near, far = (
        mmd(X, X_new + shift, n_permutations=1, random_state=0) for shift in (0, 9)
    )
    assert near.floor == far.floor


def test_lags_reach_half_of_the_window_by_default():
    X = noise(0, 20, 1, 40)
    by_default, half = (
        autocorrelation_distance(X, X.cumsum(axis=-1), max_lag=lag)
        for lag in (None, 20)
    )
    assert by_default.value == half.value


def test_intervals_of_coverage_are_as_wide_as_it_scatters():
    rng, values, widths = np.random.default_rng(0), [], []
    for _ in range(60):
        real, new = rng.normal(size=(400, 2)), rng.normal(size=(200, 2))
        result = precision_recall(real, new, random_state=0).coverage
        values.append(result.value)
        widths.append(np.ptp(result.interval))
    assert np.mean(widths) / (2 * 1.96) == pytest.approx(np.std(values), rel=0.2)
