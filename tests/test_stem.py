"""The stem: its features are what the papers define, its output is a scaled PCA."""

import numpy as np
import pytest
import torch

from skflowfm import FlowFMTransformer
from skflowfm.datasets import make_wearable
from skflowfm.nets import FeatureEncoder, PrincipalComponents, Stem
from skflowfm.nets.coordinates import Standardise
from skflowfm.nets.kernels import (
    KERNELS_PER_GROUP,
    LENGTH,
    CompetitionBlock,
    KernelBlock,
    as_product,
    convolve,
    dilations,
    stride_of,
    zero_sum_kernels,
)
from skflowfm.nets.layers import bounded, initialise
from skflowfm.nets.stem import SquaredMagnitude, StatisticsBlock, power_spectrum


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fitted(kind, x, *args, seed=0):
    block = kind(*x.shape[1:], *args)
    block.fit(x, torch.Generator().manual_seed(seed))
    return block


def dilated(signal, kernel, dilation, stride=1):
    """Correlate one signal with one kernel, zeros outside, one output at a time."""
    n, half = len(signal), len(kernel) // 2
    out = []
    for centre in range(0, n, stride):
        at = [centre + (j - half) * dilation for j in range(len(kernel))]
        inside = [(signal[i], w) for i, w in zip(at, kernel, strict=True) if 0 <= i < n]
        out.append(sum(float(value) * float(w) for value, w in inside))
    return np.array(out)


@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("dilation", [1, 3, 16])
@pytest.mark.parametrize("n_timesteps", [9, 40])
def test_a_product_of_matrices_is_the_convolution(stride, dilation, n_timesteps):
    x, weight = normal(4, 3, n_timesteps).double(), normal(7, 3, 9, seed=1).double()
    product = as_product(x, weight, stride, dilation)
    torch.testing.assert_close(product, convolve(x, weight, stride, dilation))


# ------------------------------------------------------------------------- kernels
def test_there_are_84_different_kernels_that_sum_to_zero():
    kernels = zero_sum_kernels()
    assert len({tuple(k) for k in kernels.tolist()}) == 84
    assert torch.equal(kernels.sum(dim=1), torch.zeros(84))
    assert set(kernels.flatten().tolist()) == {-1.0, 2.0}


@pytest.mark.parametrize("n_timesteps", [1, 8, 9, 45, 300, 4096])
def test_dilated_kernels_fit_into_the_window(n_timesteps):
    dilation, count = dilations(n_timesteps, 30)
    assert sum(count) == 30
    assert dilation[0] == 1
    assert dilation == sorted(set(dilation))
    assert 8 * dilation[-1] <= max(n_timesteps - 1, 8)


def test_kernel_features_are_proportions_of_positive_values():
    x = normal(20, 3, 40)
    block = fitted(KernelBlock, x)
    features = block(x[:2]).numpy()
    start, column = 0, 0
    for at, (d, count) in enumerate(zip(block.dilation, block.count, strict=True)):
        for kernel in (0, 17, 83):
            used = block.channels[at, kernel].bool()
            signal = x[1, used].sum(dim=0)
            output = dilated(signal, block.kernels[kernel], d)
            for i in range(count):
                share = np.mean(output > block.bias[kernel, start + i].item())
                got = features[1, column + kernel * count + i]
                assert got == pytest.approx(share, abs=1.5 / 40)
        start, column = start + count, column + 84 * count


def test_kernel_features_spread_evenly_on_the_rows_of_the_fit():
    """A bias is a random quantile, so what lies above it is uniform."""
    x = normal(200, 2, 60)
    mean = fitted(KernelBlock, x)(x).mean(dim=0)
    ordered = mean.sort().values
    uniform = torch.linspace(0, 1, len(ordered))
    assert (ordered - uniform).abs().max() < 0.05


