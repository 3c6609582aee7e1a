"""Arrays and frames in: what is accepted, how it is read, what the errors say."""

import warnings

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_array, validate_data

from ._checks import off_torch, outside, reject_masked, reject_unreadable
from ._sizes import fewer

CHUNK, LEAST_CHUNK = 4096, 16
TINY = 1e-30  # squares of what is less are nothing in float32
ROUNDING = 1e-14  # relative, what a constant that was computed varies by


class Rows:
    """A validated array of windows or table rows, read as float32 tensors on demand.

    Nothing is copied up front, so a memory map stays on disk, and every tensor is a
    fresh copy, so training can never write to the user's array.

    Parameters
    ----------
    array : ndarray of shape (n, n_channels, n_timesteps) or (n, n_features)
        Numeric rows of any real dtype.
    """

    def __init__(self, array: np.ndarray):
        self.array = array
        self.row_shape = array.shape[1:]
        self.is_windows = array.ndim == 3

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index) -> torch.Tensor:
        """Return rows at a slice or an integer tensor."""
        if isinstance(index, torch.Tensor):
            index = index.numpy()
        return torch.from_numpy(
            np.array(self.array[index], dtype=np.float32, order="C")
        )

    def chunks(self):
        """Yield consecutive slices of at most 4096 rows, fewer of large ones."""
        size = fewer(CHUNK, self.row_shape, LEAST_CHUNK)
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the smallest and largest value per channel or feature.

        As float32, rounded inwards, so that nothing between them is beyond the data.
        """
        shape = (-1, 1) if self.is_windows else (-1,)
        return tuple(side.reshape(shape) for side in inwards(*self._ends()))

    def _ends(self):
        """Return the least and the largest value of each, in the dtype of the array."""
        axis = (0, 2) if self.is_windows else 0
        parts = [self.array[part] for part in self.chunks()]
        low = np.min([part.min(axis=axis) for part in parts], axis=0)
        return low, np.max([part.max(axis=axis) for part in parts], axis=0)

    def moments(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return mean, scale and spread per channel or feature.

        Scale and spread are the standard deviation. A channel that is constant to
        float32 precision has spread 0, and scale 1, or the distance of neighbouring
        numbers of that precision if that is more; there is a warning if it is not quite
        constant.
        """
        axis = (0, 2) if self.is_windows else 0
        counts, means, variances = [], [], []
        for part in self.chunks():
            values = self.array[part].astype(np.float64)
            counts.append(len(values))
            means.append(values.mean(axis=axis))
            variances.append(values.var(axis=axis))
        mean, variance = means[0], variances[0]
        if len(counts) > 1:
            weight = np.array(counts) / len(self)
            mean = weight @ np.stack(means)
            variance = weight @ (np.stack(variances) + (np.stack(means) - mean) ** 2)
        deviation = np.sqrt(variance)
        constant = deviation <= 1e-6 * np.maximum(np.abs(mean), TINY)
        spacing = np.spacing(np.abs(mean).astype(np.float32))
        if self.array.dtype.kind in "iu":  # of which none is rounded
            varies = np.less(*self._ends())
        else:
            varies = deviation > ROUNDING * np.abs(mean)
        warn_of_lost(mean, deviation, constant & varies)
        least = np.maximum(np.maximum(spacing, deviation), 1.0)
        scale, spread = np.where(constant, [least, 0 * deviation], deviation)
        shape = (-1, 1) if self.is_windows else (-1,)
        return tuple(
            torch.from_numpy(m.astype(np.float32)).reshape(shape)
            for m in (mean, scale, spread)
        )


