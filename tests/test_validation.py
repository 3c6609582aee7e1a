"""Bad input: each case is refused by name, or works, and loses nothing."""

import re
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skflowfm import (
    AugmentedClassifier,
    FlowFMClassifier,
    FlowFMRegressor,
    FlowFMSampler,
    FlowFMTransformer,
    load,
    make_synthetic,
    stream,
)
from skflowfm._checks import seed_of
from skflowfm._health import CollapseWarning
from skflowfm._validation import Rows
from skflowfm.datasets import sliding_windows
from skflowfm.metrics import c2st_auc, train_on_synthetic


@pytest.fixture(scope="module")
def windows():
    return np.random.default_rng(0).normal(size=(40, 3, 16))


@pytest.fixture(scope="module")
def table():
    return np.random.default_rng(1).normal(size=(40, 4))


def transformer(**parameters):
    return FlowFMTransformer(max_steps=1, random_state=0, **parameters)


def with_value(X, value, at):
    X = X.copy()
    X[at] = value
    return X


BAD_FIT = [
    (np.empty((0, 3, 16)), ValueError, "0 sample(s)"),
    (np.empty((5, 3, 0)), ValueError, "1 time step per window, got 3 channel(s) and 0"),
    (np.empty((5, 0)), ValueError, "0 feature(s)"),
    (np.ones((1, 3, 16)), ValueError, "1 sample(s)"),
    (np.ones((4, 3, 16, 2)), ValueError, "got 4 dimensions"),
    (np.ones(4), ValueError, "Expected 2D array, got 1D array"),
    (np.ones((4, 3, 16), dtype=object), TypeError, "got dtype=object"),
    (np.ones((4, 3, 16), dtype=complex), ValueError, "Complex data not supported"),
    ([[[1.0, 2.0]], [[1.0, 2.0, 3.0]]], ValueError, "got a ragged list"),
    ([torch.ones(2, requires_grad=True)], TypeError, "Of tensors, pass torch.stack(X)"),
    (iter([[1.0, 2.0]]), TypeError, "one by one use skflowfm.stream"),
    ([["a", "b"], ["c", "d"]], ValueError, "string"),
    (scipy.sparse.csr_array(np.eye(4)), TypeError, "Sparse data was passed"),
    (
        pd.DataFrame(
            {"x": np.ones(4)}, index=pd.MultiIndex.from_product([[0, 1], [0, 1]])
        ),
        TypeError,
        "MultiIndex of 2 levels",
    ),
]


@pytest.mark.parametrize(("X", "error", "message"), BAD_FIT, ids=lambda v: str(v)[:25])
def test_fit_refuses_by_name(X, error, message):
    with pytest.raises(error, match=re.escape(message)):
        transformer().fit(X)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (np.nan, "got NaN"),
        (np.inf, "got inf"),
        (1e300, "got 1e+300"),
        (-2e38, "got -2e+38"),  # twice of it is too large
    ],
)
def test_values_that_float32_cannot_hold_are_located(windows, value, named):
    X = with_value(windows, value, (7, 2, 11))
    with pytest.raises(ValueError, match=re.escape(named)) as caught:
        transformer().fit(X)
    assert "(7, 2, 11)" in str(caught.value)


