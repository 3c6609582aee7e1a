"""The method against laws and losses known in closed form."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from scipy.special import logit

import skflowfm.flow_matching as flow_matching
from skflowfm._generation import source_rows
from skflowfm.flow_matching import (
    conditional_velocity,
    flow_matching_loss,
    joint_loss,
    sample_source,
    sample_time,
    source_quantile,
    straight_path,
)

MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
# Its deviations are 0.5, 1 and 2: the flow has to shrink, keep and stretch.
AXES = torch.linalg.qr(
    torch.tensor([[2.0, 1, 0], [1, -1, 1], [0, 1, 3]], dtype=torch.float64)
).Q
VARIANCES = torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64)
COVARIANCE = AXES * VARIANCES @ AXES.T


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


# ------------------------------------------------------------------ source
def test_source_is_standard_normal(seeded):
    x_0 = sample_source((500, 10, 20), seeded())
    assert x_0.shape == (500, 10, 20)
    assert x_0.dtype == torch.float32
    assert stats.kstest(x_0.double().flatten(), "norm").pvalue > 0.01


def test_source_has_normal_tails(seeded):
    x_0 = sample_source((2_000_000,), seeded())
    for deviations in (3.0, 4.0):
        for tail in ((x_0 > deviations), (x_0 < -deviations)):
            expected = 2_000_000 * stats.norm.sf(deviations)
            assert abs(tail.sum() - expected) < 4 * expected**0.5


def test_counter_based_source_is_standard_normal():
    x_0 = source_rows(7, "source", 0, 1000, (3, 31))
    assert x_0.shape == (1000, 3, 31)
    assert x_0.dtype == torch.float32
    assert stats.kstest(x_0.double().flatten(), "norm").pvalue > 0.01
    correlation = np.corrcoef(x_0.flatten(1).numpy().T)
    off_diagonal = correlation[~np.eye(93, dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / 1000**0.5


def test_source_is_reproducible_and_moves_on(seeded):
    generator = seeded(3)
    first, second = (sample_source((4,), generator) for _ in range(2))
    assert torch.equal(first, sample_source((4,), seeded(3)))
    assert not torch.equal(first, second)


@given(st.integers(1, 2**24 - 1))
def test_source_quantile_is_odd_about_one_half(k):
    uniform = torch.tensor([k, 2**24 - k], dtype=torch.float64) / 2**24
    low, high = source_quantile(uniform)
    assert low == -high
    assert low.item() == pytest.approx(stats.norm.ppf(k / 2**24), abs=1e-8)


def test_source_is_finite_and_symmetric_at_the_ends_of_the_grid(monkeypatch, seeded):
    """torch.rand is a multiple of 2^-24 in [0, 1): these are its two ends."""
    ends = torch.tensor([0.0, 1 - 2.0**-24])
    monkeypatch.setattr(flow_matching.torch, "rand", lambda *_, **__: ends.clone())
    lowest, highest = sample_source((2,), seeded()).tolist()
    assert np.isfinite([lowest, highest]).all()
    assert -6 < lowest < -5
    # float32 has half the resolution just below 1 that it has just above -1
    assert highest == pytest.approx(-lowest, rel=0.03)


# ------------------------------------------------------------------ path
finite = st.floats(-(2.0**60), 2.0**60, width=32)
rows = arrays.array_shapes(min_dims=2, max_dims=3, max_side=4)


@given(st.data())
def test_path_goes_from_source_to_data(data):
    shape = data.draw(rows)
    x_0, x_1 = (
        torch.from_numpy(data.draw(arrays.arrays(np.float32, shape, elements=finite)))
        for _ in range(2)
    )
    n = len(x_0)
    assert torch.equal(straight_path(x_0, x_1, torch.zeros(n)), x_0)
    assert torch.equal(straight_path(x_0, x_1, torch.ones(n)), x_1)


@pytest.mark.parametrize("shape", [(5, 3), (5, 2, 7)])
def test_conditional_velocity_is_the_derivative_of_the_path(shape):
    x_0, x_1 = normal(*shape, seed=1), normal(*shape, seed=2)
    t = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
    t.requires_grad_()
    coordinates = straight_path(x_0, x_1, t).flatten(1).unbind(dim=1)
    slopes = [
        torch.autograd.grad(c.sum(), t, retain_graph=True)[0] for c in coordinates
    ]
    derivative = torch.stack(slopes, dim=1).reshape(shape)
    torch.testing.assert_close(conditional_velocity(x_0, x_1), derivative)


def test_each_row_has_its_own_time():
    x_0, x_1 = normal(3, 2, seed=1), normal(3, 2, seed=2)
    path = straight_path(x_0, x_1, torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64))
    middle = (x_0[2] + x_1[2]) / 2
    torch.testing.assert_close(path, torch.stack([x_0[0], x_1[1], middle]))


# ------------------------------------------------------------------ times
def test_times_are_a_quarter_uniform_and_else_logit_normal(seeded):
    t = sample_time(200_000, seeded()).double().numpy()
    assert t.shape == (200_000,)
    assert t.min() >= 0
    assert t.max() <= 1

    def cdf(t):
        return 0.25 * t + 0.75 * stats.norm.cdf(logit(t))

    assert stats.kstest(t, cdf).pvalue > 0.01


def test_times_reach_both_ends_as_often_as_the_uniform_quarter_says(seeded):
    n, end = 1_000_000, 0.05
    t = sample_time(n, seeded())
    expected = 0.25 * end + 0.75 * stats.norm.cdf(logit(end))
    for share in ((t < end).double().mean(), (t > 1 - end).double().mean()):
        assert abs(share - expected) < 4 * (expected / n) ** 0.5


# ------------------------------------------------------------------ Gaussian oracle
def gaussian_velocity(x, t, mean=MEAN, covariance=COVARIANCE):
    """E[u_t | x_t = x] for data N(mean, covariance), t one number."""
    identity = torch.eye(len(mean), dtype=x.dtype)
    cross = t * covariance - (1 - t) * identity
    marginal = (1 - t) ** 2 * identity + t**2 * covariance
    return mean + (x - t * mean) @ torch.linalg.solve(marginal, cross)


def gaussian_draws(n, t, seed=0):
    """Return x_1, x_0 and times for data N(MEAN, COVARIANCE)."""
    x_1 = MEAN + normal(n, 3, seed=seed) * VARIANCES.sqrt() @ AXES.T
    times = torch.full((n,), t, dtype=torch.float64)
    return x_1, normal(n, 3, seed=seed + 1), times


def least_loss(t, weight=None):
    """tr Var(u | x_t) / d. In the eigenbasis it is s / ((1 - t)^2 + t^2 s)."""
    variance = AXES * (VARIANCES / ((1 - t) ** 2 + t**2 * VARIANCES)) @ AXES.T
    weight = torch.ones(3, dtype=torch.float64) if weight is None else weight
    return (variance.diagonal() * weight).mean().item()


def standard_error(values):
    return (values.std() / len(values) ** 0.5).item()


WEIGHT = torch.tensor([0.2, 0.7, 2.1], dtype=torch.float64)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("t", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_loss_of_the_exact_velocity_is_the_conditional_variance(t, weight):
    x_1, x_0, times = gaussian_draws(50_000, t)
    loss = flow_matching_loss(
        lambda x_t, _, z: gaussian_velocity(x_t, t), x_1, x_0, times, None, weight
    )
    assert loss.shape == (50_000,)
    assert abs(loss.mean() - least_loss(t, weight)) < 4 * standard_error(loss)


PERTURBATIONS = {
    "shifted": lambda v, x, t: v(x, t) + 0.1,
    "scaled": lambda v, x, t: 0.9 * v(x, t),
    "late": lambda v, x, t: v(x, t + 0.1),
    "reversed in time": lambda v, x, t: -v(x, 1 - t),
    "of another mean": lambda v, x, t: gaussian_velocity(x, t, mean=MEAN + 0.1),
    "of another spread": lambda v, x, t: v(x, t) + 0.1 * (x - t * MEAN),
    "twisted": lambda v, x, t: v(x, t) + 0.1 * x.roll(1, dims=1).tanh(),
}


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", PERTURBATIONS)
def test_any_other_velocity_has_a_larger_loss(name, weight):
    """And larger by exactly its mean squared distance from the exact one."""
    t = 0.4
    x_1, x_0, times = gaussian_draws(50_000, t, seed=5)
    difference = []

    def perturbed(x_t, t_rows, z):
        v = PERTURBATIONS[name](gaussian_velocity, x_t, t)
        difference.append(v - gaussian_velocity(x_t, t))
        return v

    excess = flow_matching_loss(perturbed, x_1, x_0, times, None, weight)
    excess = excess - flow_matching_loss(
        lambda x_t, _, z: gaussian_velocity(x_t, t), x_1, x_0, times, None, weight
    )
    distance = difference[0].square() * (1 if weight is None else weight)
    assert excess.mean() > 4 * standard_error(excess)
    assert abs(excess.mean() - distance.mean()) < 4 * standard_error(excess)


# ------------------------------------------------------------------ weight
@pytest.mark.parametrize("shape", [(4, 6), (4, 2, 6)])
def test_weight_counts_each_coordinate_that_much(shape):
    x_0, x_1 = normal(*shape, seed=1), normal(*shape, seed=2)
    t = torch.full((4,), 0.3, dtype=torch.float64)
    error = torch.arange(1.0, 7.0, dtype=torch.float64)

    def wrong_by_error(x_t, t, z):
        return x_1 - x_0 + error

    loss = flow_matching_loss(wrong_by_error, x_1, x_0, t, None)
    torch.testing.assert_close(loss, torch.full_like(loss, 91 / 6))
    third = torch.tensor([0.0, 0, 6, 0, 0, 0], dtype=torch.float64)
    loss = flow_matching_loss(wrong_by_error, x_1, x_0, t, None, third)
    torch.testing.assert_close(loss, torch.full_like(loss, 9.0))


# ------------------------------------------------------------------ joint loss
ENCODE = normal(4, 2, seed=11).requires_grad_()
FROM_X, FROM_Z, FROM_T = (
    normal(4, 4, seed=12),
    normal(2, 4, seed=13),
    normal(4, seed=14),
)
FROM_Z.requires_grad_()


def encoder(x):
    return (x @ ENCODE).tanh()


def velocity_field(x_t, t, z):
    return x_t @ FROM_X + z @ FROM_Z + t[:, None] * FROM_T


@pytest.fixture
def batch():
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    return normal(9, 4, seed=21), normal(9, 4, seed=22), t


def straight_to(x_t, t, z):
    """The velocity that arrives at z, if that is the row itself, at t = 1."""
    return (z - x_t) / (1 - t[:, None])


def test_a_field_that_is_told_the_row_has_no_loss(batch):
    x_1, x_0, t = batch
    loss, z = joint_loss(lambda x: x, straight_to, x_1, x_0, 0.9 * t)
    torch.testing.assert_close(loss, torch.zeros_like(loss), rtol=0, atol=1e-12)
    assert torch.equal(z, x_1)


@pytest.mark.parametrize("what", ["noise", "another row"])
def test_what_is_wrong_with_z_is_the_loss(batch, what):
    """Off by e, the field that goes straight to z is off by e / (1 - t)."""
    x_1, x_0, t = batch
    t, error = 0.9 * t, 0.1 * normal(9, 4, seed=33)
    how = {"z_noise": error} if what == "noise" else {"seen": x_1 + error}
    loss, _ = joint_loss(lambda x: x, straight_to, x_1, x_0, t, **how)
    torch.testing.assert_close(loss, (error / (1 - t[:, None])).square().mean(dim=1))


def test_joint_loss_trains_both_halves(batch):
    loss, _ = joint_loss(encoder, velocity_field, *batch)
    gradients = torch.autograd.grad(loss.mean(), [ENCODE, FROM_Z])
    assert all(gradient.abs().max() > 1e-3 for gradient in gradients)


def test_the_encoder_may_see_something_else_than_the_flow(batch):
    x_1, x_0, t = batch
    view = normal(9, 4, seed=31)
    loss, z = joint_loss(encoder, velocity_field, x_1, x_0, t, seen=view)
    torch.testing.assert_close(z, encoder(view))
    expected = flow_matching_loss(velocity_field, x_1, x_0, t, encoder(view))
    torch.testing.assert_close(loss, expected)
    assert not torch.allclose(loss, joint_loss(encoder, velocity_field, *batch)[0])


def test_noise_reaches_the_velocity_field_but_not_the_result(batch):
    x_1, x_0, t = batch
    noise = normal(9, 2, seed=32)
    loss, z = joint_loss(encoder, velocity_field, x_1, x_0, t, z_noise=noise)
    torch.testing.assert_close(z, encoder(x_1))
    expected = flow_matching_loss(velocity_field, x_1, x_0, t, encoder(x_1) + noise)
    torch.testing.assert_close(loss, expected)
    assert not torch.allclose(loss, joint_loss(encoder, velocity_field, *batch)[0])
