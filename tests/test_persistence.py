"""Saved models: the same results to the bit, or an error that says what is wrong."""

import ast
import copy
import io
import itertools
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import safetensors
import safetensors.torch
import sklearn
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

import skflowfm
from skflowfm import (
    AugmentedClassifier,
    FlowFMClassifier,
    FlowFMSampler,
    FlowFMTransformer,
    load,
)
from skflowfm.datasets import make_wearable
from skflowfm.nets import (
    ConvEncoder,
    FeatureEncoder,
    PrincipalComponents,
    Stem,
    VectorVelocityField,
    WindowVelocityField,
)
from skflowfm.nets.views import table_view
from skflowfm.persistence import ModelFileError, describe
from skflowfm.persistence import _file as file_format
from skflowfm.persistence._modules import KINDS, structure_of
from skflowfm.persistence._objects import Reader, Writer


def table(n=60, n_features=2):
    return np.random.default_rng(0).normal(size=(n, n_features)).cumsum(axis=1)


def small(**parameters):
    """A transformer of tables whose file has about ten kilobytes."""
    parts = {
        "encoder": nn.Linear(2, 2),
        "velocity_field": VectorVelocityField(2, 2, width=4, n_blocks=1),
        "max_steps": 3,
        "random_state": 0,
    }
    return FlowFMTransformer(2, **(parts | parameters))


def built(make):
    """Return a module whose weights are a fixed draw."""
    module = make()  # draws from torch's own generator, which a fixture puts back
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.normal_(std=0.1, generator=generator)
    return module


@pytest.fixture(autouse=True)
def torch_state_is_put_back():
    """Layers that tests make draw from it; that saving and loading do not is tested."""
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


@pytest.fixture(scope="module")
def wearable():
    return make_wearable(72, n_timesteps=32, random_state=0, return_X_y=True)


@pytest.fixture(scope="module")
def windows(wearable):
    """A default model of windows."""
    return FlowFMTransformer(12, max_steps=10, random_state=0).fit(wearable[0])


@pytest.fixture(scope="module")
def tiny():
    with torch.random.fork_rng():
        return small().fit(table())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def through_file(model, path, **supplied):
    model.save(path)
    return load(path, **supplied)


def assert_same_transformer(a, b, X):
    Z = a.transform(X)
    np.testing.assert_array_equal(np.asarray(Z), np.asarray(b.transform(X)))
    back = a.inverse_transform(np.asarray(Z)[:5])
    np.testing.assert_array_equal(back, b.inverse_transform(np.asarray(Z)[:5]))
    np.testing.assert_array_equal(a.score_samples(X), b.score_samples(X))


def assert_same_attributes(a, b):
    """All attributes but modules, which the results compare, are equal."""
    assert list(vars(a)) == list(vars(b)) or vars(a).keys() == vars(b).keys()
    for name, value in vars(a).items():
        other = getattr(b, name)
        assert type(other) is type(value), name
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, other, check_exact=True)
        elif isinstance(value, np.ndarray):
            assert value.dtype == other.dtype, name
            np.testing.assert_array_equal(value, other)
        elif isinstance(value, dict):
            np.testing.assert_equal(value, other)
        elif isinstance(value, (str, int, float, tuple, type(None))):
            assert value == other, name


# ------------------------------------------------------------------ round trips
def test_a_model_of_windows(windows, wearable, path):
    again = through_file(windows, path)
    assert_same_transformer(windows, again, wearable[0])
    assert_same_attributes(windows, again)
    assert again.module_.training is windows.module_.training is False
    with pytest.raises(ValueError, match="as in fit"):
        again.transform(wearable[0][:, :, :20])


def test_a_model_of_a_frame(path):
    X = pd.DataFrame(table(80, 3), columns=["Weight", "größe", "a.b"])
    model = FlowFMTransformer(max_steps=4, random_state=np.int64(1))
    model.set_output(transform="pandas").fit(X)
    again = through_file(model, path)
    assert_same_transformer(model, again, X)
    assert_same_attributes(model, again)
    assert list(again.transform(X).columns) == list(model.get_feature_names_out())
    with pytest.raises(ValueError, match="feature names"):
        again.transform(X.rename(columns={"Weight": "weight"}))
    assert describe(path)["input"]["feature_names_in"] == ["Weight", "größe", "a.b"]


def test_encoders_and_fields_of_the_package(wearable, path):
    X = wearable[0]
    encoder = built(lambda: ConvEncoder(3, 6, widths=(4, 8), kernel_size=3))
    field = built(lambda: WindowVelocityField(3, 32, 6, width=8, n_blocks=2))
    model = FlowFMTransformer(
        encoder=encoder, velocity_field=field, views=None, max_steps=2, random_state=0
    ).fit(X)
    again = through_file(model, path)
    assert_same_transformer(model, again, X)
    # those that the next fit starts from came along with their own weights
    for name in ("encoder", "velocity_field"):
        before, after = getattr(model, name), getattr(again, name)
        assert repr(before) == repr(after)
        after = after.state_dict()
        assert all(torch.equal(t, after[k]) for k, t in before.state_dict().items())
    refitted = sklearn.clone(again).fit(X)
    np.testing.assert_array_equal(refitted.transform(X), model.transform(X))


def test_training_goes_on_as_it_would_have(path):
    X = table(100, 3)
    model = FlowFMTransformer(warm_start=True, max_steps=3, random_state=0).fit(X)
    model.module_.encoder.net[0].bias.requires_grad_(False)
    again = through_file(model, path)
    frozen = [k for k, p in again.module_.named_parameters() if not p.requires_grad]
    assert frozen == ["encoder.net.0.bias"]
    for estimator in (model, again):
        estimator.fit(X)
        estimator.partial_fit(X)
    assert_same_transformer(model, again, X)
    assert not torch.equal(
        model.module_.encoder.net[0].weight, load(path).module_.encoder.net[0].weight
    )