def test_nan_in_transform_is_refused_too(windows):
    fitted = transformer().fit(windows)
    with pytest.raises(ValueError, match="must be finite"):
        fitted.transform(with_value(windows, np.nan, (0, 0, 0)))
    with pytest.raises(ValueError, match="must be finite"):
        fitted.score_samples(with_value(windows, np.nan, (0, 0, 0)))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (np.ones((2, 3, 15)), "rows of shape (3, 16) as in fit, got (3, 15)"),
        (np.ones((2, 4, 16)), "windows of 3 channels as in fit, got 4"),
        (np.ones((2, 48)), "must be 3-D windows with rows of shape (3, 16)"),
    ],
)
def test_other_shapes_at_transform(windows, other, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        transformer().fit(windows).transform(other)


def test_windows_after_a_table(table, windows):
    with pytest.raises(ValueError, match="must be a 2-D table"):
        transformer().fit(table).transform(windows)


def test_changed_column_names(table):
    frame = pd.DataFrame(table, columns=list("abcd"))
    fitted = transformer().fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.transform(frame.rename(columns={"d": "e"}))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 65}, "n_components must be at most 64 for a row of shape"),
        ({"n_components": 0}, "n_components must be an integer of at least 1"),
        ({"n_components": 2.5}, "n_components=2.5"),
        ({"max_steps": -1}, "max_steps must be an integer of at least 0"),
        ({"max_time": -1.0}, "max_time must be a number"),
        ({"max_time": 0}, "max_time must be a number in (0, inf), got max_time=0"),
        ({"max_time": "2min"}, "max_time='2min'"),
        ({"alignment": -0.1}, "alignment must be a number"),
        ({"alignment": np.nan}, "alignment must be a number"),
        (
            {"validation_fraction": 1.0},
            "validation_fraction must be a number in [0, 1)",
        ),
        ({"views": "strong"}, "views must be 'auto', None or a callable"),
        ({"device": "abacus"}, "device must be 'auto' or a device that torch can use"),
        ({"random_state": -3}, "random_state must be None, a non-negative integer"),
        ({"random_state": "zero"}, "random_state='zero'"),
        ({"encoder": torch.nn.Linear(16, 5)}, "encoder must map rows"),
        ({"encoder": torch.nn.Dropout(0.5)}, "must not contain dropout"),
    ],
)
def test_bad_parameters_are_named_with_their_value(windows, parameters, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        FlowFMTransformer(**{"max_steps": 1} | parameters).fit(windows)


def test_a_class_instead_of_an_encoder(windows):
    with pytest.raises(TypeError, match="must be an instance of"):
        transformer(encoder=torch.nn.Linear).fit(windows)


def test_wrong_lengths(windows):
    values = np.repeat([0, 1], 10)
    with pytest.raises(ValueError, match="groups must have one entry per row"):
        transformer().fit(windows, groups=values)
    with pytest.raises(ValueError, match="y must have one entry per row"):
        FlowFMSampler(transformer()).fit(windows, values)


def test_wrong_length_of_y_in_the_meta_estimator(table):
    with pytest.raises(ValueError, match="y must have one entry per row"):
        AugmentedClassifier(sampler=FlowFMSampler(transformer())).fit(table, [0, 1])


def test_wrong_number_of_components(windows):
    fitted = transformer(n_components=4).fit(windows)
    with pytest.raises(ValueError, match="X must have the 4 components"):
        fitted.inverse_transform(np.ones((2, 5)))


def test_one_feature_and_constant_channels_work(windows):
    one = np.random.default_rng(0).normal(size=(30, 1))
    assert np.isfinite(transformer().fit_transform(one)).all()
    flat = windows.copy()
    flat[:, 1] = 7.0
    fitted = transformer(n_components=4).fit(flat)
    assert np.isfinite(fitted.transform(flat)).all()
    drawn = fitted.inverse_transform(fitted.transform(flat))
    np.testing.assert_allclose(drawn[:, 1], 7.0, atol=0.01)


def test_a_read_only_float32_memmap_works_and_is_not_written(tmp_path, windows):
    path = tmp_path / "windows.npy"
    np.save(path, windows.astype(np.float32))
    before = path.read_bytes()
    X = np.load(path, mmap_mode="r")
    fitted = transformer(n_components=4).fit(X)
    sampler = FlowFMSampler(transformer(n_components=4), quality=1).fit(X)
    expected = transformer(n_components=4).fit(np.array(X)).transform(np.array(X))
    np.testing.assert_array_equal(fitted.transform(X), expected)
    sampler.sample_like(X)
    assert path.read_bytes() == before


def test_a_writable_float32_array_is_not_written(windows):
    X = windows.astype(np.float32)
    before = X.copy()
    fitted = FlowFMTransformer(4, max_steps=3, random_state=0).fit(X)
    fitted.transform(X)
    fitted.score_samples(X)
    FlowFMSampler(transformer(n_components=4)).fit(X).sample_like(X)
    np.testing.assert_array_equal(X, before)


def test_negative_strides_and_float16(windows):
    X = windows.astype(np.float16)
    backwards = transformer(n_components=4).fit(X[::-1])
    copied = transformer(n_components=4).fit(np.ascontiguousarray(X[::-1]))
    np.testing.assert_array_equal(backwards.transform(X), copied.transform(X))


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(2, 9000),
    offset=st.floats(-1e4, 1e4),
    scale=st.floats(0.1, 1e3),
    seed=st.integers(0, 99),
)
def test_chunked_moments_are_those_of_the_whole(n, offset, scale, seed):
    X = np.random.default_rng(seed).normal(offset, scale, size=(n, 2))
    mean, deviation, _ = Rows(X).moments()
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-5, atol=1e-5 * scale)
    np.testing.assert_allclose(deviation, X.std(axis=0), rtol=1e-4)


def test_seed_of():
    assert seed_of(5) == 5
    assert seed_of(np.int64(5)) == 5
    assert seed_of(np.random.RandomState(0)) == seed_of(np.random.RandomState(0))
    assert seed_of(np.random.default_rng(0)) == seed_of(np.random.default_rng(0))
    assert seed_of(None) != seed_of(None)


