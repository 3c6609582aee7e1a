"""What unlabelled rows add to q(z | class)."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator

from skflowfm import FlowFMClassifier, FlowFMSampler, FlowFMTransformer, load
from skflowfm._draws import Z_NOISE
from skflowfm.datasets import make_wearable

FEW, POOL = slice(0, 40), slice(40, 160)


@pytest.fixture(scope="module")
def data():
    X, y, _ = make_wearable(160, n_timesteps=32, random_state=0, return_X_y=True)
    return X, np.array(["still", "moving"])[(y > 2).astype(int)]


@pytest.fixture(scope="module")
def transformer(data):
    return FlowFMTransformer(12, max_steps=40, random_state=0).fit(data[0])


def sampler_on(transformer, **parameters):
    settings = {"quality": 1, "random_state": 0}
    return FlowFMSampler(FrozenEstimator(transformer), **(settings | parameters))


def test_each_class_gets_the_rows_that_the_classifier_gives_it(data, transformer):
    X, y = data
    sampler = sampler_on(transformer).fit(X[FEW], y[FEW], X_unlabelled=X[POOL])
    model = FlowFMClassifier(FrozenEstimator(transformer), random_state=0)
    likely = model.fit(X[FEW], y[FEW]).predict(X[POOL])
    shares = [np.mean(np.append(y[FEW], likely) == c) for c in sampler.classes_]
    np.testing.assert_allclose(sampler._density.frequency, shares, atol=1e-6)
    assert sampler.classes_.tolist() == ["moving", "still"]


def test_rows_without_labels_show_how_far_a_class_reaches():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 300)
    X = rng.normal(size=(600, 2)) * [1, 0.3] + np.where(y, 5, -5)[:, None] * [0, 1]
    edge = np.concatenate(
        [np.argsort(X[:300, 0])[:8], 300 + np.argsort(X[300:, 0])[:8]]
    )
    transformer = FlowFMTransformer(max_steps=400, random_state=0).fit(X)
    sampler = sampler_on(transformer, quality=8).fit(X[edge], y[edge])
    narrow = sampler.sample(y=np.repeat([0, 1], 200))
    sampler.fit_condition(X[edge], y[edge], X_unlabelled=X)
    wide = sampler.sample(y=np.repeat([0, 1], 200))
    for c, level in ((0, -5), (1, 5)):
        rows = slice(200 * c, 200 * (c + 1))
        assert narrow[rows, 0].mean() < -1.5  # all that the labelled rows show
        assert abs(wide[rows, 0].mean()) < 0.4
        assert wide[rows, 0].std() == pytest.approx(1, abs=0.25)
        assert wide[rows, 1].mean() == pytest.approx(level, abs=1)


def test_only_labelled_rows_are_parents(data, transformer):
    X, y = data
    totals = {"still": 70, "moving": 60}
    sampler = sampler_on(transformer, sampling_strategy=totals)
    X_all, y_all = sampler.fit_resample(X[FEW], y[FEW], X_unlabelled=X[POOL])
    np.testing.assert_array_equal(X_all[:40], X[FEW])
    assert {c: int(np.sum(y_all == c)) for c in totals} == totals
    assert sampler.parent_indices_.max() < 40
    np.testing.assert_array_equal(y[FEW][sampler.parent_indices_], y_all)


@pytest.mark.parametrize("method", ["fit", "fit_resample"])
def test_a_new_transformer_learns_from_all_rows(data, method):
    X, y = data
    untrained = FlowFMTransformer(8, max_steps=5, random_state=0)
    untrained.set_params(validation_fraction=0.5)  # whole groups are held out
    sampler = FlowFMSampler(untrained, quality=1)
    rows, groups = {"X_unlabelled": X[POOL]}, np.arange(160) % 8
    getattr(sampler, method)(X[FEW], y[FEW], groups=groups, **rows)
    found = sampler.transformer_.transform(X)
    known = untrained.fit(X, groups=groups).transform(X)
    np.testing.assert_array_equal(found, known)
    assert not np.array_equal(untrained.fit(X).transform(X), known)


def test_spectra_are_mended_to_those_of_all_rows(data, transformer):
    X, y = data
    loud = np.concatenate([X[FEW], X[POOL] * np.linspace(1, 9, 32)])
    sampler = sampler_on(transformer, quality=4)
    sampler.fit(loud[FEW], y[FEW], X_unlabelled=loud[POOL])
    every = sampler_on(transformer, quality=4).fit(loud).spectral_gain_
    np.testing.assert_array_equal(sampler.spectral_gain_, every)
    few = sampler_on(transformer, quality=4).fit(loud[FEW]).spectral_gain_
    assert abs(np.log(few / every)).max() > 0.1


def test_labels_may_come_later(data, transformer):
    X, y = data
    at_once = sampler_on(transformer).fit(X[FEW], y[FEW], X_unlabelled=X)
    later = sampler_on(transformer).fit(X)
    later.fit_condition(X[FEW], y[FEW], X_unlabelled=X)
    settings = {"class_counts": {"moving": 5, "still": 4}}
    for a, b in zip(at_once.sample(**settings), later.sample(**settings), strict=True):
        np.testing.assert_array_equal(a, b)


def test_with_one_class_all_rows_are_of_it(data, transformer):
    X = data[0]
    sampler = sampler_on(transformer).fit(X[:3], ["a"] * 3, X_unlabelled=X[POOL])
    assert len(sampler._density.rows[0]) == 3 + 120


def test_bounds_are_those_of_all_rows(data, transformer):
    X, y = data
    sampler = sampler_on(transformer, bounds="data")
    drawn = sampler.fit(X[:6], y[:6], X_unlabelled=X).sample(200)
    low, high = X.min(axis=(0, 2)), X.max(axis=(0, 2))
    assert (drawn.min(axis=(0, 2)) >= low.astype(np.float32)).all()
    assert (drawn.max(axis=(0, 2)) > X[:6].max(axis=(0, 2))).any()
    assert (drawn.max(axis=(0, 2)) <= high.astype(np.float32)).all()


def test_frames_keep_their_names_and_categories():
    X, y = load_wine(return_X_y=True, as_frame=True)
    X = X.iloc[:, :4]
    transformer = FlowFMTransformer(3, max_steps=5, random_state=0)
    sampler = FlowFMSampler(transformer, quality=1, random_state=0)
    sampler.fit(X[:90], y[:90], X_unlabelled=X[90:])
    assert sampler.transformer_.feature_names_in_.tolist() == X.columns.tolist()
    sampler_on(transformer.fit(X)).fit(X[:90], y[:90], X_unlabelled=X[90:])
    strong = np.where(X["alcohol"] > 13, "yes", "no")
    X = X.assign(strong=pd.Categorical(strong))
    sampler = FlowFMSampler(transformer, quality=1, random_state=0)
    sampler.fit(X[:90], y[:90], X_unlabelled=X[90:])
    drawn = sampler.sample(5)
    assert drawn.dtypes["strong"] == X.dtypes["strong"]
    sampler.fit_condition(X[:90], y[:90], X_unlabelled=X[90:])
    assert sampler.sample(5).equals(drawn)


def test_a_saved_sampler_draws_the_same(data, transformer, tmp_path):
    X, y = data
    sampler = sampler_on(transformer).fit(X[FEW], y[FEW], X_unlabelled=X[POOL])
    sampler.save(tmp_path / "sampler.safetensors")
    again = load(tmp_path / "sampler.safetensors")
    np.testing.assert_array_equal(again.sample(9), sampler.sample(9))


def test_what_is_no_pool_is_refused(data, transformer):
    X, y = data
    sampler = sampler_on(transformer)
    with pytest.raises(ValueError, match="X_unlabelled needs y"):
        sampler.fit(X, X_unlabelled=X)
    with pytest.raises(
        ValueError, match=r"X_unlabelled must have rows of shape \(3, 32\)"
    ):
        sampler.fit(X[FEW], y[FEW], X_unlabelled=X[POOL, :, :20])
    with pytest.raises(ValueError, match="X_unlabelled is refused: Found array with 0"):
        sampler.fit(X[FEW], y[FEW], X_unlabelled=X[:0])
    table, target = load_wine(return_X_y=True)
    with pytest.raises(ValueError, match=r"X_unlabelled .*features"):
        sampler_on(FlowFMTransformer(2, max_steps=1).fit(table)).fit(
            table[:50], target[:50], X_unlabelled=table[50:, :4]
        )


def test_a_lonely_row_varies_as_much_as_the_encoders_noise():
    """Distances in z are those of the encoder's output in another unit; so is noise."""
    X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    transformer = FlowFMTransformer(3, max_steps=1, random_state=0).fit(X)
    module = transformer.module_
    with torch.inference_mode():
        x = module.standardise(torch.from_numpy(X))
        raw = module.encode(module.stem(x)).numpy()
    unit = np.ptp(transformer.transform(X)[:, 0]) / np.ptp(PCA(1).fit_transform(raw))
    sampler = sampler_on(transformer).fit(X[:1], ["a"])
    z = sampler._density.draw(torch.zeros(2000, dtype=torch.long), seed=0)
    np.testing.assert_allclose(z.std(dim=0), Z_NOISE * unit, rtol=0.15)
