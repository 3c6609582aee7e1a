"""Encoders: a standardised row to an unnormalised representation.

An encoder is any ``nn.Module`` whose ``forward`` maps (n, C, T) windows or (n, F) table
rows to (n, n_components). Nothing in one may mix rows: no batch normalisation.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import ChannelNorm, bounded

LEARNED_SHARE, MANY_FIXED = 4, 128


class ConvBlock(nn.Module):
    """Residual block ``h + conv(gelu(conv(norm(h))))``; (n, width, time) is kept.

    Only the branch is normalised, so the amplitude of a window reaches the pooling.
    """

    def __init__(self, width: int, kernel_size: int):
        super().__init__()
        self.norm = ChannelNorm(width)
        self.conv_1 = nn.Conv1d(width, width, kernel_size, padding="same")
        self.conv_2 = nn.Conv1d(width, width, kernel_size, padding="same")

    def forward(self, h: Tensor) -> Tensor:
        return h + self.conv_2(F.gelu(self.conv_1(self.norm(h))))


def pool_time(h: Tensor) -> Tensor:
    """Mean, maximum and standard deviation over time: (n, c, time) to (n, 3 c)."""
    mean = h.mean(dim=-1, keepdim=True)
    spread = (h - mean).square().mean(dim=-1).add(1e-6).sqrt()
    return torch.cat([mean[..., 0], h.amax(dim=-1), spread], dim=1)


class ConvEncoder(nn.Module):
    """Strided residual convolutions, pooled over time at every scale, then projected.

    **Shape.** Input (n, n_channels, any number of time steps); output
    (n, n_components).

    Parameters
    ----------
    n_channels : int
        Channels of a window.
    n_components : int
        Size of the representation.
    widths : tuple of int, default=(32, 64, 128)
        Channels of each stage; a stage halves the time axis (the first quarters it).
        Wider is slower and, on few windows, no better.
    kernel_size : int, default=5
        Odd length of the convolutions, in steps of the stage.
    """

    def __init__(
        self,
        n_channels: int,
        n_components: int,
        widths: tuple[int, ...] = (32, 64, 128),
        kernel_size: int = 5,
    ):
        super().__init__()
        strides = [4] + [2] * (len(widths) - 1)
        n_in = n_channels
        self.stages = nn.ModuleList()
        for width, stride in zip(widths, strides, strict=True):
            kernel = 2 * stride + 1
            down = nn.Conv1d(n_in, width, kernel, stride=stride, padding=stride)
            self.stages.append(nn.Sequential(down, ConvBlock(width, kernel_size)))
            n_in = width
        n_pooled = 3 * (n_channels + sum(widths))
        self.norm = nn.LayerNorm(3 * sum(widths))
        self.project = nn.Linear(n_pooled, n_components)

    def forward(self, x: Tensor) -> Tensor:
        pooled, h = [], x
        for stage in self.stages:
            h = stage(h)
            pooled.append(pool_time(h))
        learned = self.norm(torch.cat(pooled, dim=1))
        return self.project(torch.cat([pool_time(x), learned], dim=1))


class FeatureEncoder(nn.Module):
    r"""A learned quarter, and beside it principal components as they are.

    .. math:: h = (g(f),\; f_{1 \dots d - m}),\ m = \max(\lceil d / 4 \rceil, d - k),

    with f the k components of a fitted stem (:class:`~skflowfm.nets.Stem` for windows,
    :class:`~skflowfm.nets.TableStem` for tables) and g a network of two layers, its
    output bounded. Training can add to what the stem knows but not lose it. Leading
    components are the large ones: of fewer than 128 the fixed part is scaled by
    :math:`\sqrt{(d - m) / 128}`, or a bound on h would leave little but its direction.

    **Shape.** Input (n, n_features); output (n, n_components).

    Parameters
    ----------
    n_features : int
        Components that the stem gives.
    n_components : int
        Size of the representation.
    width : int, default=512
        Hidden units of g.
    least_fixed : int, default=0
        As many of the leading components are kept as they are, even if that leaves
        fewer than a quarter, or none, to learn.
    """

    def __init__(
        self,
        n_features: int,
        n_components: int,
        width: int = 512,
        least_fixed: int = 0,
    ):
        super().__init__()
        self.n_features, self.n_components = n_features, n_components
        self.width, self.least_fixed = width, least_fixed
        most_learned = -(-n_components // LEARNED_SHARE)
        n_fixed = max(n_components - most_learned, min(n_components, least_fixed))
        self.n_fixed = min(n_fixed, n_features)
        self.n_learned = n_components - self.n_fixed
        self.net = nn.Sequential()
        if self.n_learned:
            first, last = nn.Linear(n_features, width), nn.Linear(width, self.n_learned)
            self.net.extend([first, nn.GELU(), last])

    def forward(self, features: Tensor) -> Tensor:
        fixed = features[:, : self.n_fixed]
        if self.n_fixed < MANY_FIXED:
            fixed = fixed * (self.n_fixed / MANY_FIXED) ** 0.5
        if not self.n_learned:
            return fixed
        learned = bounded(self.net(features))
        return torch.cat([learned, fixed], dim=1)