# ------------------------------------------------------------- nothing is lost
def sampler(**parameters):
    return FlowFMSampler(transformer(), quality=1, random_state=0, **parameters)


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (transformer, "transform"),
        (sampler, "sample_like"),
        (lambda: FlowFMClassifier(transformer(), random_state=0), "predict_proba"),
        (lambda: FlowFMRegressor(transformer(), random_state=0), "predict"),
        (lambda: AugmentedClassifier(None, sampler()), "predict_proba"),
    ],
)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda X, y: (np.where(X > 2, np.nan, X), y, None),
        lambda X, y: (np.full((40, 5), np.nan), y, None),
        lambda X, y: (9 * X + 3, y, [1, 2]),
        lambda X, y: (9 * X + 3, y, [None, *[1] * 39]),
    ],
)
def test_a_refused_fit_leaves_the_model_that_was_there(table, make, answer, spoil):
    y = (table[:, 0] > 0).astype(int)
    model = make().fit(table, y)
    before = getattr(model, answer)(table)
    X, y, groups = spoil(table, y)
    with pytest.raises(ValueError, match=r"X must be|X contains|groups must"):
        model.fit(X, y, groups=groups)
    np.testing.assert_array_equal(getattr(model, answer)(table), before)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_refused_first_fit_leaves_nothing(table, method):
    model = transformer()
    with pytest.raises(ValueError, match="groups must have one entry per row"):
        getattr(model, method)(table, groups=[1, 2])
    with pytest.raises(NotFittedError):
        model.transform(table)


def test_refused_weights_leave_the_classes(table):
    y = np.where(table[:, 0] > 0, "hi", "lo")
    model = FlowFMClassifier(transformer(), random_state=0).fit(table, y)
    before = model.predict(table)
    with pytest.raises(ValueError, match="class_weight must be"):
        model.set_params(class_weight={"a": 0}).fit(
            table, np.where(y == "hi", "b", "a")
        )
    assert model.classes_.tolist() == ["hi", "lo"]
    np.testing.assert_array_equal(model.predict(table), before)


