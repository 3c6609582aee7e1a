"""The jointly trained model: scaling, encoder, velocity field, in one module.

What a reader should take away: :meth:`JointModel.forward` is the training loss,
:meth:`JointModel.represent` is recognition, :meth:`JointModel.decode` is generation.
"""

import torch
from torch import Tensor, nn

from ..flow_matching import joint_loss
from ..ode import integrate
from .coordinates import equalised
from .layers import bounded

LARGEST_DEVIATION, SMALLEST_DEVIATION = 4.0, 2.0
FULL_GAIN_ROWS = 1000
TRUSTED_ROWS = 500
SMALLEST_SHARE = 1e-4


def first_deviation(n_rows: int) -> float:
    r"""Return the standard deviation that the first component is given.

    A linear model's penalty is a constant, its loss a sum over rows. Up to 1,000 rows
    the deviation is 4, then it falls as :math:`1 / \sqrt n`, which keeps the weight of
    the penalty for each row. At 2, from 4,000 rows on, it stops, for the sake of those
    who have labels for few of them.
    """
    deviation = (
        LARGEST_DEVIATION * (FULL_GAIN_ROWS / max(n_rows, FULL_GAIN_ROWS)) ** 0.5
    )
    return max(deviation, SMALLEST_DEVIATION)


class PrincipalAxes(nn.Module):
    """Rotation to principal axes and one global gain: an invertible affine map.

    The components come in order of variance and keep their ratios. Whitening them
    would lift noise to the size of signal; one gain (:func:`first_deviation`) suits a
    linear model with its default penalty and iterations. Where part of z was fixed
    before training, the learned part is first given the same variance in all, or
    n / 500 of it where there are only n < 500 rows to learn from.

    **Shape.** z and output: (n, n_components).
    """

    def __init__(self, n_components: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_components))
        self.register_buffer("balance", torch.ones(n_components))
        self.register_buffer("axes", torch.eye(n_components))
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("variance", torch.ones(n_components))

    def fit(
        self, z: Tensor, n_learned: int | None = None, n_rows: int | None = None
    ) -> None:
        """Learn the map from the representations of the training rows.

        Parameters
        ----------
        z : Tensor of shape (n, n_components)
            The encoder's output.
        n_learned : int, default=None
            How many of the first components are learned, the others having been fixed
            before training; None is all.
        n_rows : int, default=None
            How many rows there are, if ``z`` has only some of them; sets the gain.
        """
        first = first_deviation(n_rows or len(z))
        n_learned = z.shape[1] if n_learned is None else n_learned
        mean = z.mean(dim=0)
        variance = z.var(dim=0, correction=0)
        learned, fixed = variance[:n_learned].sum(), variance[n_learned:].sum()
        self.balance.fill_(1.0)
        if fixed > 0 and learned > 0:
            trust = min(1.0, len(z) / TRUSTED_ROWS)
            self.balance[:n_learned] = (trust * fixed / learned).sqrt()
        centred = ((z - mean) * self.balance).cpu().double()
        covariance = centred.T @ centred / max(len(z) - 1, 1)
        variance, axes = torch.linalg.eigh(covariance)
        variance, axes = variance.flip(0), axes.flip(1)
        largest = axes.abs().argmax(dim=0)
        axes = axes * axes.gather(0, largest[None]).sign()
        deviation = variance[0].clamp_min(0).sqrt()
        self.mean.copy_(mean)
        self.axes.copy_(axes)
        self.gain.fill_(first / deviation if deviation > 1e-6 else 1.0)
        variance = variance.clamp_min(SMALLEST_SHARE * variance[0])
        self.variance.copy_(variance).mul_(self.gain**2).clamp_min_(1e-12)

    def forward(self, z: Tensor) -> Tensor:
        return (z - self.mean) * self.balance @ self.axes * self.gain

    def inverse(self, components: Tensor) -> Tensor:
        """Return the encoder's z of these components."""
        return components / self.gain @ self.axes.T / self.balance + self.mean

    def distance(self, components: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance from the training rows, over d."""
        return (components.square() / self.variance).mean(dim=1)


class Projector(nn.Sequential):
    """Two layers between the learned part of z and the alignment term.

    What the agreement of views throws away, it throws away here, and z keeps it [1]_.

    **Shape.** (n, n_learned) to (n, 64).

    References
    ----------
    .. [1] T. Chen, S. Kornblith, M. Norouzi and G. Hinton, "A Simple Framework for
           Contrastive Learning of Visual Representations", ICML 2020.
    """

    def __init__(self, n_learned: int, width: int = 128, n_projected: int = 64):
        super().__init__(
            nn.Linear(n_learned, width), nn.GELU(), nn.Linear(width, n_projected)
        )


class JointModel(nn.Module):
    """Encoder and velocity field with the scaling that both rely on.

    Parameters
    ----------
    standardise : Standardise
        Global scaling per channel or feature.
    coordinates : TableCoordinates or WindowCoordinates
        Where the flow works.
    stem : nn.Module
        Standardised rows to features; fixed before training, or the identity.
    encoder : nn.Module
        Features to (n, n_components).
    velocity_field : nn.Module
        ``v(x_t, t, z)`` in flow coordinates.
    projector : nn.Module
        The learned part of z to what the alignment term compares.
    n_components : int
        Size of the representation.
    """

    def __init__(
        self,
        standardise,
        coordinates,
        stem,
        encoder,
        velocity_field,
        projector,
        n_components,
    ):
        super().__init__()
        self.n_components = n_components
        self.standardise = standardise
        self.coordinates = coordinates
        self.stem = stem
        self.encoder = encoder
        self.velocity_field = velocity_field
        self.projector = projector
        self.axes = PrincipalAxes(n_components)

    @property
    def n_learned(self) -> int:
        """How many components of z, from the first, are learned in training."""
        return getattr(self.encoder, "n_learned", self.n_components)

    def encode(self, features: Tensor) -> Tensor:
        """Return z, bounded: growing it against its noise cannot lower the loss."""
        return bounded(self.encoder(features))

    def forward(self, x_1, x_0, t, features, view=None, other_view=None, z_noise=None):
        """Return what the training loss is made of.

        Parameters
        ----------
        x_1 : Tensor of shape (n, ...)
            Standardised rows.
        x_0 : Tensor like the coordinates of ``x_1``
            Source rows.
        t : Tensor of shape (n,)
            Times.
        features : Tensor
            What the stem says about ``x_1``.
        view, other_view : Tensor like ``features``, optional
            What it says about two augmented views, for the alignment.
        z_noise : Tensor of shape (n, n_components), optional
            The noise on z.

        Returns
        -------
        flow : Tensor of shape (n,)
            Flow-matching loss of each row.
        projected, other : Tensor of shape (n, n_projected) or None
            Projections of what the two views taught z, for the alignment; None where
            there is no second view.
        """
        flow, _ = joint_loss(
            self.encode,
            self.velocity_field,
            self.coordinates(x_1),
            x_0,
            t,
            seen=features,
            z_noise=z_noise,
            weight=self.coordinates.weight,
        )
        if view is None:
            return flow, None, None
        return flow, self.project(view), self.project(other_view)

    def project(self, features: Tensor) -> Tensor:
        """Return what the alignment term sees of these features."""
        return self.projector(self.encode(features)[:, : self.n_learned])

    def represent(self, x: Tensor) -> Tensor:
        """Return the representation of rows in the user's units (recognition)."""
        return self.axes(self.encode(self.stem(self.standardise(x))))

    def evidence(self, x: Tensor, n_inputs: int) -> Tensor:
        """Return z and, if a head takes more inputs than that, the stem's features.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            Rows in the user's units.
        n_inputs : int
            ``n_components``, or with the features of all blocks of the stem.
        """
        if n_inputs == self.n_components:
            return self.represent(x)
        wide = self.stem.wide(self.standardise(x))
        z = self.axes(self.encode(self.stem.components(wide)))
        return torch.cat([z, wide], dim=1)

    def decode(
        self,
        components: Tensor,
        x_0: Tensor,
        n_steps: int,
        solver: str,
        stop: float = 1.0,
        gain=None,
    ) -> Tensor:
        """Return one row for each representation, in the user's units (generation).

        Parameters
        ----------
        components : Tensor of shape (n, n_components)
            As :meth:`represent` gives them.
        x_0 : Tensor of shape (n, ...)
            Source rows, in flow coordinates.
        n_steps, solver, stop
            See :func:`skflowfm.ode.integrate`.
        gain : array of shape (n_channels, n_timesteps + 1), default=None
            Of windows: what the frequencies of drawn shapes are multiplied by; see
            :func:`equalised`.
        """
        z = self.axes.inverse(components)

        def v(x, t):
            return self.velocity_field(x, x.new_full((len(x),), t), z)

        x_1 = integrate(v, x_0, n_steps, solver, stop)
        if gain is not None:
            x_1 = equalised(x_1, gain)
        return self.drawn(self.coordinates.inverse(x_1))

    def drawn(self, x: Tensor) -> Tensor:
        """Return standardised rows that were drawn, in the user's units."""
        return self.coordinates.exact(x, self.standardise.drawn(x))