LABELS = {
    "int64": np.arange(60) % 3,
    "int8": (np.arange(60) % 3).astype(np.int8),
    "big-endian": (np.arange(60) % 3).astype(">i4"),
    "bool": np.arange(60) % 2 == 0,
    "float": (np.arange(60) % 3).astype(float),
    "text": np.array(["sit", "walk", "schlägt"])[np.arange(60) % 3],
    "object": np.array(["b", "a", "c"], dtype=object)[np.arange(60) % 3],
    "bytes": np.array([b"b", b"a"])[np.arange(60) % 2],
    "series": pd.Series(["b", "a", "c"] * 20),
    "none": None,
}


@pytest.mark.parametrize("kind", LABELS)
def test_samplers_with_labels_of_any_type(kind, tiny, path):
    X, y = table(57), LABELS[kind]
    y = None if y is None else y[:57]
    sampler = FlowFMSampler(FrozenEstimator(tiny), random_state=3, bounds="data")
    if kind == "bytes":  # scikit-learn refuses them as targets; classes_ may hold them
        sampler.fit(X[:30], np.arange(30) % 2).classes_ = np.unique(y)
    else:
        sampler.fit(X, y)
    again = through_file(sampler, path)
    np.testing.assert_array_equal(again.sample(40), sampler.sample(40))
    near, near_again = (s.sample_like(X[:9], diversity=1.0) for s in (sampler, again))
    np.testing.assert_array_equal(near, near_again)
    if y is None:
        assert again.classes_ is None
        return
    assert again.classes_.dtype == sampler.classes_.dtype
    counts = dict.fromkeys(sampler.classes_.tolist(), 3)
    if kind != "bytes":
        for a, b in zip(
            sampler.sample(class_counts=counts),
            again.sample(class_counts=counts),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


def test_a_sampler_shares_its_frozen_model_again(tiny, path):
    X = table()
    sampler = FlowFMSampler(FrozenEstimator(tiny), random_state=0).fit(X[:15])
    again = through_file(sampler, path)
    assert again.transformer_ is again.transformer.estimator
    with safetensors.safe_open(path, "pt") as file:  # the model is in it once
        gains = [name for name in file.keys() if name.endswith("axes.gain")]
    assert gains == ["transformer.estimator.module_.axes.gain"]
    assert_same_transformer(tiny, again.transformer_, X)
    for s in (sampler, again):
        s.fit_condition(X[:15], np.arange(15) % 2)
    np.testing.assert_array_equal(again.sample(5, y=1), sampler.sample(5, y=1))


def test_a_sampler_of_windows_with_its_own_training(wearable, path):
    X, y, _ = wearable
    sampler = FlowFMSampler(
        FlowFMTransformer(2, max_steps=3), quality="fast", random_state=5
    )
    sampler.fit_resample(X[:70], np.where(y[:70] > 1, "up", "down"))
    assert sampler._density.flow is not None  # both ways to draw are in it
    assert sampler.stop_ in (1.0, 0.75)
    again = through_file(sampler, path)
    np.testing.assert_array_equal(again.sample(70), sampler.sample(70))
    np.testing.assert_array_equal(
        again.interpolate(X[:2], X[2:4], 3), sampler.interpolate(X[:2], X[2:4], 3)
    )
    assert_same_attributes(sampler, again)


def categories(n=80):
    rng = np.random.default_rng(0)
    size = rng.normal(size=n)
    return pd.DataFrame(
        {
            "colour": pd.Categorical(rng.choice(["red", "blue"], n), ["red", "blue"]),
            "size": size,
            "grade": pd.Categorical(rng.integers(3, 6, n), ordered=True),
            "band": pd.cut(size, [-9, -1, 0.5, 9]),
            "count": pd.array(rng.poisson(4, n), dtype="Int64"),
        },
        index=pd.date_range("2024-01-01", periods=n, tz="UTC"),
    )


@pytest.fixture(scope="module")
def of_categories():
    X = categories()
    model = FlowFMTransformer(3, max_steps=3, random_state=0)
    return FlowFMSampler(model, quality=2, random_state=0).fit(
        X, X["colour"].astype(str)
    )


def test_columns_of_categories(of_categories, path):
    X, sampler = categories(), of_categories
    again = through_file(sampler, path)
    pd.testing.assert_frame_equal(
        again.sample(30), sampler.sample(30), check_exact=True
    )
    gaps = X.copy()
    gaps.iloc[:9, 0], gaps.iloc[9:20, 1] = np.nan, np.nan
    pd.testing.assert_frame_equal(
        again.impute(gaps), sampler.impute(gaps), check_exact=True
    )


@pytest.mark.parametrize(
    "random_state",
    [
        np.random.RandomState(3),
        np.random.default_rng(3),
        np.random.Generator(np.random.Philox(3)),
    ],
    ids=lambda g: type(g).__name__,
)
def test_generators_go_on_where_they_were(random_state, tiny, path):
    sampler = FlowFMSampler(FrozenEstimator(tiny), random_state=random_state)
    random_state.normal(size=3)  # leaves half a pair of normal numbers behind
    sampler.fit(table(15))
    again = through_file(sampler, path)
    for _ in range(2):
        np.testing.assert_array_equal(again.sample(3), sampler.sample(3))
    np.testing.assert_array_equal(
        again.random_state.normal(size=3), random_state.normal(size=3)
    )


def test_routing_requests_are_kept(path):
    with sklearn.config_context(enable_metadata_routing=True):
        model = small().set_fit_request(groups=True).fit(table())
        again = through_file(model, path)
        assert again.get_metadata_routing().fit.requests["groups"] is True
    assert load(path).transform(table()).shape == (60, 2)


def test_routing_requests_of_resampling_are_kept(path):
    pytest.importorskip("imblearn")
    code = """
import sys
import imblearn, numpy, sklearn
from skflowfm import FlowFMSampler, FlowFMTransformer, load
sklearn.set_config(enable_metadata_routing=True)
sampler = FlowFMSampler(FlowFMTransformer(max_steps=1), random_state=0)
sampler.set_fit_resample_request(groups=True).fit(numpy.eye(9)).save(sys.argv[1])
assert load(sys.argv[1]).get_metadata_routing().fit_resample.requests["groups"] is True
"""
    subprocess.run([sys.executable, "-c", code, path], check=True)
    assert load(path).sample(2).shape == (2, 9)  # where imbalanced-learn is not loaded


def test_series_and_devices_among_the_parameters(path):
    wanted = pd.Series({0: 30, 1: 25}, name="rows")
    y = np.repeat([0, 1], 30)
    given = small().set_params(device=torch.device("cpu"))
    sampler = FlowFMSampler(given, sampling_strategy=wanted, quality=1, random_state=0)
    again = through_file(sampler.fit(table(), y), path)
    pd.testing.assert_series_equal(again.sampling_strategy, wanted)
    assert again.transformer.device == "cpu"


def test_a_model_from_an_absent_device_loads_on_the_cpu(tiny, path):
    elsewhere = copy.deepcopy(tiny).set_params(device="cuda:7")
    again = through_file(elsewhere, path)
    if not torch.cuda.is_available():
        assert again.device_ == "cpu"
        assert again.device == "cuda:7"
    assert_same_transformer(tiny, again, table())


def test_another_process_gives_the_same_bytes(windows, wearable, path, tmp_path):
    windows.save(path)
    np.save(tmp_path / "X.npy", wearable[0])
    code = f"""
import time
import numpy as np, torch
torch.set_num_threads(1)
import skflowfm
start = time.process_time()
model = skflowfm.load({str(path)!r})
assert time.process_time() - start < 0.8, "loading fits, draws or imports something"
X = np.load({str(tmp_path / "X.npy")!r})
np.save({str(tmp_path / "Z.npy")!r}, model.transform(X))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    np.testing.assert_array_equal(
        np.load(tmp_path / "Z.npy"), windows.transform(wearable[0])
    )


def test_neither_saving_nor_loading_draws_from_global_generators(windows, path):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    through_file(windows, path)
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])


# ------------------------------------------------------------------ your own parts
class Own(nn.Module):
    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor
        self.linear = nn.Linear(2, 2)
        self.tied = self.linear

    def forward(self, x):
        return self.factor * self.tied(torch.tanh(x))


def own_view(x, generator):
    return x + 0.01


def own_strategy(y):
    return {0: 40, 1: 40}


def test_own_modules_are_supplied_and_get_their_weights(path):
    model = small(encoder=Own(2.0), views=own_view).fit(table())
    model.save(path)
    with pytest.raises(
        ModelFileError, match=r"encoder=Own of your own.*encoder=\.\.\."
    ):
        load(path)
    with pytest.raises(ModelFileError, match="views=own_view of your own, a function"):
        load(path, encoder=Own(2.0))
    supplied = Own(2.0)
    before = supplied.linear.weight.detach().clone()
    again = load(path, encoder=supplied, views=own_view)
    assert_same_transformer(model, again, table())
    assert torch.equal(before, supplied.linear.weight)  # a copy was taken
    assert again.module_.encoder.tied is again.module_.encoder.linear
    assert again.views is own_view
    with pytest.raises(ModelFileError, match="other tensors than a Linear needs"):
        load(path, encoder=built(lambda: nn.Linear(3, 2)), views=own_view)
    with pytest.raises(TypeError, match="encoder must be an instance"):
        load(path, encoder=Own, views=own_view)


def test_a_part_of_your_own_makes_the_whole_your_own(path):
    encoder = nn.Sequential(Own(), nn.Linear(2, 2))
    model = small(encoder=encoder).fit(table())
    model.save(path)
    with pytest.raises(ModelFileError, match="encoder=Sequential of your own"):
        load(path)
    assert_same_transformer(model, load(path, encoder=encoder), table())


def test_what_is_not_needed_is_not_accepted(tiny, path):
    tiny.save(path)
    with pytest.raises(ValueError, match="encoder must be left out"):
        load(path, encoder=Own())


def test_own_functions(tiny, path):
    sampler = FlowFMSampler(FrozenEstimator(tiny), sampling_strategy=own_strategy)
    sampler.fit_resample(table(), np.arange(60) % 2)
    sampler.save(path)
    with pytest.raises(ModelFileError, match="sampling_strategy=own_strategy"):
        load(path)
    assert load(path, sampling_strategy=own_strategy).n_synthetic_ == 20
    with pytest.raises(TypeError, match=r"sampling_strategy must be a callable.*got 5"):
        load(path, sampling_strategy=5)
    model = small(views=table_view).fit(table())
    assert through_file(model, path).views is table_view  # ours needs no help


class Spy(FlowFMTransformer):
    """A class that no file may name."""


def test_what_cannot_be_saved_says_so_and_leaves_the_file(tiny, path):
    tiny.save(path)
    before = path.read_bytes()
    lazy = nn.Sequential(nn.LazyLinear(2))
    bad = {
        "note_": (object(), "note_ cannot be saved.*an object of type object"),
        "parts_": ({"a": [1, {2}]}, "parts_.a.1 cannot be saved.*type set"),
        "net_": (Own(), "net_ cannot be saved.*a module of type Own"),
        "self_": (None, "self_ cannot be saved.*contains itself"),
        "frame_": (
            pd.DataFrame({"t": pd.date_range("2024", periods=2, tz="UTC")}),
            "frame_.t cannot be saved.*a column of type datetime64.*UTC",
        ),
    }
    for name, (value, message) in bad.items():
        model = copy.copy(tiny)
        setattr(model, name, model if name == "self_" else value)
        with pytest.raises(TypeError, match=message):
            model.save(path)
    model = copy.copy(tiny).set_params(encoder=lazy)
    with pytest.raises(TypeError, match=r"encoder cannot be saved.*no tensor yet"):
        model.save(path)
    with pytest.raises(TypeError, match=r"the model cannot be saved.*of type Spy"):
        Spy(2, max_steps=1).fit(table()).save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("model", [FlowFMTransformer(), FlowFMSampler()])
def test_an_estimator_that_is_not_fitted(model, path):
    with pytest.raises(NotFittedError):
        model.save(path)
    assert not path.exists()


# ------------------------------------------------------------------ values and modules
def through_json(value):
    writer = Writer()
    spec = json.loads(json.dumps(writer.put({"v": value}, ""), allow_nan=False))
    tensors = safetensors.torch.load(safetensors.torch.save(writer.tensors))
    reader = Reader(tensors, {})
    return reader.read(json.loads(json.dumps(writer.objects)), spec)["v"]


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(),
    st.sampled_from(["$float", "$object", "$", "a.b"]),
)
keys = st.one_of(st.text(), st.integers(), st.booleans(), st.just("$tuple"), st.none())
nested = st.recursive(
    plain,
    lambda part: st.one_of(
        st.lists(part, max_size=4),
        st.lists(part, max_size=4).map(tuple),
        st.dictionaries(keys, part, max_size=4),
    ),
    max_leaves=12,
)


@given(nested)
@settings(max_examples=100)
def test_plain_values_come_back(value):
    again = through_json(value)
    assert repr(again) == repr(value)  # types, order, signs of zero, NaN


ARRAYS = [
    *(np.arange(6).astype(k).reshape(2, 3) for k in "?bBhHiIlLefdFD"),
    np.array([np.nan, -0.0, np.inf, 5e-324]),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(3, dtype=">f8"),
    np.array(["2024-01-01", "NaT"], dtype="datetime64[ns]"),
    np.array([3, 5], dtype="timedelta64[s]"),
    np.array([b"a", b"\xff\x00\xfe"]),
    np.array([["", "\ud800"], ["é", "b" * 30]]),
    np.array(["a", None, 3, 2.5, ("x", 1)], dtype=object),
    np.array(7.5),
    np.zeros((0, 3)),
    np.array([], dtype="<U1"),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_arrays_come_back(array):
    again = through_json(array)
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    if array.dtype.hasobject:
        assert repr(again) == repr(array)
    else:
        assert again.tobytes() == array.tobytes()
    assert again.flags.writeable
    assert not np.shares_memory(again, array)


@pytest.mark.parametrize(
    "value",
    [np.float32(0.1), np.int8(-3), np.bool_(True), np.str_("é"), np.float64("nan")],
)
def test_numpy_scalars_come_back(value):
    again = through_json(value)
    assert type(again) is type(value)
    np.testing.assert_array_equal(again, value)


FRAMES = {
    "empty": pd.DataFrame(),
    "no rows": pd.DataFrame({"a": np.array([], np.int8), "b": np.array([], object)}),
    "same names": pd.DataFrame([[1, 2.0]], columns=["a", "a"]),
    "numbers as names": pd.DataFrame([[1, np.nan]], columns=[3, 1], index=[9]),
    "texts": pd.DataFrame({"t": ["a", None, "ü"]}, index=pd.Index([1, 2, 3], name="i")),
    "categories": categories().reset_index(drop=True),
    "missing": pd.DataFrame(
        {
            "i": pd.array([1, None], dtype="Int64"),
            "b": pd.array([True, None], dtype="boolean"),
            "f": pd.array([0.5, None], dtype="Float32"),
            "s": pd.array(["x", None], dtype="string"),
            "c": pd.Categorical(["x", None]),
            "d": np.array(["2024-01-01", "NaT"], dtype="datetime64[us]"),
        }
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_come_back(name):
    frame = FRAMES[name]
    pd.testing.assert_frame_equal(
        through_json(frame), frame, check_exact=True, check_freq=False
    )


MODULES = [
    lambda: ConvEncoder(2, 5, widths=(4,), kernel_size=7),
    lambda: FeatureEncoder(9, 12, width=7),
    lambda: FeatureEncoder(9, 12, width=7),
    lambda: PrincipalComponents(5, 3),
    lambda: Stem(2, 33, n_features=7),
    lambda: Stem(11, 1),
    lambda: VectorVelocityField(3, 0, width=5, n_blocks=2),
    lambda: WindowVelocityField(2, 70, 4, width=6, n_blocks=3),
    lambda: WindowVelocityField(1, 9, 4, width=6),
    lambda: WindowVelocityField(1, 9, 4, width=6, n_seen=4),
    lambda: nn.Sequential(
        *(nn.Linear(3, 3, bias=k % 2 == 0) for k in range(12)),
        nn.GELU("tanh"),
        nn.LayerNorm(3, eps=1e-3),
        nn.SiLU(),
        nn.Tanh(),
        nn.ReLU(),
    ),
    lambda: nn.Sequential(
        nn.Conv1d(2, 4, 5, stride=2, padding=2, padding_mode="circular"),
        nn.Conv1d(4, 4, 3, padding="same", dilation=2, groups=2, bias=False),
        nn.Flatten(),
        nn.Identity(),
    ),
]


@pytest.mark.parametrize("make", MODULES)
def test_modules_come_back(make):
    module = built(make).eval()
    again = through_json(module)
    assert repr(again) == repr(module)
    assert not again.training
    state = again.state_dict()
    assert state.keys() == module.state_dict().keys()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, state[name]), name
        assert state[name].data_ptr() % 64 == 0  # as torch aligns: the same rounding
    plain = [
        {k: v for k, v in vars(m).items() if k[0] != "_"} for m in module.modules()
    ]
    also = [{k: v for k, v in vars(m).items() if k[0] != "_"} for m in again.modules()]
    assert plain == also


def test_a_changed_module_is_not_taken_for_a_plain_one():
    encoder = FeatureEncoder(4, 4, width=3)
    encoder.net[1] = nn.ReLU()
    with pytest.raises(TypeError, match="FeatureEncoder whose layers were changed"):
        structure_of(encoder)
    wide = nn.Linear(2, 2, dtype=torch.float64)
    with pytest.raises(TypeError, match="Linear whose layers were changed"):
        structure_of(wide)


def test_every_public_net_can_be_in_a_file():
    assert set(skflowfm.nets.__all__) <= KINDS.keys()


# ------------------------------------------------------------------ what a file says
def test_a_description_without_a_model(windows, path):
    windows.save(path)
    about = describe(path)
    assert about["class"] == "FlowFMTransformer"
    assert about["format_version"] == 5
    assert about["input"] == {"kind": "windows", "n_channels": 3, "n_timesteps": 32}
    assert about["parameters"] == windows.get_params()
    training = about["training"]
    assert training["steps"] == 10
    assert training["seconds"] == windows.fit_seconds_
    assert training["stopped_by"] == "max_steps"
    assert training["last"]["train_flow"] == windows.history_["train_flow"].iloc[-1]
    assert len(training["health"]["component_std"]) == 12
    assert about["libraries"]["torch"] == torch.__version__
    assert about["tensors"]["bytes"] <= path.stat().st_size
    assert json.loads(json.dumps(about, allow_nan=False)) == about


def test_a_description_tells_dates_and_paths(windows, path):
    X, y = make_wearable(20, n_timesteps=32, random_state=0, return_X_y=True)[:2]
    windows.save(path)
    days = np.array(["2020-01", "2021-01"], "M8[M]")[(y > 2).astype(int)]
    FlowFMClassifier(Path(path), random_state=0).fit(X, days).save(path)
    about = describe(path)
    assert about["input"]["classes"] == ["2020-01", "2021-01"]
    assert about["parameters"]["transformer"] == str(path)


def test_a_description_of_fine_tuning(windows, path):
    X, y = make_wearable(64, n_timesteps=32, random_state=0, return_X_y=True)[:2]
    model = FlowFMClassifier(
        FrozenEstimator(windows), strategy="full", max_steps=7, random_state=0
    ).fit(X, y)
    model.save(path)
    about = describe(path)
    assert about["training"]["steps"] == 10
    assert about["fine_tuning"]["steps"] == 7
    assert about["fine_tuning"]["stopped_by"] == "max_steps"
    losses = about["fine_tuning"]["last"]
    assert losses["train_loss"] == model.history_["train_loss"].iloc[-1]


def test_anyone_can_read_the_file(windows, path):
    """With safetensors alone, without this package."""
    windows.save(path)
    with safetensors.safe_open(path, "pt") as file:
        texts = file.metadata()
        weight = file.get_tensor("module_.axes.gain")
    assert weight == windows.module_.axes.gain
    assert texts["format"] == "skflowfm"
    for name in ("class", "parameters", "input", "training", "libraries", "state"):
        json.loads(texts[name])


def test_the_same_model_gives_the_same_file(tiny, tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        tiny.save(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    load(paths[0]).save(paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_file_is_little_more_than_the_weights(wearable, path):
    model = FlowFMTransformer(max_steps=1, random_state=0).fit(wearable[0])
    weights = sum(tensor.nbytes for tensor in model.module_.state_dict().values())
    model.save(path)
    assert path.stat().st_size < 1.02 * weights
    pickled = io.BytesIO()
    joblib.dump(model, pickled)
    assert len(pickled.getbuffer()) < 1.3 * weights


def test_half_precision_halves_the_file_and_hardly_moves_the_results(wearable, path):
    X = wearable[0]
    model = FlowFMTransformer(max_steps=10, random_state=0).fit(X)
    weights = sum(tensor.nbytes for tensor in model.module_.state_dict().values())
    model.save(path, half_precision=True)
    assert path.stat().st_size < 0.6 * weights
    again = load(path)
    assert {
        t.dtype for t in again.module_.state_dict().values() if t.is_floating_point()
    } == {torch.float32}
    Z = model.transform(X)
    error = np.abs(again.transform(X) - Z).max()
    assert 0 < error < 1e-3 * Z.std(axis=0).max()
    drawn, redrawn = (m.inverse_transform(Z) for m in (model, again))
    np.testing.assert_allclose(redrawn, drawn, atol=0.02 * X.std())
    first = path.read_bytes()
    again.save(path, half_precision=True)  # what is rounded stays as it is
    assert load(path).transform(X).tobytes() == again.transform(X).tobytes()
    assert len(path.read_bytes()) == len(first)


def test_what_half_precision_cannot_hold_stays():
    many = torch.linspace(-1, 1, 40_000)
    tensors = {
        "weights": many,
        "few": many[:10_000],
        "large": many * 1e5,
        "endless": torch.where(many < 0, -torch.inf, many),
        "whole": torch.arange(40_000),
        "exact": many.double(),
        "tiny": many * 1e-6,
        "huge": many * 1e25,
    }
    stored, halved = file_format.halve(tensors)
    assert halved == ["weights"]
    assert stored["weights"].dtype == torch.float16
    assert all(stored[name] is tensors[name] for name in tensors if name != "weights")


# ------------------------------------------------------------------ bad files
def rewritten(path, change):
    """Change sections and tensors of a file and give it a checksum that is right."""
    sections, tensors = file_format.unpack(path)
    del sections["format_version"]
    change(sections, tensors)
    path.write_bytes(file_format.pack(sections, tensors))


@pytest.fixture
def saved(tiny, path):
    tiny.save(path)
    return path


FOREIGN = {
    "text": b"Dear reader, this is no model at all.",
    "json": b'{"format": "skflowfm"}',
    "pickle": pickle.dumps({"a": 1}),
    "zip": b"PK\x03\x04" + bytes(30),
    "zeros": bytes(100),
    "short": b"abc",
    "safetensors": safetensors.torch.save({"a": torch.zeros(2)}),
    "metadata": safetensors.torch.save({"a": torch.zeros(2)}, {"format": "pt"}),
    "list": struct.pack("<Q", 2) + b"[]",
    "deep": struct.pack("<Q", 200_000) + b"[" * 200_000,
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("read", [load, describe])
def test_foreign_files(name, read, path):
    path.write_bytes(FOREIGN[name])
    with pytest.raises(ModelFileError, match=r"is no model of skflowfm: expected"):
        read(path)


def test_nothing_there(path, tmp_path):
    with pytest.raises(FileNotFoundError):
        load(path)
    path.touch()
    with pytest.raises(ModelFileError, match="is empty"):
        load(path)
    with pytest.raises(OSError, match="directory"):
        load(tmp_path)


def test_the_folder_must_be_there(tmp_path):
    model = FlowFMTransformer(2, max_steps=0).fit(np.eye(8))
    with pytest.raises(FileNotFoundError, match=r"folder for the model.*nowhere'$"):
        model.save(tmp_path / "nowhere" / "model")


@pytest.mark.parametrize("length", [2**63, 2**40, 10**9, 5000])
def test_a_length_that_is_too_large_reads_nothing(length, saved):
    content = saved.read_bytes()
    with open(saved, "r+b") as file:
        file.write(struct.pack("<Q", length))
        file.truncate(10**11 if length > 10**6 else len(content[:4000]))  # sparse
    start = time.process_time()
    with pytest.raises(ModelFileError, match=r"cut off or damaged|no JSON"):
        load(saved)
    assert time.process_time() - start < 1


def test_a_large_foreign_file_is_not_read(path):
    with open(path, "wb") as file:
        file.write(safetensors.torch.save({"a": torch.zeros(2)}))
        file.truncate(10**11)
    with pytest.raises(ModelFileError, match="safetensors file of another kind"):
        load(path)


def test_cut_off_files(saved):
    content = saved.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for n in (*range(1, 9), 100, header - 1, header, header + 1, len(content) - 1):
        saved.write_bytes(content[:n])
        with pytest.raises(ModelFileError, match=r"cut off|is no model of skflowfm"):
            load(saved)
    saved.write_bytes(content + b"\0")
    with pytest.raises(ModelFileError, match="is too long: expected"):
        load(saved)


@pytest.mark.parametrize(
    ("other", "message"),
    [(b"6", r"format version 6.*Update skflowfm"), (b"1", r"version 1.*older.*again")],
)
def test_another_format_is_named(saved, other, message):
    content = saved.read_bytes()
    changed = content.replace(
        b'"format_version":"5"', b'"format_version":"' + other + b'"'
    )
    assert changed != content
    saved.write_bytes(changed)
    with pytest.raises(ModelFileError, match=message):
        load(saved)


@pytest.mark.parametrize("old", [b"max_steps", b'stopped_by\\":\\"max', b"bias"])
def test_changed_texts_and_names_are_noticed(old, saved):
    content = saved.read_bytes()
    assert old in content
    saved.write_bytes(content.replace(old, old[:-1] + b"z", 1))
    with pytest.raises(ModelFileError, match="damaged or was changed: its checksum"):
        describe(saved)


def objects(sections):
    return sections["state"]["objects"]


def nest(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


BAD_DESCRIPTIONS = {
    "kind": lambda s, t: objects(s)[0].update(kind="os.system"),
    "module": lambda s, t: objects(s)[0]["structure"].update(kind="Popen"),
    "no kind": lambda s, t: objects(s)[-1].pop("kind"),
    "no state": lambda s, t: s.pop("state"),
    "no tensor": lambda s, t: t.pop("module_.axes.gain"),
    "more tensors": lambda s, t: t.update({"module_.axes.x": torch.zeros(1)}),
    "shape": lambda s, t: t.update({"module_.axes.mean": torch.zeros(3)}),
    "type": lambda s, t: t.update({"module_.axes.mean": torch.zeros(2).double()}),
    "method": lambda s, t: objects(s)[-1]["fitted"].update(transform=1),
    "dunder": lambda s, t: objects(s)[-1]["fitted"].update(__class__="x"),
    "attribute": lambda s, t: objects(s)[-1]["fitted"].update(module_=3),
    "parameter": lambda s, t: objects(s)[-1]["parameters"].update(new=3),
    "later part": lambda s, t: objects(s)[0].update(structure={"$object": 5}),
    "no model": lambda s, t: s["state"].update(model=[1]),
    "number": lambda s, t: s["state"].update(model={"$object": 10**6}),
    "tag": lambda s, t: objects(s)[-1]["fitted"].update(a={"$eval": "1"}),
    "array": lambda s, t: objects(s)[-1]["fitted"].update(a={"$array": "none"}),
    "object array": lambda s, t: objects(s)[-1]["fitted"].update(
        a={"$array": {"type": "|O8", "bytes": "module_.axes.mean", "shape": [1]}}
    ),
    "slot": lambda s, t: objects(s)[0].update(
        structure={"given": "device", "class": "x"}
    ),
    "wide": lambda s, t: objects(s)[0]["structure"]["arguments"].update(
        in_features=2**62
    ),
    "wide too": lambda s, t: objects(s)[0]["structure"]["arguments"].update(
        in_features=2**30, out_features=2**30
    ),
    "deep": lambda s, t: objects(s)[1]["structure"]["arguments"].update(n_blocks=10**9),
    "huge stem": lambda s, t: objects(s)[0].update(
        structure={
            "kind": "Stem",
            "arguments": {"n_channels": 2**30, "n_timesteps": 2**30, "n_features": 9},
        }
    ),
    "request": lambda s, t: objects(s)[-1].update(requests={"fit": {"x": True}}),
}


@pytest.mark.parametrize("name", BAD_DESCRIPTIONS)
def test_a_description_that_makes_no_model(name, saved):
    """As somebody may write it who knows the format: the checksum is right."""
    rewritten(saved, BAD_DESCRIPTIONS[name])
    start = time.process_time()
    with pytest.raises(ModelFileError) as raised:
        load(saved)
    assert time.process_time() - start < 2
    assert str(saved) in str(raised.value)
    assert "checksum" not in str(raised.value)


BAD_LENGTHS = {
    "long stem": ("stem", {"n_timesteps": 8_000_000}),
    "no reference": ("stem", {"n_reference": 0, "n_timesteps": 8_000_000}),
    "half a step": ("stem", {"n_reference": 19.5}),
    "other stem": ("stem", {"n_timesteps": 24}),
    "other field": ("velocity_field", {"n_timesteps": 2**31}),
    "other patches": ("velocity_field", {"patch": 3}),
}


@pytest.mark.parametrize("name", BAD_LENGTHS)
def test_parts_for_windows_of_other_lengths(name, path):
    X = np.random.default_rng(0).normal(size=(40, 1, 20))
    FlowFMTransformer(2, max_steps=0, random_state=0).fit(X).save(path)
    part, change = BAD_LENGTHS[name]

    def edit(sections, tensors):
        models = [o for o in objects(sections) if "structure" in o]
        [model] = [o for o in models if o["structure"]["kind"] == "JointModel"]
        model["structure"]["arguments"][part]["arguments"].update(change)

    rewritten(path, edit)
    start = time.process_time()
    with pytest.raises(ModelFileError):
        load(path)
    assert time.process_time() - start < 2


def test_a_text_that_is_too_deep(saved):
    content = saved.read_bytes()
    header, numbers = split(content)
    header["__metadata__"]["state"] = "[" * 100_000
    header["__metadata__"]["sha256"] = file_format.checksum(header, numbers)
    saved.write_bytes(joined(header, numbers))
    with pytest.raises(ModelFileError, match="its description is no JSON"):
        load(saved)


def split(content):
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), content[start:]


def joined(header, numbers):
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + numbers


def test_rewriting_as_such_is_no_error(saved, tiny):
    """Else the tests above would pass for nothing."""
    rewritten(saved, lambda sections, tensors: None)
    assert_same_transformer(tiny, load(saved), table())
    saved.write_bytes(joined(*split(saved.read_bytes())))
    assert_same_transformer(tiny, load(saved), table())


def test_a_parameter_that_came_later_gets_its_default(saved):
    rewritten(saved, lambda s, t: objects(s)[-1]["parameters"].pop("alignment"))
    assert load(saved).alignment == 1.0


def test_nothing_in_the_code_can_run_what_is_in_a_file():
    names = {"eval", "exec", "compile", "__import__", "torch.load", "np.load"}
    modules = {"pickle", "importlib", "joblib", "marshal", "shelve", "ctypes"}
    for path in Path(file_format.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in names, called
            elif isinstance(node, ast.Import):
                assert not modules & {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.module not in modules


# ------------------------------------------------------------------ random damage
def check_damage(expected, damaged):
    """A damaged file is refused, or what was damaged made no difference."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m")
        Path(path).write_bytes(damaged)
        try:
            model = load(path)
        except ModelFileError:
            return
    for got, wanted in zip(results(model), expected, strict=True):
        assert got.tobytes() == wanted.tobytes()


