"""The torch modules: scaling, coordinates, encoders, velocity fields and views."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from skflowfm import FlowFMTransformer
from skflowfm._budget import Budget, Plan
from skflowfm._building import build_model, on_meta
from skflowfm._draws import prepare
from skflowfm._validation import Rows
from skflowfm.alignment import info_nce
from skflowfm.nets import (
    ConvEncoder,
    FeatureEncoder,
    VectorVelocityField,
    WindowVelocityField,
)
from skflowfm.nets.coordinates import (
    FLOOR,
    LEVEL_SHARE,
    Standardise,
    WindowCoordinates,
    equalised,
)
from skflowfm.nets.joint import PrincipalAxes
from skflowfm.nets.layers import (
    ChannelNorm,
    TimeEmbedding,
    ZeroLinear,
    ZeroUnfold,
    initialise,
)
from skflowfm.nets.scores import NARROWEST, TableCoordinates
from skflowfm.nets.views import table_view, window_view


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def build(kind, *sizes, seed=0):
    """Build a module without the global generator, as the package does."""
    return on_meta(kind, torch.Generator().manual_seed(seed), *sizes)


def awaken(module, seed=1):
    """Move the parameters that start at zero off it, so that everything has a say."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1, generator=generator)
    return module


# ------------------------------------------------------------------ Standardise
@given(st.floats(-1e3, 1e3), st.floats(1e-2, 1e3), st.integers(0, 99))
def test_standardise_and_back(mean, scale, seed):
    x = mean + scale * normal(20, 2, 9, seed=seed)
    standardise = Standardise(*Rows(x.numpy()).moments())
    standard = standardise(x)
    precision = 1e-6 * (1 + abs(mean) / scale)
    assert standard.mean(dim=(0, 2)).abs().max() < 10 * precision
    assert (standard.std(dim=(0, 2), correction=0) - 1).abs().max() < 1e-4
    error = standardise.inverse(standard) - x
    assert error.abs().max() < 10 * scale * precision


# ------------------------------------------------------------------ equalised
@given(n_timesteps=st.integers(2, 80), data=st.data())
def test_a_cosine_is_multiplied_by_the_gain_of_its_frequency(n_timesteps, data):
    """Those of the discrete cosine transform are kept apart, ends or no ends."""
    k = data.draw(st.integers(1, n_timesteps - 1))
    time = torch.arange(n_timesteps) + 0.5
    cosine = torch.cos(torch.pi * k * time / n_timesteps).expand(1, 2, n_timesteps)
    level_and_scale = normal(1, 2, 2)
    gain = torch.linspace(0.5, 3, n_timesteps + 1) * torch.tensor([[1.0], [-2.0]])
    out = equalised(torch.cat([cosine, level_and_scale], dim=-1), gain.numpy())
    expected = torch.cat([cosine * gain[:, k : k + 1], level_and_scale], dim=-1)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


# ------------------------------------------------------------------ WindowCoordinates
def fitted_coordinates(x):
    coordinates = WindowCoordinates(*x.shape[1:])
    coordinates.fit(x)
    return coordinates


@given(
    n=st.integers(1, 6),
    n_channels=st.integers(1, 5),
    n_timesteps=st.integers(2, 64),
    log_scale=st.floats(-1.5, 3),
    level=st.floats(-30, 30),
    seed=st.integers(0, 99),
)
def test_windows_survive_the_round_trip(
    n, n_channels, n_timesteps, log_scale, level, seed
):
    scale = 10**log_scale
    noise = normal(n, n_channels, n_timesteps, seed=seed)
    noise[..., 0], noise[..., 1] = 3, -3  # far from flat, whatever was drawn
    x = level + scale * noise
    coordinates = fitted_coordinates(x)
    there = coordinates(x)
    assert there.shape == (n, n_channels, n_timesteps + 2)
    error = (coordinates.inverse(there) - x).abs().max()
    assert error < 2e-5 * (abs(level) + scale)


@pytest.mark.parametrize("n_timesteps", [1, 2, 50])
def test_flat_windows_come_back_to_within_the_floor(n_timesteps):
    """A flat channel has no shape; it may come back with ripples of the floor."""
    x = normal(8, 3, 1).expand(8, 3, n_timesteps).clone()
    x[:, 1] = 0.7
    x[:, 2] += 0.1 * FLOOR * normal(8, n_timesteps, seed=1)
    coordinates = fitted_coordinates(x)
    there = coordinates(x)
    assert there.isfinite().all()
    back = coordinates.inverse(there)
    assert (back[:, :2] - x[:, :2]).abs().max() < 0.1 * FLOOR
    assert (back.mean(dim=-1) - x.mean(dim=-1)).abs().max() < 1e-5
    assert back.std(dim=-1, correction=0).max() < 1.01 * FLOOR


def test_shapes_are_standard_and_summaries_are_standardised():
    x = 2 + torch.linspace(0.1, 5, 40)[:, None, None] * normal(40, 3, 30)
    there = fitted_coordinates(x)(x)
    shape, summary = there[..., :-2], there[..., -2:]
    assert shape.mean(dim=-1).abs().max() < 1e-5
    assert (shape.std(dim=-1, correction=0) - 1).abs().max() < 1e-5
    assert summary.mean(dim=0).abs().max() < 1e-5
    assert (summary.std(dim=0, correction=0) - 1).abs().max() < 1e-4


