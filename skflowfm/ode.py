r"""Fixed-step solvers for :math:`\mathrm d x / \mathrm d t = v(x, t)` on [0, 1].

**t = 0 is source, t = 1 is data**: generation integrates forwards. Each solver has an
order of convergence (the error of a smooth problem falls as ``n_steps ** -order``) and
a cost in velocity-field evaluations per step.

References
----------
.. [1] E. Hairer, S. P. Norsett and G. Wanner, "Solving Ordinary Differential
       Equations I", 2nd ed., Springer 1993, chapters II and III.5.
.. [2] T. Karras, M. Aittala, T. Aila and S. Laine, "Elucidating the Design Space of
       Diffusion-Based Generative Models", NeurIPS 2022 (a last Euler step).
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from numbers import Integral
from typing import NamedTuple

from torch import Tensor

BEND = 1.4


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


def step_by_step(step, v, x, times):
    """Follow a one-step method from each time to the next."""
    for t, end in pairwise(times):
        x = step(v, x, t, end - t)
    return x


def adams_bashforth(v, x, times):
    """Follow the line through the last two velocities; the first step is Euler's [1]_.

    What a step of second order costs elsewhere buys two here.
    """
    before, h_before = None, 1.0
    for t, end in pairwise(times):
        h, velocity = end - t, v(x, t)
        bend = 0.0 if before is None else velocity - before
        x = x + h * (velocity + h / (2 * h_before) * bend)
        before, h_before = velocity, h
    return x


def even_times(n_steps: int, stop: float) -> list[float]:
    """Return times at equal distances from 0 to ``stop``."""
    return [stop * k / n_steps for k in range(n_steps + 1)]


def bent_times(n_steps: int, stop: float) -> list[float]:
    """Return times from 0 to ``stop``, close together where the paths bend most.

    That is near the data, and near the source where the last step is Euler's from an
    early stop.
    """
    shares = even_times(n_steps, 1.0)
    if stop < 1:
        return [stop * share**BEND for share in shares]
    return [1 - (1 - share) ** BEND for share in shares]


class Solver(NamedTuple):
    """How a path is followed, with its order and evaluations (NFE) per step."""

    follow: Callable
    order: int
    nfe_per_step: int
    times: Callable = even_times


SOLVERS = {
    "euler": Solver(partial(step_by_step, euler_step), order=1, nfe_per_step=1),
    "adams": Solver(adams_bashforth, order=2, nfe_per_step=1, times=bent_times),
    "midpoint": Solver(partial(step_by_step, midpoint_step), order=2, nfe_per_step=2),
    "rk4": Solver(partial(step_by_step, rk4_step), order=4, nfe_per_step=4),
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
        Number of steps; more is slower and more accurate. They are of equal length, but
        for "adams", whose are short where paths bend most.
    solver : {"euler", "adams", "midpoint", "rk4"}, default="midpoint"
        How the path is followed, a key of :data:`SOLVERS`.
    stop : float, default=1.0
        Where the steps end, in (0, 1]. From an earlier time one Euler step is left,
        and it lands on :math:`x + (1 - t) v(x, t)`, which is the field's estimate of
        the data: what noise it cannot tell from data is not followed [2]_, but detail
        that t does not show yet is averaged out.

    Returns
    -------
    Tensor like ``x_0``
        The point reached at t = 1.

    Raises
    ------
    ValueError
        For no step or a part of one, a stop that is not in (0, 1], an unknown solver.

    Examples
    --------
    >>> import torch
    >>> integrate(lambda x, t: x, torch.ones(1), n_steps=16, solver="rk4")
    tensor([2.7183])
    """
    whole = isinstance(n_steps, Integral) and n_steps >= 1
    if not whole or not 0 < stop <= 1 or solver not in SOLVERS:
        raise ValueError(
            "expected a whole number of steps, at least one, a stop in (0, 1] and one "
            f"of {list(SOLVERS)}, got n_steps={n_steps!r}, stop={stop!r} and "
            f"solver={solver!r}."
        )
    method = SOLVERS[solver]
    x = method.follow(v, x_0, method.times(n_steps, stop))
    return x if stop == 1 else euler_step(v, x, stop, 1 - stop)