def test_level_does_not_move_kernel_features_away_from_the_edges():
    x = normal(10, 2, 400)
    block = fitted(KernelBlock, x)
    short = slice(0, 84 * block.count[0])  # dilation 1: eight steps at the edges
    moved = (block(x + 0.5) - block(x))[:, short].abs()
    assert moved.max() <= 8 / 400 + 1e-6


def test_flat_windows_are_not_positive_by_rounding():
    x = torch.cat([normal(20, 1, 50), torch.full((20, 1, 50), 0.1)])
    block = fitted(KernelBlock, x, seed=3)
    inner = block.convolve(x[-1:], 0)[0, :, 4:-4]
    zero_bias = block.bias[:, 0].abs() < 1e-3
    assert zero_bias.any()
    assert not (inner[zero_bias] > block.bias[zero_bias, :1]).any()


# --------------------------------------------------------------------- competition
def test_competition_counts_winners():
    x = normal(20, 2, 30)
    block = fitted(CompetitionBlock, x, 3)
    features = block(x[:1])[0].numpy()
    width = 3 * 8
    position = 0
    for at, d in enumerate(block.dilation):
        for s, signal in enumerate((x[0], x[0].diff(dim=-1))):
            weight = block.weight[at, s]
            outputs = np.stack(
                [
                    sum(dilated(signal[c], weight[k, c], d) for c in range(2))
                    for k in range(width)
                ]
            ).reshape(3, 8, -1)
            best, worst = outputs.argmax(axis=1), outputs.argmin(axis=1)
            lowest = outputs.min(axis=1)
            for group in range(3):
                for k in range(8):
                    won = outputs[group, k][best[group] == k].clip(min=0).sum()
                    lost = np.sum((worst[group] == k) & (lowest[group] < -1e-4))
                    i = position + 8 * group + k
                    assert features[i] ** 2 == pytest.approx(won, rel=1e-3, abs=1e-4)
                    assert features[i + width] ** 2 == pytest.approx(lost, abs=1e-3)
            position += 2 * width


def test_nobody_wins_on_a_flat_window():
    block = fitted(CompetitionBlock, normal(5, 2, 90))
    edges = 4 * block.dilation[0]
    flat = block(torch.zeros(1, 2, 90))
    assert flat.max() == 0
    assert edges > 0


