"""Do real and synthetic windows depend on their past, and channel on channel, alike?"""

import numpy as np

from skflowfm._checks import check_count
from skflowfm.metrics._checks import check_rows, private_generator
from skflowfm.metrics._features import channel_correlations, power_floor
from skflowfm.metrics._profile import profile_distance


def autocorrelation_distance(X_real, X_synthetic, *, max_lag=None, random_state=None):
    """Distance between mean autocorrelations.

    The autocorrelation of each window and channel, at lags 1 to `max_lag`, is averaged
    over windows; the result is the mean absolute difference over channels and lags.
    Unlike the power spectrum it ignores amplitude, so that it sees rhythm alone.

    Parameters
    ----------
    X_real, X_synthetic : array-like of shape (n_windows, n_channels, n_timesteps)
        At the same sampling rate. At least 4 real windows.
    max_lag : int, default=None
        Largest lag in steps, below the number of steps. None is half of the window:
        beyond it few pairs of steps are left to average.
    random_state : None, int, Generator or RandomState, default=None
        For the floor and the interval; `value` does not depend on it.

    Returns
    -------
    result : MetricResult
        `value` lies in [0, 2]; `floor` and `interval` as in :func:`log_psd_distance`.
        A constant channel counts as uncorrelated with its past.

    Raises
    ------
    ValueError
        If an input is not 3-D, not finite, or the rows differ in shape; if `max_lag` is
        out of range.

    References
    ----------
    .. [1] G. E. P. Box, G. M. Jenkins and G. C. Reinsel, "Time Series Analysis", 4th
       ed., 2008, section 2.1 (the estimator divided by n).

    Examples
    --------
    White noise beside its running sum:

    >>> import numpy as np
    >>> from skflowfm.metrics import autocorrelation_distance
    >>> X = np.random.default_rng(0).normal(size=(50, 1, 64))
    >>> autocorrelation_distance(X, X.cumsum(axis=-1), max_lag=1).value > 0.8
    True
    """
    X_real, X_synthetic = _window_pair(X_real, X_synthetic)
    n_timesteps = X_real.shape[-1]
    if n_timesteps < 2:
        raise ValueError("Autocorrelation needs windows of at least 2 steps, got 1.")
    check_count("max_lag", max_lag, low=1)
    if max_lag is None:
        max_lag = n_timesteps // 2
    if not 1 <= max_lag < n_timesteps:
        raise ValueError(
            f"max_lag must lie between 1 and {n_timesteps - 1}, one less than the "
            f"steps of a window, got {max_lag!r}."
        )
    rng = private_generator(random_state)
    real, synthetic = (_autocorrelation(X, max_lag) for X in (X_real, X_synthetic))
    return profile_distance(real, synthetic, rng)


def cross_correlation_distance(X_real, X_synthetic, *, random_state=None):
    """Distance between mean correlations of channels.

    The correlation of each pair of channels within a window, at the same step, is
    averaged over windows; the result is the mean absolute difference over pairs.

    Parameters
    ----------
    X_real, X_synthetic : array-like of shape (n_windows, n_channels, n_timesteps)
        At least two channels, at least 4 real windows.
    random_state : None, int, Generator or RandomState, default=None
        For the floor and the interval; `value` does not depend on it.

    Returns
    -------
    result : MetricResult
        `value` lies in [0, 2]; `floor` and `interval` as in :func:`log_psd_distance`.
        A constant channel counts as uncorrelated.

    Raises
    ------
    ValueError
        If an input is not 3-D, not finite, has one channel, or the rows differ in
        shape.

    Examples
    --------
    Turning one of two equal channels upside down:

    >>> import numpy as np
    >>> from skflowfm.metrics import cross_correlation_distance
    >>> X = np.random.default_rng(0).normal(size=(50, 1, 64)).repeat(2, axis=1)
    >>> round(cross_correlation_distance(X, X * [[1], [-1]]).value, 6)
    2.0
    """
    X_real, X_synthetic = _window_pair(X_real, X_synthetic)
    if X_real.shape[1] < 2:
        raise ValueError(
            "Correlations of channels need at least 2 channels, got 1. Use "
            "autocorrelation_distance for a single one."
        )
    rng = private_generator(random_state)
    real, synthetic = (channel_correlations(X) for X in (X_real, X_synthetic))
    return profile_distance(real, synthetic, rng)


def _window_pair(X_real, X_synthetic):
    X_real = check_rows(X_real, "X_real", min_rows=4, windows=True)
    X_synthetic = check_rows(
        X_synthetic, "X_synthetic", like=("X_real", X_real), windows=True
    )
    return X_real, X_synthetic


def _autocorrelation(X, max_lag):
    """Autocorrelations at lags 1 to `max_lag`, shape (n_windows, n_channels x lags)."""
    n_timesteps = X.shape[-1]
    centred = X - X.mean(axis=-1, keepdims=True)
    spectrum = np.fft.rfft(centred, n=2 * n_timesteps, axis=-1)  # no wrap-around
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=-1)[..., : max_lag + 1]
    energy = covariance[..., 0]
    signal = energy > n_timesteps * power_floor(X, axis=-1)
    scaled = covariance[..., 1:] / np.where(signal, energy, 1.0)[..., None]
    return np.where(signal[..., None], scaled, 0.0).reshape(len(X), -1)
