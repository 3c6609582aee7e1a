"""The readout of training against spectra known in closed form."""

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skflowfm import CollapseWarning, FlowFMTransformer
from skflowfm._health import effective_rank, health, left_open, warn_on_collapse
from skflowfm._validation import Rows


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rows_of_spectrum(*powers):
    """Rows on both sides of each axis: their covariance is diagonal, exactly."""
    axes = torch.tensor(powers, dtype=torch.float64).sqrt().diag()
    return torch.cat([axes, -axes])


# ------------------------------------------------------------------ effective_rank
@pytest.mark.parametrize("d", [1, 2, 17])
def test_isotropic_rows_have_full_rank(d):
    assert effective_rank(rows_of_spectrum(*[4.0] * d)) == pytest.approx(d)


def test_rows_on_a_line_have_rank_one():
    z = torch.linspace(-1, 5, 30)[:, None] * torch.tensor([[1.0, -2, 0.5]]) + 3
    assert effective_rank(z) == pytest.approx(1, abs=1e-4)


def test_two_powers_give_the_exponential_of_their_entropy():
    p = 0.2
    expected = math.exp(-p * math.log(p) - (1 - p) * math.log(1 - p))
    assert effective_rank(rows_of_spectrum(1.0, 4.0, 0.0)) == pytest.approx(expected)


@settings(max_examples=40)
@given(
    value=st.floats(-1e4, 1e4, width=32), n=st.integers(1, 400), d=st.integers(1, 20)
)
def test_constant_rows_have_rank_zero(value, n, d):
    assert effective_rank(torch.full((n, d), value)) == 0


@given(log_scale=st.floats(-3, 6), shift=st.floats(-10, 10), seed=st.integers(0, 99))
def test_rank_ignores_rotation_scale_and_shift(log_scale, shift, seed):
    z = normal(40, 5, seed=seed).double() * torch.tensor([3.0, 2, 1, 0.5, 0.1])
    rotation = torch.linalg.qr(normal(5, 5, seed=seed + 1).double()).Q
    moved = 10**log_scale * (z @ rotation + shift)
    assert effective_rank(moved) == pytest.approx(effective_rank(z), rel=1e-5)


def test_rank_lies_between_one_and_the_number_of_components():
    z = normal(100, 8) * torch.logspace(0, -2, 8)
    assert 1 < effective_rank(z) < 8
    assert effective_rank(z[:, :2]) < effective_rank(z)


# ------------------------------------------------------------------ warn_on_collapse
def readout(rank, n_components):
    return {"effective_rank": rank, "component_std": np.ones(n_components)}


@pytest.mark.parametrize(
    ("rank", "n_components", "data_rank"), [(0.0, 1, 5), (1.05, 64, 20), (0.5, 2, 30)]
)
def test_collapse_is_warned_of_with_the_numbers(rank, n_components, data_rank):
    with pytest.warns(CollapseWarning, match="alignment") as caught:
        warn_on_collapse(readout(rank, n_components), data_rank, 100, 50)
    assert f"{rank:.2f} of {n_components} components" in str(caught[0].message)


@pytest.mark.parametrize(
    ("rank", "n_components", "data_rank"),
    [
        (30.0, 64, 40),
        (1.6, 64, 40),
        (1.0, 1, 40),  # one component cannot have a higher rank
        (1.05, 2, 40),
        (1.0, 64, 1.2),  # the data themselves lie almost on a line
    ],
)
def test_what_the_data_or_the_size_explain_is_no_collapse(
    rank, n_components, data_rank
):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_on_collapse(readout(rank, n_components), data_rank, 100, 50)


class Constant(torch.nn.Module):
    """An encoder that looks at nothing."""

    def forward(self, x):
        return x.new_ones(len(x), 4)


def test_fit_warns_of_an_encoder_that_looks_at_nothing():
    transformer = FlowFMTransformer(
        encoder=Constant(), alignment=0, max_steps=2, random_state=0
    )
    with pytest.warns(CollapseWarning, match=r"0\.00 of 4"):
        transformer.fit(normal(60, 5).numpy())


@pytest.mark.parametrize("value", [0.0, 3.7])
@pytest.mark.parametrize("shape", [(60, 5), (60, 2, 20)])
def test_constant_data_are_said_to_be_so(value, shape):
    transformer = FlowFMTransformer(2, max_steps=2, random_state=0)
    with pytest.warns(CollapseWarning, match="constant rows") as caught:
        transformer.fit(np.full(shape, value))
    assert caught[0].filename == __file__  # it points at who called
    assert transformer.health_["effective_rank"] == 0


@pytest.mark.uses_global_rng
def test_one_row_far_out_is_looked_for():
    X = normal(60, 4).numpy()
    X[7] = 1e6
    plain = torch.nn.Linear(4, 4)
    own = FlowFMTransformer(4, encoder=plain, max_steps=2, random_state=0)
    transformer = FlowFMTransformer(4, max_steps=2, random_state=0)
    with pytest.warns(CollapseWarning, match="single rows far out"):
        own.fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own.fit(X[8:])
        transformer.fit(X)  # ranks hardly see it
        transformer.fit(X[8:])
        transformer.set_params(n_components=1).fit(X[8:, :1])  # has one direction only
        transformer.fit(X[8:11, :2])  # so few may lie on a line


