"""The few-step terms of the benchmarks, against flows whose jumps are known."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.frozen import FrozenEstimator

from skflowfm import FlowFMTransformer
from skflowfm.datasets import make_wearable
from skflowfm.flow_matching import sample_source, sample_time

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
KINDS = ["ShortcutModel", "MeanFlowModel"]


@pytest.fixture(scope="module")
def few_step():
    """Import the script as the others import it."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import _few_step

        yield _few_step
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def windows():
    return make_wearable(80, n_timesteps=32, random_state=0, return_X_y=True)[:2]


@pytest.fixture(scope="module")
def base(windows):
    return FlowFMTransformer(8, max_steps=0, random_state=0).fit(windows[0]).module_


def with_field(few_step, base, kind, field):
    model = getattr(few_step, kind).of(base, torch.nn.Identity())
    model.velocity_field = field
    return model


class Field(torch.nn.Module):
    """A field with a known answer to every jump."""

    def __init__(self, average):
        super().__init__()
        self.average = average

    def forward(self, x_t, t, z, jump=None):
        jump = torch.zeros_like(t) if jump is None else jump
        return self.average(x_t, t[:, None], jump[:, None])


def test_a_time_gives_two_independent_uniform_numbers(few_step, seeded):
    pair = few_step.two_uniforms(sample_time(40_000, seeded(0)))
    counts = np.histogram2d(*pair, bins=8, range=[[0, 1], [0, 1]])[0]
    assert counts.sum() == 40_000
    assert stats.chisquare(counts.ravel()).pvalue > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_jumps_along_straight_paths_have_no_error(few_step, base, kind, seeded):
    """All paths end in one point, so they are straight, and a jump is its velocity."""
    end = torch.tensor([1.0, -2.0, 0.5])
    exact = Field(lambda x, t, d: (end - x) / (1 - t))
    model = with_field(few_step, base, kind, exact)
    t = sample_time(500, seeded(0)).clamp(0.01, 0.99)
    x_0 = sample_source((500, 3), seeded(1))
    error = model.jump_error(end.expand(500, 3), x_0, t, None)
    assert error.abs().median() < 1e-5
    wrong = Field(lambda x, t, d: (end - x) / (1 - t) * (1 + d))
    model = with_field(few_step, base, kind, wrong)
    assert model.jump_error(end.expand(500, 3), x_0, t, None).abs().median() > 0.05


def test_shortcuts_agree_with_the_jumps_of_a_curved_flow(few_step, base, seeded):
    """dx/dt = x: a jump is x (exp(d) - 1) / d, but for halves told to be velocities."""

    def average(x, t, d):
        return x * torch.where(d > 0, d.expm1() / d.clamp_min(1e-9), 1.0)

    model = with_field(few_step, base, "ShortcutModel", Field(average))
    t = sample_time(2000, seeded(0))
    level = (few_step.two_uniforms(t)[0] * 4).long()
    assert level.unique().tolist() == [0, 1, 2, 3]
    x = sample_source((2000, 2), seeded(1))
    error = (model.jump_error(x, x, t, None) / x).abs()  # the path stays at x
    assert error[level < 3].max() < 1e-5
    euler = np.expm1(1 / 8) * 8 - (1 + (1 + 1 / 16)) / 2
    torch.testing.assert_close(
        error[level == 3], torch.full_like(error[level == 3], euler), rtol=0, atol=1e-5
    )


def test_mean_flow_differentiates_along_the_path(few_step, base, seeded):
    """The average to t' of a velocity that grows as 2 t is t + t'; of v = 1, 1."""
    model = with_field(
        few_step, base, "MeanFlowModel", Field(lambda x, t, d: (2 * t + d) + 0 * x)
    )
    t = sample_time(1000, seeded(0))
    low = torch.minimum(*few_step.two_uniforms(t))
    x_0 = torch.zeros(1000, 1)
    # u = v + d du/dt = 2 t + d  where v = 2 t and du/dt = 1, so with v given as 0
    error = model.jump_error(x_0, x_0, t, None)[:, 0]
    torch.testing.assert_close(error, 2 * low, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_jumps_do_not_teach_the_encoder(few_step, windows, kind, seeded):
    X = torch.from_numpy(windows[0][:32].astype(np.float32))
    transformer = getattr(few_step, kind.replace("Model", "Transformer"))
    model = transformer(8, max_steps=1, random_state=0).fit(windows[0]).module_
    for p in model.velocity_field.parameters():  # zeros would hide everything
        p.data += 0.1 * sample_source(tuple(p.shape), seeded(2))
    x_1 = model.standardise(X)
    x_0 = sample_source((32, *model.coordinates(x_1).shape[1:]), seeded(0))
    features, t = model.stem(x_1), sample_time(32, seeded(1))
    loss, _, _ = model(x_1, x_0, t, features)
    encoder = list(model.encoder.parameters())
    of_jumps = torch.autograd.grad(
        loss[:8].sum(), encoder, retain_graph=True, allow_unused=True
    )
    assert all(g is None or not g.any() for g in of_jumps)
    of_flow = torch.autograd.grad(loss[8:].sum(), encoder, retain_graph=True)
    assert any(g.any() for g in of_flow)
    field = list(model.velocity_field.parameters())
    assert any(g.any() for g in torch.autograd.grad(loss[:8].sum(), field))


@pytest.mark.parametrize("n", [1, 4])
def test_a_sample_is_as_many_jumps_as_were_asked_for(few_step, windows, n):
    """Of a field whose average velocity is its jump, n jumps add 1 / n."""
    model = few_step.ShortcutTransformer(8, max_steps=0, random_state=0)
    model.fit(windows[0])
    model.module_.velocity_field = Field(
        lambda x, t, d: (d[..., None] + t[..., None]).expand_as(x)
    )
    seen = []
    model.module_.coordinates.inverse = lambda x: seen.append(x) or x[..., :-2]
    x_0 = torch.zeros(1, 3, 34)
    model.module_.decode(torch.zeros(1, 8), x_0, n)
    expected = sum((1 / n + k / n) / n for k in range(n))
    torch.testing.assert_close(seen[0], torch.full_like(x_0, expected))


@pytest.mark.parametrize("kind", ["ShortcutTransformer", "MeanFlowTransformer"])
def test_mended_jumps_have_the_spectra_of_real_windows(
    few_step, windows, kind, spectral_error
):
    X, y = windows[:2]
    counts = dict(enumerate(np.bincount(y).tolist()))
    model = getattr(few_step, kind)(8, max_steps=20, random_state=0).fit(X)
    drawer = few_step.JumpSampler(FrozenEstimator(model), quality=2, random_state=0)
    drawer.fit(X, y)
    before = spectral_error(X, drawer.sample(class_counts=counts)[0])
    after = spectral_error(X, drawer.mend(X).sample(class_counts=counts)[0])
    assert after < before / 3
