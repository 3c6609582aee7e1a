"""Input checks and private randomness of the measures."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_array

from skflowfm._checks import check_present, off_torch, reject_masked_and_dates

LARGEST = float(np.finfo(np.float32).max)


def check_rows(X, name, *, like=None, min_rows=2, windows=False):
    """Return `X` as a finite float64 array of windows or of a table.

    Parameters
    ----------
    X : array-like of shape (n, n_channels, n_timesteps) or (n, n_features)
    name : str
        How errors call it.
    like : tuple of (str, ndarray), default=None
        Another checked input whose row shape `X` must share.
    min_rows : int, default=2
        Fewest rows accepted.
    windows : bool, default=False
        Whether only 3-D input makes sense.

    Returns
    -------
    X : ndarray of float64
    """
    X = off_torch(X)
    try:
        reject_categories(X)
        reject_masked_and_dates(X)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("X must", f"{name} must", 1)) from None
    X = check_array(
        X, dtype=np.float64, allow_nd=True, ensure_2d=False, input_name=name
    )
    if X.size and max(X.max(), -X.min()) > LARGEST:
        raise ValueError(
            f"{name} must have values of at most {LARGEST:.2g}, that their squares and "
            f"sums can be told apart, got {max(X.max(), -X.min()):.2g}. Divide both "
            "sides by the same number."
        )
    if X.ndim not in ((3,) if windows else (2, 3)):
        expected = "3-D windows (n_windows, n_channels, n_timesteps)"
        if not windows:
            expected += " or a 2-D table (n_samples, n_features)"
        raise ValueError(
            f"{name} must be {expected}, got shape {X.shape}. A univariate series is "
            f"{name}[:, np.newaxis, :]."
        )
    if 0 in X.shape[1:]:
        raise ValueError(f"{name} must have values in its rows, got shape {X.shape}.")
    if len(X) < min_rows:
        raise ValueError(f"{name} must have at least {min_rows} rows, got {len(X)}.")
    if like is not None and X.shape[1:] != like[1].shape[1:]:
        raise ValueError(
            f"The rows of {name} must have the shape of those of {like[0]}, "
            f"{like[1].shape[1:]}, got {X.shape[1:]}. Cut or resample one of them."
        )
    return X


def reject_categories(X):
    """Raise on a frame with columns of categories, which have no distances."""
    if not (hasattr(X, "columns") and hasattr(X, "dtypes")):
        return
    for column, dtype in zip(X.columns, X.dtypes, strict=True):
        if str(dtype) == "category":
            raise TypeError(
                f"X must be numeric, got categories in column {column!r}. Give all "
                "sides columns of zeros and ones, as pandas.get_dummies makes them."
            )


def check_length(values, name, X, X_name):
    """Return `values` as a 1-D array with one entry per row of `X`."""
    values = np.asarray(off_torch(values))
    if values.shape != (len(X),):
        raise ValueError(
            f"{name} must have one entry per row of {X_name}, shape ({len(X)},), "
            f"got shape {values.shape}."
        )
    check_present(name, values)
    return values


def check_classes(values, name, X, X_name):
    """Return class labels, one per row of `X`; whole numbers as such."""
    values = check_length(values, name, X, X_name)
    if values.dtype.kind == "O" and all(isinstance(v, Integral) for v in values):
        values = np.array(values.tolist())
    numbers = values.dtype.kind == "f" or {type(v) for v in values.tolist()} == {float}
    if numbers and not np.array_equal(values, np.rint(values.astype(float))):
        raise ValueError(
            f"{name} must hold classes, got numbers such as {values.tolist()[0]}. Cut "
            "them into classes, for example with numpy.digitize."
        )
    return values


def check_several(y, name, remedy):
    """Raise unless there are two classes, from which something can be learned."""
    if len(np.unique(y)) < 2:
        raise ValueError(
            f"{name} must hold at least two classes, got only {y.tolist()[0]!r}. "
            f"{remedy}"
        )


def check_same_classes(**labels):
    """Raise if labels are not of one kind, or have no class of the first in common."""
    (first, values), *others = labels.items()
    for name, other in others:
        texts, others_are = (isinstance(y[0], (str, bytes)) for y in (values, other))
        if texts != others_are or not np.isin(other, values).any():
            raise ValueError(
                f"{name} must have classes of {first}, such as {values.tolist()[0]!r}, "
                f"got {other.tolist()[0]!r}. Name them alike on all sides."
            )


def check_same_columns(**frames):
    """Raise if two of the inputs are frames whose columns differ in name or order.

    As in scikit-learn, columns have names if all of them are texts.
    """
    named = {k: list(X.columns) for k, X in frames.items() if hasattr(X, "columns")}
    named = {k: v for k, v in named.items() if all(isinstance(c, str) for c in v)}
    first, *others = named.items() or [None]
    for name, columns in others:
        if columns != first[1]:
            remedy = "Pass frames of the same columns, or arrays."
            if sorted(columns) == sorted(first[1]):
                remedy = f"Take {name}[{first[0]}.columns]."
            raise ValueError(
                f"{name} must have the columns of {first[0]} in the same order, "
                f"{first[1]}, got {columns}. {remedy}"
            )


def private_generator(random_state):
    """Return a numpy Generator that never draws from the global random state.

    Parameters
    ----------
    random_state : None, int, numpy Generator or RandomState

    Returns
    -------
    rng : numpy.random.Generator
    """
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31, size=4))
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise type(error)(
            "random_state must be None, a non-negative int, a numpy Generator or a "
            f"RandomState, got {random_state!r}."
        ) from error


def percentile_interval(draws):
    """Return the central 95 % of bootstrap draws as two floats."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)
