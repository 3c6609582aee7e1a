"""The measures against laws whose answer is known."""

import ast
import pickle
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

import skflowfm.metrics
from skflowfm.metrics import (
    c2st_auc,
    frechet_distance,
    log_psd_distance,
    nearest_neighbour_copy,
    quality_report,
    train_on_synthetic,
)
from skflowfm.metrics._features import spectral_power, window_features
from skflowfm.metrics._two_sample import _bootstrap_auc, _deal, _halves, _wins


def noise(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(
    "measure", [c2st_auc, frechet_distance, nearest_neighbour_copy]
)
def test_values_whose_squares_overflow_are_refused(measure):
    X, sides = noise(0, 40, 3), (1e200, 1e38)
    for scale in sides:
        arguments = (X * scale, X * scale + scale)
        if measure is nearest_neighbour_copy:
            arguments += (X * scale + scale / 2,)
        if scale > 1e38:
            with pytest.raises(ValueError, match=r"X_(real|train) must have values of"):
                measure(*arguments, random_state=0)
        else:
            assert np.isfinite(measure(*arguments, random_state=0).value)


def class_windows(seed, n_per_class=40):
    """Windows of two channels whose frequency tells the class."""
    rng = np.random.default_rng(seed)
    y = np.repeat(["slow", "fast"], n_per_class)
    frequency = np.where(y == "slow", 2, 6)[:, None, None]
    phase = rng.uniform(0, 2 * np.pi, size=(len(y), 2, 1))
    X = np.sin(2 * np.pi * frequency * np.arange(32) / 32 + phase)
    return X + 0.3 * rng.normal(size=X.shape), y


@pytest.fixture
def few_trees(monkeypatch):
    """For what does not depend on how good the forest is: a third of the time."""
    monkeypatch.setattr(skflowfm.metrics._two_sample, "N_TREES", 20)
    monkeypatch.setattr(skflowfm.metrics._transfer, "N_TREES", 20)


# ------------------------------------------------------------------ features
def test_white_noise_has_flat_power_of_its_variance():
    power = spectral_power(3 * noise(0, 400, 2, 64))
    assert power.shape == (400, 2, 32)
    inner = power[..., 1:-1].mean(axis=0)  # lost in the mean / counted once at the ends
    np.testing.assert_allclose(inner, 9, rtol=0.25)
    assert inner.mean() == pytest.approx(9, rel=0.02)


def test_sine_peaks_at_its_frequency():
    t = np.arange(100)
    X = np.sin(2 * np.pi * 7 * t / 100)[None, None]
    assert spectral_power(X)[0, 0].argmax() == 6  # frequency 0 is left out


def test_features_of_a_row_do_not_depend_on_other_rows():
    X = noise(0, 12, 3, 50)
    full = window_features(X)
    np.testing.assert_array_equal(window_features(X[3:7]), full[3:7])
    order = np.random.default_rng(1).permutation(12)
    np.testing.assert_array_equal(window_features(X[order]), full[order])


def test_features_react_to_level_scale_and_time_as_their_definitions_say():
    X = noise(0, 5, 1, 300)
    base = window_features(X)[0]
    moved = window_features(X + 4)[0]
    louder = window_features(10 * X)[0]
    is_level = np.r_[True, False, [True] * 7, [False] * 9]
    np.testing.assert_allclose(moved - base, np.where(is_level, 4.0, 0.0), atol=1e-9)
    np.testing.assert_allclose(louder[:10], 10 * base[:10])
    np.testing.assert_allclose(louder[10:], base[10:] + 2)


@pytest.mark.parametrize("n_timesteps", [1, 2, 3, 5, 9, 64])
def test_features_of_windows_at_rest_are_finite(n_timesteps):
    rest = np.full((2, 3, n_timesteps), 9.81)
    rest[1] = 0
    features = window_features(rest)
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(features[:, -3:], 0)  # correlations


def test_correlation_of_equal_and_opposite_channels():
    x = noise(0, 4, 1, 40)
    features = window_features(np.concatenate([x, -2 * x, x + 5], axis=1))
    np.testing.assert_allclose(features[:, -3:], [[-1, 1, -1]] * 4)


# ---------------------------------------------------------------------- C2ST
def test_c2st_same_law_covers_one_half():
    result = c2st_auc(noise(0, 400, 3), noise(1, 300, 3), random_state=0)
    assert result.interval[0] <= 0.5 <= result.interval[1]
    assert result.interval[1] - result.interval[0] < 0.25
    assert result.floor == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.5])
