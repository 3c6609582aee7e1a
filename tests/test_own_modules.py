"""Encoders, velocity fields and views of the user's own: used, or refused by name."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from skflowfm import FlowFMTransformer


@pytest.fixture(scope="module")
def table():
    return np.random.default_rng(0).normal(size=(60, 4))


@pytest.fixture(scope="module")
def windows():
    return np.random.default_rng(0).normal(size=(40, 2, 12))


def transformer(**parameters):
    return FlowFMTransformer(max_steps=3, random_state=0, **parameters)


LINEAR = nn.Linear(4, 3)


class Calls(nn.Module):
    """A module that calls a function, with one weight to train."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, *inputs):
        return self.function(*inputs)


ENCODERS = [
    (lambda x: (x, x), TypeError, "encoder must return a float32 tensor, got tuple"),
    (lambda x: None, TypeError, "got NoneType"),
    (lambda x: x.double(), TypeError, "got torch.float64"),
    (lambda x: x / 0, ValueError, "encoder must return finite numbers"),
    (lambda x: x[:2], ValueError, "one row for each that it is given"),
    (lambda x: x.sum(), ValueError, "one row for each that it is given"),
    (lambda x: x[:, :0], ValueError, "encoder must map rows of shape"),
    (lambda x: x[:, None], ValueError, "encoder must map rows of shape"),
    (nn.Linear(7, 3), ValueError, "encoder failed on float32 tensors of shape (3, 4)"),
    (nn.Linear(4, 3, device="meta"), ValueError, "must have weights"),
    (nn.LeakyReLU(inplace=True), ValueError, "must not write to what it is given"),
]


@pytest.mark.parametrize(("function", "kind", "words"), ENCODERS)
def test_an_encoder_that_does_not_fit_is_refused(table, function, kind, words):
    encoder = function if isinstance(function, nn.Module) else Calls(function)
    model = transformer()
    with pytest.raises(kind) as error:
        model.set_params(encoder=encoder).fit(table)
    assert words in str(error.value)
    assert not hasattr(model, "module_")


FIELDS = [
    (lambda x, t, z: x[:, :1], ValueError, "of the shape of x_t, (3, 4), got (3, 1)"),
    (lambda x, t, z: (x,), TypeError, "velocity_field must return a float32 tensor"),
    (lambda x, t, z: x * torch.nan, ValueError, "velocity_field must return finite"),
    (lambda x, t, z: x.mul_(2), ValueError, "must not write to what it is given"),
    (lambda x, t, z: z.add_(x.sum()), ValueError, "must not write"),
    (lambda x: x, ValueError, "velocity_field failed on float32 tensors of shape"),
]


@pytest.mark.parametrize(("function", "kind", "words"), FIELDS)
def test_a_velocity_field_that_does_not_fit_is_refused(table, function, kind, words):
    with pytest.raises(kind) as error:
        transformer(velocity_field=Calls(function)).fit(table)
    assert words in str(error.value)


def grow(x, generator):
    x += 1
    return x


VIEWS = [
    (lambda x, generator: None, TypeError, "views must return a float32 tensor"),
    (lambda x, generator: x.numpy(), TypeError, "got ndarray"),
    (lambda x, generator: x / 0, ValueError, "views must return finite numbers"),
    (lambda x, generator: x[:2], ValueError, "one row for each that it is given"),
    (lambda x, generator: x[:, :1], ValueError, "views must return rows of the shape"),
    (lambda x: x, ValueError, "views failed on float32 tensors"),
    (grow, ValueError, "views must not write to what it is given"),
]


@pytest.mark.parametrize(("view", "kind", "words"), VIEWS)
@pytest.mark.parametrize("rows", ["table", "windows"])
def test_a_view_that_does_not_fit_is_refused(request, rows, view, kind, words):
    with pytest.raises(kind) as error:
        transformer(views=view).fit(request.getfixturevalue(rows))
    assert words in str(error.value)


def test_a_view_that_the_encoder_does_not_take_is_refused(table):
    model = transformer(encoder=LINEAR, views=lambda x, generator: x[:, :2])
    with pytest.raises(ValueError, match="encoder, on what views returns, failed"):
        model.fit(table)


def test_a_view_may_crop_for_an_encoder_that_takes_any_length(windows):
    encoder = Calls(lambda x: torch.cat([x.mean(2), x.std(2)], dim=1))
    view = lambda x, generator: x[..., :8]  # noqa: E731
    model = transformer(encoder=encoder, views=view).fit(windows)
    assert model.transform(windows).shape == (40, 4)


def test_two_rows_are_enough_to_try_modules_on(table):
    model = transformer(encoder=LINEAR, views=lambda x, generator: x + 1)
    assert model.fit(table[:2]).transform(table).shape == (60, 3)


class Diverges(nn.Module):
    """Fine until it has been trained."""

    def __init__(self):
        super().__init__()
        self.layer, self.trained = LINEAR, False

    def forward(self, x):
        self.trained = self.trained or torch.is_grad_enabled()
        z = self.layer(x)
        return z / 0 if self.trained and not torch.is_grad_enabled() else z


def test_training_that_diverges_says_so(table):
    with pytest.raises(FloatingPointError, match="Training has diverged"):
        transformer(encoder=Diverges()).fit(table)


def test_partial_fit_refuses_another_encoder(table):
    model = transformer(n_components=3).partial_fit(table)
    model.set_params(encoder=LINEAR)
    with pytest.raises(ValueError, match=r"encoder must be None or like.*FeatureEncod"):
        model.partial_fit(table)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: nn.BatchNorm1d(4), "encoder must treat every row by itself"),
        (lambda: nn.LSTM(4, 4, 2, dropout=0.5), "encoder must not contain dropout"),
        (lambda: nn.Dropout(1), "encoder must not contain dropout"),
        (
            lambda: nn.MultiheadAttention(4, 1, dropout=0.5),
            "encoder must not contain dropout",
        ),
    ],
)
def test_layers_that_mix_rows_or_draw_are_refused(layer, message):
    with torch.random.fork_rng():
        encoder = nn.Sequential(nn.Linear(3, 4), layer())
    with pytest.raises(ValueError, match=message):
        FlowFMTransformer(encoder=encoder, max_steps=0).fit(np.eye(40)[:, :3])


def test_what_was_frozen_stays_frozen():
    """Though the rest of the encoder is fixed while the field goes on alone."""
    X = np.random.default_rng(0).normal(size=(400, 3))
    with torch.random.fork_rng():
        encoder = nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.Linear(8, 2))
    encoder[0].requires_grad_(False)
    model = FlowFMTransformer(encoder=encoder, max_steps=5, random_state=0).fit(X)
    trained = [p.requires_grad for p in model.module_.encoder.parameters()]
    assert trained == [False, False, True, True]
    assert torch.equal(model.module_.encoder[0].weight, encoder[0].weight)


def test_a_hook_is_not_lost_in_copies():
    """A module that is built again from its arguments would be without it."""
    with torch.random.fork_rng():
        encoder = nn.Sequential(nn.Linear(3, 2))
    encoder[0].register_forward_hook(tripled)
    X = np.random.default_rng(0).normal(size=(40, 3))
    model = FlowFMTransformer(encoder=encoder, max_steps=1, random_state=0).fit(X)
    expected = model.transform(X)
    np.testing.assert_array_equal(copy.deepcopy(model).transform(X), expected)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(model)).transform(X), expected
    )


def tripled(module, given, out):
    return 3 * out + 1
