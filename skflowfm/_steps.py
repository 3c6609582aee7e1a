"""How many steps of the flow are worth their cost, and what they leave to mend."""

import numpy as np
import torch

from ._checks import check_count
from ._generation import Steps, decode, device_of, represent
from .nets.coordinates import mirrored_spectrum
from .ode import SOLVERS

QUALITIES = {"fast": 4, "balanced": 8, "high": 32}
STOPS = 1.0, 0.875, 0.75
ROWS_DRAWN_AGAIN = 256
SMOOTHED = 9
MOST_EXCESS = 2.0  # decades; more is not mended, but made up


def check_quality(quality, solver) -> int:
    """Return the evaluations for each row that ``quality`` means, or raise."""
    if isinstance(quality, str):
        if quality not in QUALITIES:
            raise ValueError(
                f"quality must be one of {list(QUALITIES)} or a number of evaluations, "
                f"got quality={quality!r}."
            )
        n_evaluations = QUALITIES[quality]
    else:
        check_count("quality", quality, low=1, optional=False)
        n_evaluations = int(quality)
    if solver not in ("auto", *SOLVERS):
        raise ValueError(
            f"solver must be 'auto' or one of {list(SOLVERS)}, got solver={solver!r}."
        )
    if solver != "auto" and n_evaluations < SOLVERS[solver].nfe_per_step:
        raise ValueError(
            f"One step of solver={solver!r} takes {SOLVERS[solver].nfe_per_step} "
            f"evaluations, got quality={quality!r}. Raise it or choose solver='auto'."
        )
    return n_evaluations


def steps_of(n_evaluations: int, solver: str, stop: float, gain=None) -> Steps:
    """Return the steps that take at most ``n_evaluations`` of the velocity field.

    With "auto" they are those of "adams", to ``stop`` and with one Euler step from
    there, and ``gain`` is applied. Any other solver goes to the end.
    """
    if solver != "auto":
        return Steps(max(1, n_evaluations // SOLVERS[solver].nfe_per_step), solver)
    if stop == 1 or n_evaluations == 1:
        return Steps(n_evaluations, "adams", 1.0, gain)
    return Steps(n_evaluations - 1, "adams", stop, gain)


def mean_log_spectrum(x: torch.Tensor) -> torch.Tensor:
    """Return the mean over windows of the log power of each channel and frequency.

    **Shape.** (n, C, T) to (C, T + 1).
    """
    power = mirrored_spectrum(x - x.mean(-1, keepdim=True)).abs().square()
    floor = 1e-14 * x.square().mean() + torch.finfo(x.dtype).tiny
    return (power + floor).log10().mean(dim=0)


class Redrawn:
    """Windows, drawn again from their own representations; what draws lack is seen.

    Parameters
    ----------
    model : JointModel
        Trained.
    rows : Rows
        Windows; 256 of them are drawn.
    seed : int
        Of the source.
    """

    def __init__(self, model, rows, seed):
        index = torch.linspace(0, len(rows) - 1, min(len(rows), ROWS_DRAWN_AGAIN))
        some = rows[index.long()]
        self.model, self.seed, self.row_shape = model, seed, rows.row_shape
        self.z = represent(model, some)
        self.wanted = self._spectrum(some)

    def _spectrum(self, x):
        x = self.model.standardise(x.to(device_of(self.model)))
        return mean_log_spectrum(x.cpu())

    def excess(self, steps: Steps) -> torch.Tensor:
        """Return the log power that windows drawn with these steps lack or have over.

        **Shape.** (C, T + 1).
        """
        drawn = decode(self.model, self.z, self.row_shape, self.seed, steps)
        return self._spectrum(drawn) - self.wanted


def gain_against(excess: torch.Tensor) -> np.ndarray:
    """Return the factor of each frequency's amplitude that undoes its excess.

    It is averaged over nine neighbours, so that it says nothing of single windows, and
    at most 10 or a tenth.
    """
    smooth = torch.nn.functional.avg_pool1d(
        excess[:, None],
        SMOOTHED,
        stride=1,
        padding=SMOOTHED // 2,
        count_include_pad=False,
    )
    smooth = smooth[:, 0].clamp(-MOST_EXCESS, MOST_EXCESS)
    return (10 ** (-smooth / 2)).numpy()


def calibrated(model, rows, n_evaluations: int, seed: int):
    """Return where to stop solving, and the gain that gives the right spectra then.

    Windows are drawn again from their own representations, once for each candidate. A
    field that is not exact near the data leaves noise, which an earlier stop takes
    away; a good field needs none, and one takes detail with it. The stop is that with
    the spectra closest to right, and the gain mends what is left. No labels are used.
    Tables have no spectrum and are solved to the end.

    Returns
    -------
    stop : float
    gain : ndarray of shape (n_channels, n_timesteps + 1) or None
    """
    if not rows.is_windows or rows.row_shape[-1] < 4 or n_evaluations == 1:
        return 1.0, None
    again = Redrawn(model, rows, seed)
    excess = [again.excess(steps_of(n_evaluations, "auto", stop)) for stop in STOPS]
    best = int(torch.stack([e.abs().mean() for e in excess]).argmin())
    return STOPS[best], gain_against(excess[best])