def test_c2st_reaches_the_ideal_observer_of_shifted_normals(few_trees, shift):
    """AUC Phi(shift / sqrt 2); four levels leave nothing to learn by heart."""
    edges = shift / 2 + np.array([-1, 0, 1])
    X = np.digitize(noise(0, 900, 1), edges)
    Z = np.digitize(noise(1, 450, 1) + shift, edges)
    cdf = np.array([[NormalDist(m).cdf(e) for e in edges] for m in (0, shift)])
    p, q = np.diff(cdf, prepend=0, append=1, axis=1)
    ideal = np.sum(q * (np.cumsum(p) - p / 2))
    assert ideal == pytest.approx(NormalDist().cdf(shift / np.sqrt(2)), abs=0.03)
    value = c2st_auc(X, Z, random_state=0).value
    assert value == pytest.approx(ideal, abs=0.055)  # three standard errors


def test_c2st_sees_order_in_time(few_trees):
    """Sorting the steps of a window leaves its distribution of values as it was."""
    X = noise(0, 120, 2, 64)
    ordered = np.sort(noise(1, 60, 2, 64), axis=-1)
    assert c2st_auc(X, ordered, random_state=0).value > 0.99


def test_c2st_does_not_change_sides(few_trees):
    X, Z = noise(0, 300, 2), noise(1, 300, 2) * 1.8
    forth = c2st_auc(X, Z, random_state=0)
    back = c2st_auc(Z, X, random_state=0)
    assert forth.value == pytest.approx(back.value, abs=0.08)
    assert forth.value > 0.6


def test_floors_do_not_depend_on_the_synthetic_rows(few_trees):
    X = noise(0, 60, 2, 16)
    aucs, fractions = [], []
    for n, groups in ((30, None), (90, None), (60, np.repeat(np.arange(12), 5))):
        Z = noise(n, n, 2, 16)
        aucs.append(c2st_auc(X, Z, groups_synthetic=groups, random_state=0).floor)
        fraction = nearest_neighbour_copy(X, Z, X[::-1] + 0.1, random_state=0)
        fractions.append(fraction.floor)
    assert len(set(aucs)) == 1
    assert len(set(fractions)) == 1


def test_c2st_below_one_half_tells_copies(few_trees):
    X = noise(0, 200, 6)
    assert c2st_auc(X, np.repeat(X, 2, axis=0), random_state=0).value < 0.4


def test_c2st_groups_hide_who_a_person_is(few_trees):
    """Each person has an own level: memory of persons separates rows, not laws."""
    person = np.repeat(np.arange(40), 10)
    level = 10 * noise(0, 80, 2)
    X = level[person] + noise(1, 400, 2)
    others = level[person + 40] + noise(2, 400, 2)
    by_row = c2st_auc(X, others, random_state=0)
    by_person = c2st_auc(
        X, others, groups_real=person, groups_synthetic=person, random_state=0
    )
    assert by_row.value > 0.75
    for auc in (by_person.value, by_person.floor):
        assert auc == pytest.approx(0.5, abs=0.2)
    few = person < 8
    few = c2st_auc(X[few], others, groups_real=person[few], random_state=0)
    assert few.interval is None, "four people on a side say nothing of the spread"
    assert np.ptp(by_person.interval) > 1.2 * np.ptp(by_row.interval)


@pytest.mark.parametrize(
    "sizes", [(30, 10, 10, 10), (60, 10, 10, 10, 10), (40, 1, 1, 1)]
)
def test_c2st_takes_people_of_any_sizes(few_trees, sizes):
    people = np.repeat(np.arange(len(sizes)), sizes)
    X, Z = noise(0, len(people), 3), noise(1, len(people), 3)
    for seed in range(20):
        result = c2st_auc(X, Z, groups_real=people, random_state=seed)
        assert 0 <= result.value <= 1
        assert 0 <= result.floor <= 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=4, max_size=9), st.integers(0, 99))
