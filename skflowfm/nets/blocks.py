"""Blocks of fixed features, brought to one geometry: what both stems are."""

import torch
from torch import Tensor, nn

from .components import PrincipalComponents

MARGIN = 1e-4


class BlockStem(nn.Module):
    """Features of several blocks, standardised, and their principal components.

    There are too many of them, and they are noisy one by one. Each is standardised,
    each block is given the same variance (times its ``emphasis`` squared), and the
    leading principal components of the whole are kept, *unwhitened*.

    A stem adds ``blocks_of(x)``, the raw features of all blocks, (n, n_wide).

    **Shape.** Output (n, n_features). On the fitted rows the components come in order
    of variance, and all together have a mean square of 1; beyond the rank of those rows
    they are 0.

    Parameters
    ----------
    blocks : sequence of nn.Module
        Each has ``n_features``, how many it gives of a row; it may have ``emphasis``.
    n_features : int
        Principal components kept.
    """

    CLIP = 10.0

    def __init__(self, blocks, n_features: int):
        super().__init__()
        self.n_features = n_features
        self.blocks = nn.ModuleList(blocks)
        n_wide = sum(block.n_features for block in self.blocks)
        self.register_buffer("mean", torch.zeros(n_wide))
        self.register_buffer("scale", torch.ones(n_wide))
        self.components = PrincipalComponents(n_wide, n_features)

    def deviation(self) -> Tensor:
        """Return the standard deviation that each feature is given, (n_wide,)."""
        of_block = [
            self.mean.new_full((n,), getattr(block, "emphasis", 1) * n**-0.5)
            for block in self.blocks
            for n in [block.n_features]
        ]
        return torch.cat(of_block)

    def standardised(self, wide: Tensor) -> Tensor:
        """Return centred features at the scale of their block."""
        unit = (wide - self.mean) / self.scale
        return unit.clamp_(-self.CLIP, self.CLIP) * self.deviation()

    def fit_components(self, wide: Tensor) -> None:
        """Learn scales and components from the raw features of some rows."""
        self.mean.copy_(wide.mean(dim=0))
        deviation = wide.std(dim=0, correction=0)
        constant = deviation <= MARGIN * (1 + self.mean.abs())
        self.scale.copy_(deviation.masked_fill(constant, float("inf")))
        self.components.fit(self.standardised(wide))

    def wide(self, x: Tensor) -> Tensor:
        """Return the standardised features of all blocks, (n, n_wide)."""
        return self.standardised(self.blocks_of(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.components(self.wide(x))
