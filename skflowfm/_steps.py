"""How many steps of the flow are worth their cost, and what they leave to mend."""

import numpy as np
import torch

from ._checks import check_count
from ._generation import Steps, decode, device_of, represent
from ._sizes import fewer
from .nets.coordinates import mirrored_spectrum
from .ode import SOLVERS

QUALITIES = {"fast": 4, "balanced": 8, "high": 32}
STOP = 0.75
ROWS_DRAWN_AGAIN, LEAST_DRAWN_AGAIN = 1024, 128
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

    **Shape.** (n, C, T) to (C, T - 1), without both ends: the first is the level, the
    last always 0.
    """
    power = mirrored_spectrum(x)[..., 1:-1].abs().square()
    floor = 1e-14 * x.square().mean() + torch.finfo(x.dtype).tiny
    return (power + floor).log10().mean(dim=0)


def gain_against(excess: torch.Tensor) -> np.ndarray:
    """Return the factor of each frequency's amplitude that undoes an excess.

    It is averaged over a twelfth of the frequencies, so that it says nothing of single
    windows, and at most 10 or a tenth.

    Parameters
    ----------
    excess : Tensor of shape (C, T - 1)
        Log power that drawn windows have above real ones, without both ends.

    Returns
    -------
    ndarray of shape (C, T + 1)
        1 at both ends.
    """
    reach = excess.shape[1] // 24
    smooth = torch.nn.functional.avg_pool1d(
        excess[:, None], 2 * reach + 1, 1, reach, count_include_pad=False
    )[:, 0].clamp(-MOST_EXCESS, MOST_EXCESS)
    return (10 ** (-torch.nn.functional.pad(smooth, (1, 1)) / 2)).numpy()


def gain_of(model, rows, steps: Steps, seed: int, n_rows: int | None = None):
    """Return the gain that gives windows, drawn with these steps, the right spectra.

    At most ``n_rows`` windows, 1,024 or fewer large ones, are drawn again from their
    own representations. No labels are used.
    """
    most = n_rows or fewer(ROWS_DRAWN_AGAIN, rows.row_shape, LEAST_DRAWN_AGAIN)
    n = min(len(rows), most)
    some = rows[torch.linspace(0, len(rows) - 1, n).long()]
    drawn = decode(model, represent(model, some), rows.row_shape, seed, steps)
    device = device_of(model)
    drawn, some = (
        mean_log_spectrum(model.standardise(x.to(device)).cpu()) for x in (drawn, some)
    )
    return gain_against(drawn - some)


def calibrated(model, rows, n_evaluations: int, seed: int):
    """Return where to stop solving, and the gain that gives the right spectra then.

    A field that was trained for minutes is not exact near the data, and a solver that
    goes on to them follows it into noise. One long step from an earlier time takes the
    field's estimate of the row, which averages out detail that does not show yet: the
    gain gives frequencies the power that they have lost. Tables have no spectrum and
    are solved to the end.

    Returns
    -------
    stop : float
    gain : ndarray of shape (n_channels, n_timesteps + 1) or None
    """
    if not rows.is_windows or rows.row_shape[-1] < 4 or n_evaluations == 1:
        return 1.0, None
    steps = steps_of(n_evaluations, "auto", STOP)
    return STOP, gain_of(model, rows, steps, seed)