def results(model):
    Z = model.transform(table(8))
    return Z, model.inverse_transform(Z), model.score_samples(table(8))


@pytest.fixture(scope="module")
def content(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "m"
    tiny.save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def expected(tiny):
    return results(tiny)


def damages(n_bytes):
    place = st.one_of(st.integers(0, 60), st.integers(0, n_bytes - 1))
    return st.tuples(
        st.lists(st.tuples(place, st.integers(0, 255)), max_size=6),
        st.one_of(st.none(), st.none(), st.integers(0, n_bytes)),
    )


def apply(content, damage):
    changes, length = damage
    content = bytearray(content)
    for place, value in changes:
        content[place] = value
    return bytes(content[:length])


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage(content, expected, data):
    damaged = apply(content, data.draw(damages(len(content))))
    check_damage(expected, damaged)


@pytest.mark.slow
@given(st.data())
@settings(
    max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_thousand_damages(content, expected, data):
    damaged = apply(content, data.draw(damages(len(content))))
    check_damage(expected, damaged)


@pytest.mark.slow
def test_flipped_bits(content, expected):
    """In every byte of the header's beginning, and all over the file."""
    for place in (*range(300), *range(300, len(content), 7)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        check_damage(expected, bytes(damaged))


# ------------------------------------------------------------------ crashes
@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    fails, tiny, saved, monkeypatch
):
    before = saved.read_bytes()

    def fail(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr(file_format.os, fails, fail)
    with pytest.raises(OSError, match="no space"):
        copy.copy(tiny).set_params(alignment=3.0).save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_link_and_permissions_stay(tiny, saved, tmp_path):
    saved.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(saved)
    tiny.save(str(link))
    assert link.is_symlink()
    assert saved.stat().st_mode & 0o777 == 0o640
    with pytest.raises(FileNotFoundError):
        tiny.save(tmp_path / "absent" / "model")


def saving_child(models, path):
    """Fork a process that saves the models in turn, for ever; wait for its first."""
    ready, started = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork with threads
        child = os.fork()
    if child:
        os.close(started)
        assert os.read(ready, 1), "the child could not save"
        os.close(ready)
        return child
    try:
        for model in itertools.cycle(models):
            model.save(path)
            if started is not None:
                os.write(started, b"x")
                started = None
    finally:
        os._exit(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_is_killed_while_saving(tiny, path):
    models = [copy.copy(tiny) for _ in range(2)]
    for k, model in enumerate(models):
        model.mark_ = np.full(150_000, k)  # a megabyte: writing takes a while
    expected, X = tiny.transform(table(8)), table(8)
    start = time.perf_counter()
    for model in models:
        model.save(path)
    longest = 2 * (time.perf_counter() - start)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(50):
        child = saving_child(models, path)
        time.sleep(rng.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the child ended by itself"
        again = load(path)
        assert len(np.unique(again.mark_)) == 1
        seen.add(int(again.mark_[0]))
        np.testing.assert_array_equal(again.transform(X), expected)
    left = [name for name in os.listdir(path.parent) if name.endswith(".part")]
    assert left, "no kill came while a file was being written"
    assert seen == {0, 1}


# ------------------------------------------------------------------ other ways to save
def pickled(value):
    return pickle.loads(pickle.dumps(value))


def joblibbed(value):
    buffer = io.BytesIO()
    joblib.dump(value, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


def skopsed(value):
    skops = pytest.importorskip("skops.io")
    content = skops.dumps(value)
    unknown = skops.get_untrusted_types(data=content)
    assert all(name.startswith("skflowfm.") for name in unknown), unknown
    return skops.loads(content, trusted=unknown)


WAYS = pytest.mark.parametrize("way", [pickled, joblibbed, skopsed, copy.deepcopy])


@WAYS
def test_other_ways_to_save_a_transformer(way, windows, wearable):
    again = way(windows)
    assert_same_transformer(windows, again, wearable[0])
    assert_same_attributes(windows, again)


@pytest.fixture(scope="module")
def pipeline():
    pipe = make_pipeline(FlowFMTransformer(max_steps=3), LogisticRegression())
    return pipe.fit(table(), np.arange(60) % 2)


@pytest.fixture(scope="module")
def augmented():
    frozen = FrozenEstimator(small(encoder=None, max_steps=1).fit(table()))
    sampler = FlowFMSampler(frozen, quality=2, random_state=0)
    y = np.where(np.arange(50) % 3, "up", "down")
    return AugmentedClassifier(LogisticRegression(), sampler).fit(table()[:50], y)


@WAYS
def test_other_ways_to_save_what_holds_a_model(way, pipeline, augmented):
    X = table()
    again = way(pipeline)
    np.testing.assert_array_equal(again.predict_proba(X), pipeline.predict_proba(X))
    again = way(augmented)
    np.testing.assert_array_equal(again.predict_proba(X), augmented.predict_proba(X))
    sampler = again.sampler_
    assert sampler.transformer_ is sampler.transformer.estimator  # shared as before
    np.testing.assert_array_equal(sampler.sample(9), augmented.sampler_.sample(9))


@WAYS
def test_other_ways_to_save_columns_of_categories(way, of_categories):
    again = way(of_categories)
    pd.testing.assert_frame_equal(again.sample(9), of_categories.sample(9))


@pytest.mark.parametrize("way", [pickled, joblibbed, copy.deepcopy])
def test_pickles_hold_your_own_modules(way):
    model = small(encoder=Own(2.0), views=own_view).fit(table())
    again = way(model)
    assert_same_transformer(model, again, table())
    assert isinstance(again.module_.encoder, Own)


def test_pickles_from_memory_maps_are_read(tiny, tmp_path):
    """As joblib's workers get large arrays: read-only."""
    joblib.dump(tiny, tmp_path / "m")
    again = joblib.load(tmp_path / "m", mmap_mode="r")
    assert_same_transformer(tiny, again, table())


@pytest.mark.parametrize("kind", [np.int64, np.int8])
def test_sizes_may_be_numpy_integers(kind, path):
    X = np.random.default_rng(0).normal(size=(40, 4))
    model = FlowFMTransformer(kind(3), max_steps=0, random_state=0).fit(X)
    model.save(path)
    np.testing.assert_array_equal(load(path).transform(X), model.transform(X))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.transform(X), model.transform(X))


def test_a_head_alone_is_not_described_as_fine_tuning(wearable, path):
    X, y, _ = wearable
    transformer = FlowFMTransformer(4, max_steps=2, random_state=0).fit(X)
    for strategy, tuned in (("head", False), ("full", True)):
        model = FlowFMClassifier(
            FrozenEstimator(transformer), strategy=strategy, max_steps=2, random_state=0
        )
        model.fit(X, y).save(path)
        assert ("fine_tuning" in describe(path)) == tuned
