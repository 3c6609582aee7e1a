"""What holds on a CUDA device: ``SKFLOWFM_CUDA=1 pytest tests/test_cuda.py``."""

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

import skflowfm
from skflowfm import (
    AugmentedClassifier,
    FlowFMClassifier,
    FlowFMRegressor,
    FlowFMSampler,
    FlowFMTransformer,
    stream,
)
from skflowfm._budget import batch_size
from skflowfm.datasets import make_wearable

if not torch.cuda.is_available():
    pytest.skip(
        "no CUDA device here, or hidden from tests: SKFLOWFM_CUDA=1 shows it",
        allow_module_level=True,
    )
# torch caches kernels in the home folder, which several processes may race to make
pytestmark = pytest.mark.filterwarnings("ignore:Specified kernel cache directory")


def rows_of(kind):
    """Return simulated windows, or a table of two moments of their channels."""
    X, y, _ = make_wearable(200, n_timesteps=60, random_state=0, return_X_y=True)
    if kind == "table":
        X = np.concatenate([X.mean(axis=2), X.std(axis=2)], axis=1)
    return X, y


@pytest.fixture(scope="module", params=["windows", "table"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(kind):
    X, _ = rows_of(kind)
    return FlowFMTransformer(8, max_steps=60, random_state=0).fit(X)


@pytest.fixture
def data(kind):
    return rows_of(kind)


def on(device, model):
    """Return a copy of a fitted estimator that computes on ``device``."""
    model = pickle.loads(pickle.dumps(model)).set_params(device=device)
    return pickle.loads(pickle.dumps(model))


def on_cpu(sampler):
    """Return a copy of a fitted sampler that draws on the CPU."""
    slow = pickle.loads(pickle.dumps(sampler))
    slow.transformer_ = on("cpu", slow.transformer_)
    return slow


def assert_close(actual, desired, share=1e-3):
    """Compare within ``share`` of the largest size in each column."""
    assert np.shape(actual) == np.shape(desired)
    largest = np.abs(desired).max(axis=0)
    assert (np.abs(actual - desired) <= share * largest).all()


def test_auto_is_cuda_and_all_weights_are_there(fitted):
    assert fitted.device_ == "cuda"
    devices = {t.device.type for t in fitted.module_.state_dict().values()}
    assert devices == {"cuda"}


def test_training_gives_the_same_bytes_again(fitted, data):
    again = FlowFMTransformer(8, max_steps=60, random_state=0).fit(data[0])
    np.testing.assert_array_equal(again.transform(data[0]), fitted.transform(data[0]))
    np.testing.assert_array_equal(again.history_.train_flow, fitted.history_.train_flow)


def test_larger_steps_give_the_same_bytes_again(data):
    assert batch_size(9000, "cuda") == 512
    X = np.resize(data[0], (9000, *data[0].shape[1:]))
    model = FlowFMTransformer(8, max_steps=60, random_state=0)
    Z = [model.fit(X).transform(X[:50]) for _ in range(2)]
    np.testing.assert_array_equal(*Z)


def test_features_of_windows_are_those_of_the_cpu():
    X, _ = rows_of("windows")
    stem = FlowFMTransformer(8, max_steps=0, random_state=0).fit(X).module_.stem
    x = torch.from_numpy(X)
    fast, slow = stem.cuda().wide(x.cuda()).cpu(), stem.cpu().wide(x)
    # a count of values above a threshold may change by one that lies on it
    assert ((fast - slow).abs() < 1e-5).float().mean() > 0.995


@pytest.mark.uses_global_rng
def test_an_encoder_that_is_there_is_taken(data):
    n_values = data[0][0].size
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(n_values, 3))
    model = FlowFMTransformer(encoder=encoder.cuda(), max_steps=5, random_state=0)
    assert np.isfinite(model.fit(data[0]).transform(data[0])).all()


@pytest.mark.uses_global_rng
def test_an_encoder_of_convolutions_is_trained_the_same_again_and_draws():
    X, y = rows_of("windows")
    encoder = torch.nn.Sequential(
        torch.nn.Conv1d(3, 8, 9, stride=4),
        torch.nn.GELU(),
        torch.nn.AdaptiveAvgPool1d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 4),
    )
    model = FlowFMTransformer(encoder=encoder, max_steps=20, random_state=0)
    Z = [model.fit(X).transform(X) for _ in range(2)]
    np.testing.assert_array_equal(*Z)
    sampler = FlowFMSampler(FrozenEstimator(model), random_state=0).fit(X, y)
    assert_close(sampler.sample(50), on_cpu(sampler).sample(50), 5e-3)