def test_level_and_amplitude_move_only_their_own_coordinate():
    x = normal(10, 2, 30)
    coordinates = fitted_coordinates(x)
    there = coordinates(x)
    higher, larger = coordinates(x + 1), coordinates(3 * x)
    torch.testing.assert_close(higher[..., :-2], there[..., :-2], rtol=0, atol=1e-5)
    torch.testing.assert_close(higher[..., -1], there[..., -1], rtol=0, atol=1e-4)
    assert (higher[..., -2] - there[..., -2] > 0.1).all()
    torch.testing.assert_close(larger[..., :-2], there[..., :-2], rtol=0, atol=1e-5)
    step = (larger - there)[..., -1] * coordinates.spread[:, 1]
    torch.testing.assert_close(step, torch.full_like(step, math.log(3)))


def test_drawn_levels_and_scales_stay_within_those_of_fit():
    x = 2 + torch.linspace(0.1, 5, 40)[:, None, None] * normal(40, 3, 30)
    coordinates = fitted_coordinates(x)
    wild = 100 * normal(200, 3, 32, seed=1)
    back = coordinates.inverse(wild)
    for of in (lambda w: w.mean(dim=-1), lambda w: w.std(dim=-1, correction=0)):
        margin = 1e-4 * of(x).abs().amax()
        assert (of(back) <= of(x).amax(dim=0) + margin).all()
        assert (of(back) >= of(x).amin(dim=0) - margin).all()
        assert of(back).std() > 0.5 * of(x).std()  # nor all the same