@pytest.mark.parametrize("warm_start", [False, True])
def test_an_interrupt_leaves_the_model_that_was_there(table, monkeypatch, warm_start):
    model = transformer(warm_start=warm_start).fit(table)
    before = model.transform(table)

    def interrupted(model, *args):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        raise KeyboardInterrupt

    monkeypatch.setattr("skflowfm._training.train_jointly", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(9 * table + 3)
    np.testing.assert_array_equal(model.transform(table), before)


# ------------------------------------------------------- what float32 cannot tell
@pytest.mark.parametrize("spread", [0.0, 1e3, 1e5, 1e6])
def test_a_time_stamp_does_not_outweigh_what_it_stands_beside(spread):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    stamps = 1.7e12 + spread * rng.normal(size=200)  # milliseconds
    said = pytest.warns(UserWarning, match="taken for constant")
    with said if spread else nullcontext():
        model = FlowFMTransformer(max_steps=0).fit(np.column_stack([X, stamps]))
    z = model.transform(np.column_stack([X, stamps]))
    assert LinearRegression().fit(z, X).score(z, X) > 0.9


@pytest.mark.parametrize(
    ("dtype", "unit"), [(np.int64, 10), (np.float64, 10), (np.int64, 10**4)]
)
def test_whole_numbers_that_float32_cannot_tell_apart_are_spoken_of(dtype, unit):
    stamps = (unit * 170_000_000_000_000 + np.arange(60)).astype(dtype)
    with pytest.warns(UserWarning, match="taken for constant"):
        FlowFMTransformer(max_steps=0).fit(np.column_stack([stamps, np.arange(60)]))
    stamps[:] = stamps[0]
    FlowFMTransformer(max_steps=0).fit(np.column_stack([stamps, np.arange(60)]))


def test_a_constant_column_of_large_numbers_comes_back_as_it_was():
    X = np.column_stack([np.random.default_rng(0).normal(size=(60, 3)), [1.7e9] * 60])
    model = FlowFMTransformer(max_steps=1, random_state=0).fit(X)
    drawn = model.inverse_transform(model.transform(X))
    np.testing.assert_allclose(drawn[:, 3], 1.7e9, rtol=1e-6)


@pytest.mark.parametrize(
    "y", [1e8 + np.arange(40) % 3, np.r_[1e39, np.arange(39)]], ids=["offset", "size"]
)
def test_targets_that_float32_cannot_tell_apart_are_refused(table, y):
    with pytest.raises(ValueError, match="more than float32 resolves"):
        FlowFMRegressor(transformer()).fit(table, y)


# --------------------------------------------------------------- more bad input
def test_masked_values_are_refused(table):
    with pytest.raises(ValueError, match="no masked values"):
        transformer().fit(np.ma.masked_greater(table, 2))
    transformer().fit(np.ma.masked_greater(table, 100))  # nothing is masked


@pytest.mark.parametrize("kind", ["datetime64[ns]", "timedelta64[s]"])
@pytest.mark.parametrize("shape", [(40, 2), (40, 2, 8)])
def test_dates_are_no_numbers(kind, shape):
    X = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    with pytest.raises(TypeError, match="dates or durations"):
        transformer().fit(X)
    if len(shape) == 2:
        with pytest.raises(TypeError, match="dates or durations"):
            transformer().fit(pd.DataFrame(X).assign(number=1.0))


def test_windows_have_channels():
    with pytest.raises(ValueError, match="at least 1 channel"):
        transformer().fit(np.zeros((40, 0, 8)))


@pytest.mark.parametrize("name", ["alignment", "validation_fraction", "max_time"])
def test_a_text_is_no_number(table, name):
    with pytest.raises(ValueError, match=f"{name} must be a number"):
        FlowFMTransformer(**{name: "0.5"}).fit(table)


def test_a_device_without_numbers_is_refused(table):
    with pytest.raises(ValueError, match="it holds no numbers"):
        transformer(device="meta").fit(table)


@contextmanager
def torch_told(setter, value, usual):
    """Set something of torch's, and set it back."""
    setter(value)
    try:
        yield
    finally:
        setter(usual)


TOLD = [
    (
        lambda: torch_told(torch.set_default_dtype, torch.float64, torch.float32),
        "works in float32, got torch.get_default_dtype",
    ),
    (
        lambda: torch_told(torch.set_default_device, "meta", None),
        r"get_default_device\(\) == meta. Call torch.set_default_device\(None\)",
    ),
    (lambda: torch.device("meta"), r"get_default_device\(\) == meta"),
    (lambda: torch.autocast("cpu"), r"got torch.autocast\('cpu'\)"),
]


@pytest.mark.parametrize(("told", "words"), TOLD)
def test_torch_that_makes_other_numbers_is_refused(table, tmp_path, told, words):
    model = transformer().fit(table)
    drawing = sampler().fit(table)
    model.save(tmp_path / "model")
    for call in (
        lambda: transformer().fit(table),
        lambda: model.transform(table),
        lambda: model.inverse_transform(np.zeros((2, model.n_components_))),
        lambda: drawing.sample(2),
        lambda: list(stream(drawing.sample, 5)),
        lambda: load(tmp_path / "model"),
        lambda: model.to_onnx(tmp_path / "model.onnx"),
    ):
        with told(), pytest.raises(RuntimeError, match=words):
            call()
    assert drawing.sample(2).shape == (2, 4)


def test_training_without_gradients_is_refused_and_reading_is_not(table):
    model = transformer().fit(table)
    with torch.inference_mode():
        z = model.transform(table)
        with pytest.raises(RuntimeError, match="needs gradients"):
            transformer().fit(table)
    np.testing.assert_array_equal(z, model.transform(table))
    with torch.no_grad():
        np.testing.assert_array_equal(z, transformer().fit(table).transform(table))


def test_tensors_are_read_whatever_they_are_for(table):
    expected = transformer().fit(table).transform(table)
    X = torch.from_numpy(table).requires_grad_()
    np.testing.assert_array_equal(transformer().fit(X).transform(X), expected)
    assert transformer().fit(X.detach().bfloat16()).n_steps_ == 1


class OnDevice(torch.Tensor):
    """Numbers that numpy cannot read where they are."""

    def __array__(self, dtype=None):
        raise TypeError("can't convert device type tensor to numpy")


def test_labels_and_groups_may_be_tensors_on_a_device(table):
    y, groups = np.repeat([0, 1], 20), np.tile([0, 1, 2, 3], 10)
    there = {"y": y, "groups": groups}
    away = {k: torch.from_numpy(v).as_subclass(OnDevice) for k, v in there.items()}
    calls = (
        lambda y, groups: (
            FlowFMClassifier(transformer(), strategy="head")
            .fit(table, y, groups=groups)
            .predict_proba(table)
        ),
        lambda y, groups: (
            FlowFMRegressor(transformer(), strategy="head")
            .fit(table, y, groups=groups)
            .predict(table)
        ),
        lambda y, groups: transformer().fit(table, groups=groups).transform(table),
        lambda y, groups: sampler().fit(table, y, groups=groups).sample(y=y[:5]),
        lambda y, groups: np.concatenate(
            list(stream(sampler().fit(table, y).sample, y[:5]))
        ),
        lambda y, groups: sampler().fit_resample(table[:30], y[:30])[1],
        lambda y, groups: (
            AugmentedClassifier(LogisticRegression(), sampler(), amount=[1], cv=2)
            .fit(table, y, groups=groups)
            .predict_proba(table)
        ),
        lambda y, groups: make_synthetic(table, y, n_samples=4, sampler=sampler())[1],
        lambda y, groups: (
            c2st_auc(
                table,
                table,
                groups_real=groups,
                groups_synthetic=groups,
                random_state=0,
            ).value
        ),
        lambda y, groups: (
            train_on_synthetic(table, y, table, y, random_state=0).logistic.synthetic
        ),
    )
    for call in calls:
        np.testing.assert_array_equal(call(**away), call(**there))


def test_tensors_are_read_row_by_row_and_by_what_is_around_a_model(table):
    y, there = np.repeat([0, 1], 20), torch.from_numpy(table).bfloat16()
    model = transformer().fit(there)
    rows = np.concatenate(list(stream(model.transform, iter(there))))
    np.testing.assert_allclose(rows, model.transform(there), rtol=1e-5, atol=1e-5)
    augmented = AugmentedClassifier(LogisticRegression(), sampler()).fit(there, y)
    for method in ("predict", "predict_proba", "decision_function"):
        of_array = getattr(augmented, method)(there.float().numpy())
        np.testing.assert_array_equal(getattr(augmented, method)(there), of_array)
    recording = torch.from_numpy(table)
    cut = sliding_windows(recording, 10, labels=recording[:, 0] > 0)
    by_hand = sliding_windows(table, 10, labels=table[:, 0] > 0)
    np.testing.assert_array_equal(cut.X, by_hand.X)
    np.testing.assert_array_equal(cut.y, by_hand.y)


def test_models_that_need_labels_say_so(table):
    for make in (
        FlowFMClassifier,
        FlowFMRegressor,
        lambda model: AugmentedClassifier(sampler=FlowFMSampler(model)),
    ):
        with pytest.raises(ValueError, match="requires y to be passed"):
            make(transformer()).fit(table, None)


def test_a_label_of_none_is_not_augmented_as_a_class(table):
    y = np.repeat([0, 1, -1], [10, 10, 20])
    learner = FlowFMClassifier(transformer())
    for classifier in (learner, make_pipeline(StandardScaler(), learner)):
        model = AugmentedClassifier(classifier, sampler())
        with pytest.raises(ValueError, match="y must have a label for each row, got"):
            model.fit(table, y)
    model = AugmentedClassifier(LogisticRegression(), sampler()).fit(table, y)
    assert model.classes_.tolist() == [-1, 0, 1]


def test_layers_without_weights_yet_are_refused(table):
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(3))
    with pytest.raises(ValueError, match="encoder must have weights, got layers that"):
        transformer(encoder=encoder).fit(table)


