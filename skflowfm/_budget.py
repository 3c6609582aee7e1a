"""How long to train, in which steps and at which rate."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from ._sizes import fewer

BATCH_SIZE = 64
CUDA_BATCH_SIZE = 512
LEAST_BATCH, CUDA_LEAST_BATCH = 16, 64
PASSES = 60
MOST_STEPS = 1000
WARM_UP_STEPS = 50
FIELD_SHARE = 1.5


def default_steps(n_rows: int, is_windows: bool) -> int:
    """Return 60 passes over the rows in steps of 64, within limits."""
    least = 400 if is_windows else 200
    return min(max(PASSES * n_rows // BATCH_SIZE, least), MOST_STEPS)


def batch_size(n_rows: int, device: str, row_shape=()) -> int:
    """Return how many rows a step sees: more on CUDA, fewer of large ones.

    On CUDA they cost little time: there 1,000 steps are to make the 60 passes that on a
    CPU would take too long.
    """
    if torch.device(device).type != "cuda":
        return fewer(BATCH_SIZE, row_shape, LEAST_BATCH)
    size = min(max(PASSES * n_rows // MOST_STEPS, BATCH_SIZE), CUDA_BATCH_SIZE)
    return fewer(size, row_shape, CUDA_LEAST_BATCH)


@dataclass
class Budget:
    """How long to train: whichever of steps and seconds is spent first.

    ``decay`` lets the learning rate fall to zero over the budget; without it the rate
    stays, as calls of ``partial_fit`` want. ``steps_before``, those of earlier calls,
    count for the warm-up. The velocity field learns ``field_rate`` times as fast.
    """

    max_steps: int | None
    max_time: float | None
    batch_size: int
    learning_rate: float = 2e-3
    field_rate: float = 1.0
    decay: bool = True
    steps_before: int = 0
    n_steps: int = field(default=0, init=False)
    started: float = field(default_factory=time.perf_counter, init=False)
    begun: float | None = field(default=None, init=False)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def begin(self) -> None:
        """Say that training begins; what came before was preparation."""
        if self.begun is None:
            self.begun = self.seconds

    def keep_back(self) -> None:
        """Begin with as much of the time as :meth:`go_on` leaves to the first part."""
        self.begin()
        if self.max_time:
            left = max(self.max_time - self.begun, 0.0)
            self.max_time = self.begun + left / FIELD_SHARE

    def go_on(self, kept_steps: int, max_time: float | None) -> None:
        """Return to an earlier step, and go on over half as much again.

        Parameters
        ----------
        kept_steps : int
            Where to return to.
        max_time : float or None
            The time of both parts.
        """
        done = min(self.spent(), 1.0) * kept_steps / self.n_steps / FIELD_SHARE
        self.n_steps = kept_steps
        if self.max_steps:
            self.max_steps = round(FIELD_SHARE * self.max_steps)
        self.max_time = max_time
        if max_time:  # as if that share of the time had passed
            now = self.seconds
            self.begun = now - done / (1 - done) * max(max_time - now, 0.0)

    def spent(self) -> float:
        """Fraction of the budget that is used, 1 at its end; starts with training."""
        by_steps = self.n_steps / self.max_steps if self.max_steps else 0.0
        by_time = 0.0
        if self.max_time:
            begun = self.begun or 0.0
            by_time = (self.seconds - begun) / max(self.max_time - begun, 1e-9)
        return max(by_steps, by_time)

    def rate(self) -> float:
        """Learning rate now: linear warm-up, then half a cosine down to zero."""
        warm = min(1.0, (self.steps_before + self.n_steps + 1) / WARM_UP_STEPS)
        if not self.decay:
            return self.learning_rate * warm
        spent = min(self.spent(), 1.0)
        cosine = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * spent)).item())
        return self.learning_rate * min(warm, cosine)


class Plan(NamedTuple):
    """How a training is run.

    Parameters
    ----------
    budget : Budget
        When to stop.
    seed : int
        Seeds private generators; no global one is used.
    device : str, default="cpu"
        Where to train; the module stays there.
    alignment : float, default=0.0
        Weight of the alignment term.
    verbose : int, default=0
        Above 0 prints a progress line.
    """

    budget: Budget
    seed: int
    device: str = "cpu"
    alignment: float = 0.0
    verbose: int = 0
