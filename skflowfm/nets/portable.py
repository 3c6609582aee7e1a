r"""A joint model in pieces that other runtimes can run.

The numbers are those of :class:`~skflowfm.nets.JointModel` up to rounding. The stem is
written for a runtime and not for torch: few operators, which it can fuse, a product
with cosines and sines for the Fourier transform, and no splitting of the rows, so that
one trace serves any number of them.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .joint import JointModel
from .kernels import KERNELS_PER_GROUP, LENGTH, MARGIN, CompetitionBlock, KernelBlock
from .stem import StatisticsBlock, Stem

STEEP = 2.0**60


# ------------------------------------------------------------------ the stem
class PortableKernels(nn.Module):
    """What a fitted KernelBlock computes.

    A share of values above a bias is a mean after a convolution with that bias, which
    is made so steep that clipping to [0, 1] leaves zeros and ones. A power of two
    rounds nothing, and a runtime clips as it convolves. Kernels come once for each of
    their biases.

    **Shape.** Input (n, n_channels, n_timesteps); output (n, n_features).

    Parameters
    ----------
    block : KernelBlock
        Fitted.
    """

    def __init__(self, block: KernelBlock):
        super().__init__()
        self.stride, self.dilation = block.stride, block.dilation
        for at, bias in enumerate(block.bias.split(block.count, dim=1)):
            weight = block.kernels[:, None] * block.channels[at][..., None]
            weight = STEEP * weight.repeat_interleave(bias.shape[1], dim=0)
            self.register_buffer(f"weight_{at}", weight)
            self.register_buffer(f"bias_{at}", -STEEP * bias.flatten())

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for at, d in enumerate(self.dilation):
            weight, bias = getattr(self, f"weight_{at}"), getattr(self, f"bias_{at}")
            steep = F.conv1d(x, weight, bias, self.stride, LENGTH // 2 * d, d)
            out.append(steep.clamp(0.0, 1.0).mean(dim=-1))
        return torch.cat(out, dim=1)


class PortableCompetition(nn.Module):
    """What a fitted CompetitionBlock computes.

    **Shape.** Input (n, n_channels, n_timesteps); output (n, n_features).

    Parameters
    ----------
    block : CompetitionBlock
        Fitted.
    """

    def __init__(self, block: CompetitionBlock):
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        out = []
        for output in self.block.convolve(x):
            output = output.unflatten(1, (self.block.n_groups, KERNELS_PER_GROUP))
            top = output.amax(dim=2, keepdim=True)
            low = output.amin(dim=2, keepdim=True).clamp_max(-MARGIN)
            out.append(((output >= top).float() * top.relu()).sum(dim=-1))
            out.append((output <= low).float().sum(dim=-1))
        return (torch.cat(out, dim=1).flatten(1) * self.block.share).sqrt()


def fourier_matrix(n_timesteps: int) -> Tensor:
    """Return cosines, then sines, of each frequency above 0, (n_timesteps, 2 n)."""
    n = n_timesteps // 2
    turns = torch.arange(n_timesteps)[:, None] * torch.arange(1, n + 1) % n_timesteps
    angle = turns.double() * (2 * math.pi / n_timesteps)
    return torch.cat([angle.cos(), angle.sin()], dim=1).float()


class PortableStatistics(nn.Module):
    """What a StatisticsBlock computes.

    **Shape.** Input (n, n_channels, n_timesteps); output (n, n_features).

    Parameters
    ----------
    block : StatisticsBlock
        As the stem has it.
    n_timesteps : int
        Of a window.
    """

    def __init__(self, block: StatisticsBlock, n_timesteps: int):
        super().__init__()
        self.block = block
        self.register_buffer("fourier", fourier_matrix(n_timesteps))

    def power(self, x: Tensor) -> Tensor:
        """Return the power at each frequency above 0."""
        cosine, sine = (x @ self.fourier).square().chunk(2, dim=-1)
        return cosine + sine

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, self.power)


class PortableStem(nn.Module):
    """What a fitted :class:`~skflowfm.nets.Stem` computes.

    **Shape.** Input (n, n_channels, n_timesteps); output (n, n_features).

    Parameters
    ----------
    stem : Stem
        Fitted.
    """

    def __init__(self, stem: Stem):
        super().__init__()
        kernels, competition, statistics = stem.blocks
        self.stem, self.components = stem, stem.components
        self.kernels = PortableKernels(kernels)
        self.competition = PortableCompetition(competition)
        self.statistics = PortableStatistics(statistics, stem.row_shape[1])

    def wide(self, x: Tensor) -> Tensor:
        """Return the standardised features of all blocks, (n, n_wide)."""
        blocks, x = (
            (self.kernels, self.competition, self.statistics),
            self.stem.signals(x),
        )
        return self.stem.standardised(torch.cat([block(x) for block in blocks], dim=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.components(self.wide(x))


def portable(model: JointModel) -> JointModel:
    """Return a model that shares all with ``model`` but its stem, if that is ours."""
    model = copy.copy(model)
    if isinstance(model.stem, Stem):
        model._modules = {**model._modules, "stem": PortableStem(model.stem)}
    return model


# ------------------------------------------------------------------ the pieces
class Piece(nn.Module):
    """Part of a model, with names for what goes in and comes out.

    Parameters
    ----------
    model : JointModel
        Trained.
    head : nn.Module, default=None
        Representations to answers.
    """

    inputs: tuple[str, ...] = ("X",)
    outputs: tuple[str, ...]

    def __init__(self, model: JointModel, head: nn.Module | None = None):
        super().__init__()
        self.model, self.head = model, head


class Encoder(Piece):
    """Rows in the user's units to representations."""

    outputs = ("z",)

    def forward(self, X: Tensor) -> tuple[Tensor, ...]:
        return (self.model.represent(X),)


class Classifier(Piece):
    """Rows in the user's units to logits and probabilities of classes."""

    outputs = "logits", "probabilities"

    def forward(self, X: Tensor) -> tuple[Tensor, ...]:
        logits = self.head(self.model.evidence(X, self.head.in_features))
        return logits, logits.softmax(dim=1)


class Regressor(Piece):
    """Rows in the user's units to a number each."""

    outputs = ("prediction",)

    def forward(self, X: Tensor) -> tuple[Tensor, ...]:
        return (self.head(self.model.represent(X))[:, 0],)


class GeneratorStep(Piece):
    r"""Velocity at a point of the way, and the row where a straight way would end.

    That row is :math:`x_t + (1 - t)\,v` in the user's units. For the last step of an
    Euler solver it is the generated row itself.
    """

    inputs = "x_t", "t", "z"
    outputs = "velocity", "row"

    def forward(self, x_t: Tensor, t: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        velocity = model.velocity_field(x_t, t, model.axes.inverse(z))
        left = (1 - t).reshape(-1, *[1] * (x_t.ndim - 1))
        end = model.coordinates.inverse(x_t + left * velocity)
        return velocity, model.standardise.drawn(end)