def test_representations_are_the_X_of_inverse_transform(table):
    model = transformer().fit(table)
    Z = model.transform(table)
    expected = model.inverse_transform(Z)
    np.testing.assert_array_equal(model.inverse_transform(X=Z), expected)
    assert "inverse_transform" not in str(model.get_metadata_routing())


@pytest.mark.parametrize("values", [["1", "2"], ["a", "b"], ["a", 2]])
def test_text_is_refused_by_the_name_of_its_column(table, values):
    frame = pd.DataFrame(table, columns=list("abcd"))
    frame["c"] = values * 20
    for make in (transformer, sampler):
        with pytest.raises(TypeError, match="got text in column 'c'"):
            make().fit(frame)
    frame["c"] = frame["c"].astype(str).astype("category")
    with pytest.raises(TypeError, match="got text in column 'c'"):
        transformer().fit(frame)
    assert sampler().fit(frame).sample(3)["c"].dtype == frame["c"].dtype


def test_columns_of_one_name_are_refused(table):
    with pytest.raises(ValueError, match="one column of each name, got 'b' more than"):
        transformer().fit(pd.DataFrame(table, columns=list("abbc")))


def test_dates_are_no_numbers_to_impute_or_predict(table):
    frame = pd.DataFrame(table, columns=list("abcd"))
    fitted = sampler().fit(frame)
    frame["b"] = pd.to_datetime(["2020-01-01", None] * 20)
    with pytest.raises(TypeError, match=r"X must be numeric, got dates"):
        fitted.impute(frame)
    with pytest.raises(TypeError, match=r"y must be numeric, got dates"):
        FlowFMRegressor(transformer()).fit(table, frame["b"])


def test_groups_may_have_names_of_several_types(table):
    groups = np.array(["a", 1, "b", 2] * 10, dtype=object)
    y = np.repeat([0, 1], 20)
    model = AugmentedClassifier(LogisticRegression(), sampler(), amount=[1], cv=2)
    assert len(model.fit(table, y, groups=groups).amounts_) == 2
    named = dict(groups_real=groups, groups_synthetic=groups, random_state=0)
    coded = pd.factorize(groups)[0]
    again = dict(groups_real=coded, groups_synthetic=coded, random_state=0)
    assert c2st_auc(table, table + 1, **named) == c2st_auc(table, table + 1, **again)


@pytest.mark.parametrize("verbose", ["no", None, 0.5])
def test_verbose_is_a_number(table, verbose):
    tuned = FlowFMClassifier(FrozenEstimator(transformer().fit(table)), verbose=verbose)
    with pytest.raises(ValueError, match="verbose must be a bool or an integer"):
        transformer(verbose=verbose).fit(table)
    with pytest.raises(ValueError, match="verbose must be a bool or an integer"):
        tuned.fit(table, np.arange(len(table)) % 2)


def test_an_array_is_no_choice(table):
    tuned = FlowFMClassifier(strategy=np.zeros(3))
    with pytest.raises(ValueError, match="views must be 'auto', None or a callable"):
        transformer(views=np.zeros(3)).fit(table)
    with pytest.raises(ValueError, match="strategy must be one of"):
        tuned.fit(table, np.arange(len(table)) % 2)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_labels_are_counted_and_placed(table, missing):
    y = np.array(["a", "b"] * 20, dtype=object)
    y[3] = missing
    labels = pd.Series(y, dtype="string") if missing is pd.NA else y
    for make in (sampler, lambda: FlowFMClassifier(transformer())):
        with pytest.raises(ValueError, match=r"y must have no missing value.* index 3"):
            make().fit(table, labels)
    fitted = sampler().fit(table, ["a", "b"] * 20)
    with pytest.raises(ValueError, match="y must have no missing value, got 1"):
        fitted.sample(y=np.array(["a", missing], dtype=object))