def test_drawn_shape_need_not_be_standard():
    x = normal(10, 2, 30)
    coordinates = fitted_coordinates(x)
    there = coordinates(x)
    off = there.clone()
    off[..., :-2] = 1.7 * there[..., :-2] + 0.4
    torch.testing.assert_close(
        coordinates.inverse(off), coordinates.inverse(there), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("n_timesteps", [1, 2, 300, 4096])
def test_weight_has_mean_one_and_gives_level_and_scale_their_share(n_timesteps):
    weight = WindowCoordinates(3, n_timesteps).weight
    assert weight.shape == (n_timesteps + 2,)
    assert weight.mean().item() == pytest.approx(1, rel=1e-5)
    share = weight[-2:].sum() / weight.sum()
    assert share.item() == pytest.approx(LEVEL_SHARE, rel=1e-4)


def test_real_windows_survive_the_round_trip(shared_data):
    with np.load(shared_data("hapt_waist")) as data:
        x = data["X"][::20].astype(np.float32)
    x = Standardise(*Rows(x).moments())(torch.from_numpy(x))
    coordinates = fitted_coordinates(x)
    error = (coordinates.inverse(coordinates(x)) - x).abs()
    flat = x.std(dim=-1, correction=0) < FLOOR
    assert error[~flat].max() < 1e-4
    assert flat.float().mean() < 0.01


def table_coordinates(x):
    coordinates = TableCoordinates(x.shape[1])
    coordinates.fit(x)
    return coordinates


def test_coordinates_of_a_table_are_values_themselves_before_fit():
    x, coordinates = normal(50, 3), TableCoordinates(3)
    torch.testing.assert_close(coordinates(x), x)
    torch.testing.assert_close(coordinates.inverse(x), x)
    assert coordinates.weight is None


@pytest.mark.parametrize("curve", [torch.exp, torch.sinh, lambda u: 0.01 * u - 7])
def test_coordinates_of_a_table_are_normal_scores(curve):
    """Of any increasing function of normal numbers they are those numbers."""
    u = normal(4000, 1)
    coordinates = table_coordinates(curve(u))
    inner = u.abs() < 2
    assert (coordinates(curve(u)) - u)[inner].abs().max() < 0.15
    drawn = coordinates.inverse(normal(4000, 1, seed=1))
    level = torch.linspace(0.05, 0.95, 10)
    expected = curve(torch.special.ndtri(level))
    spread = curve(u).std()
    got = drawn[:, 0].quantile(level)
    assert ((got - expected).abs() < 0.05 * spread).all()


tables = st.integers(2, 60).flatmap(
    lambda n: st.lists(
        st.integers(-5, 5) | st.floats(-50, 50, width=32), min_size=n, max_size=n
    )
)


@given(tables)
def test_rows_of_a_table_survive_the_round_trip(values):
    x = torch.tensor(values, dtype=torch.float32)[:, None]
    coordinates = table_coordinates(x)
    u = coordinates(x)
    assert torch.isfinite(u).all()
    back = coordinates.inverse(u)
    width = coordinates.value.diff(dim=0)
    narrow = (width > 0) & (width < 2 * NARROWEST)
    assert (back - x).abs().max() <= 1e-4 * (1 + narrow.sum())
    order = x[:, 0].argsort()
    assert (u[order].diff(dim=0) >= -1e-5).all()


@given(tables, st.integers(0, 99))
def test_shared_values_are_drawn_exactly(values, seed):
    """Scores around that of a value that two thirds of the rows share lead to it."""
    shared = torch.full((len(values),), 2.0)
    x = torch.cat([torch.tensor(values, dtype=torch.float32), shared, shared])[:, None]
    coordinates = table_coordinates(x)
    score = coordinates(torch.full((1, 1), 2.0))
    around = score + 0.1 * normal(50, 1, seed=seed).clamp(-2, 2)
    assert torch.equal(coordinates.inverse(around), torch.full((50, 1), 2.0))


def test_a_constant_column_stays_so_and_learns_when_it_wakes():
    x = torch.cat([normal(200, 1), torch.zeros(200, 1)], dim=1)
    coordinates = table_coordinates(x)
    assert torch.equal(coordinates.inverse(normal(9, 2))[:, 1], torch.zeros(9))
    new = normal(300, 2, seed=3)
    before = coordinates.value.clone()
    coordinates.refit(new, torch.tensor([False, True]))
    assert torch.equal(coordinates.value[:, 0], before[:, 0])
    torch.testing.assert_close(coordinates(new)[:, 1], new[:, 1])


def test_no_row_is_drawn_between_two_clusters():
    """And a score at the edge of one is far from those of the other."""
    x = torch.where(torch.arange(600) % 5 < 2, -3.0, 3.0)[:, None]
    x = x + 0.3 * normal(600, 1)
    coordinates = table_coordinates(x)
    drawn = coordinates.inverse(normal(5000, 1, seed=1))
    assert (drawn.abs() > 1.5).all()
    assert (drawn < 0).float().mean() == pytest.approx(0.4, abs=0.05)
    low, high = x[x < 0].max(), x[x > 0].min()
    edges = coordinates(torch.stack([low, high])[:, None])
    assert edges.diff(dim=0).item() > 0.5
    assert coordinates(x).std().item() == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(coordinates.inverse(coordinates(x)), x)


@pytest.mark.parametrize("share", [0.03, 0.2])
def test_a_rare_mark_is_drawn_where_its_score_is_nearer(share):
    x = (torch.arange(1000) < 1000 * share).float()[:, None]
    coordinates = table_coordinates(x)
    rest, mark = coordinates(torch.tensor([[0.0], [1.0]]))[:, 0].tolist()
    way = torch.tensor([[0.0], [0.45], [0.55], [1.0]])
    drawn = coordinates.inverse(rest + way * (mark - rest))
    assert drawn[:, 0].tolist() == [0, 0, 1, 1]


@given(
    st.lists(st.integers(2, 6), min_size=1, max_size=4),
    st.lists(st.integers(0, 2), min_size=5, max_size=5),
    st.integers(0, 99),
)
def test_each_category_of_a_drawn_row_is_marked_once(widths, between, seed):
    """Also where it is far from all of them; other columns may lie between."""
    generator = torch.Generator().manual_seed(seed)
    parts, blocks, start = [], [], 0
    for width, others in zip(widths, between, strict=False):
        code = torch.cat(
            [torch.arange(width), torch.randint(width, (60,), generator=generator)]
        )
        code = torch.cat([code, torch.zeros(66 - len(code), dtype=torch.long)])
        parts += [torch.eye(width)[code], torch.randn(66, others, generator=generator)]
        blocks.append((start, start + width))
        start += width + others
    x = torch.cat(parts, dim=1)
    coordinates = table_coordinates(x)
    assert coordinates.blocks == blocks
    drawn = coordinates.inverse(3 * torch.randn(50, start, generator=generator) - 2)
    for a, b in blocks:
        assert torch.equal(drawn[:, a:b].sort(dim=1).values[:, -1], torch.ones(50))
        assert torch.equal(drawn[:, a:b].sum(dim=1), torch.ones(50))
    torch.testing.assert_close(coordinates.inverse(coordinates(x)), x)


def test_a_category_that_no_row_has_is_never_marked():
    x = torch.eye(4)[torch.arange(90) % 2 * 2]  # the first and third of four
    coordinates = table_coordinates(x)
    assert coordinates.blocks == [(0, 3)]
    drawn = coordinates.inverse(normal(50, 4))
    assert torch.equal(drawn[:, [1, 3]], torch.zeros(50, 2))
    assert torch.equal(drawn.sum(dim=1), torch.ones(50))


@given(st.floats(-1e4, 1e4, width=32), st.floats(0.01, 100), st.integers(0, 99))
def test_a_value_that_rows_share_comes_back_to_the_bit(shared, unit, seed):
    """Scaled and back, it would be off by a rounding."""
    as_given = shared + unit * normal(300, 1, seed=seed).abs()
    as_given[::2] = shared
    standardise = Standardise(as_given.mean(dim=0), as_given.std(dim=0))
    coordinates = TableCoordinates(1)
    coordinates.fit(standardise(as_given), as_given)
    x = coordinates.inverse(normal(400, 1, seed=seed + 1))
    drawn = coordinates.exact(x, standardise.drawn(x))
    assert (drawn == shared).float().mean() > 0.35
    assert (drawn >= shared).all()


def test_far_beyond_what_fit_saw_scores_still_rise():
    coordinates = table_coordinates(normal(300, 1))
    u = coordinates(torch.tensor([[3.0], [10.0], [1e2], [1e4], [1e6]]))[:, 0]
    assert (u.diff() > 0.1).all()
    assert u[-1] < 10
    torch.testing.assert_close(
        coordinates(torch.full((1, 1), -1e6)), -u[-1:, None], rtol=0.1, atol=0
    )


# ------------------------------------------------------------------ PrincipalAxes
@pytest.fixture
def correlated():
    return 3 + normal(500, 6) @ (normal(6, 6, seed=1) * torch.logspace(-1, 0.5, 6))


def fitted_axes(z):
    axes = PrincipalAxes(z.shape[1])
    axes.fit(z)
    return axes


def test_components_are_uncorrelated_sorted_and_of_deviation_four(correlated):
    components = fitted_axes(correlated)(correlated)
    assert components.mean(dim=0).abs().max() < 1e-3
    covariance = components.double().T.cov()
    deviations = covariance.diagonal().sqrt()
    assert deviations[0].item() == pytest.approx(4, rel=1e-4)
    assert (deviations.diff() < 0).all()
    correlation = covariance / (deviations[:, None] * deviations)
    assert (correlation - torch.eye(6)).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("n_rows", "first"), [(2, 4), (1000, 4), (2250, 8 / 3), (4000, 2), (10**6, 2)]
)
def test_more_rows_get_a_smaller_gain(correlated, n_rows, first):
    axes = PrincipalAxes(6)
    axes.fit(correlated, n_rows=n_rows)
    deviation = axes(correlated)[:, 0].std().item()
    assert deviation == pytest.approx(first, rel=1e-3)
    fresh = 5 * normal(20, 6, seed=9)
    torch.testing.assert_close(axes.inverse(axes(fresh)), fresh, rtol=1e-4, atol=1e-4)