# ---------------------------------------------------------------------- statistics
def test_statistics_of_a_sine():
    n, cycles, amplitude = 240, 12, 3.0
    t = torch.arange(n) / n
    x = amplitude * torch.sin(2 * torch.pi * cycles * t)[None, None]
    block = StatisticsBlock(1, n)
    signals = torch.cat([x, x.abs()], dim=1)
    centred = signals - signals.mean(dim=-1, keepdim=True)
    scale = centred.square().mean(dim=-1).sqrt()
    unit = centred / scale[..., None]
    mean, std, log_std, quantiles, *_, crossings, skewness, kurtosis = (
        part[0, 0] for part in block._amplitude(signals, unit, scale)
    )
    assert mean.item() == pytest.approx(0, abs=1e-5)
    assert std.item() == pytest.approx(amplitude / 2**0.5, rel=1e-4)
    assert log_std.item() == pytest.approx(np.log(amplitude / 2**0.5), rel=1e-4)
    assert quantiles[[0, 5, 10]].tolist() == pytest.approx([-3, 0, 3], abs=0.02)
    assert crossings.item() * n / 2 == pytest.approx(2 * cycles, abs=1)
    assert skewness.item() == pytest.approx(0, abs=1e-4)
    assert kurtosis.item() ** 2 == pytest.approx(1.5, rel=1e-3)
    share = power_spectrum(unit) / n**2
    bands, entropy, centroid, peak = (
        part[0, 0] for part in block._spectrum(share, scale)
    )
    one_line = 0.5  # of the variance: the other half lies at negative frequency
    assert peak.item() == pytest.approx(one_line, rel=1e-4)
    assert centroid.item() == pytest.approx(one_line * (cycles - 1) / (n // 2 - 1))
    assert entropy.item() == pytest.approx(-one_line * np.log(one_line), abs=1e-4)
    power = amplitude**2 / 2 * one_line
    assert bands.exp().sum().item() == pytest.approx(power, rel=1e-3)
    assert bands.argmax() == int(np.log(cycles) / np.log(n // 2 + 1) * 16)


def test_statistics_do_not_jump_where_values_lie_on_the_mean(seeded):
    """Recorded values are multiples of a step: many are the mean of their window."""
    x = torch.tensor([-1.0, 0, 0, 1, 0, 0, -1, 0, 0, 1]).repeat(9)[None, None]
    block = StatisticsBlock(1, x.shape[-1])
    nudge = 1e-6 * torch.randn(50, *x.shape[1:], generator=seeded())
    assert (block(x + nudge) - block(x)).abs().max() < 1e-3


# ----------------------------------------------------------------------- magnitude
def standardised_magnitude(x, offset):
    """Return the squared norm as the stem sees it, and what it must be."""
    raw = torch.tensor([[1.0], [30.0], [0.1]]) * x + torch.tensor(offset)[:, None]
    mean, scale = raw.mean((0, 2))[:, None], raw.std((0, 2))[:, None]
    standardise = Standardise(mean, scale)
    magnitude = SquaredMagnitude(3)
    rows = standardise(raw)
    magnitude.fit(rows, standardise)
    square = raw.double().square().sum(dim=1, keepdim=True)
    return magnitude(rows), (square - square.mean()) / square.std(correction=0)


@pytest.mark.parametrize("offset", [[0.0, 0, 0], [5.0, -20, 0.3], [1e5, 30, 7]])
def test_magnitude_is_the_squared_norm_in_the_users_units(offset):
    got, expected = standardised_magnitude(normal(50, 3, 40), offset)
    # values near 1e5 are themselves known to some .004 of a deviation of 1
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=0.02)


def test_magnitude_loses_no_digits_where_levels_are_high():
    standardise = Standardise(torch.full((3, 1), 1e5), torch.full((3, 1), 0.01))
    x, magnitude = normal(50, 3, 40), SquaredMagnitude(3)
    magnitude.fit(x, standardise)
    raw = x.double() * 0.01 + 1e5
    square = raw.square().sum(dim=1, keepdim=True)
    expected = (square - square.mean()) / square.std(correction=0)
    torch.testing.assert_close(magnitude(x).double(), expected, rtol=0, atol=1e-4)


def test_magnitude_of_a_fitted_model_stays_when_the_sensor_is_turned():
    X = make_wearable(40, n_timesteps=30, random_state=0, return_X_y=True)[0]
    model = FlowFMTransformer(8, max_steps=0, random_state=0).fit(X).module_
    turn = torch.linalg.qr(normal(3, 3))[0].double()
    turned = (turn @ torch.from_numpy(X).double()).float()

    def seen(X):
        return model.stem.signals(model.standardise(X))

    before, after = seen(torch.from_numpy(X).float()), seen(turned)
    assert (before[:, :3] - after[:, :3]).abs().max() > 1
    torch.testing.assert_close(before[:, 3], after[:, 3], rtol=1e-3, atol=1e-3)


def test_magnitude_that_never_changes_is_zero():
    magnitude = SquaredMagnitude(2)
    magnitude.fit(torch.zeros(5, 2, 8))
    assert not magnitude(torch.zeros(3, 2, 8)).any()


# ----------------------------------------------------------------------------- stem
def test_stem_components_are_uncorrelated_sorted_and_of_mean_square_one():
    x = normal(60, 2, 30).cumsum(dim=-1)
    stem = fitted(Stem, x, 20)
    z = stem(x).double()
    assert z.mean(dim=0).abs().max() < 1e-3
    covariance = z.T.cov(correction=0)
    deviation = covariance.diagonal().sqrt()
    assert (deviation.diff() <= 0).all()
    correlation = covariance / (deviation[:, None] * deviation)
    assert (correlation - torch.eye(20)).abs().max() < 1e-2
    assert z.square().mean().item() == pytest.approx(1, rel=1e-3)


def test_stem_blocks_have_equal_shares_of_the_variance():
    x = normal(300, 2, 60).cumsum(dim=-1)
    stem = fitted(Stem, x)
    wide = stem.standardised(stem.blocks_of(x))
    sizes = [block.n_features for block in stem.blocks]
    power = [part.square().sum(dim=1).mean().item() for part in wide.split(sizes, 1)]
    assert power == pytest.approx([1, 1, 1], rel=0.1)


def test_stem_is_zero_beyond_the_rank_of_few_rows():
    x = normal(5, 1, 40)
    z = fitted(Stem, x, 10)(normal(7, 1, 40, seed=1))
    assert z[:, 4:].abs().max() == 0
    assert z[:, :4].abs().min() > 0


def test_stem_treats_each_row_by_itself():
    x = normal(40, 3, 50)
    stem = fitted(Stem, x)
    together = stem(x)
    alone = torch.cat([stem(row[None]) for row in x])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 3), (12, 20), (2, 1100)])
