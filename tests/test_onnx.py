"""ONNX files: in onnxruntime the same numbers as here, or no file."""

import json
import logging
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from torch import nn

from skflowfm import (
    FlowFMClassifier,
    FlowFMRegressor,
    FlowFMSampler,
    FlowFMTransformer,
    _onnx,
    load,
)
from skflowfm._generation import source_rows
from skflowfm._onnx import ExportError
from skflowfm.datasets import make_wearable
from skflowfm.nets import ConvEncoder, Stem, portable
from skflowfm.nets.stem import power_spectrum

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

BATCHES = 1, 4, 33


def session_of(path):
    """Return a session of one thread."""
    return _onnx.session_of(onnx.load(path))


def run(path, **given):
    """Return outputs by name."""
    session = session_of(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, given), strict=True))


def metadata(path):
    """Return the texts in a file, those in JSON read."""
    texts = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    for key in ("rows", "inputs", "outputs", "libraries", "difference"):
        texts[key] = json.loads(texts[key])
    return texts


def far(got, wanted):
    """Return the largest difference over the largest wanted value."""
    return np.abs(got - wanted).max() / np.abs(wanted).max()


@pytest.fixture(scope="module")
def windows():
    X, y, _ = make_wearable(120, n_timesteps=16, random_state=0, return_X_y=True)
    return 100 + 7 * X.astype(np.float32), y


@pytest.fixture(scope="module")
def fitted(windows):
    """A transformer of windows with all that is default in it."""
    return FlowFMTransformer(12, max_steps=20, random_state=0).fit(windows[0])


@pytest.fixture(scope="module")
def encoder_file(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "encoder.onnx"
    fitted.to_onnx(path)
    return path


@pytest.fixture(scope="module")
def step_file(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "step.onnx"
    fitted.to_onnx(path, part="generator_step")
    return path


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(90, 6)) @ rng.normal(size=(6, 6))).astype(np.float32)


@pytest.fixture(scope="module")
def fitted_table(table):
    return FlowFMTransformer(4, max_steps=20, random_state=0).fit(table)


