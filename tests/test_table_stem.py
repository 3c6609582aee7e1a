"""The fixed stem of tables: ranks, random Fourier features and their components."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import make_circles
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from skflowfm import FlowFMTransformer
from skflowfm.nets import TableStem
from skflowfm.nets.table import BANDWIDTH, N_KNOTS, FourierBlock, RankBlock


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ranked(x):
    block = RankBlock(x.shape[1])
    block.fit(x)
    return block


def share(ranks):
    """Undo the scale: the share of training rows below."""
    return ranks / math.sqrt(12) + 0.5


@pytest.mark.parametrize("curve", [torch.exp, torch.sinh, lambda u: 3 * u - 50])
def test_ranks_are_the_share_of_rows_below_whatever_the_units(curve):
    u = normal(2000, 2)
    got = share(ranked(curve(u))(curve(u)))
    expected = (u.argsort(dim=0).argsort(dim=0) + 0.5) / len(u)
    assert (got - expected).abs().max() < 1 / N_KNOTS
    assert (got - expected).abs().mean() < 0.1 / N_KNOTS + 0.01


@given(
    st.lists(st.integers(-3, 3) | st.floats(-9, 9, width=32), min_size=2, max_size=50)
)
def test_ranks_rise_without_a_jump(values):
    """By rounding, a value is never another rank, though thousands may share it."""
    x = torch.tensor(values, dtype=torch.float32)[:, None]
    block = ranked(x)
    near = torch.cat([x, x * (1 + 2e-7), x * (1 - 2e-7)])
    ordered = near.sort(dim=0).values
    assert (block(ordered).diff(dim=0) >= -1e-5).all()
    assert (block(near[: len(x)]) - block(near[len(x) : 2 * len(x)])).abs().max() < 0.1


def test_ranks_of_tied_values_are_their_middle():
    x = torch.tensor([0.0] * 70 + [1.0] * 30)[:, None]
    got = share(ranked(x)(torch.tensor([[0.0], [1.0], [-5.0], [9.0]])))[:, 0]
    torch.testing.assert_close(got, torch.tensor([0.35, 0.85, 0.35, 0.85]))


def test_products_of_fourier_features_are_a_gaussian_kernel():
    r, block = normal(400, 3), FourierBlock(3, n_features=40_000)
    block.fit(r, torch.Generator().manual_seed(1))
    phi = block(r[:30])
    kernel = 2 * phi @ phi.T / block.n_features
    sigma = BANDWIDTH * torch.pdist(r).median()
    expected = (-torch.cdist(r[:30], r[:30]).square() / (2 * sigma**2)).exp()
    assert (kernel - expected).abs().max() < 6 / math.sqrt(block.n_features)


def test_components_of_a_table_come_in_order_and_at_one_scale():
    x, stem = normal(300, 6).exp(), TableStem(6, 40)
    stem.fit(x, torch.Generator().manual_seed(0))
    z = stem(x)
    variance = z.var(dim=0, correction=0)
    assert (variance.diff() <= 1e-5).all()
    assert z.square().mean().item() == pytest.approx(1, rel=1e-4)


def test_constant_columns_say_nothing():
    x = torch.cat([normal(100, 2), torch.full((100, 1), 3.0)], dim=1)
    stem = TableStem(3, 20)
    stem.fit(x, torch.Generator().manual_seed(0))
    assert torch.isfinite(stem(x)).all()
    alone = TableStem(1, 5)
    alone.fit(torch.zeros(10, 1), torch.Generator().manual_seed(0))
    assert torch.equal(alone(torch.zeros(4, 1)), torch.zeros(4, 5))


def test_a_curved_boundary_is_straight_in_z():
    """Circles: a line through the columns is no better than a coin."""
    X, y = make_circles(600, noise=0.08, factor=0.5, random_state=0)
    model = FlowFMTransformer(max_steps=0, random_state=0).fit(X[:400])
    probe = LogisticRegression().fit(model.transform(X[:400]), y[:400])
    assert probe.score(model.transform(X[400:]), y[400:]) > 0.97
    line = LogisticRegression().fit(X[:400], y[:400])
    assert line.score(X[400:], y[400:]) < 0.65


def test_a_long_tail_does_not_matter():
    """Labels follow the logarithm, most of the variance is a few large values."""
    rng = np.random.default_rng(0)
    u = rng.normal(size=(800, 6))
    y = (u[:, :3].sum(axis=1) + 0.3 * rng.normal(size=800) > 0).astype(int)
    X = np.exp(2 * u)
    model = FlowFMTransformer(max_steps=0, random_state=0).fit(X[:400])
    scores = {}
    for name, Z in {
        "z": model.transform(X),
        "columns": StandardScaler().fit(X[:400]).transform(X),
    }.items():
        probe = LogisticRegression(max_iter=1000).fit(Z[:400], y[:400])
        scores[name] = probe.score(Z[400:], y[400:])
    assert scores["z"] > scores["columns"] + 0.05
