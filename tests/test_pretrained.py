"""Going on with a saved model, and windows brought to its rate and length."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV

from skflowfm import FlowFMClassifier, FlowFMSampler, FlowFMTransformer, load
from skflowfm.datasets import make_wearable, resample_windows


@pytest.fixture(scope="module")
def X():
    return make_wearable(64, n_timesteps=32, random_state=0).X


@pytest.fixture(scope="module")
def saved(X, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    FlowFMTransformer(4, max_steps=10, random_state=0).fit(X).save(path)
    return path


# ------------------------------------------------------------------------- going on
@pytest.mark.parametrize("make", [FlowFMClassifier, FlowFMSampler])
def test_what_it_has_learned_is_not_thrown_away_unnoticed(X, saved, make):
    model = FlowFMTransformer.from_pretrained(saved)
    y = np.arange(64) % 2
    with pytest.raises(ValueError, match=r"must be frozen.*Give FrozenEstimator"):
        make(model, random_state=0).fit(X, y)
    kept = make(FrozenEstimator(model), random_state=0).fit(X, y)
    np.testing.assert_array_equal(kept.transformer_.transform(X), model.transform(X))


def test_only_a_frozen_estimator_is_frozen(X):
    model = FlowFMTransformer(max_steps=1, random_state=0)
    search = GridSearchCV(model, {"alignment": [1.0]})
    for make in (FlowFMClassifier, FlowFMSampler):
        with pytest.raises(TypeError, match="must be a FlowFMTransformer, a Frozen"):
            make(search).fit(X, np.arange(64) % 2)


def test_going_on_looks_at_the_device_again(X, saved):
    model = FlowFMTransformer.from_pretrained(saved).set_params(device="nowhere")
    with pytest.raises(ValueError, match="device must be 'auto' or a device"):
        model.fit(X)


def test_it_is_the_saved_model(X, saved):
    model = FlowFMTransformer.from_pretrained(saved)
    np.testing.assert_array_equal(model.transform(X), load(saved).transform(X))
    assert model.warm_start
    assert not load(saved).warm_start


def test_fit_goes_on_as_it_would_have_without_a_file(X, saved):
    kept = FlowFMTransformer(4, max_steps=10, warm_start=True, random_state=0).fit(X)
    new = make_wearable(64, n_timesteps=32, random_state=1).X
    one = kept.fit(new).transform(X)
    other = FlowFMTransformer.from_pretrained(saved).fit(new).transform(X)
    np.testing.assert_array_equal(one, other)


def test_going_on_keeps_scaling_and_stem_and_trains_the_rest(X, saved):
    model = FlowFMTransformer.from_pretrained(saved)
    before = {k: v.clone() for k, v in model.module_.state_dict().items()}
    model.fit(3 * X + 1)
    after = model.module_.state_dict()
    changed = {k.split(".")[0] for k in before if not torch.equal(before[k], after[k])}
    assert changed == {"encoder", "velocity_field", "projector", "axes"}


def test_a_file_of_something_else_is_refused(X, saved, tmp_path):
    sampler = FlowFMSampler(FrozenEstimator(load(saved)), random_state=0).fit(X)
    sampler.save(tmp_path / "sampler")
    with pytest.raises(
        TypeError, match=r"must hold a FlowFMTransformer, got an object of type FlowFMS"
    ):
        FlowFMTransformer.from_pretrained(tmp_path / "sampler")


def test_windows_of_another_shape_are_refused_with_a_way_out(X, saved):
    model = FlowFMTransformer.from_pretrained(saved)
    with pytest.raises(ValueError, match=r"16 to 64 time steps.*sliding_windows"):
        model.fit(X[:, :, :15])
    with pytest.raises(ValueError, match=r"sampling rate and number of time steps"):
        model.transform(X[:, :, :20])
    with pytest.raises(ValueError, match=r"3 channels as in fit, got 2.*same order"):
        model.fit(X[:, :2])
    with pytest.raises(ValueError, match=r"must be 3-D windows"):
        model.fit(X[:, :, 0])


def test_resampled_windows_are_those_that_the_model_knows(saved):
    """The same simulated people and movements, recorded at 60 Hz and at 30 Hz."""
    model = load(saved)
    options = {"noise": 0, "random_state": 5, "activities": ("walk", "run")}
    slow = make_wearable(40, n_timesteps=64, sampling_rate=30, **options).X[..., :32]
    fast = make_wearable(40, n_timesteps=128, sampling_rate=60, **options).X
    Z = model.transform(slow)
    near = np.abs(model.transform(resample_windows(fast, 60, 30, n_timesteps=32)) - Z)
    far = np.abs(model.transform(fast[..., :32]) - Z)  # as if it were 30 Hz
    assert near.mean() < 0.25 * far.mean()


# ----------------------------------------------------------------------- resampling
def sine(frequency, rate, seconds=10):
    time = np.arange(round(seconds * rate)) / rate
    return np.sin(2 * np.pi * frequency * time + 0.3)[None, None]


INSIDE = slice(30, 270)  # of ten seconds at 30 Hz, all but a second at either end


@pytest.mark.parametrize("rate", [20, 25, 31.25, 32, 50, 100])
def test_a_slow_sine_stays_what_it_was(rate):
    got = resample_windows(sine(3, rate), rate, 30, n_timesteps=300)
    assert got.shape == (1, 1, 300)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[..., INSIDE], sine(3, 30)[..., INSIDE], atol=5e-3)


@pytest.mark.parametrize(("frequency", "rate"), [(20, 50), (28, 100), (40, 100)])
def test_a_fast_sine_is_filtered_out_and_not_folded(frequency, rate):
    X = sine(frequency, rate)
    folded = sine(frequency, 30)
    assert np.abs(folded).max() > 0.5
    got = resample_windows(X, rate, 30)
    assert np.abs(got[..., INSIDE]).max() < 0.02


def test_gravity_stays_up_to_the_ends():
    X = np.ones((3, 2, 250)) * np.array([0.98, -0.2])[:, None]
    expected = np.ones((3, 2, 300)) * np.array([0.98, -0.2])[:, None]
    np.testing.assert_allclose(resample_windows(X, 25, 30), expected, atol=1e-6)


def test_there_and_back_is_the_same():
    X = sine(2, 30)
    back = resample_windows(resample_windows(X, 30, 100), 100, 30)
    np.testing.assert_allclose(back[..., INSIDE], X[..., INSIDE], atol=5e-3)


def test_the_same_rate_changes_nothing():
    X = np.random.default_rng(0).normal(size=(2000, 2, 9)).astype(np.float16)
    np.testing.assert_array_equal(resample_windows(X, 30, 30.0), X.astype(np.float32))
    cut = resample_windows(X, 30, 30, n_timesteps=5)
    np.testing.assert_array_equal(cut, X[..., :5].astype(np.float32))


def test_windows_do_not_depend_on_one_another_nor_are_they_written_to(tmp_path):
    X = np.random.default_rng(0).normal(size=(1500, 2, 40))
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")  # writing would be an error
    got = resample_windows(mapped, 50, 30)
    assert got.shape == (1500, 2, 24)
    np.testing.assert_array_equal(
        got[1400:1401], resample_windows(X[1400:1401], 50, 30)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.ones((4, 50))}, r"shape \(n_windows, n_channels, n_timesteps\), got"),
        ({"X": np.ones((4, 3, 0))}, r"got shape \(4, 3, 0\)"),
        (
            {"X": np.full((4, 3, 50), np.nan)},
            r"must be finite, got NaN.*windows 0 to 3",
        ),
        ({"X": np.full((4, 3, 50), "a")}, r"array of numbers.*<U1"),
        ({"rate_in": 0}, r"rate_in must be a positive number of Hz, got 0"),
        ({"rate_out": np.inf}, r"rate_out must be a positive number of Hz, got inf"),
        ({"n_timesteps": 31}, r"at most 30, which is what 50 samples at 50 Hz give"),
        ({"n_timesteps": 0}, r"n_timesteps == 0, must be >= 1"),
    ],
)
def test_bad_requests_are_refused(change, message):
    options = {"X": np.ones((4, 3, 50)), "rate_in": 50, "rate_out": 30} | change
    with pytest.raises(ValueError, match=message):
        resample_windows(**options)
