"""Choosing how much to add: helpful rows are taken, harmful ones are not."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression

from skflowfm import AugmentedClassifier, FlowFMSampler, FlowFMTransformer
from skflowfm._amount import (
    best_amount,
    compare_amounts,
    folds_of,
    totals_of,
    with_amounts,
)

SHIFT = 1.0


def two_classes(seed, n_each, n_columns=20):
    """Two normal classes that differ in the first column alone."""
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1], n_each)
    X = rng.normal(size=(len(y), n_columns))
    X[:, 0] += SHIFT * (2 * y - 1)
    return X, y


class Oracle(BaseEstimator):
    """Adds draws from the true law, or with the labels swapped."""

    seen: ClassVar = []

    def __init__(self, sampling_strategy="auto", swap=False):
        self.sampling_strategy = sampling_strategy
        self.swap = swap

    def fit_resample(self, X, y):
        type(self).seen.append(np.asarray(X)[:, -1].copy())
        new = [
            np.repeat([c], total - np.sum(np.asarray(y) == c))
            for c, total in self.sampling_strategy.items()
        ]
        y_new = np.concatenate(new).astype(int)
        X_new = np.random.default_rng(0).normal(size=(len(y_new), X.shape[1]))
        X_new[:, 0] += SHIFT * (2 * y_new - 1) * (-1 if self.swap else 1)
        return np.concatenate([X, X_new]), np.concatenate([y, y_new])


def test_helpful_rows_are_taken_and_help_on_rows_unseen():
    X, y = two_classes(0, 20, n_columns=60)
    X_test, y_test = two_classes(1, 500, n_columns=60)
    plain = AugmentedClassifier(LogisticRegression(), Oracle(), amount=0).fit(X, y)
    model = AugmentedClassifier(LogisticRegression(), Oracle(), amount=[1, 20])
    model.fit(X, y)
    assert model.amount_ == 20
    assert model.n_synthetic_ == 2 * 380
    assert model.score(X_test, y_test) > plain.score(X_test, y_test) + 0.05
    line = model.amounts_.loc[20]
    assert line["low"] < line["gain"] < line["high"]


def test_harmful_rows_are_refused():
    X, y = two_classes(0, 20)
    model = AugmentedClassifier(LogisticRegression(), Oracle(swap=True), amount="auto")
    model.fit(X, y)
    assert model.amount_ == 0
    assert model.n_synthetic_ == 0
    assert model.sampler_ is None
    assert (model.amounts_["gain"].loc[[2, 4]] < 0).all()
    plain = LogisticRegression().fit(X, y)
    np.testing.assert_array_equal(model.predict(X), plain.predict(X))


def test_the_sampler_sees_training_groups_alone():
    X, y = two_classes(0, 20)
    groups = np.tile(np.arange(5), 8)
    X[:, -1] = groups
    Oracle.seen = []
    model = AugmentedClassifier(LogisticRegression(), Oracle(), amount=[2], cv=5)
    model.fit(X, y, groups=groups)
    inner = [set(seen.astype(int)) for seen in Oracle.seen[:5]]
    assert sorted(map(len, inner)) == [4] * 5
    assert set.union(*(set(range(5)) - seen for seen in inner)) == set(range(5))


class WithGroups(Oracle):
    """Remembers the groups it is given."""

    given_groups: ClassVar = []

    def fit_resample(self, X, y, *, groups=None):
        type(self).given_groups.append(groups)
        return super().fit_resample(X, y)


def test_groups_reach_a_sampler_that_takes_them_cut_to_the_fold():
    X, y = two_classes(0, 20)
    groups = np.tile(np.arange(5), 8)
    WithGroups.given_groups = []
    model = AugmentedClassifier(LogisticRegression(), WithGroups(), amount=[2], cv=5)
    model.fit(X, y, groups=groups)
    assert [len(set(g)) for g in WithGroups.given_groups[:5]] == [4] * 5
    AugmentedClassifier(LogisticRegression(), WithGroups(), amount=2).fit(
        X, y, groups=groups
    )
    assert np.array_equal(WithGroups.given_groups[-1], groups)


def test_the_table_is_the_paired_comparison_of_the_folds():
    X, y = two_classes(0, 8)
    table = compare_amounts(
        LogisticRegression(), Oracle(), X, y, None, [0.0, 3.0], cv=4
    )
    assert table["gain"].loc[0] == table["standard_error"].loc[0] == 0
    line = table.loc[3]
    assert line["gain"] == pytest.approx(line["macro_f1"] - table["macro_f1"].loc[0])
    half = 3.182446305284263 * line["standard_error"]  # t of 3 degrees of freedom
    assert line["high"] - line["gain"] == pytest.approx(half)
    assert line["gain"] - line["low"] == pytest.approx(half)


class Reader(BaseEstimator):
    """Says what the second column does, or the first one if rows were added."""

    def fit(self, X, y):
        self.column_ = 0 if len(X) > 20 else 1
        return self

    def predict(self, X):
        return X[:, self.column_].astype(int)


@pytest.fixture
def halves(monkeypatch):
    """Two folds: the first twenty rows and the last twenty."""
    parts = np.arange(40) < 20, np.arange(40) >= 20
    folds = [tuple(np.flatnonzero(p) for p in way) for way in (parts, parts[::-1])]
    monkeypatch.setattr("skflowfm._amount.folds_of", lambda *_: folds)


def test_the_error_of_two_folds_is_known(halves):
    """Gains of 1 and 0 have variance 1/2; the halves train on as many as they test."""
    y = np.tile([0, 1], 20)
    X = np.c_[y, np.where(np.arange(40) < 20, 1 - y, y)]
    line = compare_amounts(Reader(), Oracle(), X, y, None, [0, 3], 2).loc[3]
    assert line["gain"] == 0.5
    assert line["standard_error"] == pytest.approx((1 / 2 * (1 / 2 + 1)) ** 0.5)


def test_a_class_that_is_not_held_out_has_no_score(halves):
    """Of ten rows of a class one is called another, of which no row is held out."""
    y = np.tile([0, 1], 20)
    said = np.where(np.isin(np.arange(40), [1, 21]), 2, y)
    X = np.c_[y, said]
    line = compare_amounts(Reader(), Oracle(), X, y, None, [0], 2).loc[0]
    assert line["macro_f1"] == pytest.approx((1 + 18 / 19) / 2)


@pytest.mark.parametrize(
    ("gains", "errors", "best"),
    [
        ([0, 0.02, 0.01], [0, 0.03, 0.005], 2),
        ([0, 0.02, 0.01], [0, 0.01, 0.005], 1),
        ([0, -0.02, 0.01], [0, 0.001, 0.01], 0),
    ],
)
def test_a_gain_must_exceed_its_error(gains, errors, best):
    table = pd.DataFrame({"gain": gains, "standard_error": errors})
    assert best_amount(table) == best


@given(
    counts=st.dictionaries(st.integers(0, 9), st.integers(1, 50), min_size=1),
    amount=st.floats(0, 5),
)
def test_totals_raise_every_class_to_the_amount(counts, amount):
    totals = totals_of(amount, counts)
    assert list(totals) == list(counts)
    for c, total in totals.items():
        assert total == max(counts[c], round(amount * max(counts.values())))


def test_smaller_amounts_are_the_first_rows_of_larger_ones():
    X, y = two_classes(0, 6)
    X, y = X[:9], y[:9]  # six and three
    parts = list(with_amounts(Oracle(), X, y, None, [0, 1, 2]))
    assert [np.bincount(labels).tolist() for _, labels in parts] == [
        [6, 3],
        [6, 6],
        [12, 12],
    ]
    whole = {row.tobytes() for row in parts[2][0]}
    assert {row.tobytes() for row in parts[1][0]} < whole
    np.testing.assert_array_equal(parts[0][0], X)


def test_amounts_of_the_package_s_own_sampler_on_a_frame():
    X, y = two_classes(0, 12, n_columns=4)
    frame, labels = pd.DataFrame(X, columns=list("abcd")), pd.Series(y, name="kind")
    sampler = FlowFMSampler(FlowFMTransformer(2, max_steps=5), quality=1)
    model = AugmentedClassifier(
        LogisticRegression(), sampler, amount=[1, 2], cv=2, random_state=0
    )
    model.fit(frame, labels)
    assert model.amounts_.index.tolist() == [0, 1, 2]
    assert model.n_synthetic_ == {0: 0, 1: 0, 2: 24}[model.amount_]
    again = AugmentedClassifier(
        LogisticRegression(), sampler, amount=2, random_state=0
    ).fit(frame, labels)
    assert again.n_synthetic_ == 24


@pytest.mark.parametrize(
    "amount", [-1, "much", "1", True, ["1"], [], [1, np.nan], np.inf, [[1, 2]]]
)
def test_bad_amounts(amount):
    with pytest.raises(ValueError, match="amount must be None, 'auto', a number"):
        AugmentedClassifier(amount=amount).fit(*two_classes(0, 5))


def groups_of_classes(*of_each):
    """Return labels and groups: for each class, its groups."""
    pairs = [(c, g) for c, groups in enumerate(of_each) for g in groups]
    return np.array(pairs).repeat(2, axis=0).T


@pytest.mark.parametrize(
    ("y", "groups"),
    [
        # the first cut holds out all of class 0 at once
        (
            [0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 1],
            [2, 0, 1, 0, 1, 1, 2, 0, 1, 2, 1, 0, 1],
        ),
        # any cut in two does so with one of the classes
        groups_of_classes([0, 1], [0, 1], [1, 2], [0, 2]),
    ],
)
def test_every_class_stays_in_the_training_parts(y, groups):
    y, groups = np.asarray(y), np.asarray(groups)
    folds = folds_of(y, groups, 5)
    for train, test in folds:
        assert set(y[train]) == set(y)
        assert not set(groups[train]) & set(groups[test])
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(y)))


def test_a_class_of_one_row_cannot_be_compared():
    X, y = two_classes(0, 5)
    model = AugmentedClassifier(LogisticRegression(), Oracle(), amount="auto")
    with pytest.raises(ValueError, match="at least two rows of every class"):
        model.fit(X[:6], y[:6])
    groups = np.repeat([0, 1], 5)
    with pytest.raises(ValueError, match="two groups, if groups are given"):
        model.fit(X, y, groups=groups)


@pytest.mark.parametrize("unit", ["ns", "us", "D"])
def test_dates_are_labels_like_others(unit):
    X, y = two_classes(0, 12)
    X, y = X[:20], y[:20]
    dates = (np.datetime64("2020-01-01", "D") + y).astype(f"datetime64[{unit}]")
    transformer = FlowFMTransformer(2, max_steps=3, random_state=0)
    sampler = FlowFMSampler(transformer, quality=2, random_state=0)
    augmented = AugmentedClassifier(sampler=sampler, amount=[1, 2], cv=2)
    by_date, by_number = (clone(augmented).fit(X, labels) for labels in (dates, y))
    pd.testing.assert_frame_equal(by_date.amounts_, by_number.amounts_)
    assert by_date.amounts_["gain"].abs().max() > 0  # rows have been added
    wanted = {pd.Timestamp("2020-01-02"): 11}
    sampler.set_params(sampling_strategy=wanted)
    assert np.sum(sampler.fit_resample(X, dates)[1] == dates[-1]) == 11
    for key in (dates[-1], pd.Timestamp("2020-01-02")):
        assert (sampler.sample(class_counts={key: 3})[1] == dates[-1]).all()


class Thinned(Oracle):
    """Leaves out the first row."""

    def fit_resample(self, X, y):
        return X[1:], y[1:]


@pytest.mark.parametrize("amount", [None, 1.0, [1, 2]])
def test_samplers_that_remove_rows_are_refused(amount):
    X, y = two_classes(0, 12)
    augmented = AugmentedClassifier(sampler=Thinned(), amount=amount)
    with pytest.raises(ValueError, match="must return all rows it was given"):
        augmented.fit(X[:20], y[:20])
