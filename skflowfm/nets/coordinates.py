r"""Scaling, and the coordinates in which the flow works.

A window at rest moves a hundred times less than a running one. Under one global scale
the squared error cannot see its shape. The flow therefore works on the window's level,
log-scale and *shape*, per window and channel:

.. math::

    x = \ell + e^{s}\, w, \qquad
    \ell = \operatorname{mean}(x), \quad e^{s} = \max(\operatorname{std}(x), \epsilon).

The map is one-to-one, so this is the same flow matching in other coordinates: a row of
C channels and T steps becomes C x (T + 2) numbers, the last two columns being the
standardised :math:`\ell` and :math:`s`. The encoder never sees these coordinates: it
gets the window under one global scale per channel, in which gravity and amplitude
(that is, posture and intensity) are intact.
"""

import torch
from torch import Tensor, nn

FLOOR = 1e-3
FARTHEST = 1e6
LEVEL_SHARE = 0.1


def mirrored_spectrum(x: Tensor) -> Tensor:
    """Return the Fourier transform of windows followed by their mirror images.

    The mirror image joins the ends, which a transform of the window alone would take
    for a jump: so this is the discrete cosine transform (DCT-II), but for phases.

    **Shape.** (..., T) to (..., T + 1), from frequency 0 to half of the sampling rate.
    """
    return torch.fft.rfft(torch.cat([x, x.flip(-1)], dim=-1))


def equalised(coordinates: Tensor, gain: Tensor) -> Tensor:
    """Return window coordinates, the frequencies of their shapes times ``gain``.

    Parameters
    ----------
    coordinates : Tensor of shape (n, C, T + 2)
        As :class:`WindowCoordinates` has them.
    gain : array of shape (C, T + 1)
        For each channel and frequency of :func:`mirrored_spectrum`.
    """
    shape, summary = coordinates[..., :-2], coordinates[..., -2:]
    n = shape.shape[-1]
    spectrum = mirrored_spectrum(shape) * torch.as_tensor(gain, device=shape.device)
    shape = torch.fft.irfft(spectrum, n=2 * n)[..., :n]
    return torch.cat([shape, summary], dim=-1)


class Standardise(nn.Module):
    """Global standardisation per channel, learned once: ``(x - mean) / scale``.

    What is farther out than a million counts as a million: squares of squares of it are
    still finite in float32.

    Parameters
    ----------
    mean, scale : Tensor broadcastable to a row
        (n_channels, 1) for windows, (n_features,) for tables; ``scale`` is positive.
    spread : Tensor of the same shape, default=None
        What drawn rows are scaled by, 0 where the data are constant; None is ``scale``.
    """

    def __init__(self, mean: Tensor, scale: Tensor, spread: Tensor | None = None):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.register_buffer("spread", scale.clone() if spread is None else spread)

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.scale).clamp(-FARTHEST, FARTHEST)

    def inverse(self, x: Tensor) -> Tensor:
        """Return to the user's units."""
        return x * self.scale + self.mean

    def drawn(self, x: Tensor) -> Tensor:
        """Return drawn rows in the user's units: what was constant is so exactly."""
        return x * self.spread + self.mean

    def wake(self, mean: Tensor, spread: Tensor, few: bool = False) -> Tensor:
        """Let vary what was constant, where these moments of new rows say it does.

        Nothing was learned of its scale, so it gets theirs. Where they are constant
        again, or ``few`` that may vary more later, it is the distance from the old
        constant, if that is more. Returns which channels or columns these are.
        """
        mean, spread = mean.to(self.mean.device), spread.to(self.mean.device)
        distance = (mean - self.mean).abs()
        moved = distance > 1e-6 * self.mean.abs()
        awake = (self.spread == 0) & ((spread > 0) | moved)
        scale = torch.maximum(spread, distance)
        scale = scale if few else torch.where(spread > 0, spread, scale)
        self.mean.copy_(torch.where(awake & (spread > 0), mean, self.mean))
        self.scale.copy_(torch.where(awake, scale, self.scale))
        self.spread.copy_(torch.where(awake, scale, self.spread))
        return awake


class WindowCoordinates(nn.Module):
    """Coordinates of windows: shape, level and log-scale of each channel.

    **Shape.** Windows (n, C, T); coordinates (n, C, T + 2).

    Parameters
    ----------
    n_channels, n_timesteps : int
        C and T.
    """

    def __init__(self, n_channels: int, n_timesteps: int):
        super().__init__()
        for name in ("centre", "spread", "lowest", "highest"):
            self.register_buffer(name, torch.zeros(n_channels, 2))
        weight = torch.full(
            (n_timesteps + 2,), (1 - LEVEL_SHARE) * (n_timesteps + 2) / n_timesteps
        )
        weight[n_timesteps:] = LEVEL_SHARE * (n_timesteps + 2) / 2
        self.register_buffer("weight", weight)

    @staticmethod
    def split(x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shapes (n, C, T) and the levels and log-scales (n, C, 2)."""
        level = x.mean(dim=-1, keepdim=True)
        scale = x.std(dim=-1, keepdim=True, correction=0).clamp_min(FLOOR)
        return (x - level) / scale, torch.cat([level, scale.log()], dim=-1)

    def fit(self, x: Tensor) -> None:
        """Learn how levels and log-scales spread, from standardised windows."""
        _, summary = self.split(x)
        self.centre.copy_(summary.mean(dim=0))
        spread = summary.std(dim=0, correction=0)
        self.spread.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))
        self.lowest.copy_(summary.amin(dim=0))
        self.highest.copy_(summary.amax(dim=0))

    def refit(self, x: Tensor, which: Tensor) -> None:
        """Learn anew how levels and log-scales of some channels spread."""
        new = WindowCoordinates(*x.shape[1:])
        new.fit(x)
        for name in ("centre", "spread", "lowest", "highest"):
            old = getattr(self, name)
            old.copy_(torch.where(which, getattr(new, name).to(old.device), old))

    def forward(self, x: Tensor) -> Tensor:
        shape, summary = self.split(x)
        return torch.cat([shape, (summary - self.centre) / self.spread], dim=-1)

    def exact(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Return ``drawn``, as no value of a window is shared."""
        return drawn

    def inverse(self, coordinates: Tensor) -> Tensor:
        """Return windows; levels and log-scales are kept within what ``fit`` saw.

        A drawn shape need not have mean 0 and scale 1 exactly, so it is given them:
        the level and scale drawn with it then say where the window lies.
        """
        shape, summary = coordinates[..., :-2], coordinates[..., -2:]
        shape, _ = self.split(shape)
        summary = summary * self.spread + self.centre
        summary = summary.clamp(self.lowest, self.highest)
        level, log_scale = summary[..., :1], summary[..., 1:]
        return level + log_scale.exp() * shape
