"""Cutting a long recording into windows of equal length."""

from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.utils import Bunch, check_scalar

from skflowfm._checks import off_torch


def sliding_windows(
    recording,
    n_timesteps,
    *,
    step=None,
    labels=None,
    purity=0.5,
    groups=None,
    max_gap=0,
):
    """Cut a recording into windows of equal length.

    Windows start at the samples 0, ``step``, ``2 * step`` and so on, as long as the
    whole window fits; what remains at the end is left out. Out of these are dropped the
    windows that hold missing values, cross the border between two groups, or have no
    label of sufficient ``purity``. The recording itself is not changed.

    Parameters
    ----------
    recording : array-like or DataFrame of shape (n_samples, n_channels) or (n_samples,)
        One row per sample, in the order of time and equally spaced; one column per
        channel, with NaN for missing values. A 1-D recording or a Series is one
        channel. The index of a DataFrame is not used: resample a recording with
        irregular time stamps first. Note that windows come out with the channels
        before the time.
    n_timesteps : int
        Samples per window; 300 is 10 s at 30 Hz.
    step : int, default=None
        Samples from one window's start to the next. None means ``n_timesteps``, windows
        side by side. A smaller step gives more windows that overlap, so keep the
        windows of a recording together when you split data for a test.
    labels : array-like of shape (n_samples,), default=None
        One label per sample: integers, strings or other values that can be sorted.
        None, NaN and NA mean "no label".
    purity : float, default=0.5
        The fraction of all samples in a window, from 0 to 1, that its most frequent
        label must reach. Higher values drop more windows at the changes of activity; 1
        keeps windows of one label only, 0 all those with any label. A tie goes to the
        label that sorts first. Ignored without ``labels``.
    groups : scalar or array-like of shape (n_samples,), default=None
        The person or session, for the whole recording or per sample. Windows that hold
        two groups are dropped, so that recordings of several people can be passed as
        one, one after the other. No group may be missing.
    max_gap : int, default=0
        The longest run of missing values in a channel, in samples, that is filled by
        linear interpolation. Longer runs are left missing, and so are those at the
        beginning and end of a recording or group, where one neighbour is absent. A
        window with a missing value that is not filled is dropped.

    Returns
    -------
    windows : :class:`~sklearn.utils.Bunch`
        X : float32 array of shape (n_windows, n_channels, n_timesteps)
            The windows, in the order of time; a copy. It may be empty.
        y : array of shape (n_windows,) or None
            The label of each window; None without ``labels``.
        groups : array of shape (n_windows,) or None
            The group of each window; None without ``groups``.
        start : int64 array of shape (n_windows,)
            Index of the first sample of each window in ``recording``.

    Raises
    ------
    TypeError
        If the recording, the labels or the groups are not of a usable type.
    ValueError
        If the recording is shorter than one window, has infinite values or more than
        two dimensions, or if a length or a value does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from skflowfm.datasets import sliding_windows
    >>> recording = np.column_stack([np.arange(10), np.arange(10) ** 2])
    >>> activity = ["walk"] * 7 + ["run"] * 3
    >>> windows = sliding_windows(recording, 4, step=2, labels=activity, purity=0.75)
    >>> windows.X.shape, windows.start.tolist(), windows.y.tolist()
    ((4, 2, 4), [0, 2, 4, 6], ['walk', 'walk', 'walk', 'run'])
    >>> windows.X[1]
    array([[ 2.,  3.,  4.,  5.],
           [ 4.,  9., 16., 25.]], dtype=float32)
    """
    check_scalar(n_timesteps, "n_timesteps", Integral, min_val=1)
    step = n_timesteps if step is None else step
    check_scalar(step, "step", Integral, min_val=1)
    check_scalar(max_gap, "max_gap", Integral, min_val=0)
    check_scalar(purity, "purity", Real)
    if not 0 <= purity <= 1:
        raise ValueError(f"purity must be a fraction from 0 to 1, got {purity!r}.")
    values = _check_recording(recording)
    n_samples = len(values)
    if n_samples < n_timesteps:
        raise ValueError(
            f"The recording has {n_samples} samples, fewer than the "
            f"n_timesteps={n_timesteps} of one window. Pass a longer recording (rows "
            "are samples, columns are channels) or lower n_timesteps."
        )

    segment, group_codes, group_names = _check_groups(groups, n_samples)
    _fill_gaps(values, segment, max_gap)
    start = np.arange(0, n_samples - n_timesteps + 1, step, dtype=np.int64)
    keep = _count(np.isnan(values).any(axis=1), start, n_timesteps) == 0
    keep &= segment[start] == segment[start + n_timesteps - 1]
    y = None
    if labels is not None:
        label_codes, label_names = _encode(labels, "labels", n_samples)
        winner, count = _majority(label_codes, start, n_timesteps)
        # Not count >= purity * n_timesteps: 0.07 * 100 is a little more than 7.
        keep &= (count > 0) & (count / n_timesteps >= purity)
        y = label_names[winner[keep]]
    windows = np.lib.stride_tricks.sliding_window_view(values, n_timesteps, axis=0)
    return Bunch(
        X=np.ascontiguousarray(windows[start[keep]]),
        y=y,
        groups=None if groups is None else group_names[group_codes[start[keep]]],
        start=start[keep],
    )