def test_bounds_may_be_wider_than_float32(table):
    wide = sampler(bounds=(0, np.finfo(np.float64).max)).fit(table)
    assert (wide.sample(5) >= 0).all()


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=5))
def test_bounds_from_the_data_are_not_beyond_them(values):
    X = np.array(values)[:, None]
    low, high = Rows(X).extremes()
    assert low.dtype == high.dtype == np.float32
    assert low <= high
    assert high.astype(np.float64) <= X.max()
    assert X.min() <= low.astype(np.float64) or low == high


def test_a_series_is_no_table():
    with pytest.raises(ValueError, match="Expected a 2-dim"):
        transformer().fit(pd.Series([1.0, 2.0, 3.0]))


def test_groups_of_several_types():
    X = np.random.default_rng(0).normal(size=(400, 3))
    people = np.arange(400) % 7
    mixed = np.array([p if p % 2 else f"p{p}" for p in people], dtype=object)
    fitted = [
        FlowFMTransformer(2, max_steps=1, random_state=0).fit(X, groups=groups)
        for groups in (mixed, [list(dict.fromkeys(mixed)).index(g) for g in mixed])
    ]
    a, b = (model.transform(X) for model in fitted)
    np.testing.assert_array_equal(a, b)


def test_columns_that_float32_flattens_are_named():
    X = np.random.default_rng(0).normal(size=(60, 3)) + [0, 1e8, 0]
    with pytest.warns(UserWarning, match=r"1 channel.* at position 1 \(mean 1e\+08"):
        transformer().fit(X)
    transformer().fit(X - [0, 1e8, 0])


@pytest.mark.parametrize("constant", [1e-6, 0.1, 5.0, 9.81])
@pytest.mark.parametrize("shape", [(60, 3), (60, 3, 16)])
def test_what_is_constant_is_drawn_so(constant, shape):
    X = np.random.default_rng(0).normal(size=shape)
    X[:, 1] = constant
    drawn = sampler().fit(X).sample(50)
    np.testing.assert_allclose(drawn[:, 1], constant, rtol=1e-6)
    assert drawn[:, 0].std() > 0.1


@pytest.mark.parametrize("shape", [(60, 3), (60, 3, 16)])
def test_the_farther_out_the_less_usual_whatever_the_size(shape):
    X = np.random.default_rng(0).normal(size=shape)
    model = transformer().fit(X)
    far = np.repeat(X[:1], 6, axis=0)
    sizes = np.array([1, 1e2, 1e4, 1e12, 1e25, 1e37])
    far[:, 0] *= sizes.reshape(-1, *(1,) * (X.ndim - 2))
    scores = model.score_samples(far)
    assert np.isfinite(model.transform(far)).all()
    assert (np.diff(scores[:3]) < 0).all()
    assert (scores[3:] <= scores[2]).all()


def test_an_interrupted_partial_fit_leaves_the_model_that_was_there(table, monkeypatch):
    def interrupted(self, *args):
        raise KeyboardInterrupt

    model = FlowFMTransformer(2, random_state=0).partial_fit(table)
    before, scores = model.transform(table), model.score_samples(table)
    monkeypatch.setattr(FlowFMTransformer, "_describe", interrupted)  # after training
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(9 * table)
    np.testing.assert_array_equal(model.transform(table), before)
    np.testing.assert_array_equal(model.score_samples(table), scores)
    assert not model.module_.training


def test_partial_fit_goes_on_with_the_model_that_is_there(table):
    model = FlowFMTransformer(2, random_state=0).partial_fit(table)
    with pytest.raises(ValueError, match="n_components must be None or the 2"):
        model.set_params(n_components=1).partial_fit(table)


@pytest.mark.uses_global_rng  # torch draws the weights of the layer
def test_an_encoder_of_one_s_own_has_as_many_components_as_it_likes(table):
    encoder = torch.nn.Linear(table.shape[1], 40)
    model = FlowFMTransformer(40, encoder=encoder, max_steps=1).fit(table)
    assert model.transform(table).shape == (len(table), 40)


@pytest.mark.parametrize("shape", [(40, 12, 20), (40, 3, 40), (40, 5)])
def test_one_window_alone_is_what_it_is_among_others(shape):
    """Small whole numbers: kernels meet ties, which the last bit decides."""
    X = np.random.default_rng(0).integers(0, 2, size=shape).astype(np.float32)
    model = FlowFMTransformer(max_steps=0, random_state=0).fit(X)
    for answer in (model.transform, model.score_samples):
        alone = np.concatenate([answer(X[i : i + 1]) for i in range(len(X))])
        np.testing.assert_allclose(alone, answer(X), atol=1e-4)


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ([1, 2], TypeError, r"class_counts must be a dict .*, got \[1, 2\]"),
        (5, TypeError, "class_counts must be a dict .*, got 5"),
        ({"c": 1}, ValueError, r"asks for classes \['c'\]"),
    ],
)
def test_bad_class_counts(table, counts, error, message):
    fitted = sampler().fit(table, ["a", "b"] * 20)
    with pytest.raises(error, match=message):
        fitted.sample(class_counts=counts)