def test_axes_keep_distances_up_to_one_gain(correlated):
    axes = fitted_axes(correlated)
    before = torch.pdist(correlated[:50])
    after = torch.pdist(axes(correlated[:50]))
    torch.testing.assert_close(after, axes.gain * before, rtol=1e-4, atol=1e-3)


def test_axes_are_inverted(correlated):
    axes = fitted_axes(correlated)
    fresh = 5 * normal(20, 6, seed=9)
    torch.testing.assert_close(axes.inverse(axes(fresh)), fresh, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("n", "share"), [(25, 0.05), (250, 0.5), (500, 1.0), (900, 1.0)]
)
def test_the_learned_part_is_trusted_as_far_as_there_are_rows(n, share):
    z = normal(n, 6) * torch.tensor([0.02, 0.01, 3.0, 2.0, 1.0, 1.0])
    axes = PrincipalAxes(6)
    axes.fit(z, n_learned=2)
    back = axes(z) @ axes.axes.T  # the rotation undone, the balance kept
    variance = back.var(dim=0, correction=0)
    assert variance[:2].sum() / variance[2:].sum() == pytest.approx(share, rel=1e-3)
    torch.testing.assert_close(axes.inverse(axes(z)), z, rtol=1e-4, atol=1e-4)


def test_the_distance_is_that_of_mahalanobis(correlated):
    axes = fitted_axes(correlated)
    fresh = 5 * normal(20, 6, seed=9)
    centred = (fresh - correlated.mean(dim=0)).double()
    precision = torch.linalg.inv(correlated.double().T.cov())
    expected = ((centred @ precision) * centred).mean(dim=1).float()
    torch.testing.assert_close(axes.distance(axes(fresh)), expected, rtol=0.01, atol=0)
    assert axes.distance(axes(correlated)).mean().item() == pytest.approx(1, rel=0.01)


def test_directions_without_variance_do_not_blow_the_distance_up():
    flat = normal(50, 3) * torch.tensor([1.0, 1.0, 0.0])
    axes = fitted_axes(flat)
    moved = axes.distance(axes(flat + torch.tensor([0.0, 0.0, 0.01])))
    assert torch.isfinite(moved).all()
    assert (moved - axes.distance(axes(flat))).abs().max() < 1
    assert torch.isfinite(fitted_axes(torch.ones(9, 3)).distance(torch.zeros(1, 3)))


def test_signs_of_axes_are_fixed(correlated):
    axes = fitted_axes(correlated)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(2))
    for same in (correlated[order], -correlated, correlated + 7):
        torch.testing.assert_close(fitted_axes(same).axes, axes.axes, atol=1e-3, rtol=0)
    largest = axes.axes.gather(0, axes.axes.abs().argmax(dim=0)[None])
    assert (largest > 0).all()


@pytest.mark.parametrize("n", [1, 40])
def test_constant_representations_are_kept(n):
    z = torch.full((n, 4), 0.3)
    axes = fitted_axes(z)
    assert axes.gain == 1
    assert axes(z).abs().max() < 1e-6
    moved = z + normal(n, 4)
    torch.testing.assert_close(axes.inverse(axes(moved)), moved)


# ------------------------------------------------------------------ initialise
@pytest.mark.parametrize(
    ("kind", "sizes", "fan_in"),
    [(nn.Linear, (50, 400), 50), (nn.Conv1d, (8, 256, 5), 40)],
    ids=["Linear", "Conv1d"],
)
def test_weights_and_biases_are_uniform_within_root_fan_in(kind, sizes, fan_in):
    layer = build(kind, *sizes)
    law = stats.uniform(-(fan_in**-0.5), 2 * fan_in**-0.5)
    assert stats.kstest(layer.weight.detach().flatten(), law.cdf).pvalue > 0.01
    assert stats.kstest(layer.bias.detach(), law.cdf).pvalue > 0.01


@pytest.mark.uses_global_rng
def test_law_of_initial_weights_is_that_of_torch():
    torch.manual_seed(0)
    for kind, sizes in [(nn.Linear, (50, 400)), (nn.Conv1d, (8, 256, 5))]:
        ours, theirs = build(kind, *sizes), kind(*sizes)
        for name, parameter in ours.named_parameters():
            a = parameter.detach().flatten()
            b = theirs.get_parameter(name).detach().flatten()
            assert stats.ks_2samp(a, b).pvalue > 0.01


@pytest.mark.parametrize("kind", [nn.LayerNorm, ChannelNorm])
def test_norms_start_at_one(kind):
    norm = build(kind, 7)
    assert torch.equal(norm.weight, torch.ones(7))
    assert torch.equal(norm.bias, torch.zeros(7))


@pytest.mark.parametrize(
    ("kind", "sizes"), [(ZeroLinear, (3, 4)), (ZeroUnfold, (3, 4, 2))]
)
def test_zero_layers_start_at_zero(kind, sizes):
    assert not any(parameter.any() for parameter in build(kind, *sizes).parameters())


def weights_of(module):
    return nn.utils.parameters_to_vector(module.parameters())


@pytest.mark.uses_global_rng
def test_initial_weights_depend_on_the_generator_only():
    torch.manual_seed(1)
    weights = weights_of(build(ConvEncoder, 3, 4, seed=5))
    torch.manual_seed(2)
    assert torch.equal(weights_of(build(ConvEncoder, 3, 4, seed=5)), weights)
    assert not torch.equal(weights_of(build(ConvEncoder, 3, 4, seed=6)), weights)


class OwnParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [(nn.BatchNorm1d, (3,)), (nn.ConvTranspose1d, (3, 3, 2)), (OwnParameter, ())],
)
def test_unknown_layers_are_refused_by_name(kind, sizes):
    with torch.device("meta"):
        module = nn.Sequential(nn.ReLU(), kind(*sizes))
    with pytest.raises(TypeError, match=kind.__name__):
        initialise(module.to_empty(device="cpu"), torch.Generator())


# ------------------------------------------------------------------ time embedding
def test_time_embedding_tells_close_times_apart_and_is_smooth():
    embed = build(TimeEmbedding, 32)
    t = torch.linspace(0, 1, 1001)
    steps = embed(t).diff(dim=0).norm(dim=1)
    assert (steps > 1e-4).all()  # also near both ends
    assert steps.max() < 20 * steps.median()


# ------------------------------------------------------------------ velocity fields
WINDOW_SIZES = [
    (3, 1),
    (1, 2),
    (60, 3),
    (2, 7),
    (3, 59),
    (3, 61),
    (6, 128),
    (3, 300),
    (1, 1000),
    (60, 128),
    (2, 4096),
]
window_sizes = pytest.mark.parametrize(("n_channels", "n_timesteps"), WINDOW_SIZES)

FIELDS = {
    "vector": (lambda: VectorVelocityField(5, 4, width=16), (5,)),
    "vector without condition": (lambda: VectorVelocityField(5, 0, width=16), (5,)),
    "single feature": (lambda: VectorVelocityField(1, 4, width=16, n_blocks=1), (1,)),
    "window": (lambda: WindowVelocityField(3, 50, 4, width=16), (3, 52)),
    "single step": (lambda: WindowVelocityField(1, 1, 4, width=16), (1, 3)),
    "long window": (lambda: WindowVelocityField(2, 601, 4, width=16), (2, 603)),
}
fields = pytest.mark.parametrize("name", FIELDS)


def field_inputs(row_shape, n=7, seed=0):
    z = normal(n, 4, seed=seed + 1)
    return normal(n, *row_shape, seed=seed), torch.linspace(0, 1, n), z


@fields
def test_velocity_starts_at_zero(name):
    kind, row_shape = FIELDS[name]
    x_t, t, z = field_inputs(row_shape)
    assert torch.equal(build(kind)(x_t, t, z), torch.zeros_like(x_t))


def dead_parameters(module, loss, n_steps):
    """Return names of parameters of which no entry gets a gradient in ``n_steps``."""
    dead = dict(module.named_parameters())
    optimiser = torch.optim.Adam(module.parameters(), 1e-3)
    for _ in range(n_steps):
        optimiser.zero_grad()
        loss().backward()
        for name, parameter in module.named_parameters():
            if parameter.grad is not None and parameter.grad.any():
                dead.pop(name, None)
        optimiser.step()
    return list(dead)


@fields
def test_every_parameter_of_a_velocity_field_learns(name):
    """The zero layers wake first, then their gates, then what is behind those."""
    kind, row_shape = FIELDS[name]
    field = build(kind)
    x_t, t, z = field_inputs(row_shape, n=16)
    target = normal(*x_t.shape, seed=5)
    assert not dead_parameters(
        field, lambda: (field(x_t, t, z) - target).square().mean(), n_steps=3
    )


@fields
def test_velocity_of_a_row_depends_on_that_row_only(name):
    kind, row_shape = FIELDS[name]
    field = awaken(build(kind))
    x_t, t, z = field_inputs(row_shape)
    v = field(x_t, t, z)
    alone = field(x_t[3:4], t[3:4], z[3:4])
    torch.testing.assert_close(alone, v[3:4], rtol=1e-4, atol=1e-5)
    others = [x_t + 100, 1 - t, -z]
    for other, mine in zip(others, (x_t, t, z), strict=True):
        other[3] = mine[3]
    assert torch.equal(field(*others)[3], v[3])
    assert not torch.allclose(field(*others)[2], v[2])


@fields
def test_velocity_depends_on_row_time_and_representation(name):
    kind, row_shape = FIELDS[name]
    field = awaken(build(kind))
    x_t, t, z = field_inputs(row_shape)
    v = field(x_t, t, z)
    changed = [field(x_t + 1, t, z), field(x_t, 1 - t, z)]
    if name != "vector without condition":
        changed.append(field(x_t, t, -z))
    for other in changed:
        different = (other - v).abs().flatten(1).amax(dim=1) > 1e-4
        assert different.sum() >= len(v) - 1  # t = 0.5 is its own mirror image


@window_sizes
def test_window_velocity_field_takes_any_size(n_channels, n_timesteps):
    field = awaken(build(WindowVelocityField, n_channels, n_timesteps, 4))
    x_t = normal(2, n_channels, n_timesteps + 2)
    v = field(x_t, torch.tensor([0.2, 0.9]), normal(2, 4, seed=1))
    assert v.shape == x_t.shape
    assert v.isfinite().all()


@pytest.mark.parametrize(
    ("n_timesteps", "n_components", "n_seen", "expected"),
    [(10, 12, None, 6), (40, 12, None, 12), (10, 12, 12, 12), (10, 12, 2, 2)],
)
def test_a_field_sees_three_components_for_ten_values(
    n_timesteps, n_components, n_seen, expected
):
    field = awaken(
        build(
            lambda: WindowVelocityField(
                2, n_timesteps, n_components, width=16, n_seen=n_seen
            )
        )
    )
    x_t, t = normal(5, 2, n_timesteps + 2), torch.linspace(0, 1, 5)
    z = normal(5, n_components, seed=1).requires_grad_()
    field(x_t, t, z).square().sum().backward()
    seen = (z.grad != 0).any(dim=0)
    assert seen[:expected].all()
    assert not seen[expected:].any()