def _check_recording(recording):
    """A float32 copy, of shape (n_samples, n_channels)."""
    if isinstance(recording, pd.Series):
        recording = recording.to_frame()
    if isinstance(recording, pd.DataFrame):
        numeric = [pd.api.types.is_any_real_numeric_dtype(t) for t in recording.dtypes]
        if not all(numeric):
            bad = recording.dtypes[np.logical_not(numeric)].to_dict()
            raise TypeError(
                f"All columns of the recording must be real numbers, got {bad}. Drop "
                "these columns (labels and groups have parameters of their own) or "
                "convert them, for example with pandas.to_numeric."
            )
        recording = recording.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.ma.isMaskedArray(recording):
        recording = recording.astype(np.float64).filled(np.nan)
    recording = off_torch(recording)
    try:
        values = np.asarray(recording)
    except ValueError as error:
        raise ValueError(
            "The recording must have equally many channels in each sample, got a "
            f"ragged list ({error}). Rows are samples, columns are channels."
        ) from None
    if values.dtype.kind not in "iuf":
        raise TypeError(
            f"The recording must hold real numbers, got dtype {values.dtype}. Convert "
            "it, for example with numpy.asarray(recording, dtype=float)."
        )
    if values.ndim not in (1, 2) or 0 in values.shape[1:]:
        raise ValueError(
            "The recording must have the shape (n_samples, n_channels) with at least "
            f"one channel, or (n_samples,), got {values.shape}."
        )
    values = values[:, np.newaxis] if values.ndim == 1 else values
    with np.errstate(over="ignore"):
        values = np.array(values, dtype=np.float32)
    infinite = np.flatnonzero(np.isinf(values).any(axis=1))
    if len(infinite):
        raise ValueError(
            "The recording has infinite values, or values too large for float32, in "
            f"{len(infinite)} of {len(values)} samples, the first at {infinite[0]}. "
            "Replace them, by NaN if they are missing values."
        )
    return values


def _encode(values, name, n_samples):
    """Codes into the sorted unique values, -1 where a value is missing."""
    # A plain np.asarray would turn the NaN of ["walk", nan] into a string.
    if np.ma.isMaskedArray(values):
        values, mask = values.data, np.ma.getmaskarray(values)
        if mask.any() and values.dtype.kind in "mM":
            values = np.where(mask, np.array("NaT", values.dtype), values)
        elif mask.any():
            values = np.where(mask, None, values.astype(object))
    values = off_torch(values)
    has_dtype = isinstance(getattr(values, "dtype", None), np.dtype)
    values = np.array(values, dtype=None if has_dtype else object)
    if values.ndim != 1 or len(values) != n_samples:
        raise ValueError(
            f"{name} must hold one value per sample of the recording, that is have the "
            f"shape ({n_samples},), got {values.shape}."
        )
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind in ("mixed", "mixed-integer", "complex"):
        raise TypeError(
            f"{name} must be of one sortable type, such as all integers or all "
            f"strings, got {kind} values. Convert them, for example with "
            f"[str(value) for value in {name}]."
        )
    codes, names = pd.factorize(values, sort=True)
    # Integers and strings next to None arrive as objects; give them their own dtype.
    return codes, np.array(names.tolist()) if names.dtype == object else names


def _check_groups(groups, n_samples):
    """Number of the stretch of equal groups each sample is in; codes and names."""
    if groups is None:
        return np.zeros(n_samples, dtype=np.int64), None, None
    if np.ndim(groups) == 0:
        groups = np.full(n_samples, groups)
    codes, names = _encode(groups, "groups", n_samples)
    absent = np.flatnonzero(codes < 0)
    if len(absent):
        raise ValueError(
            f"groups is missing for {len(absent)} of {n_samples} samples, the first at "
            f"{absent[0]}. Give every sample a group, or drop these samples."
        )
    changes = np.cumsum(codes[1:] != codes[:-1])
    return np.concatenate([[0], changes]), codes, names


def _fill_gaps(values, segment, max_gap):
    """Interpolate short runs of NaN between two samples of one segment, in place."""
    for channel in values.T:
        missing = np.isnan(channel)
        edges = np.diff(missing.astype(np.int8), prepend=0, append=0)
        first, after = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        inside = (first > 0) & (after < len(channel)) & (after - first <= max_gap)
        first, after = first[inside], after[inside]
        same = segment[first - 1] == segment[after]
        for begin, end in zip(first[same], after[same], strict=True):
            line = np.linspace(channel[begin - 1], channel[end], end - begin + 2)
            channel[begin:end] = line[1:-1]


def _count(flags, start, n_timesteps):
    """How many flags are set in each window."""
    total = np.concatenate([[0], np.cumsum(flags)])
    return total[start + n_timesteps] - total[start]


def _majority(codes, start, n_timesteps):
    """The most frequent code in each window, -1 not counting, and its count."""
    winner, highest = np.zeros((2, len(start)), dtype=np.int64)
    for code in range(codes.max() + 1):
        count = _count(codes == code, start, n_timesteps)
        winner[count > highest] = code
        highest = np.maximum(highest, count)
    return winner, highest
