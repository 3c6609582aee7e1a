"""FlowFMSampler: exact counts, reproducible draws, the right distribution."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from skflowfm import FlowFMClassifier, FlowFMSampler, FlowFMTransformer
from skflowfm._steps import mean_log_spectrum
from skflowfm.datasets import make_wearable
from skflowfm.metrics import c2st_auc, nearest_neighbour_copy


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
    return FlowFMSampler(frozen, quality=2, random_state=1).fit(X, y)


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
    with pytest.raises(ValueError, match="solver must be 'auto' or one of"):
        FlowFMSampler(transformer, solver="dopri5").fit(X)
    with pytest.raises(ValueError, match="quality must be an integer of at least 1"):
        FlowFMSampler(transformer, quality=0).fit(X)
    with pytest.raises(ValueError, match="quality must be one of"):
        FlowFMSampler(transformer, quality="best").fit(X)
    with pytest.raises(ValueError, match="One step of solver='rk4' takes 4"):
        FlowFMSampler(transformer, solver="rk4", quality=3).fit(X)
    with pytest.raises(TypeError, match="must be a FlowFMTransformer"):
        FlowFMSampler(LogisticRegression()).fit(X)


def test_a_frozen_transformer_is_not_trained_and_labels_may_change(data, transformer):
    X, _, groups = data
    before = [p.clone() for p in transformer.module_.parameters()]
    frozen = FrozenEstimator(transformer)
    by_subject = FlowFMSampler(frozen, quality=1, random_state=0).fit(X, groups)
    assert by_subject.transformer_ is transformer
    assert all(map(torch.equal, before, transformer.module_.parameters()))
    np.testing.assert_array_equal(by_subject.classes_, np.unique(groups))
    few = FlowFMSampler(frozen, quality=1, random_state=0).fit(X[:1], ["fall"])
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


@pytest.mark.parametrize("quality", ["fast", "balanced"])
def test_the_gain_brings_spectra_closer_and_keeps_level_and_scale(
    data, transformer, quality
):
    X = data[0]
    frozen = FrozenEstimator(transformer)
    sampler = FlowFMSampler(frozen, quality=quality, random_state=0).fit(X)
    mended = sampler.sample(300, random_state=5)
    assert sampler.spectral_gain_.shape == (X.shape[1], X.shape[2] + 1)
    sampler.spectral_gain_ = None
    plain = sampler.sample(300, random_state=5)
    np.testing.assert_allclose(mended.mean(axis=2), plain.mean(axis=2), atol=1e-5)
    np.testing.assert_allclose(mended.std(axis=2), plain.std(axis=2), rtol=1e-4)
    real, *drawn = (mean_log_spectrum(torch.from_numpy(x)) for x in (X, mended, plain))
    distance = [(spectrum - real).abs().mean() for spectrum in drawn]
    assert distance[0] < 0.7 * distance[1]


def test_rows_that_z_determines_are_not_copied():
    """Between neighbours in z, .99 of them would be nearer to a training row."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(240, 12)) @ rng.normal(size=(12, 12))
    train, holdout = X[:60], X[60:]
    sampler = FlowFMSampler(FlowFMTransformer(max_steps=200), random_state=0)
    drawn = sampler.fit(train).sample(240)
    copies = nearest_neighbour_copy(train, drawn, holdout, random_state=0)
    assert copies.value < 0.8
    spread = np.trace(np.cov(drawn.T)) / np.trace(np.cov(train.T))
    assert 0.7 < spread < 1.2


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