def test_views_of_ones_own_are_made_on_the_device(data):
    def louder(x, generator):
        by = torch.rand(len(x), generator=generator, device=x.device)
        return x * (1 + by.reshape(-1, *[1] * (x.ndim - 1)))

    model = FlowFMTransformer(4, max_steps=5, views=louder, random_state=0)
    assert np.isfinite(model.fit(data[0]).transform(data[0])).all()
    with pytest.raises(ValueError, match="views must return tensors on the device"):
        model.set_params(views=lambda x, generator: x.cpu()).fit(data[0])


def test_training_lowers_the_loss_as_far_as_on_the_cpu(fitted, data):
    slow = FlowFMTransformer(8, max_steps=60, device="cpu", random_state=0)
    slow.fit(data[0])
    fast, slow = (model.history_.train_flow for model in (fitted, slow))
    assert fast.iloc[-1] < fast.iloc[0]
    assert abs(fast.iloc[-1] / slow.iloc[-1] - 1) < 0.1


def test_global_generators_are_left_alone(data):
    before = torch.cuda.get_rng_state()
    model = FlowFMTransformer(4, max_steps=5, random_state=0).fit(data[0])
    FlowFMSampler(FrozenEstimator(model), random_state=0).fit(*data).sample(10)
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize("method", ["transform", "score_samples"])
def test_the_cpu_says_the_same(method, fitted, data):
    slow = on("cpu", fitted)
    assert slow.device_ == "cpu"
    assert_close(getattr(fitted, method)(data[0]), getattr(slow, method)(data[0]))


def test_a_row_counts_the_same_alone_and_among_others(fitted, data):
    assert_close(fitted.transform(data[0][:1]), fitted.transform(data[0])[:1], 1e-5)


@pytest.fixture(scope="module")
def sampler(fitted, kind):
    return FlowFMSampler(FrozenEstimator(fitted), random_state=0).fit(*rows_of(kind))


def test_the_cpu_draws_the_same_rows(sampler):
    assert_close(sampler.sample(50), on_cpu(sampler).sample(50), 5e-3)


def test_the_cpu_fills_gaps_alike_in_all_blocks(sampler, data):
    X = np.resize(data[0], (1200, *data[0].shape[1:])).copy()
    X[:, 1] = np.nan
    assert_close(sampler.impute(X), on_cpu(sampler).impute(X), 5e-3)


def test_streams_are_those_of_sample(sampler):
    rows = np.concatenate(list(stream(sampler.sample, 1500)))
    np.testing.assert_array_equal(rows, sampler.sample(1500))


def test_draws_are_prefix_stable(sampler):
    np.testing.assert_array_equal(sampler.sample(7), sampler.sample(1500)[:7])


def test_all_ways_to_draw_give_finite_rows(sampler, data):
    X, y = data
    gaps = X.copy()
    gaps[:, :2] = np.nan
    drawn = [
        sampler.sample_like(X[:5]),
        sampler.interpolate(X[:2], X[2:4], 3),
        sampler.impute(gaps[:5]),
        sampler.sample(class_counts={c: 2 for c in np.unique(y)})[0],
        sampler.fit_resample(X[:-1], y[:-1])[0],
    ]
    assert all(np.isfinite(rows).all() for rows in drawn)


@pytest.mark.parametrize("strategy", ["head", "full", "scratch"])
def test_classifiers_learn_and_the_cpu_agrees(strategy, fitted, data, tmp_path):
    X, y = data
    model = FlowFMClassifier(
        FrozenEstimator(fitted), strategy=strategy, max_steps=60, random_state=0
    ).fit(X[::2], y[::2])
    assert model.score(X[1::2], y[1::2]) > 0.4
    assert_close(elsewhere(model, X, "predict_proba", tmp_path), model.predict_proba(X))


def test_regressors_learn(fitted, data):
    X, _ = data
    target = X.reshape(len(X), -1).std(axis=1)
    model = FlowFMRegressor(FrozenEstimator(fitted), max_steps=60, random_state=0)
    assert model.fit(X[::2], target[::2]).score(X[1::2], target[1::2]) > 0.2


def test_augmentation_chooses_an_amount(sampler, data):
    X, y = data
    model = AugmentedClassifier(SVC(random_state=0), sampler, cv=2, random_state=0)
    if X.ndim == 3:
        flat = FunctionTransformer(lambda X: X.reshape(len(X), -1))
        model.set_params(classifier=make_pipeline(flat, SVC(random_state=0)))
    assert model.fit(X, y).score(X, y) > 0.3


def elsewhere(model, X, method, folder):
    """Return what a process that sees no CUDA device says of ``X``."""
    model.save(folder / "model")
    np.save(folder / "X.npy", X)
    code = f"""
import numpy as np, torch, skflowfm
assert not torch.cuda.is_available()
model = skflowfm.load({str(folder / "model")!r})
X = np.load({str(folder / "X.npy")!r})
np.save({str(folder / "out.npy")!r}, model.{method}(X))
"""
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", code], check=True, env=hidden)
    return np.load(folder / "out.npy")


