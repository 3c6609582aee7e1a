r"""The method: one loss trains an encoder and a generator together.

Data :math:`x_1`, source :math:`x_0 \sim \mathcal N(0, I)`, time :math:`t \in [0, 1]`.
**t = 0 is source, t = 1 is data.** The straight probability path between them and
its conditional velocity are

.. math::

    x_t = (1 - t)\, x_0 + t\, x_1, \qquad
    u_t = \frac{\mathrm d x_t}{\mathrm d t} = x_1 - x_0 .

An encoder :math:`E` maps a row to its representation :math:`z = E(x_1)`. A velocity
field :math:`v` predicts :math:`u_t` from the noisy row, the time and the
representation. Both minimise the same loss

.. math::

    \mathcal L = \mathbb E_{t,\, x_0,\, x_1}
        \bigl\lVert v(x_t, t, E(x_1)) - (x_1 - x_0) \bigr\rVert^2 .

There is no label in it: the generator is conditional on the *representation*, not on
a class. The less :math:`v` can guess about :math:`x_1` from :math:`x_t`, the more it
asks of :math:`z`, and that demand is what teaches the encoder. Afterwards the two
halves work apart: recognition is one pass through :math:`E`; generation solves
:math:`\mathrm d x = v(x, t, z)\,\mathrm d t` from a source draw at t = 0 to a new row
at t = 1 (see :mod:`skflowfm.ode`).

References
----------
.. [1] Y. Lipman, R. T. Q. Chen, H. Ben-Hamu, M. Nickel and M. Le, "Flow Matching for
       Generative Modeling", ICLR 2023.
.. [2] K. Ukita and T. Okita, "FlowFM", arXiv:2512.19729, AISTATS 2026 (as SenFlow).
.. [3] P. Esser et al., "Scaling Rectified Flow Transformers for High-Resolution Image
       Synthesis", ICML 2024 (logit-normal times).
"""

import torch
from torch import Tensor

UNIFORM_TIME_SHARE = 0.25


def source_quantile(uniform: Tensor) -> Tensor:
    r"""Map uniform numbers in (0, 1) to the source :math:`\mathcal N(0, I)`.

    Training and generation both draw :math:`x_0` through this one function, so the
    generator starts from exactly the law that it was trained on.

    Parameters
    ----------
    uniform : Tensor of any shape
        Numbers strictly between 0 and 1.

    Returns
    -------
    Tensor of the same shape
        Standard normal quantiles.
    """
    return 2**0.5 * torch.erfinv(2 * uniform - 1)


def sample_source(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw :math:`x_0`, standard normal, on the generator's device.

    Parameters
    ----------
    shape : tuple of int
        Shape of the draw, rows first.
    generator : torch.Generator
        The only source of randomness; the global one is never touched.

    Returns
    -------
    Tensor of shape ``shape``
    """
    uniform = torch.rand(shape, generator=generator, device=generator.device)
    # rand is a multiple of 2^-24 in [0, 1): half a step keeps it off both ends.
    return source_quantile(uniform.add_(2.0**-25).clamp_(max=1 - 2.0**-24))


def sample_time(n: int, generator: torch.Generator) -> Tensor:
    r"""Draw training times: logit-normal, mixed with a uniform quarter.

    Mid-path times carry most of the learning signal [3]_; the uniform share keeps
    both ends trained, which the solvers visit too.

    Parameters
    ----------
    n : int
        Number of times.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    Tensor of shape (n,)
        Times in [0, 1].

    References
    ----------
    .. [3] Esser et al., 2024; see the module docstring.
    """
    device = generator.device
    uniform = torch.rand(n, generator=generator, device=device)
    logit_normal = torch.sigmoid(torch.randn(n, generator=generator, device=device))
    pick = torch.rand(n, generator=generator, device=device) < UNIFORM_TIME_SHARE
    return torch.where(pick, uniform, logit_normal)


def like_rows(t: Tensor, x: Tensor) -> Tensor:
    """Reshape times of shape (n,) to broadcast over rows ``x`` of shape (n, ...)."""
    return t.reshape(-1, *[1] * (x.ndim - 1))


def straight_path(x_0: Tensor, x_1: Tensor, t: Tensor) -> Tensor:
    r"""Return :math:`x_t = (1 - t) x_0 + t x_1`.

    Parameters
    ----------
    x_0, x_1 : Tensor of shape (n, ...)
        Source and data rows.
    t : Tensor of shape (n,)
        Times; 0 returns the source, 1 the data.

    Returns
    -------
    Tensor of shape (n, ...)
    """
    t = like_rows(t, x_1)
    return (1 - t) * x_0 + t * x_1


def conditional_velocity(x_0: Tensor, x_1: Tensor) -> Tensor:
    r"""Return :math:`u_t = x_1 - x_0`, the time derivative of the straight path."""
    return x_1 - x_0


def flow_matching_loss(velocity_field, x_1, x_0, t, z, weight=None) -> Tensor:
    r"""Squared error of the predicted velocity, one number per row.

    Parameters
    ----------
    velocity_field : callable
        ``velocity_field(x_t, t, z)`` returns a Tensor like ``x_t``.
    x_1, x_0 : Tensor of shape (n, ...)
        Data and source rows.
    t : Tensor of shape (n,)
        Times.
    z : Tensor of shape (n, n_components)
        Representations.
    weight : Tensor broadcastable to (n, ...), optional
        Weight of each coordinate's squared error, mean 1. For given z it does not move
        the best v, the conditional expectation coordinate by coordinate. It does say
        what an encoder of limited size describes: errors in heavy coordinates cost
        more.

    Returns
    -------
    Tensor of shape (n,)
        Mean over coordinates of :math:`(v(x_t, t, z) - (x_1 - x_0))^2`.
    """
    x_t = straight_path(x_0, x_1, t)
    u_t = conditional_velocity(x_0, x_1)
    squared = (velocity_field(x_t, t, z) - u_t).square()
    if weight is not None:
        squared = squared * weight
    return squared.flatten(1).mean(dim=1)


def joint_loss(
    encoder, velocity_field, x_1, x_0, t, seen=None, z_noise=None, weight=None
) -> tuple[Tensor, Tensor]:
    r"""Return the loss that trains both halves, row by row, and the representations.

    Parameters
    ----------
    encoder : callable
        ``encoder(x)`` returns representations of shape (n, n_components).
    velocity_field, x_1, x_0, t
        As in :func:`flow_matching_loss`.
    seen : Tensor of shape (n, ...), optional
        What the encoder sees instead of ``x_1``, such as features of it.
    z_noise : Tensor of shape (n, n_components), optional
        Added to z on its way to the velocity field. It makes the set of usable z
        thick, so that new ones can be drawn.
    weight : Tensor broadcastable to (n, ...), optional
        As in :func:`flow_matching_loss`.

    Returns
    -------
    loss : Tensor of shape (n,)
        With no ``seen``, ``z_noise`` and ``weight`` its mean is the published loss, the
        square averaged over the values of a row.
    z : Tensor of shape (n, n_components)
        The encoder's output, without noise.
    """
    z = encoder(x_1 if seen is None else seen)
    given = z if z_noise is None else z + z_noise
    return flow_matching_loss(velocity_field, x_1, x_0, t, given, weight), z
