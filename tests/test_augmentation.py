"""make_synthetic and AugmentedClassifier."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from skflowfm import (
    AugmentedClassifier,
    FlowFMSampler,
    FlowFMTransformer,
    make_synthetic,
)
from skflowfm._augmentation import spread_over_classes


def quick():
    return FlowFMSampler(FlowFMTransformer(2, max_steps=5), quality=1, random_state=0)


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


def test_only_the_new_rows_come_back(iris):
    X, y = iris
    X_new, y_new = make_synthetic(X, y, n_samples={0: 4, 2: 3}, sampler=quick())
    assert X_new.dtype == X.dtype
    assert y_new.tolist() == [0] * 4 + [2] * 3
    assert len(X_new) == 7
    assert make_synthetic(X, n_samples=9, sampler=quick()).shape == (9, 4)
    assert make_synthetic(X, sampler=quick()).shape == X.shape


def test_people_and_rows_without_labels_reach_the_sampler(iris):
    X, y = iris
    some = np.r_[0:20, 50:70, 100:120]
    rest = np.setdiff1d(np.arange(150), some)
    more = {"groups": np.arange(150) % 6, "X_unlabelled": X[rest]}
    expected = quick().fit(X[some], y[some], **more)
    drawn, _ = make_synthetic(
        X[some], y[some], n_samples={1: 9}, sampler=quick(), **more
    )
    np.testing.assert_array_equal(
        drawn.astype(np.float32), expected.sample(class_counts={1: 9})[0]
    )
    for name, value in more.items():
        with pytest.raises(ValueError, match=f"no use for {name}"):
            make_synthetic(X, y, sampler=FrozenEstimator(expected), **{name: value})


def test_a_frozen_sampler_draws_rows_like_those_of_its_fit(iris):
    X, y = iris
    fitted = quick().fit(X, y)
    frozen = FrozenEstimator(fitted)
    drawn, _ = make_synthetic(X, y, n_samples={1: 5}, sampler=frozen, random_state=3)
    expected, _ = fitted.sample(class_counts={1: 5}, random_state=3)
    np.testing.assert_array_equal(drawn, expected.astype(X.dtype))
    for other in (X[:, :2], X[:, :, None], pd.DataFrame(X[:, :3])):
        with pytest.raises(ValueError, match=r"X (must|has) "):
            make_synthetic(other, sampler=frozen)


def test_a_frozen_sampler_knows_the_classes_of_its_fit_alone(iris):
    X, y = iris
    names = np.array(["a", "b", "c"])[y]
    with pytest.raises(
        ValueError, match=r"y asks for classes \['a', 'b', 'c'\]; fit saw"
    ):
        make_synthetic(
            X, names, n_samples=5, sampler=FrozenEstimator(quick().fit(X, y))
        )
    two = FrozenEstimator(quick().fit(X[:100], y[:100]))
    assert len(make_synthetic(X, y, n_samples={0: 3, 2: 0}, sampler=two)[1]) == 3
    with pytest.raises(ValueError, match="y asks for classes, but fit had no labels"):
        make_synthetic(X, y, n_samples=5, sampler=FrozenEstimator(quick().fit(X)))


def test_windows_need_a_classifier_of_windows():
    """It is said before the sampler is trained, not after."""
    X, y = np.zeros((20, 2, 8)), np.repeat([0, 1], 10)
    with pytest.raises(TypeError, match="classifier must take windows"):
        AugmentedClassifier(sampler=FlowFMSampler()).fit(X, y)


def test_a_frozen_sampler_is_not_fitted_on_parts_of_the_rows(iris):
    X, y = iris
    fitted = quick().fit(X, y)
    before = fitted.sample(2)
    with pytest.raises(TypeError, match="sampler must not be frozen"):
        AugmentedClassifier(LogisticRegression(), FrozenEstimator(fitted)).fit(X, y)
    np.testing.assert_array_equal(fitted.sample(2), before)


def test_a_classifier_that_is_none_is_refused(iris):
    with pytest.raises(TypeError, match="classifier must be a classifier, got 'x'"):
        AugmentedClassifier("x", quick()).fit(*iris)


def test_totals_count_what_is_there(iris):
    X, y = iris[0][:110], iris[1][:110]
    _, y_new = make_synthetic(
        X, y, sampling_strategy={2: 25, 0: 50}, sampler=quick(), random_state=0
    )
    assert y_new.tolist() == [2] * 15
    _, y_new = make_synthetic(X, y, sampling_strategy="auto", sampler=quick())
    assert np.bincount(y_new).tolist() == [0, 0, 40]


def test_a_number_with_labels_keeps_the_proportions(iris):
    X, y = iris[0][:110], iris[1][:110]
    _, y_new = make_synthetic(X, y, n_samples=22, sampler=quick())
    assert np.bincount(y_new).tolist() == [10, 10, 2]


@given(
    n=st.integers(0, 1000), counts=st.lists(st.integers(1, 50), min_size=1, max_size=6)
)
def test_spread_over_classes_is_exact_and_fair(n, counts):
    y = np.repeat(np.arange(len(counts)), counts)
    spread = spread_over_classes(n, y)
    assert sum(spread.values()) == n
    for c, count in enumerate(counts):
        assert abs(spread[c] - n * count / len(y)) < 1


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"n_samples": 3, "sampling_strategy": "auto"}, "not both"),
        ({"n_samples": {7: 1}}, "asks for classes \\[7\\]"),
        ({"n_samples": {0: -1}}, "0 or more"),
        ({"n_samples": -4}, "n_samples must be an integer of at least 0"),
        ({"sampling_strategy": {0: 3}}, "fewer rows than there are"),
    ],
)
def test_bad_requests(iris, request_, message):
    with pytest.raises(ValueError, match=message):
        make_synthetic(*iris, sampler=quick(), **request_)


def test_classes_without_labels(iris):
    with pytest.raises(ValueError, match="need y"):
        make_synthetic(iris[0], n_samples={0: 1}, sampler=quick())


def test_frames_and_seeds(iris):
    X = pd.DataFrame(iris[0], columns=list("abcd"))
    y = pd.Series(iris[1], name="kind")
    one = make_synthetic(X, y, n_samples={1: 3}, sampler=quick(), random_state=4)
    other = make_synthetic(X, y, n_samples={1: 3}, sampler=quick(), random_state=4)
    pd.testing.assert_frame_equal(one[0], other[0])
    assert list(one[0].columns) == list("abcd")
    assert one[1].name == "kind"


class Recorder(BaseEstimator):
    """A resampler that appends copies and remembers which rows it was given."""

    seen: ClassVar = []

    def fit_resample(self, X, y):
        type(self).seen.append(X[:, 0].copy())
        return np.concatenate([X, X]), np.concatenate([y, y])


def test_synthetic_rows_come_from_the_training_part_of_each_fold(iris):
    X, y = iris
    X = np.column_stack([np.arange(150.0), X])
    Recorder.seen = []
    model = AugmentedClassifier(LogisticRegression(max_iter=5000), Recorder())
    cross_val_predict(make_pipeline(model), X, y, cv=5)
    assert [len(seen) for seen in Recorder.seen] == [120] * 5
    held_out = [set(range(150)) - set(seen.astype(int)) for seen in Recorder.seen]
    assert set.union(*held_out) == set(range(150))


def test_it_is_searched_like_any_other(iris):
    X, y = iris
    model = AugmentedClassifier(LogisticRegression(max_iter=1000), quick())
    search = GridSearchCV(
        model,
        {"classifier__C": [1e-4, 1.0], "sampler__sampling_strategy": [{0: 60}]},
        cv=3,
    )
    search.fit(X, y)
    assert search.best_params_["classifier__C"] == 1.0
    assert search.best_estimator_.n_synthetic_ == 10
    assert search.score(X, y) > 0.9
    assert search.predict_proba(X).shape == (150, 3)


def test_only_what_the_classifier_offers(iris):
    class Plain(LogisticRegression):
        predict_proba = property()

    assert hasattr(AugmentedClassifier(LogisticRegression()), "predict_proba")
    assert not hasattr(AugmentedClassifier(Plain()), "predict_proba")
    with pytest.raises(TypeError, match="must have a fit_resample method"):
        AugmentedClassifier(sampler=LogisticRegression()).fit(*iris)


def test_windows_through_a_pipeline():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [40, 10])
    X = rng.normal(size=(50, 2, 16)) * (1 + y[:, None, None])
    inner = make_pipeline(
        FlowFMTransformer(4, max_steps=2, random_state=0), LogisticRegression()
    )
    model = AugmentedClassifier(inner, quick()).fit(X, y)
    assert model.n_synthetic_ == 30
    assert model.predict(X).shape == (50,)


def test_the_default_classifier_has_probabilities_before_it_is_fitted():
    assert hasattr(AugmentedClassifier(), "predict_proba")
    assert hasattr(AugmentedClassifier(), "decision_function")
    assert not hasattr(AugmentedClassifier(LinearSVC()), "predict_proba")