@pytest.fixture(scope="module")
def table_file(fitted_table, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "encoder.onnx"
    fitted_table.to_onnx(path)
    return path


# ------------------------------------------------------------------ the numbers
@pytest.mark.parametrize("n", BATCHES)
def test_encoder_gives_what_transform_gives(encoder_file, fitted, windows, n):
    X = windows[0][:n]
    z = run(encoder_file, X=X)["z"]
    assert z.dtype == np.float32
    assert far(z, fitted.transform(X)) < 1e-5


def test_encoder_of_flat_windows(encoder_file, fitted, windows):
    """Neither divides by their deviation of zero."""
    mean = fitted.module_.standardise.mean.numpy()
    X = np.broadcast_to(mean, (3, *windows[0].shape[1:])).copy()
    X[1] += 1
    X[2, :, 12:] += 2
    assert far(run(encoder_file, X=X)["z"], fitted.transform(X)) < 1e-4


def test_classifier_gives_logits_and_probabilities(windows, fitted, tmp_path):
    X, y = windows
    model = FlowFMClassifier(FrozenEstimator(fitted), strategy="head").fit(X, y)
    path = tmp_path / "classifier.onnx"
    model.to_onnx(path, part="classifier", X=X)
    assert metadata(path)["rows"]["classes"] == model.classes_.tolist()
    for n in BATCHES:
        out, wanted = run(path, X=X[:n]), model.predict_proba(X[:n])
        assert far(out["logits"], model.decision_function(X[:n])) < 1e-5
        np.testing.assert_allclose(out["probabilities"], wanted, atol=1e-5)


def test_regressor_gives_predictions(table, fitted_table, tmp_path):
    y = 1000 + 50 * table[:, 0]
    model = FlowFMRegressor(FrozenEstimator(fitted_table), strategy="head")
    model.fit(table, y).to_onnx(tmp_path / "regressor.onnx", part="regressor")
    for n in BATCHES:
        got = run(tmp_path / "regressor.onnx", X=table[:n])["prediction"]
        np.testing.assert_allclose(got, model.predict(table[:n]), rtol=1e-5)


def test_encoder_of_tables(table, fitted_table, table_file):
    for n in BATCHES:
        z = run(table_file, X=table[:n])["z"]
        assert far(z, fitted_table.transform(table[:n])) < 1e-5


@pytest.mark.uses_global_rng  # the encoder's own first weights
def test_own_encoder(windows, tmp_path):
    X = windows[0]
    encoder = ConvEncoder(3, 5, widths=(8, 8))
    model = FlowFMTransformer(encoder=encoder, max_steps=2, random_state=0).fit(X)
    model.to_onnx(tmp_path / "encoder.onnx", X=X)
    for n in BATCHES:
        z = run(tmp_path / "encoder.onnx", X=X[:n])["z"]
        assert far(z, model.transform(X[:n])) < 1e-5


def generate(path, z, x, n_steps=8):
    """Solve the flow with numpy and onnxruntime alone."""
    session = session_of(path)
    for k in range(n_steps):
        t = np.full(len(z), k / n_steps, np.float32)
        velocity, row = session.run(None, {"x_t": x, "t": t, "z": z})
        x = x + velocity / np.float32(n_steps)
    return row


@pytest.mark.parametrize("n", BATCHES)
def test_steps_generate_what_inverse_transform_does(step_file, fitted, windows, n):
    X = windows[0][:n]
    z = fitted.transform(X)
    x_0 = source_rows(fitted.seed_, "source", 0, n, (3, X.shape[2] + 2)).numpy()
    X_new = generate(step_file, z, x_0)
    assert X_new.shape == X.shape
    assert far(X_new, fitted.inverse_transform(z)) < 1e-4


def test_steps_generate_table_rows(table, fitted_table, tmp_path):
    path = tmp_path / "step.onnx"
    sampler = FlowFMSampler(FrozenEstimator(fitted_table), random_state=0).fit(table)
    sampler.to_onnx(path, part="generator_step")
    z = fitted_table.transform(table)
    x_0 = source_rows(fitted_table.seed_, "source", 0, len(z), (6,)).numpy()
    assert far(generate(path, z, x_0), fitted_table.inverse_transform(z)) < 1e-4


def test_steps_keep_what_is_constant(table, tmp_path):
    X = np.array(table, np.float32)
    X[:, 2] = 5
    model = FlowFMTransformer(4, max_steps=5, random_state=0).fit(X)
    sampler = FlowFMSampler(FrozenEstimator(model), random_state=0).fit(X)
    sampler.to_onnx(tmp_path / "step.onnx", part="generator_step")
    x_0 = source_rows(model.seed_, "source", 0, len(X), (6,)).numpy()
    assert (generate(tmp_path / "step.onnx", model.transform(X), x_0)[:, 2] == 5).all()


def test_the_row_of_a_step_is_where_a_straight_way_ends(step_file, fitted, windows):
    """With t = 1 the way has ended: coordinates and their row."""
    X = windows[0][:5]
    with torch.inference_mode():
        x_1 = fitted.module_.coordinates(
            fitted.module_.standardise(torch.from_numpy(X))
        )
    t, z = np.ones(5, np.float32), fitted.transform(X)
    assert far(run(step_file, x_t=x_1.numpy(), t=t, z=z)["row"], X) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hapt_waist", "adl_wrist"])
def test_encoder_on_recordings(shared_data, name, tmp_path):
    """Rounding decides on a count in few windows and changes little."""
    X = np.load(shared_data(name))["X"].astype(np.float32)[:1000]
    model = FlowFMTransformer(max_steps=20, random_state=0).fit(X[::2])
    model.to_onnx(tmp_path / "encoder.onnx", X=X)
    parts = np.array_split(X, 100)
    z = np.concatenate([run(tmp_path / "encoder.onnx", X=part)["z"] for part in parts])
    wanted = model.transform(X)
    each = np.abs(z - wanted).max(axis=1) / np.abs(wanted).max()
    assert np.quantile(each, 0.95) < 1e-5
    assert np.mean(each > 1e-4) < 0.02
    assert each.max() < 1e-3


# ------------------------------------------------------------------ the stem, rewritten
@pytest.mark.parametrize(
    "shape", [(1, 2), (1, 3), (2, 25), (3, 150), (12, 31), (1, 1100)]
)
def test_portable_stem_is_the_stem(shape, seeded):
    generator = seeded()
    x = torch.randn(40, *shape, generator=generator)
    x[:2] = 0
    x[2:4] = x[2:4, :, :1]
    stem = Stem(*shape, n_features=16)
    stem.fit(x[5:], generator)
    wanted, got = stem(x), portable.PortableStem(stem)(x)
    assert far(got.numpy(), wanted.numpy()) < 1e-5


@pytest.mark.parametrize("n_timesteps", [2, 7, 300])
def test_fourier_matrix_gives_the_spectrum(n_timesteps, seeded):
    x = torch.randn(5, n_timesteps, generator=seeded()).double()
    matrix = portable.fourier_matrix(n_timesteps).double()
    got = sum((x @ matrix).square().chunk(2, dim=-1))
    torch.testing.assert_close(got, power_spectrum(x), rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------ the file
def test_file_says_what_it_is(encoder_file, step_file, fitted):
    about, step = metadata(encoder_file), metadata(step_file)
    assert about["part"], about["model"] == ("encoder", "FlowFMTransformer")
    assert about["skflowfm"] == about["libraries"]["skflowfm"]
    assert about["rows"] == {"kind": "windows", "n_channels": 3, "n_timesteps": 16}
    assert "units" in about["inputs"]["X"]
    assert list(about["outputs"]) == ["z"]
    assert list(step["inputs"]) == ["x_t", "t", "z"]
    assert list(step["outputs"]) == ["velocity", "row"]
    assert 0 < about["difference"] < 1e-4
    (given,) = onnx.load(encoder_file).graph.input
    dimensions = given.type.tensor_type.shape.dim
    assert dimensions[0].dim_param
    assert [d.dim_value for d in dimensions[1:]] == [3, 16]


def test_files_hold_their_part_alone(encoder_file, step_file, fitted):
    """The encoder has no velocity field, and a step no stem."""
    size = sum(t.nbytes for t in fitted.module_.state_dict().values())
    assert encoder_file.stat().st_size + step_file.stat().st_size < 1.3 * size


def test_saved_model_gives_the_same_encoder(table, fitted_table, table_file, tmp_path):
    fitted_table.save(tmp_path / "model.safetensors")
    load(tmp_path / "model.safetensors").to_onnx(tmp_path / "again.onnx")
    wanted = run(table_file, X=table)["z"]
    np.testing.assert_array_equal(run(tmp_path / "again.onnx", X=table)["z"], wanted)


def test_export_is_quiet_and_leaves_no_trace(fitted_table, tmp_path, capfd):
    levels = {name: logging.getLogger(name).level for name in _onnx.NOISY_LOGGERS}
    filters = list(warnings.filters)
    state = {k: v.clone() for k, v in fitted_table.module_.state_dict().items()}
    grad = [p.requires_grad for p in fitted_table.module_.parameters()]
    fitted_table.to_onnx(tmp_path / "encoder.onnx")
    assert capfd.readouterr() == ("", "")
    assert {n: logging.getLogger(n).level for n in _onnx.NOISY_LOGGERS} == levels
    assert warnings.filters == filters
    for name, value in fitted_table.module_.state_dict().items():
        assert torch.equal(value, state[name])
    assert [p.requires_grad for p in fitted_table.module_.parameters()] == grad
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.onnx"]


# ------------------------------------------------------------------ no file
@pytest.mark.parametrize("part", ["regressor", "decoder", None])
def test_wrong_part(fitted_table, tmp_path, part):
    message = r"one of \['encoder', 'generator_step'\] for a FlowFMTransformer, got"
    with pytest.raises(ValueError, match=message):
        fitted_table.to_onnx(tmp_path / "model.onnx", part=part)
    assert not list(tmp_path.iterdir())


def test_parts_of_classifier_and_regressor():
    assert FlowFMClassifier._onnx_parts == ("encoder", "classifier")
    assert FlowFMRegressor._onnx_parts == ("encoder", "regressor")
    assert FlowFMSampler._onnx_parts == ("encoder", "generator_step")


@pytest.mark.parametrize(
    "model",
    [FlowFMTransformer(), FlowFMSampler(), FlowFMClassifier(), FlowFMRegressor()],
    ids=lambda model: type(model).__name__,
)
def test_unfitted(model, tmp_path):
    with pytest.raises(NotFittedError):
        model.to_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_extra_is_named(fitted_table, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"pip install 'skflowfm\[onnx\]'"):
        fitted_table.to_onnx(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_package_loads_without_the_extra():
    """Nothing but ``to_onnx`` imports it."""
    code = "import sys, skflowfm; print({'onnx', 'onnxruntime'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


class Distorted(nn.Module):
    """A piece of a model that answers a little more than it should."""

    inputs, outputs = ("X",), ("z",)

    def __init__(self, piece):
        super().__init__()
        self.piece = piece

    def forward(self, X):
        (z,) = self.piece(X)
        return (z + 1e-3 * z.abs().max(),)


def test_disagreement_leaves_the_old_file(fitted_table, tmp_path, monkeypatch):
    path = tmp_path / "encoder.onnx"
    path.write_text("old")
    plain = _onnx.export
    monkeypatch.setattr(
        _onnx, "export", lambda piece, given: plain(Distorted(piece), given)
    )
    with pytest.raises(ExportError, match="z by onnxruntime must be that of torch"):
        fitted_table.to_onnx(path)
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.onnx"]


class Threshold(torch.nn.Module):
    """One, and one more for each value above a half."""

    def forward(self, x):
        return (1 + (x > 0.5).sum(dim=1, keepdim=True).float(),)


@pytest.mark.parametrize(
    ("row", "by", "agrees"),
    [(3, 1, True), (3, 2, True), (3, 0.5, False), (3, np.nan, False)]
    + [(4, 1, False), (4, 5e-5, True), (-1, 1, False), (-1, np.nan, False)],
)
def test_only_where_torch_itself_rounds_otherwise(row, by, agrees):
    """Row 3 is on both thresholds, and so is the last, which has to agree."""
    X = torch.full((6, 2), 0.2)
    X[3] = X[-1] = 0.5
    ours = Threshold()(X)[0].numpy()
    theirs = ours.copy()
    theirs[row] += by
    arguments = "z", 0, ours, theirs, Threshold(), {"X": X}
    if agrees:
        assert _onnx.difference_of(*arguments) <= 1e-4
    else:
        with pytest.raises(ExportError):
            _onnx.difference_of(*arguments)


def test_interrupted_writing_leaves_the_old_file(
    fitted_table, table_file, tmp_path, monkeypatch
):
    path = tmp_path / "encoder.onnx"
    path.write_text("old")

    def full(handle):
        raise OSError("no space left")

    exported = onnx.load(table_file)
    monkeypatch.setattr(_onnx, "export", lambda piece, given: exported)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        fitted_table.to_onnx(path)
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.onnx"]


class Determinant(nn.Module):
    """Rows of four numbers to two, by something that ONNX has no operator for."""

    def forward(self, x):
        values = torch.linalg.eigvals(x.reshape(-1, 2, 2))
        return values.real


def test_own_module_that_onnx_cannot_express(table, tmp_path):
    X = table[:, :4]
    encoder = Determinant()
    model = FlowFMTransformer(encoder=encoder, max_steps=0, random_state=0).fit(X)
    with pytest.raises(ExportError, match="part='encoder' cannot be written as ONNX"):
        model.to_onnx(tmp_path / "encoder.onnx")
    assert not list(tmp_path.iterdir())


def test_a_place_that_takes_no_file_is_refused_before_anything_is_done(
    fitted, tmp_path, monkeypatch
):
    monkeypatch.setattr(_onnx, "export", None)
    with pytest.raises(FileNotFoundError, match="folder for the model does not exist"):
        fitted.to_onnx(tmp_path / "none" / "model.onnx")
    for path in (tmp_path, f"{tmp_path}/new/"):
        with pytest.raises(IsADirectoryError, match="one file, this is a folder"):
            fitted.to_onnx(path)
        with pytest.raises(IsADirectoryError, match="one file, this is a folder"):
            fitted.save(path)
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_trained_does_not_generate_in_silence(windows, tmp_path):
    model = FlowFMTransformer(4, max_steps=0, random_state=0).fit(windows[0])
    with pytest.warns(UserWarning, match="has not been trained"):
        model.inverse_transform(np.zeros((2, 4)))
    with pytest.warns(UserWarning, match="has not been trained"):
        model.to_onnx(tmp_path / "step.onnx", part="generator_step")
    model.to_onnx(tmp_path / "encoder.onnx")
