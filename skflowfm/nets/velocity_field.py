"""Velocity fields: ``v(x_t, t, z)``, the velocity that carries source to data.

**t = 0 is source, t = 1 is data.** A velocity field is any ``nn.Module`` whose
``forward(x_t, t, z)`` takes coordinates, times of shape (n,) and representations of
shape (n, n_components) and returns a Tensor like ``x_t``.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import ChannelNorm, Modulation, TimeEmbedding, ZeroLinear, ZeroUnfold

SEEN = 0.3


class MlpBlock(nn.Module):
    """Residual block on vectors, modulated by the condition."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.modulation = Modulation(width, width)
        self.net = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(condition)
        return h + gate * self.net(self.norm(h) * (1 + scale) + shift)


class VectorVelocityField(nn.Module):
    """Velocity field on vectors: table rows, or representations.

    **Shape.** x_t (n, n_features), t (n,), z (n, n_condition); output like x_t.

    Parameters
    ----------
    n_features, n_condition : int
        Sizes of the vector that flows and of the one that it depends on (0 for none).
    width, n_blocks : int, default=128, 3
        Hidden units and residual blocks.
    n_seen : int, default=None
        How many numbers of the condition it sees, from the first; None is all. With
        fewer it has more to make up, and recites less.
    """

    def __init__(
        self,
        n_features: int,
        n_condition: int,
        width: int = 128,
        n_blocks: int = 3,
        n_seen: int | None = None,
    ):
        super().__init__()
        self.n_condition = n_condition
        self.n_seen = n_condition if n_seen is None else min(n_seen, n_condition)
        self.time = TimeEmbedding(width)
        self.condition = nn.Linear(self.n_seen, width) if n_condition else None
        self.input = nn.Linear(n_features, width)
        self.blocks = nn.ModuleList(MlpBlock(width) for _ in range(n_blocks))
        self.output = ZeroLinear(width, n_features)
        self.skip = ZeroLinear(width, n_features)

    def forward(self, x_t: Tensor, t: Tensor, z: Tensor) -> Tensor:
        condition = self.time(t)
        if self.condition is not None:
            condition = condition + self.condition(z[:, : self.n_seen])
        h = self.input(x_t)
        for block in self.blocks:
            h = block(h, condition)
        return self.output(h) + self.skip(condition) * x_t


class PatchBlock(nn.Module):
    """Residual dilated convolutions on patches, modulated by the condition."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.norm = ChannelNorm(width)
        self.modulation = Modulation(width, width)
        self.conv = nn.Conv1d(width, width, 3, padding="same", dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate = (m[..., None] for m in self.modulation(condition))
        branch = self.norm(h) * (1 + scale) + shift
        return h + gate * self.mix(F.gelu(self.conv(branch)))


class WindowVelocityField(nn.Module):
    """Velocity field on windows in (shape, level, log-scale) coordinates.

    The shape is cut into some thirty overlapping patches, convolved at growing
    dilations and unfolded again; level and log-scale join the condition and get their
    velocity from a small head.

    A field that is told more of a window than it takes to know which one it is learns
    to recite. So of z it sees the first ``n_seen`` components only; the learned ones
    come first.

    **Shape.** x_t (n, C, T + 2), t (n,), z (n, n_components); output like x_t.

    Parameters
    ----------
    n_channels, n_timesteps, n_components : int
        C, T and the size of z.
    width : int, default=160
        Channels of the patches. Wider is slower and finer.
    n_blocks : int, default=4
        Residual blocks, at dilations 1, 2, 4, ...
    patch : int, default=None
        Time steps from one patch to the next. None cuts a window into at most thirty.
    n_seen : int, default=None
        How many components of z the field sees. None is three for every ten values of
        a window, or all where z has no more. With fewer it has more to make up, and
        copies less.
    """

    def __init__(
        self,
        n_channels: int,
        n_timesteps: int,
        n_components: int,
        width: int = 160,
        n_blocks: int = 4,
        patch: int | None = None,
        n_seen: int | None = None,
    ):
        super().__init__()
        self.n_timesteps = n_timesteps
        self.patch = -(-n_timesteps // 30) if patch is None else patch
        self.n_patches = -(-n_timesteps // self.patch)
        kernel = 2 * self.patch - self.patch % 2
        overlap = (kernel - self.patch) // 2
        n_summary = 2 * n_channels
        self.time = TimeEmbedding(width)
        few = math.ceil(SEEN * n_channels * n_timesteps)
        self.n_components = n_components
        self.n_seen = min(few if n_seen is None else n_seen, n_components)
        self.from_z = nn.Linear(self.n_seen, width)
        self.from_summary = nn.Linear(n_summary, width)
        self.fold = nn.Conv1d(
            n_channels, width, kernel, stride=self.patch, padding=overlap
        )
        self.blocks = nn.ModuleList(PatchBlock(width, 2**k) for k in range(n_blocks))
        self.norm = ChannelNorm(width)
        self.unfold = ZeroUnfold(
            width, n_channels, kernel, stride=self.patch, padding=overlap
        )
        self.skip = ZeroLinear(width, n_channels)
        self.summary_head = nn.Sequential(
            nn.Linear(2 * width, width), nn.GELU(), ZeroLinear(width, n_summary)
        )

    def forward(self, x_t: Tensor, t: Tensor, z: Tensor) -> Tensor:
        shape, summary = x_t[..., : self.n_timesteps], x_t[..., self.n_timesteps :]
        condition = (
            self.time(t)
            + self.from_z(z[:, : self.n_seen])
            + self.from_summary(summary.flatten(1))
        )
        missing = self.n_patches * self.patch - self.n_timesteps
        h = self.fold(F.pad(shape, (0, missing)))  # (n, width, n_patches)
        for block in self.blocks:
            h = block(h, condition)
        v_shape = self.unfold(self.norm(h))[..., : self.n_timesteps]
        v_shape = v_shape + self.skip(condition)[..., None] * shape
        v_summary = self.summary_head(torch.cat([condition, h.mean(dim=-1)], dim=1))
        return torch.cat([v_shape, v_summary.reshape(summary.shape)], dim=-1)