def test_counts_may_be_a_series(table):
    y = pd.Series(["a", "b"] * 20)
    fitted = sampler(sampling_strategy=pd.Series({"a": 22})).fit(table, y)
    _, drawn = fitted.sample(class_counts=y.value_counts())
    assert pd.Series(drawn).value_counts().to_dict() == {"a": 20, "b": 20}
    assert len(fitted.fit_resample(table, y)[1]) == 42


def test_labels_of_several_types_are_refused_by_name(table):
    fitted = sampler().fit(table, [0, 1] * 20)
    with pytest.raises(ValueError, match=r"y asks for classes \['a'\]"):
        fitted.sample(y=np.array([1, "a"], dtype=object))


def test_no_labels_are_refused_by_name(table):
    with pytest.raises(ValueError, match="at least one label"):
        sampler().fit_resample(table[:0], [])


def test_a_frozen_transformer_still_checks_groups(table):
    fitted = FrozenEstimator(transformer().fit(table))
    with pytest.raises(ValueError, match="groups must have one entry per row"):
        FlowFMSampler(fitted, quality=1).fit(table, groups=[1, 2])


def test_a_regressor_is_not_augmented(table):
    with pytest.raises(TypeError, match="classifier must be a classifier"):
        AugmentedClassifier(LinearRegression()).fit(table, [0, 1] * 20)


@pytest.mark.parametrize("how", ["partial_fit", "init"])
def test_what_was_constant_may_vary_later(how):
    rng = np.random.default_rng(0)
    first, later = rng.normal(size=(2, 60, 3))
    first[:, 1], later[:, 2] = 0.0, first[:, 2]
    model = FlowFMTransformer(3, max_steps=1, random_state=0)
    if how == "partial_fit":
        model.partial_fit(first)
        assert model.inverse_transform(model.transform(first))[:, 1].std() == 0
        model.partial_fit(later)
    else:
        model = FlowFMTransformer(max_steps=1).fit(later, init=model.fit(first))
    assert model.inverse_transform(model.transform(later))[:, 1].std() > 0.1


@pytest.mark.parametrize("unit", [1e-3, 1e4])
@pytest.mark.parametrize("windows", [False, True])
def test_what_varies_later_does_so_in_its_own_unit(windows, unit):
    """Whatever the scale at which a column or channel wakes, no column suffers."""
    shape = (200, 3, 20) if windows else (200, 3)
    first, later = np.random.default_rng(0).normal(size=(2, *shape))
    first[:, 1], later[:, 1] = 0.0, 5 + unit * later[:, 1]
    model = FlowFMTransformer(max_steps=5, random_state=0).fit(first)
    model = FlowFMTransformer(max_steps=100, random_state=0).fit(later, init=model)
    drawn = model.inverse_transform(model.transform(later))
    axis = (0, 2) if windows else 0
    ratio = drawn.std(axis=axis) / later.std(axis=axis)
    assert ratio.min() > 0.3
    assert ratio.max() < 3


def test_a_sensor_at_rest_does_not_set_the_unit_of_what_comes():
    first, rest, later = np.random.default_rng(0).normal(size=(3, 64, 3))
    first[:, 1], rest[:, 1], later[:, 1] = 0.0, 5 + 1e-3 * rest[:, 1], 5 + later[:, 1]
    model = FlowFMTransformer(random_state=0)
    for X in (first, rest, *[later] * 6):
        model.partial_fit(X)
    assert model.history_.train_flow.iloc[-1] < 5


def test_levels_of_what_wakes_late_are_seen():
    """Rows may come sorted, so the first thousands may say nothing of it."""
    rng = np.random.default_rng(0)
    first, later = rng.normal(size=(60, 2, 8)), rng.normal(size=(4400, 2, 8))
    first[:, 1], later[:4200, 1] = 0.0, 0.0
    later[4200:, 1] += 5 * rng.normal(size=(200, 1))
    model = FlowFMTransformer(max_steps=1, random_state=0).fit(first)
    model = FlowFMTransformer(max_steps=1, random_state=0).fit(later, init=model)
    coordinates = model.module_.coordinates
    assert (coordinates.highest - coordinates.lowest)[1, 0] > 1


@pytest.mark.parametrize("of_fit", [True, False])
def test_a_missing_category_is_missing(of_fit):
    """numpy makes a number of it, where other columns are numbers of its own."""
    X = pd.DataFrame({"a": pd.Categorical([1, 2] * 20), "b": np.arange(40)})
    holed = X.copy()
    holed.loc[3, "a"] = None
    model = FlowFMTransformer(max_steps=1, random_state=0)
    call = model.fit if of_fit else model.fit(X).transform
    with pytest.raises(ValueError, match="missing category in column 'a'"):
        call(holed)