def test_diversity_moves_representations_on_the_way_to_near_rows(data, sampler):
    X = data[0]
    z = sampler.transformer_.transform(X)
    density = sampler._density
    rows = np.concatenate([r.numpy() for r in density.rows])
    start = torch.from_numpy(z[:50])
    for diversity in (0.3, 1.0):
        moved = density.vary(start, diversity, 4).numpy()
        for i, (a, b) in enumerate(zip(z[:50], moved, strict=True)):
            step = b - a
            near = rows[np.argsort(np.linalg.norm(rows - a, axis=1))[:5]] - a
            share = [
                step @ way / (way @ way) for way in near if np.linalg.norm(way) > 1e-4
            ]
            misses = [
                np.linalg.norm(step - s * way)
                for s, way in zip(share, near[-len(share) :], strict=True)
            ]
            if np.linalg.norm(step) > 1e-4:
                best = int(np.argmin(misses))
                assert misses[best] < 1e-3, i
                assert 0 <= share[best] <= diversity + 1e-4
    still = sampler.sample_like(X[:5])
    np.testing.assert_array_equal(still, sampler.sample_like(X[:5], diversity=0))
    assert not np.array_equal(still, sampler.sample_like(X[:5], diversity=1))


def test_interpolation_runs_from_one_draw_to_the_other(data, sampler):
    X_a, X_b = data[0][:5], data[0][5:10]
    way = sampler.interpolate(X_a, X_b, 4)
    assert way.shape == (5, 4, 3, 32)
    np.testing.assert_allclose(way[:, 0], sampler.sample_like(X_a), atol=1e-5)
    np.testing.assert_allclose(way[:, -1], sampler.sample_like(X_b), atol=1e-5)
    one = sampler.interpolate(X_a[:1], X_b[:1], 4)
    np.testing.assert_allclose(one[0], way[0], atol=1e-5)
    steps = np.abs(np.diff(way, axis=1)).mean(axis=(2, 3))
    assert steps.max() < np.abs(way[:, 0] - way[:, -1]).mean(axis=(1, 2)).max()
    with pytest.raises(ValueError, match="equally many rows, got 5 and 4"):
        sampler.interpolate(X_a, X_b[:4])
    with pytest.raises(ValueError, match="n_samples"):
        sampler.interpolate(X_a, X_b, 1)


def test_a_way_has_a_seed_of_its_own(sampler, data):
    X = data[0]
    one, same, other = (
        sampler.interpolate(X[:2], X[2:4], 3, random_state=seed) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any(axis=(2, 3)).all()
    own = sampler.random_state
    default = sampler.interpolate(X[:2], X[2:4], 3)
    same = sampler.interpolate(X[:2], X[2:4], 3, random_state=own)
    np.testing.assert_array_equal(default, same)


def test_new_labels_take_the_seed_of_now(data):
    """Classes this large are drawn from a flow, whose weights the seed starts."""
    X = data[0][:, :, ::8]
    transformer = FlowFMTransformer(3, max_steps=2, random_state=0).fit(X)
    sampler = FlowFMSampler(FrozenEstimator(transformer), quality=1, random_state=0)
    before = sampler.fit(X).sample(5)
    again = sampler.set_params(random_state=1).fit_condition(X)
    assert not np.array_equal(again.sample(5, random_state=0), before)
    again = sampler.set_params(random_state=0).fit_condition(X)
    np.testing.assert_array_equal(again.sample(5), before)


def test_labels_may_change_after_training(data, transformer):
    X, y, _ = data
    sampler = FlowFMSampler(FrozenEstimator(transformer), quality=1, random_state=0)
    other = np.where(y < 3, "still", "moving")
    once = FlowFMSampler(FrozenEstimator(transformer), quality=1, random_state=0)
    expected = once.fit(X, other).sample(class_counts={"moving": 7})
    sampler.fit(X).fit_condition(X, other)
    assert sampler.classes_.tolist() == ["moving", "still"]
    found = sampler.sample(class_counts={"moving": 7})
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="y must have"):
        sampler.fit_condition(X, y[:-1])
    assert sampler.fit_condition(X[:20]).classes_ is None


