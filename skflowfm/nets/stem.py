r"""A broad, frozen stem: thousands of simple features of a window, and their PCA.

Random convolutions describe a window astonishingly well without any training. What
they lack is size and geometry: there are too many of them, and they are noisy one by
one. The stem computes three blocks of features, standardises each feature, gives each
block its share of the variance, and keeps the leading principal components of the
whole, *unwhitened*. The encoder stands on these.

* :class:`KernelBlock`: proportions of positive values of zero-sum kernels at many
  dilations, as in MiniRocket [1]_.
* :class:`CompetitionBlock`: which of a group of random kernels answers most, and how
  strongly, as in Hydra [2]_.
* :class:`StatisticsBlock`: what a practitioner would compute by hand.

Everything here is fitted in one pass over some of the rows, without labels, and never
changes afterwards.

References
----------
.. [1] A. Dempster, D. F. Schmidt and G. I. Webb, "MiniRocket: A Very Fast (Almost)
       Deterministic Transform for Time Series Classification", KDD 2021.
.. [2] A. Dempster, D. F. Schmidt and G. I. Webb, "Hydra: competing convolutional
       kernels for fast and accurate time series classification", DMKD 37, 2023.
"""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .components import PrincipalComponents

LENGTH = 9
KERNELS_PER_GROUP = 8
MAX_CHANNELS = 9
MARGIN = 1e-4
MAX_OUTPUTS = 512
GOLDEN_RATIO = (math.sqrt(5) + 1) / 2
BLOCK_VALUES = 10_000


def zero_sum_kernels() -> Tensor:
    """Return the 84 kernels of length 9 with three weights of 2 and six of -1."""
    chosen = itertools.combinations(range(LENGTH), 3)
    return torch.tensor(
        [[2.0 if j in c else -1.0 for j in range(LENGTH)] for c in chosen]
    )


def dilations(n_timesteps: int, n: int) -> tuple[list[int], list[int]]:
    """Spread ``n`` features of a kernel over dilations that fit into the window.

    Returns
    -------
    dilation, count : list of int
        Different dilations, geometric from 1 up to where the kernel spans the window,
        and how many of the ``n`` features each gets.
    """
    top = max(0.0, math.log2(max(n_timesteps - 1, 1) / (LENGTH - 1)))
    spread = torch.logspace(0, top, n, base=2, dtype=torch.float64)
    dilation, count = spread.floor().long().unique(return_counts=True)
    return dilation.tolist(), count.tolist()