def test_halves_share_no_group_and_have_two_each(sizes, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    sides = [groups[h] for h in _halves(groups, np.random.default_rng(seed))]
    assert not set(sides[0]) & set(sides[1])
    assert sum(map(len, sides)) == len(groups)
    assert min(len(set(side)) for side in sides) >= 2


def test_c2st_groups_of_the_real_side_alone(few_trees):
    """Rows that differ from person to person only, against rows of nobody."""
    person = np.repeat(np.arange(40), 8)
    X, Z = noise(0, 40, 2)[person], noise(1, 160, 2)
    assert c2st_auc(X, Z, random_state=0).value > 0.8
    grouped = c2st_auc(X, Z, groups_real=person, random_state=0)
    assert grouped.value == pytest.approx(0.5, abs=0.15)


def test_people_who_are_alone_in_their_fold_vary_too(few_trees):
    """Ten people make five folds of one each: what they differ in is in the interval.

    The rows to tell from are of the law of all people, so that 0.5 is to be expected.
    """
    person = np.repeat(np.arange(10), 20)
    inside = []
    for k in range(12):
        X = noise(k, 10, 2)[person] + noise(100 + k, 200, 2)
        Z = np.sqrt(2) * noise(200 + k, 200, 2)
        low, high = c2st_auc(X, Z, groups_real=person, random_state=k).interval
        inside.append(low <= 0.5 <= high)
    assert np.mean(inside) >= 0.75


@given(seed=st.integers(0, 1000), n=st.integers(1, 30), m=st.integers(1, 30))
def test_weighted_auc_is_that_of_scikit_learn(seed, n, m):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, n) / 5, rng.integers(0, 6, m) / 5
    counts = rng.integers(1, 4, n), rng.integers(1, 4, m)
    won = _wins(scores, [c[None].astype(float) for c in counts])[0]
    expected = roc_auc_score(
        np.repeat([0, 1], [n, m]),
        np.concatenate(scores),
        sample_weight=np.concatenate(counts),
    )
    assert won / np.prod([c.sum() for c in counts]) == pytest.approx(expected)


def test_recall_is_the_share_of_each_class_that_is_recognised():
    """Of 50 rows of class b, 15 lie where those of class a are."""
    y = np.repeat(["a", "b"], 50)
    X = np.random.default_rng(0).normal(size=(100, 2))
    X[:, 0] += 100 * (y == "b")
    X_test = X.copy()
    X_test[50:65, 0] -= 100
    result = train_on_synthetic(X, y, X_test, y, X_train=X, y_train=y, random_state=0)
    for score in (result.logistic, result.forest):
        assert score.recall_synthetic == score.recall_real == {"a": 1.0, "b": 0.7}
    alone = train_on_synthetic(X, y, X_test, y, random_state=0)
    assert alone.forest.recall_real is None