def test_stem_is_finite_on_windows_of_any_shape(shape):
    x = torch.cat([normal(6, *shape), torch.zeros(2, *shape)])
    assert fitted(Stem, x)(1e4 * x).isfinite().all()


def test_long_windows_are_sampled_without_skipping_a_step():
    """Each time step still lies under some tap of every kernel."""
    block = KernelBlock(1, 4096)
    assert 1 < block.stride <= 9
    output = block.convolve(torch.zeros(1, 1, 4096), 0)
    assert output.shape[-1] == -(-4096 // block.stride)


# -------------------------------------------------------------------------- encoder
@pytest.mark.uses_global_rng
def test_fixed_components_pass_through_and_the_learned_quarter_is_bounded():
    encoder = FeatureEncoder(200, 176)
    initialise(encoder, torch.Generator().manual_seed(0))
    features = 100 * normal(30, 200)
    h = encoder(features)
    assert encoder.n_learned == 44
    assert torch.equal(h[:, 44:], features[:, :132])
    assert h[:, :44].square().mean(dim=1).max() < 1


@pytest.mark.uses_global_rng
@pytest.mark.parametrize("n_components", [2, 16, 64])
def test_of_few_components_the_bound_leaves_more_than_the_direction(n_components):
    """Their mean square is that of all 256, so the leading ones have a large one."""
    shares = torch.arange(1, 257).float().reciprocal()
    features = normal(500, 256) * (256 * shares / shares.sum()).sqrt()
    encoder = FeatureEncoder(256, n_components, least_fixed=n_components)
    size = bounded(encoder(features)).norm(dim=1)
    farther = bounded(encoder(1.5 * features)).norm(dim=1)
    assert (farther / size).mean() > 1.1


@pytest.mark.uses_global_rng
def test_leading_components_may_all_be_kept():
    encoder = FeatureEncoder(20, 9, least_fixed=16)
    features = normal(30, 20)
    assert (encoder.n_fixed, encoder.n_learned) == (9, 0)
    ratio = encoder(features) / features[:, :9]
    torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio))
    assert not list(encoder.parameters())


@pytest.mark.uses_global_rng
def test_more_components_than_features_are_learned():
    encoder = FeatureEncoder(4, 40)
    assert (encoder.n_fixed, encoder.n_learned) == (4, 36)


def test_training_leaves_the_stem_as_it_is():
    X = normal(80, 2, 30).numpy()
    start = FlowFMTransformer(16, max_steps=0, random_state=0).fit(X).module_
    end = FlowFMTransformer(16, max_steps=20, random_state=0).fit(X).module_
    for (name, a), b in zip(
        start.stem.named_buffers(), end.stem.buffers(), strict=True
    ):
        assert torch.equal(a, b), name
    assert not list(end.stem.parameters())
    moved = zip(start.encoder.parameters(), end.encoder.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in moved)


