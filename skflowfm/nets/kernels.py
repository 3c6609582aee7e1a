r"""Random convolutions of a window, read off in two ways.

Both blocks convolve a window with many kernels of length 9 at many dilations. One
asks how often a kernel's output is positive [1]_, the other which kernel of a group
answers most [2]_.

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

from .blocks import MARGIN

LENGTH = 9
KERNELS_PER_GROUP = 8
N_GROUPS = 48
MAX_GROUPS = 24
MAX_CHANNELS = 9
MAX_OUTPUTS = 512
GOLDEN_RATIO = (math.sqrt(5) + 1) / 2


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


def as_product(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Return the convolution as one product of matrices."""
    reach = LENGTH // 2 * dilation
    x = F.pad(x, (reach, reach))
    last = x.shape[-1] - 2 * reach
    taps = [x[..., k * dilation :][..., :last:stride] for k in range(LENGTH)]
    return weight.flatten(1) @ torch.stack(taps, dim=2).flatten(1, 2)


def convolve(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Return the kernels' outputs, those of each row the same among any others.

    On CUDA a convolution may round its input to ten bits, and a feature that counts
    how often a threshold is passed shows it; a product of matrices does not, unless
    torch.set_float32_matmul_precision says so.
    """
    if x.is_cuda:
        return as_product(x, weight, stride, dilation)
    return F.conv1d(x, weight, None, stride, LENGTH // 2 * dilation, dilation)


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
    n_reference : int, default=None
        Time steps that set dilations and stride; None is ``n_timesteps``.
    """

    def __init__(
        self,
        n_channels: int,
        n_timesteps: int,
        per_kernel: int = 30,
        n_reference: int | None = None,
    ):
        super().__init__()
        n_timesteps = n_reference or n_timesteps
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
        return convolve(x, weight, self.stride, d)

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
    n_groups : int, default=None
        Groups at each dilation. None shares 48 among the dilations, at most 24 each.
    n_reference : int, default=None
        Time steps that set dilations and stride, and that sums are scaled to; None is
        ``n_timesteps``.
    """

    def __init__(
        self,
        n_channels: int,
        n_timesteps: int,
        n_groups: int | None = None,
        n_reference: int | None = None,
    ):
        super().__init__()
        self.share = (n_reference or n_timesteps) / n_timesteps
        n_timesteps = n_reference or n_timesteps
        self.stride = stride_of(n_timesteps)
        octaves = int(max(0.0, math.log2(max(n_timesteps - 1, 1) / (LENGTH - 1))))
        self.dilation = [2**k for k in range(octaves + 1)]
        self.n_groups = n_groups or min(N_GROUPS // len(self.dilation), MAX_GROUPS)
        self.n_signals = 2 if n_timesteps > 1 else 1
        n_kernels = self.n_groups * KERNELS_PER_GROUP
        shape = (len(self.dilation), self.n_signals, n_kernels)
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

    def convolve(self, x: Tensor):
        """Yield the output of each dilation on each signal, (n, kernels, n_outputs)."""
        change = x.diff(dim=-1) if x.shape[-1] > 1 else torch.zeros_like(x)
        signals = (x, change)[: self.n_signals]
        for at, d in enumerate(self.dilation):
            for signal, weight in zip(signals, self.weight[at], strict=True):
                yield convolve(signal, weight, self.stride, d)

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for output in self.convolve(x):
            output = output.unflatten(1, (self.n_groups, KERNELS_PER_GROUP))
            top = output.amax(dim=2, keepdim=True)
            low = output.amin(dim=2, keepdim=True).clamp_max(-MARGIN)
            won = (output.clone().ge_(top) * top.clamp_min(0)).sum(dim=-1)
            lost = output.le_(low).sum(dim=-1)
            out += [won.flatten(1), lost.flatten(1)]
        return (torch.cat(out, dim=1) * self.share).sqrt()
