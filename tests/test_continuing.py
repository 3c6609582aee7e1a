"""A model that goes on from another one, on windows of its own or another length."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from torch import nn

from skflowfm import FlowFMClassifier, FlowFMSampler, FlowFMTransformer, load
from skflowfm.datasets import make_wearable
from skflowfm.nets import ConvEncoder
from skflowfm.nets.length import at_length
from skflowfm.nets.stem import interpolation, power_spectrum
from skflowfm.persistence import describe

LONGER = r"ignore:fit goes on with windows of \d+ time steps:UserWarning"


@pytest.fixture(scope="module")
def X():
    return make_wearable(64, n_timesteps=64, random_state=0).X


@pytest.fixture(scope="module")
def fitted(X):
    return FlowFMTransformer(8, max_steps=10, random_state=0).fit(X)


def new(**options):
    return FlowFMTransformer(**{"max_steps": 5, "random_state": 3} | options)


def weights(model):
    return {k: v.clone() for k, v in model.module_.state_dict().items()}


# ----------------------------------------------------------------------------- init
def test_init_is_warm_start_from_another_model(X, fitted, tmp_path):
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    other = make_wearable(64, n_timesteps=64, random_state=1).X
    kept = copy.deepcopy(fitted).set_params(warm_start=True, max_steps=5)
    expected = kept.set_params(random_state=3).fit(other).transform(X)
    for init in (fitted, FrozenEstimator(fitted), path, str(path)):
        model = new().fit(other, init=init)
        np.testing.assert_array_equal(model.transform(X), expected)
    assert model.n_components_ == 8


def test_the_model_that_is_given_stays_as_it_is(X, fitted):
    before, Z = weights(fitted), fitted.transform(X)
    model = new().fit(3 * X, init=fitted)
    after = fitted.module_.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    np.testing.assert_array_equal(fitted.transform(X), Z)
    assert np.abs(model.transform(X) - Z).max() > 1e-3


def test_without_steps_only_the_axes_are_new(X, fitted):
    model = new(max_steps=0).fit(2 * X, init=fitted)
    before, after = weights(fitted), weights(model)
    changed = {k.split(".")[0] for k in before if not torch.equal(before[k], after[k])}
    assert changed == {"axes"}


def test_init_comes_before_what_was_fitted_earlier(X, fitted):
    model = new(max_steps=0, warm_start=True).fit(X[:, :1])
    model.fit(X, init=fitted)
    assert model.row_shape_in_ == (3, 64)
    assert model.n_features_in_ == 3
    np.testing.assert_allclose(model.transform(X), fitted.transform(X), atol=1e-4)


def test_a_table_keeps_its_columns():
    frame = load_wine(as_frame=True).data
    fitted = new().fit(frame)
    model = new().fit(frame, init=fitted)
    assert model.feature_names_in_.tolist() == frame.columns.tolist()
    with pytest.raises(ValueError, match="feature names should match"):
        new().fit(frame[frame.columns[::-1]], init=fitted)
    with pytest.raises(ValueError, match="12 features, but"):
        new().fit(frame.to_numpy()[:, :12], init=new().fit(frame.to_numpy()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_components": 6}, r"n_components must be None or the 8 of the model"),
        ({"encoder": ConvEncoder(3, 8)}, r"encoder must be None or.*FeatureEncoder"),
        ({"max_steps": -1}, r"max_steps must be"),
    ],
)
def test_parameters_that_ask_for_another_model_are_refused(X, fitted, change, message):
    model = new(**change)
    with pytest.raises(ValueError, match=message):
        model.fit(X, init=fitted)


def test_what_cannot_be_started_from_is_refused(X, fitted, tmp_path):
    sampler = FlowFMSampler(FrozenEstimator(fitted), random_state=0).fit(X)
    sampler.save(tmp_path / "sampler")
    with pytest.raises(TypeError, match=r"sampler must hold a FlowFMT.*transformer_"):
        new().fit(X, init=tmp_path / "sampler")
    with pytest.raises(TypeError, match=r"init must hold.*FlowFMSa.*Give its transfo"):
        new().fit(X, init=sampler)
    search = GridSearchCV(fitted, {"max_steps": [1]})
    with pytest.raises(TypeError, match=r"init must hold.*type GridSearchCV"):
        new().fit(X, init=search)
    with pytest.raises(TypeError, match=r"init must hold a.*of type Identity"):
        new().fit(X, init=nn.Identity())
    with pytest.raises(NotFittedError):
        new().fit(X, init=new())
    broken = new(n_components=10**6)
    with pytest.raises(ValueError, match="n_components must be at most"):
        broken.fit(X)
    with pytest.raises(NotFittedError):
        new().fit(X, init=broken)
    with pytest.raises(FileNotFoundError):
        new().fit(X, init=tmp_path / "nothing")


def test_a_refused_start_loses_nothing(X, fitted):
    model = new(warm_start=True).fit(X)
    before = weights(model)
    with pytest.raises(ValueError, match="3 channels as in fit, got 2"):
        model.fit(X[:, :2], init=fitted)
    with pytest.raises(ValueError, match="windows of 32 to 128 time steps"):
        model.fit(X[..., :31])
    for other in (X, X[..., :40]):
        with pytest.raises(ValueError, match="groups must have"):
            model.fit(other, groups=[1, 2])
    with pytest.raises(ValueError, match="random_state must be"):
        copy.deepcopy(model).set_params(random_state=-1).fit(X[..., :40])
    assert model.row_shape_in_ == (3, 64)
    after = model.module_.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    unfitted = new()
    with pytest.raises(ValueError, match="groups must have"):
        unfitted.fit(X, init=fitted, groups=[1, 2])
    with pytest.raises(NotFittedError):
        unfitted.transform(X)


# ------------------------------------------------------------------- another length
@pytest.mark.parametrize("n_timesteps", [32, 47, 100, 128])
@pytest.mark.filterwarnings(LONGER)
def test_windows_may_be_shorter_or_longer(X, fitted, n_timesteps, tmp_path):
    other = make_wearable(50, n_timesteps=n_timesteps, random_state=1).X
    model = new().fit(other, init=fitted)
    assert model.row_shape_in_ == (3, n_timesteps)
    Z = model.transform(other)
    assert Z.shape == (50, 8)
    assert model.inverse_transform(Z).shape == other.shape
    assert np.isfinite(model.score_samples(other)).all()
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").transform(other), Z)
    assert fitted.row_shape_in_ == (3, 64)


def test_it_says_how_it_reads_windows_of_another_length(X, fitted):
    with pytest.warns(UserWarning, match=r"40 time steps.*on 64.*the same.*resample_"):
        new(max_steps=0).fit(X[..., :40], init=fitted)
    warm = copy.deepcopy(fitted).set_params(warm_start=True, max_steps=0)
    with pytest.warns(UserWarning, match=r"fit goes on with windows of 40"):
        warm.fit(X[..., :40])
    assert warm.transform(X[..., :40]).shape == (64, 8)


@pytest.mark.filterwarnings(LONGER)
@pytest.mark.filterwarnings("ignore:The transformer has not been trained")
def test_the_field_goes_on_seeing_as_much_of_z(X, tmp_path):
    first = new(max_steps=0).fit(X[:, :1, :40])
    short = new(max_steps=0).fit(X[:, :1, :30], init=first)
    short.save(tmp_path / "model")
    for model in (short, load(tmp_path / "model")):
        assert model.module_.velocity_field.n_seen == 12  # .3 x 40, not .3 x 30
        sampler = FlowFMSampler(FrozenEstimator(model), random_state=0)
        assert sampler.fit(X[:, :1, :30]).sample(5).shape == (5, 1, 30)


def test_rates_that_are_known_are_compared(X, tmp_path):
    path, untrained = tmp_path / "model", {"max_steps": 0}
    new().fit(X, sampling_rate=30).save(path)
    assert describe(path)["input"]["sampling_rate"] == 30
    for rows in (X, X[..., :40]):
        with pytest.raises(ValueError, match=r"must be 30 Hz.*got 50.*resample_wi"):
            new().fit(rows, init=path, sampling_rate=50)
    short = new(**untrained).fit(X[..., :40], init=path, sampling_rate=30.0)
    assert short.sampling_rate_ == 30  # and there was no warning
    with pytest.warns(UserWarning, match=r"model of windows at 30 Hz.*one of 30 Hz"):
        assert new(**untrained).fit(X, init=path).sampling_rate_ == 30
    unknown = new(**untrained).fit(X)
    assert unknown.sampling_rate_ is None
    learned = new(**untrained).fit(X, init=unknown, sampling_rate=20)
    assert learned.sampling_rate_ == 20
    going_on = FlowFMTransformer.from_pretrained(path).set_params(**untrained)
    with pytest.raises(ValueError, match="must be 30 Hz"):
        going_on.fit(X, sampling_rate=60)
    with pytest.warns(UserWarning, match="sampling rate of X for one of 30 Hz"):
        going_on.fit(X[..., :40])
    with pytest.raises(ValueError, match="sampling_rate must be"):
        new().fit(X, sampling_rate=0)


@pytest.mark.filterwarnings(LONGER)
def test_there_and_back_is_the_model_it_was(X, fitted):
    model = new(max_steps=0).fit(X[..., :40], init=fitted)
    back = new(max_steps=0).fit(X, init=model)
    np.testing.assert_allclose(back.transform(X), fitted.transform(X), atol=1e-4)


@pytest.mark.filterwarnings(LONGER)
def test_twice_as_long_is_counted_from_the_first_fit(X, fitted):
    model = new(max_steps=0).fit(X[..., :40], init=fitted)
    with pytest.raises(ValueError, match=r"32 to 128 time steps.*first fitted on 64"):
        model.set_params(warm_start=True).fit(X[..., :25])


def test_all_parts_stay_on_the_device(fitted):
    model = at_length(copy.deepcopy(fitted.module_).to("meta"), (3, 40))
    tensors = [*model.parameters(), *model.buffers()]
    assert all(tensor.is_meta for tensor in tensors)


def test_the_same_length_changes_no_number(X, fitted):
    same = at_length(fitted.module_, (3, 64))
    x = torch.as_tensor(X)
    with torch.inference_mode():
        assert torch.equal(same.represent(x), fitted.module_.represent(x))


@pytest.mark.parametrize("n_timesteps", [150, 600])
def test_a_stationary_window_keeps_its_place_at_another_length(n_timesteps):
    """Sines that go on as they are: what is seen of them does not matter."""
    rng = np.random.default_rng(0)
    time = np.arange(600)
    frequency, phase, size = rng.random((3, 200, 2, 1))
    cycles = 15 * (1 + np.floor(5 * frequency))  # whole ones in each length
    X = (0.2 + size) * np.sin(2 * np.pi * (cycles * time / 300 + phase))
    X = X.astype(np.float32)
    model = FlowFMTransformer(16, max_steps=0, random_state=0).fit(X[..., :300])
    expected = model.transform(X[..., :300])
    other = at_length(model.module_, (2, n_timesteps))
    with torch.inference_mode():
        Z = other.represent(torch.as_tensor(X[..., :n_timesteps])).numpy()
    error = np.square(Z - expected).sum() / np.square(expected).sum()
    assert error < 0.05


@pytest.mark.parametrize("n_timesteps", [150, 200, 400, 513, 600])
def test_lines_of_the_spectrum_stay_where_they_are_and_as_strong(n_timesteps):
    cycles = torch.arange(2, 130, 0.7)[:, None] * n_timesteps / 300
    wave = torch.sin(
        2 * np.pi * cycles.round() / n_timesteps * torch.arange(n_timesteps)
    )
    share = power_spectrum(wave) / n_timesteps**2
    other = share @ interpolation(n_timesteps, 300)
    place = cycles.round()[:, 0] * 300 / n_timesteps
    assert (other.argmax(dim=1) + 1 - place).abs().max() <= 1
    torch.testing.assert_close(other.sum(dim=1), share.sum(dim=1), rtol=0.3, atol=0)


@pytest.mark.filterwarnings(LONGER)
def test_the_exported_model_is_the_same(X, fitted, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = new(max_steps=0).fit(X[..., :40], init=fitted)
    model.to_onnx(tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx")
    got = session.run(None, {"X": X[:5, :, :40].astype(np.float32)})[0]
    np.testing.assert_allclose(got, model.transform(X[:5, :, :40]), atol=1e-3)


class Flat(nn.Module):
    """An encoder for one length only."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3 * 64, 4)

    def forward(self, x):
        return self.linear(x.flatten(1))


