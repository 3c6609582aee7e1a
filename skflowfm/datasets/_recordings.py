"""From a recording with its own clock to windows at 30 Hz.

    samples with time stamps -> stretches without long gaps -> 30 Hz -> windows

A sample that is missing (NaN) is left out; what remains is a gap in time, no different
from one of a sensor that stopped sending. Short gaps are interpolated, at long ones the
recording is cut.
"""

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from scipy.signal import resample_poly

from ._windows import sliding_windows

SAMPLING_RATE = 30
N_TIMESTEPS = 300  # 10 s
# Of the samples that a window should rest on. Else the rest is interpolation.
_MIN_FILLED = 0.75
_PURITY = 0.5


class Recording(NamedTuple):
    """What one person did for a while, as it was recorded.

    Attributes
    ----------
    subject : int
        The person.
    name : str
        The file, for the windows' ``recording``.
    time : array of shape (n_samples,)
        In seconds, in any order.
    values : array of shape (n_samples, n_channels)
        NaN where missing.
    labels : float array of shape (n_samples,) or float
        Code of the activity, of each sample or of all; NaN for none.
    """

    subject: int
    name: str
    time: np.ndarray
    values: np.ndarray
    labels: np.ndarray | float


class Windows(NamedTuple):
    """Windows of one recording: their values, activities and times of start in s."""

    X: np.ndarray
    labels: np.ndarray
    start: np.ndarray


def cut(recording, rate, step, max_gap):
    """Resample a recording to 30 Hz and cut it into windows of 10 s.

    Windows start with every stretch between two long gaps. One is kept if the most
    frequent activity fills at least half of it, and if at least three quarters of the
    samples it should rest on were recorded.

    Parameters
    ----------
    recording : Recording
        May have no samples at all.
    rate : float
        The nominal sampling rate of the recording, in Hz.
    step : int
        From one window's start to the next, in samples at 30 Hz.
    max_gap : float
        The longest time between two samples that is interpolated, in seconds.

    Returns
    -------
    windows : Windows
        There may be none.
    """
    n_channels = recording.values.shape[1]
    found = [
        Windows(np.empty((0, n_channels, N_TIMESTEPS), np.float32), *np.empty((2, 0)))
    ]
    for time, values, labels in _stretches(recording, max_gap):
        grid, resampled = resample(time, values, rate)
        if len(grid) < N_TIMESTEPS:
            continue
        windows = sliding_windows(
            resampled,
            N_TIMESTEPS,
            step=step,
            labels=_nearest(time, labels, grid),
            purity=_PURITY,
        )
        start = grid[windows.start]
        first, after = np.searchsorted(
            time, [start, start + N_TIMESTEPS / SAMPLING_RATE - 1e-6]
        )
        keep = after - first >= _MIN_FILLED * rate * N_TIMESTEPS / SAMPLING_RATE
        found.append(Windows(windows.X[keep], windows.y[keep], start[keep]))
    return Windows(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _stretches(recording, max_gap):
    """Yield (time, values, labels) between long gaps; time rises strictly."""
    time = np.asarray(recording.time, dtype=float)
    values = np.asarray(recording.values, dtype=float)
    labels = np.broadcast_to(np.asarray(recording.labels, dtype=float), time.shape)
    there = np.flatnonzero(np.isfinite(time) & np.isfinite(values).all(axis=1))
    # Of samples with the same time stamp the first in the file is taken.
    _, first = np.unique(time[there], return_index=True)
    order = there[first]
    time, values, labels = time[order], values[order], labels[order]
    # A gap of exactly max_gap is short, whatever its rounding.
    cuts = np.flatnonzero(np.diff(time) > max_gap + 1e-6) + 1
    for stretch in np.split(np.arange(len(time)), cuts):
        yield time[stretch], values[stretch], labels[stretch]


def resample(time, values, rate):
    """Bring samples to 30 Hz.

    Below 30 Hz and up to 32 Hz, by linear interpolation. Recordings of a higher rate
    hold frequencies that 30 Hz cannot carry, and pass a low-pass filter first, so that
    these are not folded into the lower ones.

    Parameters
    ----------
    time : array of shape (n_samples,)
        In seconds, rising.
    values : array of shape (n_samples, n_channels)
        Without missing values.
    rate : float
        Nominal sampling rate, in Hz.

    Returns
    -------
    grid : array of shape (n_resampled,)
        The new times, from the first sample to the last or just before it.
    resampled : array of shape (n_resampled, n_channels)
        The values there.
    """
    if rate <= 32:
        grid = _grid(time, SAMPLING_RATE)
        return grid, _interpolate(time, values, grid)
    fine = _grid(time, rate)
    ratio = Fraction(SAMPLING_RATE) / Fraction(rate).limit_denominator(1000)
    values = _interpolate(time, values, fine)
    resampled = resample_poly(
        values, ratio.numerator, ratio.denominator, axis=0, padtype="line"
    )
    grid = _grid(fine, SAMPLING_RATE)
    return grid, resampled[: len(grid)]


def _grid(time, rate):
    """Times at ``rate`` Hz, from the first to the last; empty if there are none."""
    if len(time) == 0:
        return np.empty(0)
    n_samples = int(np.floor((time[-1] - time[0]) * rate + 1e-6)) + 1
    return time[0] + np.arange(n_samples) / rate


def _interpolate(time, values, grid):
    if len(grid) == 0:
        return np.empty((0, values.shape[1]))
    return np.column_stack([np.interp(grid, time, channel) for channel in values.T])


def _nearest(time, labels, grid):
    """The label of the sample next to each time of the grid."""
    return labels[np.searchsorted((time[1:] + time[:-1]) / 2, grid)]
