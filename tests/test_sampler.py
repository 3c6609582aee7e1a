"""FlowFMSampler: exact counts, reproducible draws, the right distribution."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from skflowfm import FlowFMSampler, FlowFMTransformer
from skflowfm.datasets import make_wearable
from skflowfm.metrics import c2st_auc


@pytest.fixture(scope="module")
def data():
    return make_wearable(160, n_timesteps=32, random_state=0, return_X_y=True)


@pytest.fixture(scope="module")
def transformer(data):
    return FlowFMTransformer(12, max_steps=40, random_state=0).fit(data[0])


@pytest.fixture(scope="module")
def sampler(data, transformer):
    X, y, _ = data
    frozen = FrozenEstimator(transformer)
    return FlowFMSampler(frozen, n_steps=2, random_state=1).fit(X, y)


def test_samples_are_prefix_stable_to_the_byte(sampler):
    many = sampler.sample(150)
    for n in (1, 63, 64, 65, 100):
        np.testing.assert_array_equal(sampler.sample(n), many[:n])


def test_samples_do_not_depend_on_how_many_are_computed_at_a_time(sampler, monkeypatch):
    expected = sampler.sample(100)
    monkeypatch.setattr("skflowfm._generation.ROWS_AT_A_TIME", 64)
    np.testing.assert_array_equal(sampler.sample(100), expected)


def test_a_sample_depends_on_its_own_class_only(sampler):
    one = sampler.sample(y=[0, 1, 2, 3])
    other = sampler.sample(y=[5, 1, 0, 3])
    np.testing.assert_array_equal(one[[1, 3]], other[[1, 3]])
    assert not np.array_equal(one[0], other[0])


def test_seeds(sampler):
    one = sampler.sample(3, random_state=5)
    np.testing.assert_array_equal(one, sampler.sample(3, random_state=5))
    assert not np.array_equal(one, sampler.sample(3, random_state=6))
    np.testing.assert_array_equal(sampler.sample(3), sampler.sample(3))
    assert len(np.unique(sampler.sample(50).reshape(50, -1), axis=0)) == 50


def test_counts_are_exact_and_in_order(sampler):
    X, y = sampler.sample(class_counts={4: 3, 0: 0, 1: 70})
    assert X.shape == (73, 3, 32)
    assert y.tolist() == [4] * 3 + [1] * 70
    nothing, labels = sampler.sample(class_counts={0: 0})
    assert nothing.shape == (0, 3, 32)
    assert labels.shape == (0,)
    assert sampler.sample(5, y=2).shape == (5, 3, 32)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"y": 9}, "asks for classes \\[9\\]; fit saw \\[0, 1"),
        ({"class_counts": {9: 1}}, "asks for classes \\[9\\]"),
        ({"class_counts": {0: -1}}, "0 or more"),
        ({"class_counts": {0: 1.5}}, "number of rows"),
        ({"n_samples": -1}, "n_samples must be an integer of at least 0"),
        ({"n_samples": 2.0}, "n_samples=2.0"),
        ({"y": [0], "class_counts": {0: 1}}, "not both"),
    ],
)
def test_bad_requests(sampler, request_, message):
    with pytest.raises(ValueError, match=message):
        sampler.sample(**request_)


def test_classes_need_labels(data, transformer):
    unlabelled = FlowFMSampler(FrozenEstimator(transformer)).fit(data[0])
    with pytest.raises(ValueError, match="fit had no labels"):
        unlabelled.sample(y=0)
    assert unlabelled.sample(2).shape == (2, 3, 32)


def test_bad_parameters(data, transformer):
    X = data[0]
    with pytest.raises(ValueError, match="solver must be one of"):
        FlowFMSampler(transformer, solver="dopri5").fit(X)
    with pytest.raises(ValueError, match="n_steps must be an integer of at least 1"):
        FlowFMSampler(transformer, n_steps=0).fit(X)
    with pytest.raises(TypeError, match="must be a FlowFMTransformer"):
        FlowFMSampler(LogisticRegression()).fit(X)


def test_a_frozen_transformer_is_not_trained_and_labels_may_change(data, transformer):
    X, _, groups = data
    before = [p.clone() for p in transformer.module_.parameters()]
    frozen = FrozenEstimator(transformer)
    by_subject = FlowFMSampler(frozen, n_steps=1, random_state=0).fit(X, groups)
    assert by_subject.transformer_ is transformer
    assert all(map(torch.equal, before, transformer.module_.parameters()))
    np.testing.assert_array_equal(by_subject.classes_, np.unique(groups))
    few = FlowFMSampler(frozen, n_steps=1, random_state=0).fit(X[:1], ["fall"])
    assert few.sample(class_counts={"fall": 5})[1].tolist() == ["fall"] * 5


def test_a_transformer_that_is_not_frozen_is_cloned(data, transformer):
    sampler = FlowFMSampler(transformer.__class__(4, max_steps=2), random_state=0)
    sampler.fit(data[0])
    assert sampler.transformer_ is not sampler.transformer
    assert sampler.transformer_.n_components_ == 4


def test_conditional_samples_look_like_their_class(data):
    X, y, _ = data
    transformer = FlowFMTransformer(12, max_steps=250, random_state=0).fit(X)
    sampler = FlowFMSampler(FrozenEstimator(transformer), random_state=0).fit(X, y)
    X_new, y_new = sampler.sample(class_counts=dict.fromkeys(range(6), 40))
    spread = X.std(axis=-1).mean(axis=1)
    spread_new = X_new.std(axis=-1).mean(axis=1)
    real = [np.median(np.log(spread[y == c])) for c in range(6)]
    drawn = [np.median(np.log(spread_new[y_new == c])) for c in range(6)]
    assert np.corrcoef(real, drawn)[0, 1] > 0.95
    np.testing.assert_allclose(drawn, real, atol=0.7)


def test_sample_like_keeps_the_window_and_varies_it(data):
    X = data[0][:40]
    transformer = FlowFMTransformer(12, max_steps=150, random_state=0).fit(data[0])
    sampler = FlowFMSampler(FrozenEstimator(transformer), random_state=0).fit(data[0])
    one, other = sampler.sample_like(X), sampler.sample_like(X, random_state=9)
    assert not np.array_equal(one, other)
    level = X.mean(axis=-1)
    shuffled = np.random.default_rng(0).permutation(40)
    for variant in (one, other):
        error = np.abs(variant.mean(axis=-1) - level).mean()
        assert error < 0.5 * np.abs(level[shuffled] - level).mean()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_fit_resample_appends(data, transformer, dtype):
    X, y = data[0].astype(dtype), np.array([*"abcdef"])[data[1]]
    sampler = FlowFMSampler(
        FrozenEstimator(transformer),
        n_steps=1,
        sampling_strategy={"a": 40, "f": 30},
        random_state=0,
    )
    X_all, y_all = sampler.fit_resample(X, y)
    assert X_all.dtype == dtype
    np.testing.assert_array_equal(X_all[:160], X)
    np.testing.assert_array_equal(y_all[:160], y)
    counts = dict(zip(*np.unique(y_all, return_counts=True), strict=True))
    assert counts["a"] == 40
    assert counts["f"] == 30
    assert sampler.n_synthetic_ == len(y_all) - 160


def test_fit_resample_of_frames():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"n": rng.integers(0, 9, 60), "v": rng.normal(size=60)},
        index=np.arange(60) * 2,
    )
    y = pd.Series(pd.Categorical(np.repeat(["no", "yes"], [50, 10])), name="fell")
    sampler = FlowFMSampler(FlowFMTransformer(max_steps=5), random_state=0)
    X_all, y_all = sampler.fit_resample(X, y)
    assert X_all.dtypes.equals(X.dtypes)
    assert y_all.dtype == y.dtype
    assert y_all.name == "fell"
    assert y_all.value_counts().to_dict() == {"no": 50, "yes": 50}
    pd.testing.assert_frame_equal(X_all.iloc[:60], X.reset_index(drop=True))
    assert X_all.n.iloc[60:].between(-20, 30).all()


def test_a_balanced_target_gets_nothing(transformer, data):
    X, y = data[0][:20], np.repeat([0, 1], 10)
    sampler = FlowFMSampler(FrozenEstimator(transformer), random_state=0)
    X_all, y_all = sampler.fit_resample(X, y)
    np.testing.assert_array_equal(X_all, X)
    np.testing.assert_array_equal(y_all, y)


def test_without_a_request_classes_come_as_often_as_in_fit(data, transformer):
    X, y = data[0], np.repeat([0, 1], [40, 120])
    frozen = FrozenEstimator(transformer)
    sampler = FlowFMSampler(frozen, n_steps=1, random_state=0).fit(X, y)
    codes = sampler._density.draw_codes(20_000, 3)
    successes = int((codes == 1).sum())
    assert stats.binomtest(successes, 20_000, 0.75).pvalue > 1e-3


@pytest.mark.slow
def test_a_correlated_gaussian_table_is_learned():
    """Mean and covariance within tolerance, and a forest cannot tell the samples."""
    rng = np.random.default_rng(0)
    mean, root = (
        np.array([1.0, -2.0, 30.0]),
        np.array([[2.0, 0, 0], [1.5, 0.5, 0], [0, 4.0, 3.0]]),
    )
    X = mean + rng.normal(size=(3000, 3)) @ root.T
    sampler = FlowFMSampler(FlowFMTransformer(max_steps=2000), random_state=0).fit(X)
    drawn = sampler.sample(3000)
    scale = X.std(axis=0)
    assert (np.abs(drawn.mean(axis=0) - mean) / scale < 0.1).all()
    expected = np.corrcoef(X.T)
    np.testing.assert_allclose(np.corrcoef(drawn.T), expected, atol=0.06)
    np.testing.assert_allclose(drawn.std(axis=0) / scale, 1, atol=0.1)
    fresh = mean + rng.normal(size=(3000, 3)) @ root.T
    assert c2st_auc(fresh, drawn, random_state=0).value < 0.6
