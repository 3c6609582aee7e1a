"""Principal components: the fixed part of a representation."""

import torch
from torch import Tensor, nn

RELATIVE_RANK = 1e-6


class PrincipalComponents(nn.Module):
    """Leading principal components, unwhitened, at a common scale.

    **Shape.** Input (n, n_inputs); output (n, n_features). On the fitted rows the
    components are centred, come in order of variance and all together have a mean
    square of 1; beyond the rank of those rows they are 0.

    Parameters
    ----------
    n_inputs, n_features : int
        Sizes of the input and the output.
    """

    def __init__(self, n_inputs: int, n_features: int):
        super().__init__()
        self.n_features = n_features
        self.register_buffer("mean", torch.zeros(n_inputs))
        self.register_buffer("axes", torch.zeros(n_inputs, n_features))

    @torch.no_grad()
    def fit(self, x: Tensor, generator: torch.Generator | None = None) -> None:
        """Learn the components.

        Parameters
        ----------
        x : Tensor of shape (n, n_inputs)
            Some 2,000 rows suffice.
        generator : ignored
            As other stems have it.
        """
        self.mean.copy_(x.mean(dim=0))
        x = x - self.mean
        if len(x) < x.shape[1]:  # the Gram matrix of the rows is the smaller one
            power, vectors = torch.linalg.eigh((x @ x.T).double())
            vectors = x.T.double() @ vectors / power.clamp_min(1e-30).sqrt()
        else:
            power, vectors = torch.linalg.eigh((x.T @ x).double())
        power, vectors = power.flip(0), vectors.flip(1)
        rank = int((power > RELATIVE_RANK * power[0].clamp_min(1e-12)).sum())
        kept = min(rank, self.n_features)
        self.axes.zero_()
        if kept:
            mean_square = power[:kept].sum() / (len(x) * self.n_features)
            self.axes[:, :kept] = (vectors[:, :kept] / mean_square.sqrt()).float()

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) @ self.axes
