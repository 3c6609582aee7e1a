"""Windows of one sampling rate and length brought to another."""

from fractions import Fraction
from numbers import Integral, Real

import numpy as np
from scipy.signal import resample_poly
from sklearn.utils import check_scalar

from skflowfm._checks import off_torch, reject_unreadable

BLOCK = 1024


def resample_windows(X, rate_in, rate_out, *, n_timesteps=None):
    """Bring windows to another sampling rate, and cut them to a length.

    With a polyphase filter: what is too fast for the lower of the two rates is filtered
    out and not folded into lower frequencies. Beyond its ends a window is continued
    along the line from its first sample to its last, so the first and the last tenth of
    a second or so are less exact.

    Parameters
    ----------
    X : array-like of shape (n_windows, n_channels, n_timesteps)
        Finite numbers, such as accelerations in g. Read bit by bit, so it may be a
        memory map; never written to.
    rate_in, rate_out : float
        Samples per second of ``X`` and of the result, in Hz.
    n_timesteps : int, default=None
        Samples of each window that are kept, from its start. None keeps all, which
        last as long as before.

    Returns
    -------
    X_new : ndarray of shape (n_windows, n_channels, n_timesteps), float32

    Raises
    ------
    TypeError, ValueError
        If ``X`` is no array of windows or not finite, a rate is not positive, or the
        windows are too short for ``n_timesteps``.

    See Also
    --------
    sliding_windows : Cut a long recording into windows, whose length you choose.

    Examples
    --------
    Ten seconds at 50 Hz to the 30 Hz that a pretrained model wants:

    >>> from skflowfm.datasets import make_wearable, resample_windows
    >>> X = make_wearable(20, n_timesteps=500, sampling_rate=50, random_state=0).X
    >>> resample_windows(X, 50, 30).shape
    (20, 3, 300)
    >>> resample_windows(X, 50, 30, n_timesteps=240).shape
    (20, 3, 240)
    """
    for name, rate in (("rate_in", rate_in), ("rate_out", rate_out)):
        check_scalar(rate, name, Real)
        if not (np.isfinite(rate) and rate > 0):
            raise ValueError(f"{name} must be a positive number of Hz, got {rate!r}.")
    if n_timesteps is not None:
        check_scalar(n_timesteps, "n_timesteps", Integral, min_val=1)
    X = off_torch(X)
    reject_unreadable(X)
    X = X if hasattr(X, "shape") and hasattr(X, "dtype") else np.asarray(X)
    if X.ndim != 3 or X.dtype.kind not in "iuf" or 0 in X.shape[1:]:
        raise ValueError(
            "X must be an array of numbers of shape (n_windows, n_channels, "
            f"n_timesteps), got shape {X.shape} of dtype {X.dtype}. One window is "
            "X[np.newaxis]."
        )
    ratio = simple_ratio(float(rate_out), float(rate_in))
    length = -(-X.shape[2] * ratio.numerator // ratio.denominator)
    if (n_timesteps or 1) > length:
        raise ValueError(
            f"n_timesteps must be at most {length}, which is what {X.shape[2]} samples "
            f"at {rate_in} Hz give at {rate_out} Hz, got {n_timesteps}. Cut longer "
            "windows out of the recordings, or leave these out."
        )
    out = np.empty((*X.shape[:2], n_timesteps or length), np.float32)
    for start in range(0, len(X), BLOCK):
        part = np.asarray(X[start : start + BLOCK], dtype=np.float64)
        if not np.isfinite(part).all():
            raise ValueError(
                "X must be finite, got NaN or infinity in windows "
                f"{start} to {start + len(part) - 1}. Drop such windows first."
            )
        if ratio != 1:
            level = part.mean(axis=-1, keepdims=True)  # the filter's gain ripples a bit
            up, down = ratio.numerator, ratio.denominator
            ends = "line" if X.shape[2] > 1 else "constant"  # one sample has no line
            part = resample_poly(part - level, up, down, axis=-1, padtype=ends)
            part += level
        largest = np.abs(part).max()
        if largest > np.finfo(np.float32).max:
            raise ValueError(
                f"X must be finite in float32, got values up to {largest:g} in size. "
                "Divide it by a constant first."
            )
        out[start : start + BLOCK] = part[..., : out.shape[2]]
    return out


def simple_ratio(rate_out: float, rate_in: float) -> Fraction:
    """Return the ratio of two rates, within 1e-5 of it and with small terms."""
    exact = Fraction(rate_out) / Fraction(rate_in)
    for largest in (10**3, 10**5, 10**7):
        ratio = exact.limit_denominator(largest)
        if abs(ratio - exact) <= exact / 10**5:
            break
    return ratio
