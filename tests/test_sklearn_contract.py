"""scikit-learn's contract, on every estimator."""

import inspect
import warnings

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import SkipTestWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from skflowfm import (
    AugmentedClassifier,
    FlowFMClassifier,
    FlowFMRegressor,
    FlowFMSampler,
    FlowFMTransformer,
)
from skflowfm.datasets import make_wearable

ESTIMATORS = [
    FlowFMTransformer(max_steps=5),
    FlowFMSampler(FlowFMTransformer(max_steps=5), quality=1),
    AugmentedClassifier(
        LogisticRegression(), FlowFMSampler(FlowFMTransformer(max_steps=5), quality=1)
    ),
    FlowFMClassifier(FlowFMTransformer(max_steps=5)),
    FlowFMClassifier(FlowFMTransformer(max_steps=5), strategy="full", max_steps=50),
    FlowFMRegressor(FlowFMTransformer(max_steps=5)),
    FlowFMRegressor(FlowFMTransformer(max_steps=5), strategy="full", max_steps=50),
]


@pytest.fixture(scope="module")
def data():
    return make_wearable(72, n_timesteps=16, random_state=0, return_X_y=True)


@pytest.mark.uses_global_rng  # the checks do, for their data
@parametrize_with_checks(ESTIMATORS)
def test_estimator_checks(estimator, check):
    with warnings.catch_warnings():
        # scikit-learn skips its array API check unless SCIPY_ARRAY_API is set
        warnings.simplefilter("ignore", SkipTestWarning)
        check(estimator)


@pytest.mark.slow
@pytest.mark.uses_global_rng
@pytest.mark.parametrize(
    "estimator",
    [
        FlowFMTransformer(),
        FlowFMSampler(),
        AugmentedClassifier(),
        FlowFMClassifier(),
        FlowFMRegressor(),
    ],
    ids=lambda e: type(e).__name__,
)
def test_estimator_checks_with_default_parameters(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        results = check_estimator(estimator, on_fail=None)
    bad = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not bad
    skipped = [r["check_name"] for r in results if r["status"] == "skipped"]
    assert skipped == ["check_array_api_input"]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_init_stores_its_parameters_and_nothing_else(estimator):
    fresh = type(estimator)()
    assert vars(fresh) == fresh.get_params(deep=False)
    names = set(inspect.signature(type(estimator)).parameters)
    assert names == set(vars(fresh))
    assert len(names) <= 12


def test_a_search_in_a_pipeline_with_groups_and_two_workers(data):
    X, y, groups = data
    pipe = Pipeline(
        [
            ("z", FlowFMTransformer(max_steps=10, random_state=0)),
            ("clf", LogisticRegression(max_iter=2000)),
        ]
    )
    grid = {"z__n_components": [4, 12]}
    searches = [
        GridSearchCV(pipe, grid, cv=GroupKFold(2), n_jobs=n).fit(X, y, groups=groups)
        for n in (1, 2)
    ]
    one, two = (s.cv_results_["mean_test_score"] for s in searches)
    np.testing.assert_allclose(one, two, atol=0.05)
    assert searches[0].best_score_ > 1.5 / 6
    assert searches[1].predict(X).shape == y.shape


class Spy(FlowFMTransformer):
    """Remembers the groups that fit was given."""

    received = None

    def fit(self, X, y=None, *, groups=None):
        type(self).received = groups
        return super().fit(X, y, groups=groups)


def test_groups_are_routed_to_fit_and_to_the_splitter(data):
    X, y, groups = data
    with sklearn.config_context(enable_metadata_routing=True):
        z = Spy(4, max_steps=1, random_state=0).set_fit_request(groups=True)
        pipe = Pipeline([("z", z), ("clf", LogisticRegression(max_iter=2000))])
        cross_val_score(pipe, X, y, cv=GroupKFold(2), params={"groups": groups})
    assert Spy.received is not None
    kept = set(Spy.received)
    assert len(Spy.received) < len(groups)
    assert kept < set(groups)  # the groups of one training part


def test_clone_of_a_sampler_on_a_frozen_model_shares_it(data):
    X = data[0]
    fitted = FlowFMTransformer(4, max_steps=1, random_state=0).fit(X)
    sampler = FlowFMSampler(FrozenEstimator(fitted))
    assert clone(sampler).transformer.estimator is fitted
    assert clone(FlowFMSampler(fitted)).transformer is not fitted


def test_nested_parameters_are_reachable():
    model = AugmentedClassifier(
        LogisticRegression(), FlowFMSampler(FlowFMTransformer())
    )
    model.set_params(sampler__transformer__n_components=3, classifier__C=2.0)
    assert model.sampler.transformer.n_components == 3
    assert model.classifier.C == 2.0


def test_inside_imbalanced_learns_pipeline(data):
    pipeline = pytest.importorskip("imblearn.pipeline")
    X, y, _ = data
    keep = (y != 0) | (np.arange(len(y)) % 4 == 0)
    X, y = X[keep], y[keep]
    pipe = pipeline.Pipeline(
        [
            ("aug", FlowFMSampler(FlowFMTransformer(4, max_steps=5), quality=1)),
            ("z", FlowFMTransformer(4, max_steps=5, random_state=0)),
            ("clf", LogisticRegression(max_iter=2000)),
        ]
    )
    search = GridSearchCV(pipe, {"aug__quality": [1, 2]}, cv=2).fit(X, y)
    assert search.predict(X).shape == y.shape
