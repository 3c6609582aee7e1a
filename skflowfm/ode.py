r"""Fixed-step solvers for :math:`\mathrm d x / \mathrm d t = v(x, t)` on [0, 1].

**t = 0 is source, t = 1 is data**: generation integrates forwards. Each solver is one
step function with its order of convergence (the error of a smooth problem falls as
``n_steps ** -order``) and its cost in velocity-field evaluations per step.

References
----------
.. [1] E. Hairer, S. P. Norsett and G. Wanner, "Solving Ordinary Differential
       Equations I", 2nd ed., Springer 1993, chapter II.
.. [2] T. Karras, M. Aittala, T. Aila and S. Laine, "Elucidating the Design Space of
       Diffusion-Based Generative Models", NeurIPS 2022 (a last Euler step).
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


def euler_step(v, x, t, h):
    """Follow the velocity at the start of the step."""
    return x + h * v(x, t)


def midpoint_step(v, x, t, h):
    """Follow the velocity half a step ahead; t = 1 itself is never evaluated."""
    return x + h * v(x + h / 2 * v(x, t), t + h / 2)


def rk4_step(v, x, t, h):
    """Follow the classical four-stage Runge-Kutta average."""
    k_1 = v(x, t)
    k_2 = v(x + h / 2 * k_1, t + h / 2)
    k_3 = v(x + h / 2 * k_2, t + h / 2)
    k_4 = v(x + h * k_3, t + h)
    return x + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)


class Solver(NamedTuple):
    """A one-step method: its step, order and evaluations (NFE) per step."""

    step: Callable
    order: int
    nfe_per_step: int


SOLVERS = {
    "euler": Solver(euler_step, order=1, nfe_per_step=1),
    "midpoint": Solver(midpoint_step, order=2, nfe_per_step=2),
    "rk4": Solver(rk4_step, order=4, nfe_per_step=4),
}


def integrate(
    v, x_0: Tensor, n_steps: int, solver: str = "midpoint", stop: float = 1.0
) -> Tensor:
    r"""Carry ``x_0`` at t = 0 along the velocity field to t = 1.

    Parameters
    ----------
    v : callable
        ``v(x, t)`` with ``t`` a float returns the velocity, a Tensor like ``x``.
    x_0 : Tensor of any shape
        Where the path starts.
    n_steps : int
        Number of equal steps; more is slower and more accurate.
    solver : {"euler", "midpoint", "rk4"}, default="midpoint"
        The step function, a key of :data:`SOLVERS`.
    stop : float, default=1.0
        Where the steps end, in (0, 1]. From an earlier time one Euler step is left,
        and it lands on :math:`x + (1 - t) v(x, t)`, which is the field's estimate of
        the data: what noise it cannot tell from data is not followed [2]_, but detail
        that t does not show yet is averaged out.

    Returns
    -------
    Tensor like ``x_0``
        The point reached at t = 1.

    Examples
    --------
    >>> import torch
    >>> integrate(lambda x, t: x, torch.ones(1), n_steps=16, solver="rk4")
    tensor([2.7183])
    """
    step = SOLVERS[solver].step
    h = stop / n_steps
    x = x_0
    for k in range(n_steps):
        x = step(v, x, k * h, h)
    return x if stop == 1 else euler_step(v, x, stop, 1 - stop)