def stride_of(n_timesteps: int) -> int:
    """Return every how many steps a kernel is applied: a sample of long windows."""
    return min(max(1, n_timesteps // MAX_OUTPUTS), LENGTH)


def random_channels(shape, n_channels: int, size, generator) -> Tensor:
    """Return 0/1 masks (*shape, n_channels) with ``size`` random ones each."""
    order = torch.rand(*shape, n_channels, generator=generator)
    return (order.argsort(-1).argsort(-1) < size).float()


class KernelBlock(nn.Module):
    r"""Proportion of positive values of dilated zero-sum kernels.

    A feature is the share of time steps at which kernel k, at a dilation and summed
    over a random subset of channels, exceeds a bias. The biases are quantiles of that
    kernel's own output on training windows, so features are neither all 0 nor all 1.
    As the kernels sum to zero, the level of a channel does not matter.

    **Shape.** Input (n, n_channels, n_timesteps); output (n, 84 per_kernel).

    Parameters
    ----------
    n_channels, n_timesteps : int
        Shape of a window.
    per_kernel : int, default=30
        Features of each of the 84 kernels, spread over the dilations.
    """

    def __init__(self, n_channels: int, n_timesteps: int, per_kernel: int = 30):
        super().__init__()
        self.dilation, self.count = dilations(n_timesteps, per_kernel)
        self.stride = stride_of(n_timesteps)
        kernels = zero_sum_kernels()
        n = len(kernels)
        self.n_features = n * per_kernel
        self.register_buffer("kernels", kernels)
        self.register_buffer("channels", torch.zeros(len(self.dilation), n, n_channels))
        self.register_buffer("bias", torch.zeros(n, per_kernel))

    def convolve(self, x: Tensor, at: int) -> Tensor:
        """Return the output of all kernels at a dilation, (n, 84, n_outputs)."""
        d = self.dilation[at]
        weight = self.kernels[:, None] * self.channels[at][..., None]
        return F.conv1d(x, weight, None, self.stride, LENGTH // 2 * d, d)

    def fit(self, x: Tensor, generator: torch.Generator) -> None:
        """Draw the channel subsets; set the biases from some windows ``x``."""
        n_kernels, n_channels = self.channels.shape[1:]
        octaves = math.log2(min(n_channels, MAX_CHANNELS) + 1)
        size = 2 ** (
            octaves * torch.rand(*self.channels.shape[:2], generator=generator)
        )
        size = size.long().clamp(1, n_channels)[..., None]
        self.channels.copy_(
            random_channels(self.channels.shape[:2], n_channels, size, generator)
        )
        # a low-discrepancy sequence covers (0, 1) evenly however it is cut
        level = (torch.arange(1, self.bias.numel() + 1) * GOLDEN_RATIO).double() % 1
        level = level.float().reshape(self.bias.T.shape).T.contiguous()
        start = 0
        for at, count in enumerate(self.count):
            rows = torch.randint(len(x), (n_kernels,), generator=generator)
            each = torch.arange(n_kernels)
            output = self.convolve(x[rows], at)[each, each]
            part = slice(start, start + count)
            for kernel in range(n_kernels):
                self.bias[kernel, part] = output[kernel].quantile(level[kernel, part])
            start += count
        self.bias.add_(MARGIN)  # a flat stretch is not positive by rounding

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for at, bias in enumerate(self.bias.split(self.count, dim=1)):
            output = self.convolve(x, at)[:, :, None]
            # comparing in place on floats is several times faster than bool.mean()
            wide = output.expand(-1, -1, bias.shape[1], -1).clone()
            out.append(wide.gt_(bias[..., None]).mean(dim=-1).flatten(1))
        return torch.cat(out, dim=1)


class CompetitionBlock(nn.Module):
    """Winners among random kernels: how strong, and how often the weakest.

    Groups of eight random zero-mean kernels compete at each time step, on the window
    and on its first difference. A feature is the square root of a kernel's summed
    winning output, or of how often it is the lowest of its group.

    **Shape.** Input (n, n_channels, n_timesteps); output (n, n_features).

    Parameters
    ----------
    n_channels, n_timesteps : int
        Shape of a window.
    n_groups : int, default=8
        Groups at each dilation.
    """

    def __init__(self, n_channels: int, n_timesteps: int, n_groups: int = 8):
        super().__init__()
        self.n_groups = n_groups
        self.stride = stride_of(n_timesteps)
        octaves = int(max(0.0, math.log2(max(n_timesteps - 1, 1) / (LENGTH - 1))))
        self.dilation = [2**k for k in range(octaves + 1)]
        self.n_signals = 2 if n_timesteps > 1 else 1
        shape = (len(self.dilation), self.n_signals, n_groups * KERNELS_PER_GROUP)
        self.n_features = 2 * math.prod(shape)
        self.register_buffer("weight", torch.zeros(*shape, n_channels, LENGTH))

    def fit(self, x: Tensor, generator: torch.Generator) -> None:
        """Draw the kernels and each group's channels."""
        n_channels = self.weight.shape[3]
        kernels = torch.randn(*self.weight.shape[:3], 1, LENGTH, generator=generator)
        kernels -= kernels.mean(dim=-1, keepdim=True)
        kernels /= kernels.abs().sum(dim=-1, keepdim=True)
        size = n_channels if n_channels < 3 else min(n_channels // 2, MAX_CHANNELS - 1)
        shape = (*self.weight.shape[:2], self.n_groups)
        mask = random_channels(shape, n_channels, size, generator)
        mask = mask.repeat_interleave(KERNELS_PER_GROUP, dim=2)
        self.weight.copy_(kernels * mask[..., None])

    def forward(self, x: Tensor) -> Tensor:
        out = []
        signals = (x, x.diff(dim=-1))[: self.n_signals]
        for at, d in enumerate(self.dilation):
            for signal, weight in zip(signals, self.weight[at], strict=True):
                output = F.conv1d(signal, weight, None, self.stride, LENGTH // 2 * d, d)
                output = output.unflatten(1, (self.n_groups, KERNELS_PER_GROUP))
                top = output.amax(dim=2, keepdim=True)
                low = output.amin(dim=2, keepdim=True).clamp_max(-MARGIN)
                won = (output.clone().ge_(top) * top.clamp_min(0)).sum(dim=-1)
                lost = output.le_(low).sum(dim=-1)
                out += [won.sqrt().flatten(1), lost.sqrt().flatten(1)]
        return torch.cat(out, dim=1)


class StatisticsBlock(nn.Module):
    """Moments, quantiles, spectrum, autocorrelation and cross-channel correlation.

    Of each channel and of the Euclidean norm over channels.

    **Shape.** Input (n, n_channels, n_timesteps); output (n, n_features).

    Parameters
    ----------
    n_channels, n_timesteps : int
        Shape of a window.
    n_bands : int, default=16
        Bands of equal width in log-frequency.
    """

    N_QUANTILES = 11
    LAGS = (1, 2, 4, 8, 16, 32)
    FLOOR = 1e-4

    def __init__(self, n_channels: int, n_timesteps: int, n_bands: int = 16):
        super().__init__()
        n_bins = n_timesteps // 2
        n_bands = min(n_bands, n_bins)
        octave = torch.arange(1, n_bins + 1).log() / math.log(n_bins + 1)
        band = torch.arange(n_bands) == (octave * n_bands).long()[:, None]
        self.register_buffer("band", band.float())  # (n_bins, n_bands)
        i, j = torch.triu_indices(n_channels + 1, n_channels + 1, 1)
        few = n_channels <= MAX_CHANNELS
        self.pairs = (i.tolist(), j.tolist()) if few else ([], [])
        self.n_features = self(torch.zeros(1, n_channels, n_timesteps)).shape[1]

    def fit(self, x: Tensor, generator: torch.Generator) -> None:
        """Nothing to learn."""

    def forward(self, x: Tensor) -> Tensor:
        signals = torch.cat([x, x.square().sum(dim=1, keepdim=True).sqrt()], dim=1)
        centred = signals - signals.mean(dim=-1, keepdim=True)
        scale = centred.square().mean(dim=-1).add(self.FLOOR**2).sqrt()
        unit = centred / scale[..., None]
        out = [*self._amplitude(signals, unit, scale), *self._spectrum(unit, scale)]
        for lag in self.LAGS:
            if lag < x.shape[-1]:
                out.append((unit[..., lag:] * unit[..., :-lag]).mean(dim=-1))
        i, j = self.pairs
        correlation = (unit @ unit.transpose(1, 2) / x.shape[-1])[:, i, j]
        out += [correlation, correlation * scale[:, i] * scale[:, j]]
        return torch.cat([part.flatten(1) for part in out], dim=1)

    def _amplitude(self, signals: Tensor, unit: Tensor, scale: Tensor):
        n_timesteps = signals.shape[-1]
        at = torch.linspace(0, n_timesteps - 1, self.N_QUANTILES, device=scale.device)
        low, high = at.floor().long(), at.ceil().long()
        ordered = signals.sort(dim=-1).values
        quantiles = torch.lerp(ordered[..., low], ordered[..., high], at - low)
        change = signals.diff(dim=-1).abs().sum(dim=-1) / n_timesteps
        crossings = unit.sign().diff(dim=-1).abs().sum(dim=-1) / n_timesteps
        skewness = unit.pow(3).mean(dim=-1).clamp(-10, 10)
        kurtosis = unit.pow(4).mean(dim=-1).sqrt().clamp_max(10)
        yield from (signals.mean(dim=-1), scale, scale.log(), quantiles, change)
        yield from ((change + self.FLOOR).log(), crossings, skewness, kurtosis)

    def _spectrum(self, unit: Tensor, scale: Tensor):
        if not len(self.band):
            return
        n_timesteps = unit.shape[-1]
        share = torch.fft.rfft(unit, dim=-1)[..., 1:].abs().square()
        share = share / n_timesteps**2  # of the variance, at each frequency
        frequency = torch.linspace(0, 1, share.shape[-1], device=unit.device)
        yield ((share @ self.band) * scale[..., None] ** 2 + 1e-6).log()
        yield torch.special.entr(share).sum(dim=-1)
        yield (share * frequency).sum(dim=-1)
        yield share.amax(dim=-1)


class Stem(nn.Module):
    """The three blocks, standardised, weighted and rotated to principal components.

    **Shape.** Input: standardised windows (n, n_channels, n_timesteps); output
    (n, n_features). On the fitted rows the components come in order of variance, and
    all together have a mean square of 1.

    Parameters
    ----------
    n_channels, n_timesteps : int
        Shape of a window.
    n_features : int, default=256
        Principal components kept. Beyond the rank of the fitted rows they are 0.
    """

    SHARES = (1.0, 1.0, 0.5)
    CLIP = 10.0

    def __init__(self, n_channels: int, n_timesteps: int, n_features: int = 256):
        super().__init__()
        shape = n_channels, n_timesteps
        self.n_features = n_features
        self.blocks = nn.ModuleList(
            [KernelBlock(*shape), CompetitionBlock(*shape), StatisticsBlock(*shape)]
        )
        n_wide = sum(block.n_features for block in self.blocks)
        self.register_buffer("mean", torch.zeros(n_wide))
        self.register_buffer("scale", torch.ones(n_wide))
        self.components = PrincipalComponents(n_wide, n_features)

    def blocks_of(self, x: Tensor) -> Tensor:
        """Return the raw features of all blocks, (n, n_wide)."""
        if not len(x):
            return x.new_zeros(0, len(self.mean))
        parts = x.split(max(1, BLOCK_VALUES // x.shape[-1]))  # fits the cache
        return torch.cat(
            [torch.cat([block(p) for block in self.blocks], dim=1) for p in parts]
        )

    def standardised(self, wide: Tensor) -> Tensor:
        """Return centred features, each with its share of the variance."""
        share = torch.cat(
            [
                wide.new_full((block.n_features,), (s / block.n_features) ** 0.5)
                for block, s in zip(self.blocks, self.SHARES, strict=True)
            ]
        )
        unit = (wide - self.mean) / self.scale
        return unit.clamp_(-self.CLIP, self.CLIP) * share

    @torch.no_grad()
    def fit(self, x: Tensor, generator: torch.Generator) -> None:
        """Draw the kernels; learn scales and components.

        Parameters
        ----------
        x : Tensor of shape (n, n_channels, n_timesteps)
            Standardised windows; some 2,000 suffice.
        generator : torch.Generator
            Draws the kernels and which windows give the biases.
        """
        for block in self.blocks:
            block.fit(x, generator)
        wide = self.blocks_of(x)
        self.mean.copy_(wide.mean(dim=0))
        deviation = wide.std(dim=0, correction=0)
        constant = deviation <= MARGIN * (1 + self.mean.abs())
        self.scale.copy_(deviation.masked_fill(constant, float("inf")))
        self.components.fit(self.standardised(wide))

    def forward(self, x: Tensor) -> Tensor:
        return self.components(self.standardised(self.blocks_of(x)))