def test_resampled_rows_know_where_they_come_from(data, transformer):
    X, y, _ = data
    sampler = FlowFMSampler(
        FrozenEstimator(transformer),
        quality=1,
        sampling_strategy={0: int((y == 0).sum()) + 9, 4: int((y == 4).sum()) + 30},
        random_state=0,
    )
    X_all, y_all = sampler.fit_resample(X, y)
    synthetic, parents = sampler.is_synthetic_, sampler.parent_indices_
    assert synthetic.sum() == sampler.n_synthetic_ == 39
    assert not synthetic[: len(X)].any()
    np.testing.assert_array_equal(parents[: len(X)], np.arange(len(X)))
    np.testing.assert_array_equal(y[parents], y_all)
    z, z_new = (transformer.transform(a) for a in (X, X_all[synthetic]))
    distance = np.linalg.norm(z_new[:, None] - z, axis=2)
    distance[y_all[synthetic][:, None] != y] = np.inf
    np.testing.assert_array_equal(parents[synthetic], distance.argmin(axis=1))
    X_new, _ = sampler.sample(class_counts={0: 9, 4: 30})
    np.testing.assert_array_equal(X_all[len(X) :], X_new.astype(X.dtype))


@pytest.mark.parametrize("bounds", [(0.7, 0.8), (0.1, 1 / 3), (-1 / 3, 0.7)])
def test_rows_in_float64_are_within_bounds_to_the_bit(bounds):
    low, high = bounds
    beyond = 0.3 * (high - low)
    X = np.random.default_rng(0).uniform(low - beyond, high + beyond, size=(60, 3))
    sampler = FlowFMSampler(
        FlowFMTransformer(2, max_steps=1), quality=1, bounds=bounds, random_state=0
    )
    X_all, _ = sampler.fit_resample(X, np.repeat([0, 1], [40, 20]))
    drawn = X_all[60:]
    assert drawn.dtype == np.float64
    assert low <= drawn.min() < low + 1e-6
    assert high - 1e-6 < drawn.max() <= high


def test_bounds_move_what_is_outside_to_the_edge(data, transformer):
    X, y, _ = data
    frozen = FrozenEstimator(transformer)
    settings = {"quality": 1, "random_state": 0}
    free = FlowFMSampler(frozen, **settings).fit(X, y).sample(200)
    learned = FlowFMSampler(frozen, bounds="data", **settings).fit(X, y).sample(200)
    low, high = X.min(axis=(0, 2)), X.max(axis=(0, 2))
    np.testing.assert_array_equal(
        learned, np.clip(free, low[:, None], high[:, None]).astype(np.float32)
    )
    per_channel = FlowFMSampler(frozen, bounds=([0, -np.inf, -0.1], np.inf), **settings)
    given = per_channel.fit(X, y).sample(200)
    assert given[:, 0].min() == 0 > free[:, 0].min()
    edge = np.nextafter(np.float32(-0.1), np.float32(0))  # the first inside of -0.1
    assert given[:, 2].min() == edge
    np.testing.assert_array_equal(given[:, 1], free[:, 1])


@pytest.mark.parametrize(
    "bounds", ["tight", 3, (1, 0), (0, np.nan), ([0, 0], 1), (0, 1, 2)]
)
def test_bad_bounds(data, transformer, bounds):
    sampler = FlowFMSampler(FrozenEstimator(transformer), bounds=bounds)
    with pytest.raises(ValueError, match=r"low at most high.*of the 3 channels"):
        sampler.fit(data[0])


def test_bounds_go_by_the_name_of_a_column(transformer):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=list("abc"))
    low = pd.Series({"b": 0.5, "a": -9.0, "c": -9.0})
    drawn = FlowFMSampler(
        FlowFMTransformer(max_steps=5), bounds=(low, np.inf), quality=1, random_state=0
    )
    least = drawn.fit(X).sample(100).min(axis=0)
    assert least[1] == 0.5
    assert max(least[0], least[2]) < 0
    for index in (list("abd"), [0, 1, 2]):
        with pytest.raises(ValueError, match="must name the columns of X, "):
            drawn.set_params(bounds=(low.set_axis(index), 9.0)).fit(X)
    drawn.set_params(bounds=(low, np.inf)).fit(X.to_numpy())  # by place, without names


def test_what_a_resampling_said_is_not_said_of_the_next_fit(data, transformer):
    X, y, _ = data
    sampler = FlowFMSampler(FrozenEstimator(transformer), quality=1, random_state=0)
    for again in (sampler.fit, sampler.fit_condition):
        sampler.fit_resample(X[:-3], y[:-3])
        assert len(sampler.parent_indices_) == len(sampler.is_synthetic_)
        again(X, y)
        for name in ("n_synthetic_", "is_synthetic_", "parent_indices_"):
            assert not hasattr(sampler, name)