def test_a_saved_model_says_the_same_where_there_is_no_device(fitted, data, tmp_path):
    there = elsewhere(fitted, data[0], "transform", tmp_path)
    assert_close(there, fitted.transform(data[0]))
    again = skflowfm.load(tmp_path / "model")
    np.testing.assert_array_equal(again.transform(data[0]), fitted.transform(data[0]))


def test_channels_that_were_constant_wake_on_the_device(data):
    X, _ = data
    still = X.copy()
    still[:, 0] = 0
    model = FlowFMTransformer(4, max_steps=20, random_state=0).fit(still)
    once = model.transform(X)
    assert_close(on("cpu", model).transform(X), once)
    sleeping = model.module_.standardise.spread.clone()
    model = FlowFMTransformer(4, max_steps=20, random_state=0).fit(X, init=model)
    assert (sleeping == 0).any()
    assert (model.module_.standardise.spread > 0).all()
    assert_close(on("cpu", model).transform(X), model.transform(X))


def test_tensors_on_the_device_are_rows_like_others(fitted, data):
    X, y = data
    tensor = torch.from_numpy(X).cuda()
    np.testing.assert_array_equal(fitted.transform(tensor), fitted.transform(X))
    codes = np.unique(y, return_inverse=True)[1]
    model = FlowFMClassifier(FrozenEstimator(fitted), strategy="head")
    model.fit(tensor, torch.from_numpy(codes).cuda())
    assert model.score(tensor, codes) > 0.4


@pytest.mark.filterwarnings("ignore:fit goes on with windows of 45 time steps")
def test_training_goes_on_with_windows_of_another_length():
    X, _ = rows_of("windows")
    model = FlowFMTransformer(8, max_steps=10, random_state=0)
    model = FlowFMTransformer(max_steps=10).fit(X[:, :, :45], init=model.fit(X))
    Z = model.transform(X[:, :, :45])
    assert_close(on("cpu", model).transform(X[:, :, :45]), Z)


def test_columns_of_all_kinds_are_learned_and_drawn(data):
    X, y = data
    frame = pd.DataFrame(X.reshape(len(X), -1)[:, :4]).add_prefix("x")
    frame["kind"] = pd.Categorical(y)
    frame["count"] = np.arange(len(X)) % 5
    model = FlowFMTransformer(4, max_steps=20, random_state=0)
    sampler = FlowFMSampler(model, random_state=0).fit(frame)
    drawn = sampler.sample(30)
    pd.testing.assert_series_equal(drawn.dtypes, frame.dtypes)
    assert set(drawn["kind"]) <= set(y)


def test_torch_set_to_the_device_is_refused(fitted, data):
    with torch.device("cuda"), pytest.raises(RuntimeError, match="default_device"):
        fitted.transform(data[0])
    with torch.autocast("cuda"), pytest.raises(RuntimeError, match="autocast"):
        fitted.transform(data[0])


def test_models_learn_in_threads_as_alone(fitted, data):
    def fit(_):
        return FlowFMTransformer(8, max_steps=60, random_state=0).fit(data[0])

    with ThreadPoolExecutor(2) as threads:
        models = list(threads.map(fit, range(2)))
    for model in models:
        np.testing.assert_array_equal(
            model.transform(data[0]), fitted.transform(data[0])
        )
    assert not torch.backends.cudnn.deterministic


def test_training_goes_on(fitted, data):
    X, _ = data
    model = FlowFMTransformer(8, max_steps=20, random_state=0).fit(X, init=fitted)
    model.partial_fit(X)
    limited = FlowFMTransformer(8, max_time=2, random_state=0).fit(X)
    for z in (model.transform(X), limited.transform(X)):
        assert np.isfinite(z).all()


def test_export_takes_a_model_on_the_device(fitted, data, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "encoder.onnx"
    fitted.to_onnx(path, part="encoder")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    (z,) = session.run(None, {name: data[0].astype(np.float32)})
    assert_close(z, fitted.transform(data[0]))


def test_pipelines_search_in_two_processes(data):
    pipe = make_pipeline(
        FlowFMTransformer(8, max_steps=30, random_state=0),
        LogisticRegression(max_iter=1000),
    )
    grid = {"flowfmtransformer__n_components": [4, 8]}
    search = GridSearchCV(pipe, grid, cv=2, n_jobs=2).fit(*data)
    alone = cross_val_score(search.best_estimator_, *data, cv=2)
    assert search.best_score_ == pytest.approx(alone.mean(), abs=0.02)
