"""FlowFMTransformer: what a user relies on."""

import copy
import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skflowfm import CollapseWarning, FlowFMTransformer
from skflowfm.datasets import make_wearable


@pytest.fixture(scope="module")
def data():
    return make_wearable(96, n_timesteps=32, random_state=0, return_X_y=True)


@pytest.fixture(scope="module")
def fitted(data):
    return FlowFMTransformer(12, max_steps=250, random_state=0).fit(data[0])


def test_a_row_does_not_depend_on_the_others(data, fitted):
    X = data[0]
    whole = fitted.transform(X)
    scores = fitted.score_samples(X)
    order = np.random.default_rng(0).permutation(len(X))
    scale = np.abs(whole).max()
    for part in (slice(0, 1), slice(5, 22), order):
        np.testing.assert_allclose(
            fitted.transform(X[part]), whole[part], atol=2e-6 * scale
        )
        np.testing.assert_allclose(
            fitted.score_samples(X[part]), scores[part], rtol=1e-4
        )


def test_components_are_principal_axes(data, fitted):
    Z = fitted.transform(data[0])
    covariance = np.cov(Z.T)
    variance = np.diag(covariance)
    assert (np.diff(variance) <= 1e-3 * variance[0]).all()
    assert np.abs(covariance - np.diag(variance)).max() < 1e-2 * variance[0]
    assert variance[0] ** 0.5 == pytest.approx(4, rel=0.05)


def test_scaling_is_global_so_units_do_not_matter_and_amplitude_does(data):
    X = data[0]
    one = FlowFMTransformer(6, max_steps=0, random_state=0).fit(X)
    other = FlowFMTransformer(6, max_steps=0, random_state=0).fit(9.81 * X)
    np.testing.assert_allclose(one.transform(X), other.transform(9.81 * X), atol=1e-2)
    level = X.mean(axis=-1, keepdims=True)
    louder = level + 1.5 * (X - level)
    assert np.abs(one.transform(louder) - one.transform(X)).max() > 0.3


def test_where_zero_lies_does_not_matter_to_one_channel(data):
    X = data[0][:, :1]
    one = FlowFMTransformer(6, max_steps=0, random_state=0).fit(X)
    other = FlowFMTransformer(6, max_steps=0, random_state=0).fit(X + 3)
    np.testing.assert_allclose(one.transform(X), other.transform(X + 3), atol=1e-2)


def test_the_published_loss_alone(data):
    X = data[0]
    plain = FlowFMTransformer(
        6, views=None, alignment=0, max_steps=60, random_state=0
    ).fit(X)
    assert "train_alignment" not in plain.history_
    np.testing.assert_allclose(plain.history_.train_loss, plain.history_.train_flow)


def test_score_samples_tells_faults_from_windows(data, fitted):
    X = data[0]
    rng = np.random.default_rng(0)
    shuffled = rng.permuted(X, axis=-1)
    assert np.mean(fitted.score_samples(X) > fitted.score_samples(shuffled)) > 0.9


def test_inverse_transform_draws_near_the_representation(data, fitted):
    X = data[0]
    Z = fitted.transform(X)
    back = fitted.inverse_transform(Z)
    np.testing.assert_array_equal(back, fitted.inverse_transform(Z))
    level = X.mean(axis=-1)
    shuffled = np.random.default_rng(0).permutation(len(X))
    error = np.abs(back.mean(axis=-1) - level).mean()
    assert error < 0.5 * np.abs(level[shuffled] - level).mean()


def test_a_table_is_described_well_enough_to_be_drawn_again():
    X = np.random.default_rng(0).normal(size=(400, 3)) * [1, 10, 100] + [0, 5, -50]
    fitted = FlowFMTransformer(
        views=None, alignment=0, max_steps=500, random_state=0
    ).fit(X)
    back = fitted.inverse_transform(fitted.transform(X))
    error = ((back - X) ** 2).mean(axis=0) / X.var(axis=0)
    assert (error < 0.5).all()  # independent draws would give 2


def test_pickles_joblib_and_deepcopy_give_the_same(data, fitted):
    X = data[0]
    Z = fitted.transform(X)
    buffer = io.BytesIO()
    joblib.dump(fitted, buffer)
    buffer.seek(0)
    copies = [pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)]
    for other in [*copies, joblib.load(buffer)]:
        np.testing.assert_array_equal(other.transform(X), Z)
        np.testing.assert_array_equal(
            other.inverse_transform(Z[:3]), fitted.inverse_transform(Z[:3])
        )


def test_a_pickle_is_little_more_than_the_weights(fitted):
    weights = sum(4 * p.numel() for p in fitted.module_.state_dict().values())
    assert len(pickle.dumps(fitted)) < 1.05 * weights + 20_000


def test_a_model_from_an_absent_device_loads_on_the_cpu(data, fitted):
    elsewhere = copy.deepcopy(fitted)
    elsewhere.device = "cuda:7"
    elsewhere.device_ = "cuda:7"
    loaded = pickle.loads(pickle.dumps(elsewhere))
    if not torch.cuda.is_available():
        assert loaded.device_ == "cpu"
    np.testing.assert_array_equal(loaded.transform(data[0]), fitted.transform(data[0]))