@pytest.mark.parametrize(
    "values",
    [
        pd.period_range("2020", periods=40, freq="M"),
        pd.interval_range(0, 40),
        [day.date() for day in pd.date_range("2020", periods=40)],
        [pd.Timedelta(hours=h) for h in range(40)],
    ],
    ids=lambda values: type(values[0]).__name__,
)
def test_dates_of_all_kinds_are_refused(values):
    X = pd.DataFrame({"a": np.arange(40.0), "t": values})
    for model in (transformer(), FlowFMSampler(transformer())):
        with pytest.raises(TypeError, match="dates or durations"):
            model.fit(X)


class OfAnotherLibrary:
    """A frame that says its types as polars or pyarrow do."""

    def __init__(self, *types, schema=False):
        if schema:
            self.schema = SimpleNamespace(types=types)
        else:
            self.dtypes = types

    def __array__(self, dtype=None, copy=None):
        return np.arange(40.0).reshape(20, 2)


@pytest.mark.parametrize("schema", [False, True])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Datetime(time_unit='us', time_zone=None)", "got dates or durations"),
        ("date32[day]", "got dates or durations"),
        ("Duration(time_unit='us')", "got dates or durations"),
        ("String", "got a column of text"),
        ("large_string", "got a column of text"),
    ],
)
def test_types_of_other_frames_are_looked_at(name, message, schema):
    with pytest.raises(TypeError, match=message):
        transformer().fit(OfAnotherLibrary("Int64", name, schema=schema))


@pytest.mark.parametrize("what", ["y", "groups", "X"])
def test_masked_values_are_not_shown_again(table, what):
    masked = np.ma.masked_greater(np.arange(len(table)) % 4, 2)
    model = transformer().fit(table)
    Z = np.ma.masked_less(model.transform(table), 0)
    call = {
        "y": lambda: FlowFMRegressor(transformer()).fit(table, masked),
        "groups": lambda: transformer().fit(table, groups=masked),
        "X": lambda: model.inverse_transform(Z),
    }[what]
    with pytest.raises(ValueError, match=f"{what} must have no masked values"):
        call()


def test_a_constant_channel_tells_views_nothing_however_large():
    """Its unit is arbitrary: noise on it must not drown the squared magnitude."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3, 40)).cumsum(axis=-1)
    losses = []
    for constant in (0.0, 25.0, 1e4):
        wider = np.concatenate([X, np.full((60, 1, 40), constant)], axis=1)
        model = FlowFMTransformer(max_steps=20, random_state=0).fit(wider)
        losses.append(model.history_.train_alignment.iloc[-1])
    assert losses == pytest.approx([losses[0]] * 3, rel=0.01)


def test_many_classes_of_one_row_are_classes(table):
    """scikit-learn warns that they might be numbers, of few labels always."""
    y = np.full(len(table), -1)
    y[:25] = np.arange(25)
    model = FlowFMClassifier(transformer()).fit(table, y)
    assert len(model.classes_) == 25


def test_a_number_is_no_truth_value(table):
    with pytest.raises(ValueError, match="sampling_rate must be a number"):
        transformer().fit(table[:, None], sampling_rate=np.True_)


@pytest.mark.parametrize(
    "nested",
    [
        pd.Series([np.ones((2, 5))] * 4),
        pd.DataFrame({"a": [pd.Series(np.ones(5))] * 4}),
        np.array([np.ones(5), np.ones(4), None], dtype=object),
    ],
    ids=["Series", "frame", "array"],
)
def test_rows_within_cells_are_named(nested):
    with pytest.raises(TypeError, match=r"whole sequence in each cell.*np\.stack"):
        FlowFMTransformer(2, max_steps=1).fit(nested)


def test_groups_may_be_a_column(table):
    groups = np.arange(len(table)) % 5
    one, other = (
        FlowFMTransformer(2, max_steps=2, random_state=0).fit(table, groups=g)
        for g in (groups, groups[:, None])
    )
    np.testing.assert_array_equal(one.transform(table), other.transform(table))


def test_what_is_too_small_is_to_be_multiplied(table):
    transformer = FlowFMTransformer(2, max_steps=1, random_state=0)
    with (
        pytest.warns(CollapseWarning),
        pytest.warns(UserWarning, match="too little for float32.*Multiply"),
    ):
        transformer.fit(np.asarray(table, dtype=float) * 1e-60)


def test_warnings_point_at_who_called(table):
    X = np.column_stack([table, 1.7e9 + np.arange(len(table))])
    for fit in (
        FlowFMTransformer(2, max_steps=1).fit_transform,
        FlowFMSampler(FlowFMTransformer(2, max_steps=1), quality=2).fit,
    ):
        with pytest.warns(UserWarning, match="millionth") as caught:
            fit(X)
        assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"warm_start": "no"}, "warm_start must be True or False"),
        ({"device": None}, "it is a NoneType"),
    ],
)
def test_values_of_another_type_are_refused(table, parameters, message):
    with pytest.raises(ValueError, match=message):
        FlowFMTransformer(2, max_steps=1).set_params(**parameters).fit(table)