def test_bootstrap_of_the_auc_has_the_known_spread():
    """Variance of the Mann-Whitney statistic under equal laws: (2n + 1) / (12 n^2)."""
    rng = np.random.default_rng(0)
    row = np.arange(80)
    ideal = np.sqrt(161 / (12 * 80**2))
    for repeats in (1, 5):  # five equal rows of one subject tell no more than one
        scores = np.repeat(rng.normal(size=(10, 2, 80)), repeats, axis=2)
        groups = np.repeat(row, repeats)
        spreads = [np.std(_bootstrap_auc([(s, (groups, groups))], rng)) for s in scores]
        assert np.mean(spreads) == pytest.approx(ideal, rel=0.12)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=3, max_size=20),
    n_parts=st.integers(2, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_dealing_keeps_groups_whole_and_parts_even(sizes, n_parts, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    part = _deal(groups, n_parts, np.random.default_rng(seed))
    for group in range(len(sizes)):
        assert len(set(part[groups == group])) == 1
    totals = np.bincount(part, minlength=n_parts)
    assert totals.min() > 0
    assert totals.max() - totals.min() <= max(sizes)


# -------------------------------------------------------------- spectrum
@given(
    decades=st.floats(-3, 3),
    level=st.floats(-5, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_psd_distance_of_a_gain_is_its_decades(decades, level, seed):
    X = noise(seed, 8, 2, 32)
    gained = 10 ** (decades / 2) * X[::-1] + level
    result = log_psd_distance(X, gained, random_state=0)
    assert result.value == pytest.approx(abs(decades), abs=1e-6)


def test_psd_distance_ten_times_louder_is_two_decades():
    X = noise(0, 30, 3, 64)
    result = log_psd_distance(X, 10 * X, random_state=0)
    assert result.value == pytest.approx(2, abs=1e-12)
    assert result.interval[0] < 2 < result.interval[1]
    assert result.floor < 0.2


def test_psd_distance_does_not_cancel_between_channels_or_frequencies():
    X = noise(0, 10, 2, 32)
    gain = np.array([[10.0], [0.1]])
    assert log_psd_distance(X, gain * X).value == pytest.approx(2, abs=1e-9)


def test_psd_floor_is_what_equal_laws_reach():
    """Also with unequal sizes: the floor is carried over to the sizes compared."""
    for n_real, n_synthetic in ((300, 300), (300, 30)):
        values, floors = [], []
        for seed in range(4):
            X, Z = noise(seed, n_real, 2, 64), noise(100 + seed, n_synthetic, 2, 64)
            result = log_psd_distance(X, Z, random_state=seed)
            values.append(result.value)
            floors.append(result.floor)
        assert np.mean(values) == pytest.approx(np.mean(floors), rel=0.2)


def test_psd_interval_has_the_spread_of_repeated_samples():
    repeats = [
        log_psd_distance(noise(s, 40, 1, 32), 2 * noise(99 + s, 40, 1, 32))
        for s in range(40)
    ]
    spread = np.std([r.value for r in repeats])
    half_width = np.mean([r.interval[1] - r.interval[0] for r in repeats]) / 2
    assert half_width == pytest.approx(1.96 * spread, rel=0.35)


def test_psd_distance_ignores_order_side_and_level():
    X, Z = noise(0, 20, 3, 40), 2 * noise(1, 15, 3, 40)
    value = log_psd_distance(X, Z).value
    assert log_psd_distance(Z, X).value == pytest.approx(value, abs=1e-12)
    assert log_psd_distance(X[::-1], Z[::-1]).value == pytest.approx(value)
    assert log_psd_distance(X[:, ::-1], Z[:, ::-1]).value == pytest.approx(value)
    assert log_psd_distance(X + 7, Z - 7).value == pytest.approx(value)
    assert log_psd_distance(X[..., ::-1], Z).value == pytest.approx(value)


def test_psd_distance_at_rest():
    rest = np.ones((6, 2, 32))
    assert log_psd_distance(rest, rest).value == 0
    assert log_psd_distance(0 * rest, 0 * rest).value == 0
    trembling = rest + 1e-3 * noise(0, 6, 2, 32)
    coarse = log_psd_distance(rest, trembling, min_power=1e-8).value
    fine = log_psd_distance(rest, trembling, min_power=1e-10).value
    assert fine - coarse == pytest.approx(2, abs=0.01)


# ------------------------------------------------------------------- copies
@pytest.mark.parametrize("shape", [(300, 4), (300, 2, 8)])
def test_copies_are_found_and_fresh_rows_are_not(shape):
    train, fresh, holdout = noise(0, 3, *shape)
    copied = nearest_neighbour_copy(train, train, holdout, random_state=0)
    assert copied.value == 1
    assert copied.interval[0] > 0.98
    reversed_roles = nearest_neighbour_copy(holdout, train, train, random_state=0)
    assert reversed_roles.value == 0
    drawn = nearest_neighbour_copy(train, fresh, holdout, random_state=0)
    assert drawn.interval[0] <= 0.5 <= drawn.interval[1]
    assert drawn.floor == pytest.approx(0.5, abs=0.12)


def test_copy_fraction_grows_with_the_share_of_copies():
    train, fresh, holdout = noise(0, 3, 400, 6)
    for share in (0.25, 0.5, 0.75):
        n_copies = int(share * 400)
        mixed = np.concatenate([train[:n_copies], fresh[n_copies:]])
        value = nearest_neighbour_copy(train, mixed, holdout).value
        assert value == pytest.approx(share + (1 - share) / 2, abs=0.06)


def test_copy_fraction_with_unequal_sizes_stays_at_one_half():
    train, holdout, fresh = noise(0, 900, 3), noise(1, 100, 3), noise(2, 400, 3)
    for first, second in ((train, holdout), (holdout, train)):
        result = nearest_neighbour_copy(first, fresh, second, random_state=0)
        assert result.value == pytest.approx(0.5, abs=0.13)


def test_copy_floor_shows_a_holdout_of_another_law():
    train, fresh = noise(0, 2, 300, 3)
    result = nearest_neighbour_copy(train, fresh, noise(1, 300, 3) + 2, random_state=0)
    assert result.floor > 0.8
    assert result.value == pytest.approx(result.floor, abs=0.1)


def test_copy_fraction_ignores_units_and_order():
    train, holdout, fresh = noise(0, 100, 3), noise(1, 100, 3), noise(2, 100, 3)
    value = nearest_neighbour_copy(train, fresh, holdout).value
    unit = np.array([1e-3, 1.0, 1e4])
    columns = [2, 0, 1]
    rows = np.random.default_rng(0).permutation(100)
    scaled = nearest_neighbour_copy(train * unit, fresh * unit, holdout * unit)
    moved = nearest_neighbour_copy(
        *(X[rows][:, columns] for X in (train, fresh, holdout))
    )
    assert scaled.value == value
    assert moved.value == value


def test_copy_ties_count_half():
    X = noise(0, 50, 2)
    with pytest.warns(UserWarning, match="50 of 50 rows of X_holdout are rows of X_tr"):
        assert nearest_neighbour_copy(X, X, X).value == 0.5


def test_the_order_of_rows_does_not_matter_to_copies():
    train, holdout, fresh = noise(0, 900, 1), noise(1, 100, 1), noise(2, 400, 1)
    result = nearest_neighbour_copy(np.sort(train, 0), fresh, holdout, random_state=0)
    assert result.value == pytest.approx(0.5, abs=0.13)  # of 100 drawn at random
    assert result.floor == pytest.approx(0.5, abs=0.13)  # of halves drawn at random


def test_held_out_rows_that_were_trained_on_are_counted():
    train, holdout = noise(0, 2, 50, 2)
    few, many = holdout.copy(), holdout.copy()
    few[:5], many[:6] = train[:5], train[:6]  # a tenth, and more
    nearest_neighbour_copy(train, holdout, few)
    with pytest.warns(UserWarning, match="6 of 50 rows"):
        nearest_neighbour_copy(train, holdout, many)
    with pytest.warns(UserWarning, match="50 of 50 rows"):  # one of them, repeated
        nearest_neighbour_copy(train, holdout, np.repeat(train[:1], 50, axis=0))
    report = quality_report(train, holdout, X_test=many, random_state=0)
    assert report.notes[0].startswith("6 of 50 rows of X_test are rows of X_real too")
    assert repr(report) == str(report)  # what a notebook shows


def test_copy_interval_is_wilsons():
    """Published example: 0 of 10 gives an upper limit of .2775."""
    X = noise(0, 30, 2)
    result = nearest_neighbour_copy(X + 100, X[:10], X)
    assert result.value == 0
    assert result.interval == (0.0, pytest.approx(0.2775, abs=1e-4))


# --------------------------------------------------------------------- TSTR
def test_synthetic_equal_to_real_scores_as_real():
    X, y = class_windows(0)
    X_test, y_test = class_windows(1)
    result = train_on_synthetic(
        X, y, X_test, y_test, X_train=X, y_train=y, random_state=0
    )
    for score in (result.logistic, result.forest):
        assert score.synthetic == score.real
        assert score.ratio == 1
        assert score.synthetic > 0.95


def test_labels_without_meaning_score_chance_and_wrong_ones_below(few_trees):
    X, y = class_windows(0)
    X_test, y_test = class_windows(1, n_per_class=100)
    swapped = np.where(y == "slow", "fast", "slow")
    wrong = train_on_synthetic(X, swapped, X_test, y_test, X_train=X, y_train=y)
    assert wrong.logistic.synthetic < 0.05
    assert wrong.forest.ratio < 0.05
    X_noise = noise(0, 80, 3)
    shuffled = train_on_synthetic(X_noise, y, noise(1, 200, 3), y_test)
    assert shuffled.logistic.synthetic == pytest.approx(0.5, abs=0.12)
    assert shuffled.logistic.real is None
    assert shuffled.logistic.ratio is None


def test_a_class_that_was_never_generated_counts_zero(few_trees):
    rng = np.random.default_rng(0)
    centre = np.array([[0, 0], [20, 0], [0, 20]])
    y_test = np.repeat([0, 1, 2], 30)
    X_test = centre[y_test] + rng.normal(size=(90, 2))
    y = np.repeat([0, 1], 45)
    result = train_on_synthetic(
        centre[y] + rng.normal(size=(90, 2)), y, X_test, y_test, random_state=0
    )
    # Class 2 falls to one or both of the others: at best (1 + 2/3 + 0) / 3.
    assert result.logistic.synthetic <= 5 / 9 + 1e-9
    assert result.logistic.synthetic > 0.4


def test_f1_interval_shrinks_with_the_test_set(few_trees):
    X, y = noise(0, 200, 1), np.repeat([0, 1], 100)
    widths = []
    for n in (20, 500):
        y_test = np.repeat([0, 1], n)
        X_test = noise(1, 2 * n, 1) + y_test[:, None]
        score = train_on_synthetic(
            X + y[:, None], y, X_test, y_test, random_state=0
        ).logistic
        assert score.interval[0] < score.synthetic < score.interval[1]
        widths.append(score.interval[1] - score.interval[0])
    assert widths[0] / widths[1] == pytest.approx(5, rel=0.4)


def test_f1_interval_lies_around_the_score_of_a_rare_class(few_trees):
    X, y = noise(0, 200, 1), np.repeat([0, 1], 100)
    y_test = np.repeat([0, 1], [600, 40])
    X_test = noise(1, 640, 1) + y_test[:, None]
    score = train_on_synthetic(
        X + y[:, None], y, X_test, y_test, random_state=0
    ).logistic
    assert np.mean(score.interval) == pytest.approx(score.synthetic, abs=0.02)


# ---------------------------------------------------------- shared promises
def calls(seed):
    X, y = class_windows(0, n_per_class=15)
    Z, _ = class_windows(1, n_per_class=15)
    return (
        c2st_auc(X, Z, random_state=seed),
        log_psd_distance(X, Z, random_state=seed),
        nearest_neighbour_copy(X, Z, Z[:20], random_state=seed),
        train_on_synthetic(X, y, Z, y, random_state=seed),
    )


def test_global_random_state_is_untouched_and_seeds_repeat(few_trees):
    before = pickle.dumps(np.random.get_state())
    assert calls(3) == calls(3)
    assert calls(None) != calls(3)
    assert pickle.dumps(np.random.get_state()) == before


@pytest.mark.parametrize("kind", [np.random.RandomState, np.random.default_rng])
def test_generators_are_seeds_too(kind):
    X, Z = noise(0, 12, 1, 8), noise(1, 12, 1, 8)
    first, second, other = (
        log_psd_distance(X, Z, random_state=kind(s)) for s in (1, 1, 3)
    )
    assert first == second != other


def test_inputs_are_left_alone_and_any_float_type_will_do(few_trees):
    X, Z = noise(0, 40, 2, 16).astype(np.float16), noise(1, 40, 2, 16)
    kept = X.copy(), Z.copy()
    low = log_psd_distance(X, Z, random_state=0)
    high = log_psd_distance(X.astype(np.float64), Z, random_state=0)
    c2st_auc(X, Z, random_state=np.random.RandomState(0))
    nearest_neighbour_copy(X, Z, Z, random_state=np.random.default_rng(0))
    assert low == high
    np.testing.assert_array_equal(X, kept[0])
    np.testing.assert_array_equal(Z, kept[1])


X3, X2 = noise(0, 30, 2, 16), noise(0, 30, 4)
Y = np.repeat([0, 1], 15)
BAD = X2.copy()
BAD[3, 1] = np.nan


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: c2st_auc(X3[:, 0, 0], X3), r"X_real must be 3-D windows.*2-D table"),
        (lambda: c2st_auc(X3, X3[:, :1]), r"shape of those of X_real, \(2, 16\)"),
        (lambda: c2st_auc(X2[:10], X2), "X_real must have at least 20 rows, got 10"),
        (lambda: c2st_auc(BAD, X2), "Input X_real contains NaN"),
        (lambda: c2st_auc(X2, X2, groups_real=[1, 2]), r"groups_real must have one"),
        (lambda: c2st_auc(X2, X2, groups_real=Y), "at least 4 subjects, got 2"),
        (lambda: log_psd_distance(X2, X2), r"X_real\[:, np.newaxis, :\]"),
        (lambda: log_psd_distance(X3[..., :3], X3[..., :3]), "at least 4 steps, got 3"),
        (lambda: log_psd_distance(X3, X3, min_power=0), "min_power must be a number"),
        (lambda: nearest_neighbour_copy(X2, X2, X2[:, :3]), "rows of X_holdout"),
        (lambda: train_on_synthetic(X2, Y, X2, Y[:-1]), "y_test must have one entry"),
        (lambda: train_on_synthetic(X2, 0 * Y, X2, Y), "at least two classes"),
        (lambda: train_on_synthetic(X2, Y + 0.5, X2, Y), "classes, got.* 0.5. Cut"),
        (lambda: train_on_synthetic(X2, Y.astype(str), X2, Y), "such as 0, got '0'"),
        (lambda: train_on_synthetic(X2, Y + 7, X2, Y), "such as 0, got 7. Name them"),
        (lambda: train_on_synthetic(X2, Y, X2, Y, X_train=X2), "both X_train and y"),
        (lambda: c2st_auc(X2, X2, random_state=-1), "random_state must be None"),
    ],
)
def test_errors_say_what_was_expected_and_got(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_whole_numbers_among_objects_are_classes():
    ways = [
        train_on_synthetic(X2, y, X2, y, random_state=0) for y in (Y, Y.astype("O"))
    ]
    assert ways[0] == ways[1]


def test_random_state_of_another_type_is_refused():
    with pytest.raises(TypeError, match=r"random_state must be None.*'seed'"):
        log_psd_distance(X3, X3, random_state="seed")


def test_metrics_import_numpy_and_scikit_learn_only():
    allowed = {"numpy", "sklearn", "skflowfm", *sys.stdlib_module_names}
    for path in Path(skflowfm.metrics.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in names:
                assert name.split(".")[0] in allowed
                if name.startswith("skflowfm"):
                    assert name.startswith(("skflowfm.metrics", "skflowfm._checks"))


def test_the_steps_of_a_channel_share_one_deviation():
    """The first step hardly varies, so the nearest row is that of the others."""
    X = noise(0, 40, 1, 4) * [[1e-3, 1, 1, 1]]
    near = X + [[[0.01, 0, 0, 0]]]
    far = X + [[[0, 0.1, 0.1, 0.1]]]
    assert nearest_neighbour_copy(near, X, far, random_state=0).value > 0.95


# ----------------------------------------------------------------- units and names
@pytest.mark.parametrize("third", [9.81, 0.1, 1e-6])
def test_a_constant_column_does_not_hide_copies(third):
    X, other = noise(0, 2, 300, 4)
    X[:, 3] = other[:, 3] = third
    assert nearest_neighbour_copy(X, X, other, random_state=0).value == 1.0
    windows, others = (np.repeat(x[:, :, None], 5, axis=2) for x in (X, other))
    assert nearest_neighbour_copy(windows, windows, others, random_state=0).value == 1.0


@pytest.mark.parametrize("offset", [1e7, 1e8])
def test_an_offset_does_not_hide_copies(offset):
    X, other = noise(0, 2, 300, 4)
    result = nearest_neighbour_copy(X + offset, X + offset, other + offset)
    assert result.value > 0.99


@pytest.mark.parametrize(("unit", "offset"), [(1e-10, 0), (1e9, 0), (1, 1e8)])
def test_measures_do_not_depend_on_the_unit(unit, offset, few_trees):
    X, new = noise(0, 300, 3), noise(1, 300, 3) + [0.5, 0, 0]
    y = np.digitize(X[:, 0], [0.0])
    here, there = ((X, new), (offset + unit * X, offset + unit * new))

    def measured(X, new):
        trained = train_on_synthetic(X, y, new, y, random_state=0)
        return [
            c2st_auc(X, new, random_state=0).value,
            frechet_distance(X, new, random_state=0).value,
            trained.forest.synthetic,
        ]

    np.testing.assert_allclose(measured(*there), measured(*here), atol=0.02, rtol=1e-3)


def test_columns_in_another_order_are_refused():
    X = pd.DataFrame(noise(0, 60, 2), columns=["a", "b"])
    y = np.arange(60) % 2
    swapped, named = X[["b", "a"]], "must have the columns of X_"
    with pytest.raises(ValueError, match=named):
        c2st_auc(X, swapped)
    with pytest.raises(ValueError, match=named):
        frechet_distance(X, swapped)
    with pytest.raises(ValueError, match=named):
        nearest_neighbour_copy(X, X, swapped)
    with pytest.raises(ValueError, match=named):
        quality_report(X, X, X_test=swapped)
    with pytest.raises(ValueError, match=named):
        train_on_synthetic(X, y, X, y, X_train=swapped, y_train=y)
    right = swapped[["a", "b"]]
    assert (
        frechet_distance(X, right, random_state=0).value
        == frechet_distance(X, X, random_state=0).value
    )


def test_masked_values_and_dates_are_refused():
    X = noise(0, 60, 2)
    with pytest.raises(ValueError, match="X_synthetic must have no masked values"):
        c2st_auc(X, np.ma.masked_greater(X, 1))
    with pytest.raises(TypeError, match="X_real must be numeric, got dates"):
        c2st_auc(X.astype("datetime64[s]"), X)


def test_missing_subjects_are_refused():
    X = noise(0, 60, 2)
    with pytest.raises(ValueError, match="groups_real must have no missing value"):
        c2st_auc(X, X, groups_real=[None, *range(59)])


@pytest.mark.parametrize("shape", [(120, 3), (120, 3, 16)])
def test_what_float32_makes_of_a_constant_tells_nothing(shape, few_trees):
    X, new = noise(0, *shape), noise(1, *shape)
    X[:, 1] = new[:, 1] = 9.81
    for there in (new, new.astype(np.float32)):
        assert c2st_auc(X, there, random_state=0).value < 0.7


def test_the_rounding_of_windows_at_rest_tells_nothing(few_trees):
    level, other = noise(0, 2, 200, 1, 1)
    X, new = (np.repeat(x, 32, axis=2) for x in (level, other.astype(np.float32)))
    assert c2st_auc(X, new, random_state=0).value < 0.65
    assert (window_features(X)[:, 1] == 0).all()


def test_columns_without_names_are_taken_in_order():
    X = pd.DataFrame(noise(0, 60, 2), columns=["a", "b"])
    unnamed = pd.DataFrame(noise(1, 60, 2))
    assert frechet_distance(X, unnamed, random_state=0).value > 0


def test_categories_have_no_distances():
    frame = pd.DataFrame({"a": np.arange(40.0), "c": pd.Categorical(list("uv") * 20)})
    with pytest.raises(TypeError, match="X_real must be numeric, got categories in"):
        c2st_auc(frame, frame)


def test_tensors_with_gradients_are_read():
    torch = pytest.importorskip("torch")
    X = torch.tensor(noise(0, 40, 3), requires_grad=True)
    expected = c2st_auc(X.detach().numpy(), noise(1, 40, 3), random_state=0)
    assert c2st_auc(X, noise(1, 40, 3), random_state=0) == expected


def test_people_of_the_synthetic_side_alone_are_kept_together(few_trees):
    """Rows that differ from person to person only, against rows of nobody."""
    person = np.repeat(np.arange(40), 4)
    X, Z = noise(1, 320, 2), noise(0, 40, 2)[person]
    assert c2st_auc(X, Z, random_state=0).value > 0.7
    grouped = c2st_auc(X, Z, groups_synthetic=person, random_state=0)
    assert grouped.value == pytest.approx(0.5, abs=0.15)


def test_a_class_that_is_not_tested_takes_hits_but_has_no_score(few_trees):
    y = np.repeat([0, 1, 2], 30)
    X, y_test = 10 * y[:, None] + 0.1 * noise(0, 90, 1), np.repeat([0, 1], 100)
    X_test = 10.0 * y_test[:, None] + 0.1 * noise(1, 200, 1)
    X_test[:20] = 20  # where the third class lies
    score = train_on_synthetic(X, y, X_test, y_test, random_state=0).logistic
    assert score.synthetic == pytest.approx((2 * 80 / 180 + 1) / 2)
    assert np.mean(score.interval) == pytest.approx(score.synthetic, abs=0.01)


def test_forests_of_other_seeds_are_others(few_trees):
    X, y = noise(0, 60, 2), np.repeat([0, 1], 30)
    X_test, y_test = noise(1, 300, 2), np.repeat([0, 1], 150)
    scores = {
        train_on_synthetic(X, y, X_test, y_test, random_state=k).forest.synthetic
        for k in range(4)
    }
    assert len(scores) > 1
