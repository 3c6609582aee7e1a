"""Augmented views: what the encoder may see instead of the row itself.

A view is a callable ``view(x, generator)`` on standardised rows that returns a new
Tensor like ``x`` and takes all its randomness from ``generator``. It states what should
*not* change the representation; the defaults are gentle, because orientation and
amplitude carry posture and intensity.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..flow_matching import sample_source


def _uniform(shape, low, high, generator) -> Tensor:
    draw = torch.rand(shape, generator=generator, device=generator.device)
    return low + (high - low) * draw


def window_view(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return a warped, remixed, jittered and partly masked copy of each window.

    A random 90 to 100 % of the time axis is stretched to the whole; no less, as the
    pace tells walking from climbing stairs. Channels are mixed by the identity plus
    0.15 times a Gaussian matrix (of C > 3 channels, over the square root of C / 3) and
    shifted by 0.15 standard deviations, as a sensor does that another person wears a
    little differently. Noise of 0.05 is added, and up to a fifth of the steps is
    replaced by the window's mean.

    **Shape.** x: (n, C, T); output the same.
    """
    n, n_channels, n_timesteps = x.shape
    kept = _uniform((n, 1), 0.9, 1.0, generator)
    start = _uniform((n, 1), 0.0, 1.0, generator) * (1 - kept)
    grid = torch.linspace(0, 1, n_timesteps, device=x.device)
    at = 2 * (start + kept * grid) - 1  # (n, T) in [-1, 1]
    points = torch.stack([at, torch.zeros_like(at)], dim=-1)[:, None]  # (n, 1, T, 2)
    warped = F.grid_sample(
        x[:, :, None], points, align_corners=True, padding_mode="border"
    )[:, :, 0]
    strength = 0.15 / max(1.0, n_channels / 3) ** 0.5
    mixing = strength * sample_source((n, n_channels, n_channels), generator)
    shift = 0.15 * sample_source((n, n_channels, 1), generator)
    noise = 0.05 * sample_source((n, n_channels, n_timesteps), generator)
    out = warped + mixing @ warped + shift + noise
    masked = _uniform((n, 1), 0.0, 0.2, generator)
    begin = _uniform((n, 1), 0.0, 1.0, generator) * (1 - masked)
    hidden = (grid >= begin) & (grid < begin + masked)  # (n, T)
    return torch.where(hidden[:, None], out.mean(dim=-1, keepdim=True), out)


def table_view(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return a copy in which a fifth of the features come from other rows.

    Swapping within a column keeps its marginal law [1]_. Noise of 0.05 standard
    deviations is added.

    **Shape.** x: (n, n_features); output the same.

    References
    ----------
    .. [1] D. Bahri, H. Jiang, Y. Tay and D. Metzler, "SCARF: Self-Supervised
           Contrastive Learning using Random Feature Corruption", ICLR 2022.
    """
    donor = _uniform(x.shape, 0.0, 1.0, generator).argsort(dim=0)
    swapped = x.gather(0, donor)
    swap = _uniform(x.shape, 0.0, 1.0, generator) < 0.2
    noise = 0.05 * sample_source(tuple(x.shape), generator)
    return torch.where(swap, swapped, x) + noise