@pytest.mark.parametrize("again", ["fit", "warm", "pass", "other"])
def test_what_stands_on_a_model_notices_that_it_was_fitted_again(
    data, transformer, again
):
    X, y, _ = data
    model = clone(transformer).set_params(max_steps=1, warm_start=again == "warm")
    frozen = FrozenEstimator(model.fit(X))
    sampler = FlowFMSampler(frozen, quality=1, random_state=0).fit(X, y)
    classifier = FlowFMClassifier(frozen).fit(X, y)
    model.partial_fit(X) if again == "pass" else model.fit(
        X[:, :1] if again == "other" else X
    )
    for call in (
        lambda: sampler.sample(2),
        lambda: sampler.sample_like(X),
        lambda: sampler.impute(X),
        lambda: sampler.fit_condition(X, y),
        lambda: classifier.predict(X),
    ):
        with pytest.raises(ValueError, match=r"fitted again since then.* Fit the Flow"):
            call()
    if again != "other":
        assert sampler.fit(X, y).sample(2).shape == (2, *X.shape[1:])


def test_a_lonely_row_is_the_parent_of_its_class(data, transformer):
    X, y, _ = data
    rows = np.concatenate([[np.flatnonzero(y == 2)[0]], np.flatnonzero(y == 1)])
    sampler = FlowFMSampler(FrozenEstimator(transformer), quality=1, random_state=0)
    sampler.fit_resample(X[rows], y[rows])
    assert (sampler.parent_indices_[sampler.is_synthetic_] == 0).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_fit_resample_appends(data, transformer, dtype):
    X, y = data[0].astype(dtype), np.array([*"abcdef"])[data[1]]
    sampler = FlowFMSampler(
        FrozenEstimator(transformer),
        quality=1,
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
    sampler = FlowFMSampler(frozen, quality=1, random_state=0).fit(X, y)
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


def test_rows_that_are_usual_are_so_to_the_sampler_too(data, sampler, transformer):
    X = data[0]
    np.testing.assert_array_equal(
        sampler.score_samples(X), transformer.score_samples(X)
    )


def test_columns_of_categories_have_scores():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"a": rng.normal(size=90), "c": pd.Categorical(["x", "y"] * 45)}
    )
    frame.loc[frame.c == "y", "a"] += 8
    transformer = FlowFMTransformer(2, max_steps=150, random_state=0)
    sampler = FlowFMSampler(transformer, quality=2, random_state=0).fit(frame)
    other = pd.Categorical(np.where(frame.c == "x", "y", "x"), ["x", "y"])
    swapped = frame.assign(c=other)
    usual, unusual = sampler.score_samples(frame), sampler.score_samples(swapped)
    assert (usual > unusual).mean() > 0.9


def test_a_model_that_was_not_trained_draws_nothing_of_use(data):
    X, y = data[0], data[1]
    untrained = FlowFMTransformer(4, max_steps=0, random_state=0).fit(X)
    with pytest.warns(UserWarning, match="not been trained") as caught:
        FlowFMSampler(FrozenEstimator(untrained), quality=2, random_state=0).fit(X, y)
    assert caught[0].filename == __file__


def test_rows_far_beyond_those_of_fit_are_refused(data, sampler, transformer):
    with pytest.raises(ValueError, match="not finite"):
        sampler.sample_like(data[0][:2], diversity=1e36)
    with pytest.raises(ValueError, match="not finite"):
        transformer.inverse_transform(np.full((2, transformer.n_components_), 1e30))


def test_groups_of_all_rows_are_asked_for(data, sampler):
    X, y = data[0], data[1]
    with pytest.raises(ValueError, match=r"of X_unlabelled, 10 \+ 20, got shape"):
        clone(sampler).fit(X[:10], y[:10], X_unlabelled=X[10:30], groups=np.arange(10))
