"""Fixed features of a window: what the classifiers of the measures look at.

They are fixed so that numbers of different generators and of different papers can be
compared: the choice of the embedding moves a score more than the choice of the measure.

References
----------
.. [1] "STEB: In Search of the Best Evaluation Approach for Synthetic Time Series",
   2025, arXiv 2505.21160.
"""

import numpy as np

PERCENTILES = (0, 10, 25, 50, 75, 90, 100)
N_BANDS = 8
# Squared resolution of float32: below it a power is rounding, not signal.
RELATIVE_POWER_FLOOR = 1e-14


def spectral_power(X):
    """Power spectrum of every channel of every window.

    The mean of each window and channel is removed, a Hann window applied, and the
    power divided by the energy of that window: white noise of variance s**2 has
    expected power s**2, but less at the lowest frequency, of which the mean is a part.
    The zero frequency is left out.

    Parameters
    ----------
    X : ndarray of shape (n_windows, n_channels, n_timesteps)

    Returns
    -------
    power : ndarray of shape (n_windows, n_channels, n_timesteps // 2)
        In squared units of `X`.
    """
    n_timesteps = X.shape[-1]
    hann = np.sin(np.pi * (np.arange(n_timesteps) + 0.5) / n_timesteps) ** 2
    centred = X - X.mean(axis=-1, keepdims=True)
    spectrum = np.fft.rfft(centred * hann, axis=-1)[..., 1:]
    return np.abs(spectrum) ** 2 / np.sum(hann**2)


def representation_features(X):
    """Return window features of 3-D `X`, the columns themselves of 2-D `X`."""
    return window_features(X) if X.ndim == 3 else X


def standardised(reference, *others, axes=(0,), more=None):
    """Return all with the mean and deviation of the first taken out.

    Where that is constant, ``more`` rows, if given, say how far others may lie.

    Whatever the units, differences are then seen by trees, which tell no values apart
    that are closer than 1e-7. What is constant keeps its scale, and what differs from
    it as float32 does from float64 is the same.
    """
    mean = reference.mean(axis=axes, keepdims=True)
    scale = reference.std(axis=axes, keepdims=True)
    constant = scale <= 1e-9 * np.abs(mean)
    other = 0.0 if more is None else more.std(axis=axes, keepdims=True)
    scale = np.where(constant, np.where(other > 0, other, 1.0), scale)
    rounding = 1e-6 * np.abs(mean) * constant
    centred = [X - mean for X in (reference, *others)]
    return [np.where(np.abs(c) <= rounding, 0.0, c) / scale for c in centred]


def embed(embedding, *samples, frames=None):
    """Return each sample as points in one space.

    Parameters
    ----------
    embedding : None, fitted transformer or callable
        None is :func:`representation_features`.
    *samples : ndarray
        Windows or tables.
    frames : sequence, default=None
        The samples as the user gave them, for an embedding that goes by names.

    Returns
    -------
    points : list of ndarray of shape (n, n_features)
    """
    if embedding is None:
        return [representation_features(X) for X in samples]
    if not (hasattr(embedding, "transform") or callable(embedding)):
        raise TypeError(
            "embedding must be None, a fitted transformer or a callable that maps rows "
            f"to features, got {embedding!r}."
        )
    function = getattr(embedding, "transform", embedding)
    given = frames or samples
    points = [np.asarray(function(X), dtype=np.float64) for X in given]
    for p, X in zip(points, samples, strict=True):
        if p.ndim != 2 or len(p) != len(X) or not np.isfinite(p).all():
            raise ValueError(
                f"embedding must map {len(X)} rows to finite features of shape "
                f"({len(X)}, n_features), got shape {p.shape}."
            )
    return points


def window_features(X):
    """Describe each window by statistics of its values, differences and spectrum.

    Per channel: mean, standard deviation, seven percentiles, mean absolute difference
    of neighbouring steps, log10 power in at most eight frequency bands of equal ratio;
    and the correlation of every pair of channels (0 where one is constant). A row's
    features depend on that row alone.

    Parameters
    ----------
    X : ndarray of shape (n_windows, n_channels, n_timesteps)

    Returns
    -------
    features : ndarray of shape (n_windows, n_features)

    Examples
    --------
    >>> import numpy as np
    >>> from skflowfm.metrics._features import window_features
    >>> window_features(np.zeros((2, 3, 300))).shape
    (2, 57)
    """
    differences = np.diff(X, axis=-1, append=X[..., -1:])
    at_rest = np.sqrt(power_floor(X, axis=-1))

    def size(values):  # of a window at rest 0, not its rounding
        return np.where(values > at_rest, values, 0.0)[..., None]

    per_channel = [
        X.mean(axis=-1)[..., None],
        size(X.std(axis=-1)),
        np.moveaxis(np.percentile(X, PERCENTILES, axis=-1), 0, -1),
        size(np.abs(differences).mean(axis=-1)),
        _log_band_powers(X),
    ]
    flat = np.concatenate(per_channel, axis=-1).reshape(len(X), -1)
    return np.concatenate([flat, channel_correlations(X)], axis=1)


def _log_band_powers(X):
    power = spectral_power(X)
    n_frequencies = power.shape[-1]
    if n_frequencies == 0:
        return power
    edges = np.geomspace(1, n_frequencies + 1, min(N_BANDS, n_frequencies) + 1)
    starts = np.unique(np.round(edges[:-1]).astype(int)) - 1
    widths = np.diff(np.append(starts, n_frequencies))
    bands = np.add.reduceat(power, starts, axis=-1) / widths
    return np.log10(np.maximum(bands, power_floor(X, axis=-1)[..., None]))


def power_floor(X, axis, relative=RELATIVE_POWER_FLOOR):
    """Smallest power counted as signal, from the mean square of `X` along `axis`."""
    mean_square = np.mean(X**2, axis=axis)
    return relative * np.where(mean_square > 0, mean_square, 1.0)


def channel_correlations(X):
    """Correlation of each pair of channels within each window, 0 where one rests."""
    centred = X - X.mean(axis=-1, keepdims=True)
    energy = np.sum(centred**2, axis=-1)
    signal = energy > X.shape[-1] * power_floor(X, axis=-1)
    unit = centred / np.sqrt(np.where(signal, energy, 1.0))[..., None]
    unit = np.where(signal[..., None], unit, 0.0)
    first, second = np.triu_indices(X.shape[1], k=1)
    return np.sum(unit[:, first] * unit[:, second], axis=-1)
