"""How many steps of the flow are worth their cost, and where to end them."""

import torch

from ._checks import check_count
from ._generation import Steps, decode, device_of, represent
from .ode import SOLVERS

QUALITIES = {"fast": 4, "balanced": 8, "high": 32}
STOPS = 1.0, 0.875, 0.75
ENOUGH_FOR_MIDPOINT = 8
ROWS_FOR_STOP = 256


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


def steps_of(n_evaluations: int, solver: str, stop: float) -> Steps:
    """Return the steps that take at most ``n_evaluations`` of the velocity field.

    With "auto" the steps go to ``stop`` and one Euler step from there; they are of
    second order where there are enough evaluations for that. Any other solver goes to
    the end.
    """
    if solver != "auto":
        return Steps(max(1, n_evaluations // SOLVERS[solver].nfe_per_step), solver)
    if n_evaluations == 1:
        return Steps(1, "euler")
    if stop == 1:
        return Steps(n_evaluations // 2, "midpoint")
    if n_evaluations >= ENOUGH_FOR_MIDPOINT:
        return Steps((n_evaluations - 1) // 2, "midpoint", stop)
    return Steps(n_evaluations - 1, "euler", stop)


def mean_log_spectrum(x: torch.Tensor) -> torch.Tensor:
    """Return the mean over windows of the log power of each channel and frequency."""
    hann = torch.hann_window(x.shape[-1], periodic=False)
    power = torch.fft.rfft((x - x.mean(-1, keepdim=True)) * hann).abs().square()
    floor = 1e-14 * x.square().mean() + torch.finfo(x.dtype).tiny
    return (power[..., 1:] + floor).log10().mean(dim=0)


def choose_stop(model, rows, n_evaluations: int, seed: int) -> float:
    """Return where to stop solving: the time that gives the right spectra.

    The rows are drawn again from their own representations, once for each candidate. A
    field that is not exact near the data leaves noise, which an earlier stop takes
    away; a good field needs none, and one takes detail with it. No labels are used.
    Tables have no spectrum and are solved to the end.
    """
    if not rows.is_windows or rows.row_shape[-1] < 4 or n_evaluations == 1:
        return 1.0
    index = torch.linspace(0, len(rows) - 1, min(len(rows), ROWS_FOR_STOP)).long()
    some = rows[index]
    z = represent(model, some)

    def spectrum(x):
        return mean_log_spectrum(model.standardise(x.to(device_of(model))).cpu())

    wanted = spectrum(some)
    distance = []
    for stop in STOPS:
        steps = steps_of(n_evaluations, "auto", stop)
        drawn = decode(model, z, rows.row_shape, seed, steps)
        distance.append((spectrum(drawn) - wanted).abs().mean())
    return STOPS[int(torch.stack(distance).argmin())]
