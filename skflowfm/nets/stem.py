r"""A broad, frozen stem: thousands of simple features of a window, and their PCA.

Random convolutions describe a window astonishingly well without any training. What
they lack is geometry, which :class:`~skflowfm.nets.blocks.BlockStem` gives them. The
stem adds the squared magnitude to several channels and computes three blocks of
features. The encoder stands on their leading principal components.

* ``KernelBlock``: proportions of positive values of zero-sum kernels at many
  dilations, as in MiniRocket.
* ``CompetitionBlock``: which of a group of random kernels answers most, and how
  strongly, as in Hydra; references in :mod:`skflowfm.nets.kernels`.
* ``StatisticsBlock``: what a practitioner would compute by hand.

Everything here is fitted in one pass over some of the rows, without labels, and never
changes afterwards.
"""

import functools
import math

import torch
from torch import Tensor, nn

from .blocks import BlockStem
from .kernels import MAX_CHANNELS, CompetitionBlock, KernelBlock

BLOCK_VALUES = 10_000
CUDA_BLOCK_VALUES = 300_000
FITTED_AT_A_TIME = 64
ROUNDING = 1e-5  # of the terms that a sum in single precision is made of


def power_spectrum(x: Tensor) -> Tensor:
    """Return the power at each frequency above 0, (..., n_timesteps // 2)."""
    return torch.fft.rfft(x, dim=-1)[..., 1:].abs().square()


def interpolation(n_timesteps: int, n_reference: int) -> Tensor:
    """Return the matrix from a power spectrum to that of windows of another length.

    Shape (n_timesteps // 2, n_reference // 2). Power is interpolated at the frequencies
    of the reference, per unit of frequency; that of longer windows is averaged around
    them, so that no line is lost.
    """
    n_in, n_out = n_timesteps // 2, n_reference // 2
    ratio = n_timesteps / n_reference
    at = (torch.arange(1, n_out + 1) * ratio - 1).clamp(0, n_in - 1)
    distance = (at - torch.arange(n_in)[:, None]).abs()
    width = max(1.0, ratio)
    return ratio / width * (1 - distance / width).clamp_min(0)


class StatisticsBlock(nn.Module):
    """Moments, quantiles, spectrum, autocorrelation and cross-channel correlation.

    **Shape.** Input (n, n_channels, n_timesteps); output (n, n_features).

    Parameters
    ----------
    n_channels, n_timesteps : int
        Shape of a window.
    n_bands : int, default=16
        Bands of equal width in log-frequency.
    n_reference : int, default=None
        Time steps of the windows whose frequencies the features are about; None is
        ``n_timesteps``. A spectrum of other windows is interpolated there.
    """

    N_QUANTILES = 11
    LAGS = (1, 2, 4, 8, 16, 32)
    FLOOR = 1e-4
    ON_THE_MEAN = 0.01

    def __init__(
        self,
        n_channels: int,
        n_timesteps: int,
        n_bands: int = 16,
        n_reference: int | None = None,
    ):
        super().__init__()
        self.n_reference = n_reference or n_timesteps
        n_bins = self.n_reference // 2
        n_bands = min(n_bands, n_bins)
        octave = torch.arange(1, n_bins + 1).log() / math.log(n_bins + 1)
        band = torch.arange(n_bands) == (octave * n_bands).long()[:, None]
        self.register_buffer("band", band.float())  # (n_bins, n_bands)
        same = self.n_reference == n_timesteps
        other = None if same else interpolation(n_timesteps, self.n_reference)
        self.register_buffer("other", other, persistent=False)
        i, j = torch.triu_indices(n_channels, n_channels, 1)
        few = n_channels <= MAX_CHANNELS + 1
        self.pairs = (i.tolist(), j.tolist()) if few else ([], [])
        self.n_features = self(torch.zeros(1, n_channels, n_timesteps)).shape[1]

    def fit(self, x: Tensor, generator: torch.Generator) -> None:
        """Nothing to learn."""

    def forward(self, x: Tensor, power=power_spectrum) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        scale = centred.square().mean(dim=-1).add(self.FLOOR**2).sqrt()
        unit = centred / scale[..., None]
        out = list(self._amplitude(x, unit, scale))
        if len(self.band):
            share = power(unit) / unit.shape[-1] ** 2
            out += self._spectrum(
                share if self.other is None else share @ self.other, scale
            )
        for lag in self.LAGS:
            if lag < self.n_reference:
                product = unit[..., lag:] * unit[..., :-lag]
                out.append(product.sum(dim=-1) / max(1, x.shape[-1] - lag))
        i, j = self.pairs
        if i:
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
        side = (unit / self.ON_THE_MEAN).clamp(-1, 1)  # continuous, or rounding decides
        crossings = side.diff(dim=-1).abs().sum(dim=-1) / n_timesteps
        skewness = unit.pow(3).mean(dim=-1).clamp(-10, 10)
        kurtosis = unit.pow(4).mean(dim=-1).sqrt().clamp_max(10)
        yield from (signals.mean(dim=-1), scale, scale.log(), quantiles, change)
        yield from ((change + self.FLOOR).log(), crossings, skewness, kurtosis)

    def _spectrum(self, share: Tensor, scale: Tensor):
        """Describe the share of the variance at each frequency."""
        frequency = torch.linspace(0, 1, share.shape[-1], device=share.device)
        yield ((share @ self.band) * scale[..., None] ** 2 + 1e-6).log()
        yield -torch.xlogy(share, share).sum(dim=-1)
        yield (share * frequency).sum(dim=-1)
        yield share.amax(dim=-1)