# ------------------------------------------------------------------ health
@pytest.mark.parametrize("row_shape", [(6,), (2, 40)])
def test_untrained_model_has_a_known_loss_at_all_times(row_shape):
    """Its velocity is 0, so |x_1 - x_0|^2 is left: 1 for the data, 1 for the source."""
    X = (5 + 3 * normal(200, *row_shape)).numpy()
    transformer = FlowFMTransformer(4, max_steps=0, random_state=0).fit(X)
    loss = transformer.health_["flow_loss_by_time"]
    assert loss.shape == (5,)
    np.testing.assert_allclose(loss, 2, rtol=0.1)


@pytest.mark.parametrize("row_shape", [(6,), (2, 40)])
def test_an_untrained_model_leaves_all_of_a_row_open(row_shape):
    """It draws the source itself, as far from a row as another row would be."""
    X = (5 + 3 * normal(200, *row_shape)).numpy()
    transformer = FlowFMTransformer(4, max_steps=0, random_state=0).fit(X)
    assert transformer.health_["left_open"] == pytest.approx(1, abs=0.1)


def test_a_representation_as_large_as_the_row_leaves_little_open():
    X = (5 + 3 * normal(300, 4)).numpy()
    transformer = FlowFMTransformer(max_steps=200, random_state=0).fit(X)
    assert transformer.health_["left_open"] < 0.1
    small = FlowFMTransformer(1, max_steps=200, random_state=0).fit(X)
    assert small.health_["left_open"] > 0.5


def test_channels_without_a_signal_say_nothing_about_what_is_left_open():
    time, rng = np.arange(16), np.random.default_rng(0)
    phase, size = rng.random((2, 200, 1, 1))
    X = (1 + size) * np.sin(2 * np.pi * (time / 16 + phase))
    absent = np.concatenate([X, np.zeros((200, 4, 16))], axis=1)
    for rows in (X, absent):
        transformer = FlowFMTransformer(max_steps=250, random_state=0).fit(rows)
        assert transformer.health_["left_open"] < 0.2
    constant = FlowFMTransformer(4, max_steps=2, random_state=0)
    constant.fit(np.repeat(size, 16, axis=2))
    assert 0 <= constant.health_["left_open"] <= 1


def test_component_deviations_and_rank_are_those_of_transform(seeded):
    X = (5 + 3 * normal(300, 6)).numpy()
    transformer = FlowFMTransformer(4, max_steps=0, random_state=0).fit(X)
    rows, index = Rows(X), torch.arange(300)
    result = health(transformer.module_, rows, index, seeded())
    Z = transformer.transform(X)
    np.testing.assert_allclose(result["component_std"], Z.std(axis=0), rtol=1e-4)
    power = np.linalg.eigvalsh(np.cov(Z.T.astype(float)))
    p = power / power.sum()
    expected = np.exp(-np.sum(p * np.log(p)))
    assert result["effective_rank"] == pytest.approx(expected, rel=1e-4)


def test_loss_is_measured_in_bands_of_time_from_source_to_data(seeded):
    """Standard rows, and x_t itself as velocity: its loss is known at each time."""
    X = normal(500, 6).numpy()
    transformer = FlowFMTransformer(4, max_steps=0, random_state=0).fit(X)

    class Itself(torch.nn.Module):
        def forward(self, x_t, t, z):
            return x_t

    transformer.module_.velocity_field = Itself()
    result = health(transformer.module_, Rows(X), torch.arange(500), seeded(1))
    t = np.arange(5) / 5 + 0.1
    expected = (1 - t) ** 2 + t**2 - 2 * (2 * t - 1) + 2
    np.testing.assert_allclose(result["flow_loss_by_time"], expected, rtol=0.1)


class WrongLevels(torch.nn.Module):
    """Far off in the level and scale of a window, at rest in its shape."""

    def forward(self, x_t, t, z):
        return torch.cat([0 * x_t[..., :-2], 0 * x_t[..., -2:] + 100], dim=-1)


def test_a_wrong_level_costs_as_much_at_any_length(seeded):
    losses = []
    for n_timesteps in (10, 300):
        X = (3 + 2 * normal(50, 2, n_timesteps)).numpy()
        model = FlowFMTransformer(4, max_steps=0, random_state=0).fit(X).module_
        model.velocity_field = WrongLevels()
        readout = health(model, Rows(X), torch.arange(50), seeded())
        losses.append(readout["flow_loss_by_time"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)


def test_the_mean_of_all_rows_is_half_as_far_off_as_another_row():
    x = normal(2000, 6)
    model = SimpleNamespace(velocity_field=lambda x, t, z: torch.zeros_like(x))
    assert left_open(model, x, 0 * x, None) == pytest.approx(0.5, abs=0.02)