# ------------------------------------------------------------- what each part computes
def test_few_rows_far_from_zero_have_centred_components_of_mean_square_one():
    x, components = normal(8, 50) + 10, PrincipalComponents(50, 20)
    components.fit(x)
    assert components(x).mean(dim=0).abs().max() < 1e-3
    assert components(x).square().mean().item() == pytest.approx(1, rel=1e-3)


def test_kernels_see_one_to_all_channels():
    block = fitted(KernelBlock, normal(5, 6, 100), 6, 100)
    assert block.channels.sum(dim=-1).unique().tolist() == [1, 2, 3, 4, 5, 6]


def test_competing_kernels_sum_to_zero_and_see_the_channels_of_their_group():
    block = fitted(CompetitionBlock, normal(1, 6, 100), 6, 100)
    assert block.weight.sum(dim=-1).abs().max() < 1e-6
    sees = (block.weight != 0).any(dim=-1)
    sees = sees.unflatten(2, (block.n_groups, KERNELS_PER_GROUP))
    assert (sees == sees[:, :, :, :1]).all()


def test_of_very_long_windows_no_step_is_skipped():
    assert stride_of(10**6) <= LENGTH


def test_the_last_statistic_of_two_channels_is_their_covariance():
    x = np.random.default_rng(0).normal(size=(2, 60)) * [[1], [7]]
    x[1] += x[0]
    told = StatisticsBlock(2, 60)(torch.tensor(x[None]).float())[0]
    assert told[-1].item() == pytest.approx(np.cov(x, bias=True)[0, 1], rel=1e-3)


@pytest.mark.parametrize("size", [0.5, 3.0])
def test_change_has_the_size_of_the_signal(size):
    x = size * torch.tensor([1.0, -1.0]).repeat(30)[None, None]
    change = StatisticsBlock(1, 60)(x)[0, 14]  # after mean, scale, log, 11 quantiles
    assert change.item() == pytest.approx(2 * size * 59 / 60, rel=1e-4)


def test_autocorrelation_of_an_alternating_window_is_one_or_minus_one():
    x = torch.tensor([1.0, -1.0]).repeat(10)[None, None]
    told = StatisticsBlock(1, 20, n_bands=4)(x)[0]
    start = 19 + 4 + 3  # after amplitude, bands and the other features of the spectrum
    assert told[start : start + 3].tolist() == pytest.approx([-1, 1, 1], abs=1e-4)


def test_the_magnitude_stays_in_its_units_when_channels_get_others():
    mean, scale = torch.tensor([[4.0], [9.0]]), torch.tensor([[2.0], [1.0]])
    before, after = Standardise(mean, scale), Standardise(mean + 1, scale * 3)
    x, magnitude = normal(9, 2, 30) + mean, SquaredMagnitude(2)
    magnitude.fit(before(x), before)
    change = magnitude(before(x)).diff(dim=-1)
    magnitude.rescale(before, after)
    again = magnitude(after(x)).diff(dim=-1)
    torch.testing.assert_close(again, change, rtol=1e-3, atol=1e-3)


def test_vectors_of_constant_length_are_read_without_their_rounding():
    """What is left of a constant norm in single precision says nothing."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4, 1)) + np.cumsum(rng.normal(size=(200, 4, 40)), -1) / 9
    X = (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)
    model = FlowFMTransformer(8, max_steps=0, random_state=0).fit(X)
    moved = model.transform(X + 1e-6 * rng.normal(size=X.shape)) - model.transform(X)
    assert np.square(moved).mean() < 1e-3 * model.transform(X).var(axis=0).mean()
    assert (model.module_.stem.magnitude(2 * torch.from_numpy(X)) == 0).all()