class SquaredMagnitude(nn.Module):
    r"""The squared Euclidean norm over channels in the user's units, standardised.

    How a sensor is turned changes what each channel reads, and not their norm. With
    means m and deviations s in the user's units, of standardised x it is

    .. math:: \lVert m + s x \rVert^2
        = \lVert m \rVert^2 + \textstyle\sum_c s_c x_c\, (s_c x_c + 2 m_c),

    whose second part loses no digits where m is large. The root is not taken, as
    runtimes round it differently.

    **Shape.** Input (n, n_channels, n_timesteps); output (n, 1, n_timesteps).

    Parameters
    ----------
    n_channels : int
        Channels of a window.
    """

    def __init__(self, n_channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_channels, 1))
        self.register_buffer("unit", torch.ones(n_channels, 1))
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def fit(self, x: Tensor, standardise=None) -> None:
        """Learn the units, if windows were standardised, and the scale.

        Parameters
        ----------
        x : Tensor of shape (n, n_channels, n_timesteps)
            Standardised windows.
        standardise : Standardise, default=None
            What made them so; None takes them for the user's units.
        """
        if standardise is not None:
            mean, scale = standardise.mean.double(), standardise.scale.double()
            size = mean.square().sum().add(scale.square().sum()).sqrt()
            self.mean.copy_(mean / size)
            self.unit.copy_(scale / size)
        parts = x.split(FITTED_AT_A_TIME)
        square = torch.cat([self(part) for part in parts])
        spread = square.std(correction=0)
        total = sum(self.terms(part).square().mean(dim=1).sum() for part in parts)
        rounding = ROUNDING * (total / square.numel()).sqrt()
        self.centre.copy_(square.mean())
        if spread <= rounding:  # constant: of channels at rest, or of unit vectors
            spread = torch.tensor(torch.inf if rounding > 0 else 1.0)
        self.spread.copy_(spread)

    def rescale(self, before, after) -> None:
        """Follow a change of what standardises the windows, in the same units."""
        size = (before.scale / self.unit).amax()
        self.mean.copy_(after.mean / size)
        self.unit.copy_(after.scale / size)

    def terms(self, x: Tensor) -> Tensor:
        """Return what each channel adds to the norm, but for a constant."""
        moved = x * self.unit
        return moved * (moved + 2 * self.mean)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.terms(x).split(1, dim=1)
        square = functools.reduce(torch.add, parts)  # in the same order everywhere
        return (square - self.centre) / self.spread


def n_signals(n_channels: int) -> int:
    """Return how many channels the blocks see: of one, its magnitude says little."""
    return n_channels + (n_channels > 1)


class Stem(BlockStem):
    """The three blocks, standardised and rotated to principal components.

    They see the channels and, where there are several, as one more the squared
    magnitude.

    **Shape.** Input: standardised windows (n, n_channels, n_timesteps); output
    (n, n_features), see :class:`~skflowfm.nets.blocks.BlockStem`.

    Parameters
    ----------
    n_channels, n_timesteps : int
        Shape of a window.
    n_features : int, default=256
        Principal components kept.
    n_reference : int, default=None
        Time steps of the windows that it is fitted on, for one that reads windows of
        another length; None is ``n_timesteps``. See
        :func:`skflowfm.nets.length.at_length`.
    """

    BLOCKS = KernelBlock, CompetitionBlock, StatisticsBlock

    def __init__(
        self,
        n_channels: int,
        n_timesteps: int,
        n_features: int = 256,
        n_reference: int | None = None,
    ):
        shape = n_signals(n_channels), n_timesteps
        blocks = [block(*shape, n_reference=n_reference) for block in self.BLOCKS]
        super().__init__(blocks, n_features)
        self.row_shape = n_channels, n_timesteps
        self.n_reference = n_reference or n_timesteps
        self.magnitude = SquaredMagnitude(n_channels) if n_channels > 1 else None

    def signals(self, x: Tensor) -> Tensor:
        """Return channels and squared magnitude, (n, n_signals, n_timesteps)."""
        return x if self.magnitude is None else torch.cat([x, self.magnitude(x)], dim=1)

    def blocks_of(self, x: Tensor) -> Tensor:
        """Return the raw features of all blocks, (n, n_wide)."""
        if not len(x):
            return x.new_zeros(0, len(self.mean))
        # on a CPU what fits the cache, on CUDA what keeps it busy
        most = CUDA_BLOCK_VALUES if x.is_cuda else BLOCK_VALUES
        size = max(1, most // x.shape[-1])
        parts = (self.signals(part) for part in x.split(size))
        return torch.cat(
            [torch.cat([block(p) for block in self.blocks], dim=1) for p in parts]
        )

    @torch.no_grad()
    def fit(self, x: Tensor, generator: torch.Generator, standardise=None) -> None:
        """Draw the kernels; learn scales and components.

        Parameters
        ----------
        x : Tensor of shape (n, n_channels, n_timesteps)
            Standardised windows; some 2,000 suffice.
        generator : torch.Generator
            Draws the kernels and which windows give the biases.
        standardise : Standardise, default=None
            What made them so; None takes them for the user's units.
        """
        if self.magnitude is not None:
            self.magnitude.fit(x, standardise)
        signals = self.signals(x)
        for block in self.blocks:
            block.fit(signals, generator)
        self.fit_components(self.blocks_of(x))
