"""imbalanced-learn's own checks of an over-sampler, and windows in its pipeline."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from skflowfm import FlowFMSampler, FlowFMTransformer
from skflowfm.datasets import make_wearable

pytest.importorskip("imblearn")
from imblearn.pipeline import make_pipeline
from imblearn.utils.estimator_checks import estimator_checks_generator

from skflowfm.imblearn import FlowFMOverSampler

SAMPLER = FlowFMSampler(FlowFMTransformer(max_steps=5), quality=1)


CHECKS = list(estimator_checks_generator(FlowFMOverSampler(SAMPLER, random_state=0)))


@pytest.mark.uses_global_rng  # the checks seed numpy's
@pytest.mark.parametrize(
    ("estimator", "check"), CHECKS, ids=[check.func.__name__ for _, check in CHECKS]
)
def test_imbalanced_learn_s_own_checks(estimator, check):
    check(estimator)


def test_windows_in_a_searched_pipeline_with_classes_of_one_to_five_rows():
    X, y, _ = make_wearable(120, n_timesteps=32, random_state=0, return_X_y=True)
    rows = np.concatenate(
        [np.flatnonzero(y == c)[:n] for c, n in enumerate((15, 15, 5, 4, 3, 3))]
    )
    transformer = FlowFMTransformer(6, max_steps=5, random_state=0).fit(X)
    pipe = make_pipeline(
        FlowFMOverSampler(FlowFMSampler(FrozenEstimator(transformer), quality=1)),
        transformer,
        LogisticRegression(max_iter=2000),
    )
    grid = {"flowfmoversampler__sampler__quality": [1, 2]}
    search = GridSearchCV(pipe, grid, cv=3).fit(X[rows], y[rows])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    one = rows[[0, 1, 2, 3, 15]]
    X_new, y_new = pipe[0].set_params(random_state=0).fit_resample(X[one], y[one])
    assert np.unique(y_new, return_counts=True)[1].tolist() == [4, 4]
    assert np.array_equal(X_new[:5], X[one])


def test_it_draws_what_the_sampler_draws():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), np.repeat([0, 1], [30, 10])
    X_a, y_a = FlowFMOverSampler(SAMPLER, random_state=3).fit_resample(X, y)
    X_b, y_b = SAMPLER.set_params(random_state=3).fit_resample(X, y)
    np.testing.assert_array_equal(X_a, X_b)
    np.testing.assert_array_equal(y_a, y_b)


def test_without_imbalanced_learn_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['imblearn'] = None\n"
        "import skflowfm\n"
        "try:\n    import skflowfm.imblearn\n"
        "except ImportError as error:\n    assert 'skflowfm[imblearn]' in str(error)\n"
        "else:\n    raise SystemExit('no error')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_whole_numbers_and_truth_values_stay_what_they_are():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"n": rng.poisson(3, 80), "is": rng.random(80) < 0.3, "x": rng.normal(size=80)}
    )
    y = pd.Series(np.repeat(["p", "q"], [60, 20]))
    new, _ = FlowFMOverSampler(SAMPLER, random_state=3).fit_resample(X, y)
    expected, _ = SAMPLER.set_params(random_state=3).fit_resample(X, y)
    pd.testing.assert_frame_equal(new, expected)
    assert new["is"].iloc[80:].nunique() == 2


def test_categories_of_text_beside_other_columns_of_a_frame():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "colour": pd.Categorical(rng.choice(["red", "blue"], 80)),
            "is": rng.random(80) < 0.3,
            "n": pd.array(rng.poisson(3, 80), dtype="Int64"),
        }
    )
    y = np.repeat(["p", "q"], [60, 20])
    new, _ = FlowFMOverSampler(SAMPLER, random_state=3).fit_resample(X, y)
    expected, _ = SAMPLER.set_params(random_state=3).fit_resample(X, y)
    pd.testing.assert_frame_equal(new, expected)
    assert new.dtypes.equals(X.dtypes)