@pytest.mark.uses_global_rng  # by the encoders' initial weights
@pytest.mark.filterwarnings(LONGER)
def test_own_encoders_go_along_if_they_can(X):
    free = new(encoder=ConvEncoder(3, 4), max_steps=2).fit(X)
    assert new().fit(X[..., :40], init=free).transform(X[..., :40]).shape == (64, 4)
    bound = new(encoder=Flat(), max_steps=2).fit(X)
    with pytest.raises(ValueError, match=r"windows of 64 time steps as in fit, got 40"):
        new().fit(X[..., :40], init=bound)


@pytest.mark.filterwarnings(LONGER)
def test_a_classifier_stands_on_it(X, fitted):
    y = np.arange(64) % 2
    model = new().fit(X[..., :40], init=fitted)
    classifier = FlowFMClassifier(FrozenEstimator(model), random_state=0)
    assert classifier.fit(X[..., :40], y).predict(X[..., :40]).shape == (64,)


def test_going_on_with_itself_scores_with_the_same_draws():
    X = np.random.default_rng(0).normal(size=(40, 4))
    model = FlowFMTransformer(3, max_steps=1, random_state=0, warm_start=True).fit(X)
    other = FlowFMTransformer(3, max_steps=1, random_state=1).fit(X, init=model)
    seed = model.seed_
    assert model.set_params(random_state=1).fit(X).seed_ == seed != other.seed_


@pytest.mark.filterwarnings(LONGER)
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_windows_of_two_steps_go_on_with_those_of_one_to_four(length):
    rng = np.random.default_rng(0)
    model = new().fit(rng.normal(size=(40, 2, 2)))
    shorter = rng.normal(size=(40, 2, length))
    Z = new().fit(shorter, init=model).transform(shorter)
    assert np.isfinite(Z).all()
    assert Z.std() > 0
