r"""A frozen stem for tables: columns, ranks, random Fourier features, and their PCA.

A linear model on columns sees straight boundaries in the columns' own units. Ranks
forget the units, so that a long tail is as good as a short one, and cosines of random
combinations of them are features of a Gaussian kernel: what is linear in these is
smooth, and as curved as need be [1]_. Nothing here uses labels, and nothing changes
once it is fitted.

References
----------
.. [1] A. Rahimi and B. Recht, "Random Features for Large-Scale Kernel Machines",
       NeurIPS 2007.
"""

import math

import torch
from torch import Tensor, nn

from .blocks import BlockStem

N_KNOTS = 16
N_FOURIER = 512
BANDWIDTH = 0.7
MOST_PAIRED = 500
NARROWEST = 1e-5


class ColumnBlock(nn.Identity):
    """The columns themselves. They count double: most tables are nearly straight.

    **Shape.** Input and output (n, n_columns).
    """

    emphasis = 2

    def __init__(self, n_columns: int):
        super().__init__()
        self.n_features = n_columns

    def fit(self, x: Tensor) -> None:
        """Nothing to learn."""


class RankBlock(nn.Module):
    r"""The share of training rows that lie below, column by column.

    A piecewise linear function through sixteen quantiles, so that nothing jumps,
    constant beyond them; the shares are brought from (0, 1) to mean 0 and, if no values
    are tied, variance 1.

    **Shape.** Input and output (n, n_columns).
    """

    def __init__(self, n_columns: int):
        super().__init__()
        self.n_features = n_columns
        self.register_buffer("first", torch.zeros(n_columns))
        self.register_buffer("low", torch.zeros(N_KNOTS - 1, n_columns))
        self.register_buffer("width", torch.ones(N_KNOTS - 1, n_columns))
        self.register_buffer("rise", torch.zeros(N_KNOTS - 1, n_columns))

    def fit(self, x: Tensor) -> None:
        """Learn the quantiles of standardised rows."""
        ordered = x.sort(dim=0).values
        level = (torch.arange(N_KNOTS, dtype=torch.float64) + 0.5) / N_KNOTS
        knots = ordered[(level * (len(x) - 1)).round().long()]  # (n_knots, n_columns)
        columns, asked = ordered.T.contiguous(), knots.T.contiguous()
        below = torch.searchsorted(columns, asked)
        upto = torch.searchsorted(columns, asked, right=True)
        share = (below + upto).T / (2 * len(x))
        share = math.sqrt(12) * (share - 0.5)
        self.first.copy_(share[0])
        self.low.copy_(knots[:-1])
        self.width.copy_(knots.diff(dim=0).clamp_min(NARROWEST))
        self.rise.copy_(share.diff(dim=0))

    def forward(self, x: Tensor) -> Tensor:
        out = self.first.expand_as(x)
        for low, width, rise in zip(self.low, self.width, self.rise, strict=True):
            out = out + rise * ((x - low) / width).clamp(0, 1)
        return out


class FourierBlock(nn.Module):
    r"""Cosines of random combinations: features of a Gaussian kernel.

    .. math:: \phi_j(r) = \cos(w_j^\top r + b_j),\quad
        \mathbb E\,[2\, \phi_j(r)\, \phi_j(r')]
        = \exp(-\lVert r - r' \rVert^2 / 2 \sigma^2),

    where :math:`\sigma` is seven tenths of the median distance of training rows.

    **Shape.** Input (n, n_columns); output (n, n_features).

    Parameters
    ----------
    n_columns : int
        Columns of the table.
    n_features : int, default=512
        How many cosines.
    """

    def __init__(self, n_columns: int, n_features: int = N_FOURIER):
        super().__init__()
        self.n_features = n_features
        self.register_buffer("frequency", torch.zeros(n_columns, n_features))
        self.register_buffer("phase", torch.zeros(n_features))

    def fit(self, r: Tensor, generator: torch.Generator) -> None:
        """Draw the combinations; learn the width of the kernel."""
        distance = torch.pdist(r[:MOST_PAIRED])
        distance = distance[distance > 0]
        sigma = BANDWIDTH * distance.median() if len(distance) else 1.0
        self.frequency.normal_(generator=generator).div_(sigma)
        self.phase.uniform_(0, 2 * math.pi, generator=generator)

    def forward(self, r: Tensor) -> Tensor:
        return (r @ self.frequency + self.phase).cos()


class TableStem(BlockStem):
    """Columns, their ranks and random Fourier features of these.

    **Shape.** Input: standardised rows (n, n_columns); output (n, n_features), see
    :class:`~skflowfm.nets.blocks.BlockStem`.

    Parameters
    ----------
    n_columns : int
        Columns of the table.
    n_features : int, default=256
        Principal components kept.
    """

    def __init__(self, n_columns: int, n_features: int = 256):
        blocks = ColumnBlock(n_columns), RankBlock(n_columns), FourierBlock(n_columns)
        super().__init__(blocks, n_features)

    def blocks_of(self, x: Tensor) -> Tensor:
        """Return the raw features of all blocks, (n, n_wide)."""
        columns, ranks, fourier = self.blocks
        r = ranks(x)
        return torch.cat([columns(x), r, fourier(r)], dim=1)

    @torch.no_grad()
    def fit(self, x: Tensor, generator: torch.Generator) -> None:
        """Draw the combinations; learn ranks, scales and components.

        Parameters
        ----------
        x : Tensor of shape (n, n_columns)
            Standardised rows; some 2,000 suffice.
        generator : torch.Generator
            Draws the combinations.
        """
        _, ranks, fourier = self.blocks
        ranks.fit(x)
        fourier.fit(ranks(x), generator)
        self.fit_components(self.blocks_of(x))