def test_pickles_hold_no_device_tensor(fitted):
    part = fitted.__getstate__()["module_"]
    assert {type(array) for array in part.pop("numbers").values()} == {np.ndarray}
    assert {type(text) for text in part.values()} == {str}
    assert b"torch" not in pickle.dumps(fitted)


def test_warm_start_goes_on_and_fit_does_not(data):
    X = data[0]
    warm = FlowFMTransformer(6, max_steps=30, warm_start=True, random_state=0)
    first = warm.fit(X).module_
    before = [p.clone() for p in first.parameters()]
    second = warm.fit(X).module_
    assert not all(map(torch.equal, before, second.parameters()))
    assert all(map(torch.equal, before, first.parameters()))  # whole if it fails
    third = warm.set_params(max_steps=0).fit(X).module_  # where training starts
    assert all(map(torch.equal, second.parameters(), third.parameters()))
    cold = FlowFMTransformer(6, max_steps=30, random_state=0).fit(X)
    again = cold.fit(X).module_
    assert all(map(torch.equal, before, again.parameters()))


def test_warm_start_refuses_another_size(data):
    model = FlowFMTransformer(6, max_steps=1, warm_start=True).fit(data[0])
    with pytest.raises(ValueError, match="None or the 6 of the model that is to go on"):
        model.set_params(n_components=5).fit(data[0])


def test_partial_fit_learns_in_passes(data):
    X = data[0]
    model = FlowFMTransformer(6, random_state=0)
    for _ in range(50):
        model.partial_fit(X)
    assert model.n_steps_ == 100
    start = FlowFMTransformer(6, max_steps=0, random_state=0).fit(X)
    assert model.score_samples(X).mean() > start.score_samples(X).mean() + 0.1


def test_partial_fit_keeps_the_first_scaling(data):
    X = data[0]
    model = FlowFMTransformer(6, random_state=0).partial_fit(X)
    scale = model.module_.standardise.scale.clone()
    model.partial_fit(100 * X)
    assert torch.equal(model.module_.standardise.scale, scale)


class Means(nn.Module):
    """A user's own encoder: the channel means, times a learned factor."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x.mean(dim=-1) * self.factor


class Skip(nn.Module):
    """A user's own velocity field."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.zeros(()))

    def forward(self, x_t, t, z):
        return x_t * self.factor


def test_own_modules_are_cloned_and_trained(data):
    encoder, field = Means(), Skip()
    model = FlowFMTransformer(
        encoder=encoder, velocity_field=field, max_steps=20, random_state=0
    ).fit(data[0])
    assert model.n_components_ == 3
    assert torch.equal(encoder.factor, torch.ones(3))
    assert not torch.equal(model.module_.encoder.factor, torch.ones(3))
    assert field.factor == 0
    assert model.module_.velocity_field.factor != 0
    assert clone(model).encoder is not encoder


def test_the_field_sees_all_of_an_own_encoder(data):
    short = data[0][:, :, :2]
    own = FlowFMTransformer(encoder=Means(), views=None, max_steps=1).fit(short)
    default = FlowFMTransformer(3, views=None, max_steps=1).fit(short)
    assert own.module_.velocity_field.n_seen == 3
    assert default.module_.velocity_field.n_seen == 2


def test_own_views_are_used(data):
    calls = []

    def view(x, generator):
        calls.append(x.shape)
        return x + torch.randn(x.shape, generator=generator)

    FlowFMTransformer(4, views=view, max_steps=2, random_state=0).fit(data[0])
    # three rows on trial, and two views of each window
    assert sum(n for n, *_ in calls) == 3 + 2 * len(data[0])
    assert {tuple(shape) for _, *shape in calls} == {(3, 32)}


def test_set_output_and_feature_names(data):
    X = data[0]
    model = FlowFMTransformer(3, max_steps=1, random_state=0)
    frame = model.set_output(transform="pandas").fit_transform(X)
    names = [f"flowfmtransformer{k}" for k in range(3)]
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == names
    assert list(model.get_feature_names_out()) == names
    table = pd.DataFrame(X[:, :, 0], index=np.arange(len(X)) + 7)
    assert model.fit_transform(table).index.equals(table.index)


def test_random_state_none_is_not_repeated(data):
    one, other = (FlowFMTransformer(4, max_steps=0).fit(data[0]) for _ in range(2))
    assert not np.array_equal(one.transform(data[0]), other.transform(data[0]))


class Collapsed(nn.Module):
    """An encoder that returns the same representation whatever it sees."""

    def __init__(self):
        super().__init__()
        self.constant = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return self.constant.expand(len(x), 4)


def test_collapse_is_warned_about(data):
    model = FlowFMTransformer(encoder=Collapsed(), alignment=0, max_steps=2)
    with pytest.warns(CollapseWarning, match="representation has collapsed"):
        model.fit(data[0])
    assert model.health_["effective_rank"] == 0


def test_health_needs_no_labels_and_knows_a_trained_model(data, fitted):
    assert 1 < fitted.health_["effective_rank"] <= 12
    assert fitted.health_["component_std"].shape == (12,)
    start = FlowFMTransformer(12, max_steps=0, random_state=0).fit(data[0])
    trained, untrained = (m.health_["flow_loss_by_time"] for m in (fitted, start))
    assert trained.shape == (5,)
    assert (trained < untrained).all()
    np.testing.assert_allclose(untrained, 2, atol=0.1)  # E |x_1 - x_0|^2 of v = 0