@pytest.mark.parametrize("n_timesteps", [1, 3, 61, 100, 139, 300, 421])
def test_patches_cover_every_time_step(n_timesteps):
    """No step is left out, neither as input nor as output, last ones included."""
    field = awaken(build(WindowVelocityField, 2, n_timesteps, 4))
    with torch.no_grad():
        for parameter in field.skip.parameters():
            parameter.zero_()
    x_t = normal(1, 2, n_timesteps + 2).requires_grad_()
    t = torch.tensor([0.5])
    v, other = (field(x_t, t, normal(1, 4, seed=s)) for s in (1, 2))
    assert ((v - other).abs() > 1e-6).all()
    (gradient,) = torch.autograd.grad(v.square().sum(), x_t)
    assert (gradient.abs() > 1e-9).all()


# ------------------------------------------------------------------ encoders
@window_sizes
def test_conv_encoder_takes_any_size(n_channels, n_timesteps):
    x = normal(2, n_channels, n_timesteps).requires_grad_()
    z = build(ConvEncoder, n_channels, 5)(x)
    assert z.shape == (2, 5)
    assert z.isfinite().all()
    (gradient,) = torch.autograd.grad(z.square().sum(), x)
    assert gradient.isfinite().all()


def periodic(frequency, n_timesteps):
    """Three channels of a wave of so many cycles per step, at several phases."""
    phase = torch.tensor([0.0, 1.0, 2.0])[:, None]
    return torch.sin(2 * torch.pi * frequency * torch.arange(n_timesteps) + phase)[None]


def test_conv_encoder_takes_another_length_than_others():
    """And describes the same movement alike, seen for longer."""
    encoder = build(ConvEncoder, 3, 16)
    short, long = encoder(periodic(0.05, 200)), encoder(periodic(0.05, 400))
    faster = encoder(periodic(0.15, 200))
    assert (short - long).norm() < 0.3 * (short - faster).norm()


ENCODERS = {
    "windows": (lambda: ConvEncoder(3, 4), (3, 50)),
    "one step": (lambda: ConvEncoder(3, 4), (3, 1)),
    "other widths": (lambda: ConvEncoder(2, 4, widths=(8,), kernel_size=3), (2, 30)),
    "features": (lambda: FeatureEncoder(5, 4), (5,)),
}
encoders = pytest.mark.parametrize("name", ENCODERS)


@encoders
def test_representation_of_a_row_depends_on_that_row_only(name):
    kind, row_shape = ENCODERS[name]
    encoder, x = build(kind), normal(7, *row_shape)
    z = encoder(x)
    torch.testing.assert_close(encoder(x[3:4]), z[3:4], rtol=1e-4, atol=1e-5)
    others = x + 100
    others[3] = x[3]
    assert torch.equal(encoder(others)[3], z[3])
    assert not torch.allclose(encoder(others)[2], z[2])


@encoders
def test_every_parameter_of_an_encoder_learns(name):
    kind, row_shape = ENCODERS[name]
    encoder, x = build(kind), normal(16, *row_shape)
    target = normal(16, 4, seed=1)

    def loss():
        return (encoder(x) - target).square().mean()

    assert not dead_parameters(encoder, loss, n_steps=2)  # a zero layer wakes first


def test_conv_encoder_feels_level_and_amplitude():
    encoder, x = build(ConvEncoder, 3, 8), normal(5, 3, 50)
    z = encoder(x)
    assert ((encoder(x + 1) - z).norm(dim=1) > 0.1).all()
    assert ((encoder(2 * x) - z).norm(dim=1) > 0.1).all()