def inwards(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an interval in float32, of which nothing is outside of the one given.

    But where that lies between two float32 numbers: there it is the lower one.
    """
    sides = []
    for values, towards in ((low, np.inf), (high, -np.inf)):
        rounded = values.astype(np.float32)
        beyond = rounded < values if towards > 0 else rounded > values
        inner = np.nextafter(rounded, np.float32(towards))
        sides.append(np.where(beyond, inner, rounded))
    return np.minimum(*sides), sides[1]


def warn_of_lost(mean, deviation, lost) -> None:
    """Warn of columns that vary by too little for float32, if by more than rounding."""
    lost = np.flatnonzero(lost)
    if len(lost):
        k = lost[0]
        tiny = abs(mean[k]) < TINY
        little = "by less than a millionth of their mean"
        little = "by too little for float32" if tiny else little
        remedy = "Multiply by a constant" if tiny else "Subtract the mean"
        warnings.warn(
            f"{len(lost)} channel(s) or column(s) vary {little} and are taken for "
            f"constant, the first at position {k} (mean {mean[k]:.6g}, standard "
            f"deviation {deviation[k]:.2g}). {remedy} first, as the model works in "
            "float32.",
            UserWarning,
            stacklevel=outside(),
        )


def check_rows(
    estimator, X, *, reset: bool, min_rows: int = 1, any_length: bool = False
) -> Rows:
    """Validate ``X`` for ``estimator`` and, with ``reset``, remember its shape.

    Sets ``n_features_in_`` (channels of windows, columns of tables),
    ``feature_names_in_`` for frames, and ``row_shape_in_``. With ``any_length`` windows
    may have another number of time steps than in ``fit``.
    """
    check_torch_settings()
    X = off_torch(X)
    reject_unreadable(X)
    if not reset:
        check_dimensions(estimator, X)
    array = validate_data(
        estimator,
        X,
        reset=reset,
        dtype="numeric",
        allow_nd=True,
        ensure_all_finite=False,
        ensure_min_samples=min_rows,
    )
    if array.ndim > 3:
        raise ValueError(
            "X must be 3-D windows (n_windows, n_channels, n_timesteps) or a 2-D table "
            f"(n_samples, n_features), got {array.ndim} dimensions, "
            f"X.shape={array.shape}. Reshape it so that each row is one window."
        )
    if array.ndim == 3 and 0 in array.shape[1:]:
        raise ValueError(
            "X must have at least 1 channel and 1 time step per window, got "
            f"{array.shape[1]} channel(s) and {array.shape[2]} time step(s), "
            f"X.shape={array.shape}. X is (n_windows, n_channels, n_timesteps)."
        )
    rows = Rows(array)
    check_finite(rows)
    if reset:
        estimator.row_shape_in_ = rows.row_shape
    elif rows.row_shape != estimator.row_shape_in_ and not (
        any_length and rows.is_windows
    ):
        raise ValueError(
            f"X must have rows of shape {estimator.row_shape_in_} as in fit, got "
            f"{rows.row_shape}, X.shape={array.shape}. Bring the windows to the fitted "
            "sampling rate and number of time steps, for example with "
            "skflowfm.datasets.resample_windows."
        )
    return rows


def check_torch_settings() -> None:
    """Raise where torch has been told to make other numbers, or elsewhere."""
    if torch.get_default_dtype() != torch.float32:
        raise RuntimeError(
            "skflowfm works in float32, got torch.get_default_dtype() == "
            f"{torch.get_default_dtype()}. Call torch.set_default_dtype(torch.float32)."
        )
    device = torch.get_default_device()
    if device.type != "cpu":
        raise RuntimeError(
            "skflowfm says itself where its tensors are, got "
            f"torch.get_default_device() == {device}. Call "
            "torch.set_default_device(None), or leave the block of torch.device; the "
            "parameter device chooses where to train."
        )
    kinds = [k for k in ("cpu", "cuda") if torch.is_autocast_enabled(k)]
    if kinds:
        raise RuntimeError(
            f"skflowfm works in float32, got torch.autocast({kinds[0]!r}). Call it "
            "outside of that block."
        )


def check_dimensions(estimator, X) -> None:
    """Raise if a table is given after windows or windows after a table."""
    shape = np.shape(X) if isinstance(X, (list, tuple)) else getattr(X, "shape", ())
    expected, got = len(estimator.row_shape_in_) + 1, len(shape)
    if {expected, got} == {2, 3}:
        kind = "a 2-D table" if expected == 2 else "3-D windows"
        raise ValueError(
            f"X must be {kind} with rows of shape {estimator.row_shape_in_} as in fit, "
            f"got {got} dimensions, X.shape={tuple(shape)}. Reshape it, or fit on data "
            "of this kind."
        )
    if expected == got == 3 and shape[1] != estimator.row_shape_in_[0]:
        raise ValueError(
            f"X must have windows of {estimator.row_shape_in_[0]} channels as in fit, "
            f"got {shape[1]}, X.shape={tuple(shape)}. Pass the same channels in the "
            "same order; n_windows comes first, n_timesteps last."
        )


REMEDIES = {
    False: "Leave such rows out, or fill them in first, as SimpleImputer does.",
    True: "Interpolate or drop such windows first, as "
    "skflowfm.datasets.sliding_windows(max_gap=) does.",
}


def check_finite(rows: Rows) -> None:
    """Raise at the first NaN, infinity or value too large for work in float32."""
    for part in rows.chunks():
        with np.errstate(over="ignore"):
            # twice, as their differences are to be finite, too
            bad = ~np.isfinite(2 * rows.array[part].astype(np.float32))
        if bad.any():
            where = [int(i) for i in np.argwhere(bad)[0]]
            where[0] += part.start
            value = rows.array[tuple(where)]
            what = "NaN" if np.isnan(value) else "inf" if np.isinf(value) else value
            raise ValueError(
                f"X must be finite in float32, got {what} (NaN, infinity or a value "
                f"too large) at index {tuple(where)}. {REMEDIES[rows.is_windows]}"
            )


def in_order(side, names):
    """Return one side of bounds, a Series by column name in the order of ``names``."""
    if not isinstance(side, pd.Series) or names is None:
        return side
    if not side.index.is_unique or set(side.index) != set(names):
        raise ValueError(
            f"bounds given as a Series must name the columns of X, {list(names)}, got "
            f"{side.index.tolist()}."
        )
    return side.loc[list(names)]


def check_bounds(estimator, rows: Rows):
    """Return (low, high), broadcastable to a row, of the parameter, or None.

    Parameters
    ----------
    estimator : FlowFMSampler
        Its ``bounds`` is None, "data", what ``rows`` reach in each channel or feature,
        or a pair, each side a number or one number per channel or feature. A Series is
        read by the names of the columns, where they have some.
    rows : Rows
        The rows of ``fit``.
    """
    bounds = estimator.bounds
    names = getattr(estimator, "feature_names_in_", None)
    if bounds is None:
        return None
    if isinstance(bounds, str) and bounds == "data":
        return rows.extremes()
    shape = (-1, 1) if rows.is_windows else (-1,)
    n = rows.row_shape[0]
    if isinstance(bounds, (list, tuple)):
        bounds = [in_order(side, names) for side in bounds]
    try:
        with np.errstate(over="ignore"):  # beyond float32 there is no bound
            low, high = (np.asarray(side, dtype=np.float64) for side in bounds)
            good = all(side.shape in ((), (n,)) for side in (low, high))
            good = good and bool((low <= high).all())  # not so for NaN
            low, high = inwards(low, high)
    except (TypeError, ValueError):
        good = False
    if not good:
        kind = "channels" if rows.is_windows else "features"
        raise ValueError(
            "bounds must be None, 'data' or a pair (low, high), low at most high, of "
            f"numbers or of one number for each of the {n} {kind}, got "
            f"bounds={bounds!r}."
        )
    return low.reshape(shape), high.reshape(shape)


def check_components(X, n_components: int) -> torch.Tensor:
    """Return representations as a float32 tensor of shape (n, n_components)."""
    check_torch_settings()
    reject_masked("X", X)
    z = check_array(off_torch(X), dtype=np.float32, input_name="X")
    if z.shape[1] != n_components:
        raise ValueError(
            f"X must have the {n_components} components that transform returns, got "
            f"X.shape={z.shape}."
        )
    return torch.from_numpy(np.array(z))