# ------------------------------------------------------------------ views
VIEWS = {
    "windows": (window_view, (4, 3, 60)),
    "one step": (window_view, (4, 3, 1)),
    "one window": (window_view, (1, 1, 9)),
    "table": (table_view, (30, 4)),
    "one row": (table_view, (1, 4)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_reproducible_and_leave_their_input_alone(name, seeded):
    view, shape = VIEWS[name]
    x = normal(*shape)
    before = x.clone()
    first = view(x, seeded(1))
    assert torch.equal(x, before)
    assert first.shape == x.shape
    assert first.isfinite().all()
    assert torch.equal(view(x, seeded(1)), first)
    assert not torch.equal(view(x, seeded(2)), first)
    first += 1
    assert torch.equal(x, before)


def test_table_view_takes_values_of_the_same_column_of_other_rows(seeded):
    n = 1000
    x = 10.0 * torch.arange(n)[:, None] + 1e5 * torch.arange(3)
    noise_free = x.clone()
    out = table_view(x, seeded())
    nearest = (out / 10).round() * 10
    noise = out - nearest
    column = (nearest / 1e5).floor()
    assert torch.equal(column, torch.arange(3.0).expand(n, 3))
    assert noise.abs().max() < 0.3
    assert noise.std().item() == pytest.approx(0.05, rel=0.2)
    swapped = (nearest != noise_free).float().mean().item()
    assert swapped == pytest.approx(0.2, abs=4 * (0.16 / (3 * n)) ** 0.5)


def test_table_view_swaps_columns_independently(seeded):
    x = torch.arange(2000.0)[:, None].expand(2000, 2) * 10
    moved = (table_view(x, seeded()) - x).abs() > 1
    both = (moved[:, 0] & moved[:, 1]).float().mean().item()
    assert both == pytest.approx(0.04, abs=4 * (0.04 * 0.96 / 2000) ** 0.5)


def test_window_view_keeps_the_level(seeded):
    """Two channels at level 10, mixed by I + 0.15 G and shifted by 0.15."""
    x = 10 + 0.1 * normal(500, 2, 100)
    ratio = window_view(x, seeded()).mean(dim=-1) / x.mean(dim=-1)
    deviation = 0.15 * (2 + 0.1**2) ** 0.5
    assert ratio.mean().item() == pytest.approx(1, abs=4 * deviation / 1000**0.5)
    assert ratio.std().item() == pytest.approx(deviation, rel=0.1)


def test_window_view_mixes_many_channels_no_more_than_three(seeded):
    x = torch.ones(400, 48, 8)
    moved = window_view(x, seeded())[..., 0] - 1
    assert moved.std().item() == pytest.approx(
        (3 * 0.15**2 + 0.15**2 + 0.05**2) ** 0.5, rel=0.05
    )


def test_window_view_masks_at_most_a_fifth(seeded):
    x = normal(300, 1, 200)
    out = window_view(x, seeded())
    hidden = ((out - out.mode(dim=-1, keepdim=True).values).abs() < 1e-7).sum(dim=-1)
    assert hidden.max() <= 0.2 * 200 + 1
    assert hidden.float().mean().item() == pytest.approx(0.1 * 200, rel=0.15)


def test_window_view_stretches_by_a_tenth_at_most(seeded):
    """A ramp loses at most a tenth of its rise, and stays a ramp."""
    ramp = torch.linspace(-100, 100, 101).expand(400, 1, 101)
    out = window_view(ramp, seeded())[:, 0]
    unmasked = out.diff(dim=-1)
    slope = unmasked.median(dim=-1).values / 2.0  # over factor and kept share
    assert slope.mean().item() == pytest.approx(0.95, abs=0.03)
    assert slope.max() < 1 + 5 * 0.15
    assert slope.min() > 0.9 * (1 - 5 * 0.15)


def test_window_view_hardly_changes_the_pace(seeded):
    """Of 20 periods 18 stay: walking and stairs differ in little else."""
    time = torch.arange(256) / 256
    x = torch.sin(2 * torch.pi * 20 * time).expand(200, 1, 256)
    power = torch.fft.rfft(window_view(x, seeded())).abs()[..., 1:].square()
    periods = power.argmax(dim=-1) + 1
    assert periods.min() == 18
    assert periods.max() == 20


# ------------------------------------------------------------------ JointModel
def joint_model(row_shape, n_components=4):
    """An untrained model, but for a velocity that is not zero."""
    rows = Rows(normal(50, *row_shape, seed=9).numpy())
    sizes = SimpleNamespace(
        n_components=n_components, encoder=None, velocity_field=None
    )
    generator = torch.Generator().manual_seed(0)
    model = build_model(sizes, rows, rows[:50], generator)
    awaken(model.velocity_field)
    return model


@given(st.floats(-3, 6))
@settings(max_examples=20)
def test_encoded_rows_are_bounded_and_keep_their_direction(log_scale):
    """One-to-one, so |z|^2 / d = m / (1 + m) with m the mean square before."""
    model = joint_model((5,))
    x = 10**log_scale * normal(6, model.stem.n_features, seed=3)
    h, z = model.encoder(x), model.encode(x)
    m = h.double().square().mean(dim=1)
    torch.testing.assert_close(
        z.double().square().mean(dim=1), m / (1 + m), rtol=1e-4, atol=1e-7
    )
    cosine = torch.cosine_similarity(z, h)
    torch.testing.assert_close(cosine, torch.ones(6))


@pytest.mark.parametrize("row_shape", [(5,), (3, 1), (2, 40)])
def test_representation_is_scaled_encoded_and_rotated(row_shape):
    model = joint_model(row_shape)
    x = 3 + 2 * normal(60, *row_shape, seed=4)
    z = model.encode(model.stem(model.standardise(x)))
    model.axes.fit(z)
    components = model.represent(x)
    assert components[:, 0].std().item() == pytest.approx(4, rel=1e-3)
    torch.testing.assert_close(model.axes.inverse(components), z, rtol=1e-3, atol=1e-5)


def test_decode_undoes_scaling_and_rotation():
    """With no velocity, the source row itself comes back in the user's units."""
    model = joint_model((5,))
    model.velocity_field = build(VectorVelocityField, 5, 4)
    x_0 = normal(8, 5, seed=6).clamp(-1.5, 1.5)  # within what fit saw
    x = model.decode(normal(8, 4), x_0, n_steps=3, solver="rk4")
    back = model.coordinates(model.standardise(x))
    torch.testing.assert_close(back, x_0, rtol=1e-3, atol=1e-3)


def test_decode_gives_the_velocity_field_the_encoders_representation():
    model = joint_model((5,))
    rows = normal(40, 5, seed=7)
    z = model.encode(model.stem(rows))
    model.axes.fit(z)
    given_z = []

    class Spy(nn.Module):
        def forward(self, x_t, t, z):
            given_z.append(z)
            return torch.zeros_like(x_t)

    model.velocity_field = Spy()
    model.decode(model.axes(z), normal(40, 5), n_steps=1, solver="euler")
    torch.testing.assert_close(given_z[0], z, rtol=1e-4, atol=1e-5)


def test_model_returns_projections_only_where_there_is_another_view():
    model = joint_model((5,), 20)
    x_1, x_0, t = normal(6, 5), normal(6, 5, seed=1), torch.linspace(0, 1, 6)
    features = model.stem(x_1)
    view, other = (normal(*features.shape, seed=s) for s in (2, 3))
    flow, *projections = model(x_1, x_0, t, features, view, other)
    for projection, seen in zip(projections, (view, other), strict=True):
        expected = model.projector(model.encode(seen)[:, : model.n_learned])
        torch.testing.assert_close(projection, expected)
    again, *nothing = model(x_1, x_0, t, features)
    torch.testing.assert_close(again, flow)
    assert nothing == [None, None]
    seen, *_ = model(x_1, x_0, t, view)
    assert not torch.allclose(seen, flow)


@pytest.mark.parametrize(("row_shape", "n_components"), [((5,), 20), ((2, 40), 4)])
def test_every_parameter_of_the_joint_model_learns_from_the_training_loss(
    row_shape, n_components
):
    model = joint_model(row_shape, n_components)
    x_1 = normal(16, *row_shape)
    x_0 = normal(*model.coordinates(x_1).shape, seed=1)
    view = model.stem(x_1)
    other = view + 0.1 * normal(*view.shape, seed=2)
    noise = 0.1 * normal(16, n_components, seed=3)

    def loss():
        flow, projected, other_projected = model(
            x_1, x_0, torch.linspace(0, 1, 16), view, view, other, noise
        )
        return flow.mean() + info_nce(projected, other_projected)

    assert not dead_parameters(model, loss, n_steps=2)


# ------------------------------------------------------------------ after training
@pytest.fixture(scope="module", params=[(4,), (2, 30)], ids=["table", "windows"])
def published(request):
    """A model trained without our additions, and one batch of its own draws."""
    X = 5 + 2 * normal(80, *request.param, seed=8).numpy()
    transformer = FlowFMTransformer(
        3, views=None, alignment=0, max_steps=15, validation_fraction=0, random_state=0
    ).fit(X)
    index, budget = torch.arange(80), Budget(1, None, 80)
    draw, *_ = prepare(
        transformer.module_,
        Rows(X),
        index,
        index[:0],
        None,
        0.1,
        Plan(budget, 0),
    )
    draws = draw(index, torch.Generator().manual_seed(1))
    return transformer, X, draws


def test_without_views_and_alignment_nothing_is_added(published):
    transformer, _, draws = published
    expected = transformer.module_.stem(draws["x_1"])
    torch.testing.assert_close(draws["features"], expected)
    assert set(draws) == {"x_1", "x_0", "t", "features"}
    assert not [c for c in transformer.history_ if "alignment" in c]
    np.testing.assert_allclose(
        transformer.history_["train_loss"], transformer.history_["train_flow"]
    )


def test_without_views_and_alignment_the_loss_is_the_published_one(published):
    transformer, X, draws = published
    model = transformer.module_
    with torch.inference_mode():
        flow, *nothing = model(**draws)
        assert nothing == [None, None]
        z = model.encode(model.stem(draws["x_1"]))
        standard = (
            X - model.standardise.mean.numpy()
        ) / model.standardise.scale.numpy()
        x_1 = model.coordinates(torch.from_numpy(standard)).numpy()
        x_0, t = draws["x_0"].numpy(), draws["t"].numpy()
        t_rows = t.reshape(-1, *[1] * (x_1.ndim - 1))
        noisy = torch.from_numpy((1 - t_rows) * x_0 + t_rows * x_1)
        velocity = model.velocity_field(noisy, draws["t"], z).numpy()
    squared = (velocity - (x_1 - x_0)) ** 2
    if X.ndim == 3:  # in flow coordinates, whose last two columns count a tenth
        per_step, level = squared[..., :-2].mean(), squared[..., -2:].mean()
        expected = (1 - LEVEL_SHARE) * per_step + LEVEL_SHARE * level
    else:
        expected = squared.mean()
    assert flow.mean().item() == pytest.approx(expected, rel=1e-4)
    assert np.abs(velocity).max() > 0.01  # it is not the untrained model's


# ------------------------------------------------------- what was constant and wakes
def test_another_constant_is_one_unit_from_the_old_one():
    standardise = Standardise(torch.tensor([5.0]), torch.ones(1), torch.zeros(1))
    assert standardise.wake(torch.tensor([7.0]), torch.zeros(1)).all()
    assert standardise(torch.tensor([5.0, 7.0])).tolist() == [0.0, 1.0]
    assert standardise.drawn(torch.ones(1)).item() == 7.0


@pytest.mark.parametrize(("few", "scale"), [(True, 2.0), (False, 0.1)])
def test_few_rows_do_not_set_the_unit_alone(few, scale):
    standardise = Standardise(torch.tensor([5.0]), torch.ones(1), torch.zeros(1))
    standardise.wake(torch.tensor([7.0]), torch.tensor([0.1]), few)
    assert standardise.scale.item() == pytest.approx(scale)


def test_a_channel_that_wakes_leaves_the_others_as_they_were():
    x = torch.randn(50, 2, 20, generator=torch.Generator().manual_seed(0))
    coordinates = WindowCoordinates(2, 20)
    coordinates.fit(x)
    before = coordinates(x)
    coordinates.refit(3 * x + 1, torch.tensor([[False], [True]]))
    assert torch.equal(coordinates(x)[:, 0], before[:, 0])
    torch.testing.assert_close(coordinates(3 * x + 1)[:, 1], before[:, 1])


def test_the_distance_from_training_rows_has_no_unit():
    z = torch.randn(600, 3, generator=torch.Generator().manual_seed(0))
    z = z * torch.tensor([1.0, 1.0, 1e-3])
    far, distances = z + torch.tensor([0.0, 0.0, 1.0]), []
    for unit in (1.0, 0.01):
        axes = PrincipalAxes(3)
        axes.fit(unit * z)
        distances.append(axes.distance(axes(unit * far)))
    torch.testing.assert_close(*distances, rtol=1e-3, atol=1e-3)
