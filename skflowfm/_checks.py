"""Checks of what a user gives that need no torch: all of the package shares them."""

import functools
import operator
import sys
from collections.abc import Iterator
from numbers import Integral

import numpy as np
import pandas as pd

# how frames of this and other libraries name their types
TIMES = "date", "time", "duration", "period", "interval"
TEXTS = "string", "utf8", "large_string"
OURS = "skflowfm.", "sklearn.", "imblearn."  # modules that no warning should point at


def all_or_nothing(method):
    """Return a method that leaves the object as it was if it raises."""

    @functools.wraps(method)
    def attempt(self, *args, **kwargs):
        before = dict(vars(self))
        try:
            return method(self, *args, **kwargs)
        except BaseException:  # an interrupt, too, must not mix two fits
            vars(self).clear()
            vars(self).update(before)
            raise

    return attempt


def forget(estimator, names) -> None:
    """Drop what an earlier fit left, where the next one does not set it."""
    for name in names:
        vars(estimator).pop(name, None)


def reject_none(y) -> None:
    """Raise if there is no ``y`` where one is needed."""
    if y is None:
        raise ValueError("fit requires y to be passed, but the target y is None.")


def outside() -> int:
    """Return the stacklevel of a warning's first caller that is no library of ours."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(OURS):
        frame, level = frame.f_back, level + 1
    return level


def off_torch(X):
    """Return a tensor of torch as an array, wherever it is; others as they are."""
    if not (hasattr(X, "detach") and hasattr(X, "cpu")):
        return X
    X = X.detach().cpu()
    try:
        return X.numpy()
    except TypeError:  # bfloat16, which numpy lacks
        return X.float().numpy()


def reject_missing_categories(X) -> None:
    """Raise where a frame has no category: numpy would make one of a whole number."""
    dtypes = X.dtypes if isinstance(X, pd.DataFrame) else ()
    for k, dtype in enumerate(dtypes):
        if isinstance(dtype, pd.CategoricalDtype) and X.iloc[:, k].isna().any():
            raise ValueError(
                f"X must be finite, got a missing category in column {X.columns[k]!r}. "
                "Fill it, or leave such rows out."
            )


def reject_columns(X: pd.DataFrame) -> None:
    """Raise on a frame with columns that have one name, or hold text."""
    if not X.columns.is_unique:
        twice = X.columns[X.columns.duplicated()][0]
        raise ValueError(
            f"X must have one column of each name, got {twice!r} more than once."
        )
    reject_missing_categories(X)
    for name, dtype in X.dtypes.items():
        values = X[name]
        if isinstance(dtype, pd.CategoricalDtype):
            values = pd.Series(dtype.categories)
        kind = pd.api.types.infer_dtype(values, skipna=True)
        if dtype.kind == "O" and kind.startswith(TIMES):
            raise no_dates("X", f"{kind} in column {name!r}")
        if kind.startswith(("string", "bytes", "mixed")) and any(
            isinstance(value, (str, bytes)) for value in values
        ):
            raise TypeError(
                f"X must be numeric, got text in column {name!r}. Turn it into numbers "
                "(OneHotEncoder) or leave it out; FlowFMSampler and make_synthetic "
                "take columns of categories, X[name].astype('category')."
            )


def reject_nested(X) -> None:
    """Raise on cells that are rows themselves: objects of arrays, nested frames."""
    if isinstance(X, pd.DataFrame):
        columns = [
            X.iloc[:1, k] for k in np.flatnonzero([t.kind == "O" for t in X.dtypes])
        ]
        cells = [cell for column in columns for cell in column]
    else:
        is_objects = getattr(getattr(X, "dtype", None), "kind", "") == "O"
        cells = list(X[:1]) if is_objects and X.ndim == 1 else []
    if any(isinstance(cell, (list, tuple, np.ndarray, pd.Series)) for cell in cells):
        raise TypeError(
            "X must be an array (n_windows, n_channels, n_timesteps) of numbers, got "
            f"a {type(X).__name__} with a whole sequence in each cell. "
            "Put windows of equal length together with np.stack."
        )


def reject_unreadable(X) -> None:
    """Raise on what would be read wrongly or fail far from its cause."""
    if isinstance(X, Iterator):
        raise TypeError(
            f"X must be an array of rows, got a {type(X).__name__}. For rows that come "
            "one by one use skflowfm.stream(model.transform, rows)."
        )
    if isinstance(X, pd.DataFrame) and isinstance(X.index, pd.MultiIndex):
        raise TypeError(
            "X must be a 3-D array or a frame with one row per sample, got a DataFrame "
            f"with a MultiIndex of {X.index.nlevels} levels (a panel in long form). "
            "Convert it to an array (n_windows, n_channels, n_timesteps), for example "
            "with skflowfm.datasets.sliding_windows."
        )
    reject_nested(X)
    if isinstance(X, pd.DataFrame):
        reject_columns(X)
    if isinstance(X, (list, tuple)):
        try:
            X = np.asarray(X)
        except (RuntimeError, TypeError) as error:  # torch's, of tensors
            raise TypeError(
                f"X must be an array of rows, got a {type(X).__name__} that numpy "
                f"cannot read ({error}). Of tensors, pass torch.stack(X)."
            ) from None
        except ValueError as error:
            raise ValueError(
                "X must be windows of equal length, got a ragged list "
                f"({error}). Cut or resample them to one length first."
            ) from None
    reject_masked_and_dates(X)
    kind, ndim = getattr(getattr(X, "dtype", None), "kind", ""), getattr(X, "ndim", 0)
    if kind == "O" and ndim >= 3:
        raise TypeError(
            f"X must be numeric, got dtype=object with X.shape={X.shape}. "
            "Convert it with X.astype(np.float32)."
        )


def reject_masked_and_dates(X) -> None:
    """Raise on what is no number, though numpy would make one of it."""
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise ValueError(
            "X must have no masked values. Fill them, or make windows without them "
            "with skflowfm.datasets.sliding_windows(max_gap=)."
        )
    reject_dates(X)


def reject_masked(name: str, values) -> None:
    """Raise on masked values of labels and such, which numpy would show again."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(
            f"{name} must have no masked values. Fill them, or leave these rows out."
        )


def no_dates(name: str, what: str) -> TypeError:
    """Return the error for dates, durations and intervals."""
    return TypeError(
        f"{name} must be numeric, got dates or durations ({what}). Turn them into "
        "numbers, such as hours since the start, or leave them out."
    )


def reject_dates(X, name: str = "X") -> None:
    """Raise on dates and durations, which numpy would count from 1970."""
    types = getattr(X, "dtypes", None)
    if types is None or isinstance(X, pd.Series):  # of a Series, its one
        types = [getattr(X, "dtype", None)]
    types = getattr(getattr(X, "schema", None), "types", types)  # of pyarrow
    names = [str(t) for t in types]
    if texts := [t for t in names if t == "str" or t.lower().startswith(TEXTS)]:
        remedy = "Turn it into numbers (OneHotEncoder) or leave it out."
        if name == "y":
            remedy = "Turn it into numbers, y.astype(float)."
        raise TypeError(
            f"{name} must be numeric, got a column of text ({texts[0]}). {remedy}"
        )
    if times := [
        str(t)
        for t in types
        if getattr(t, "kind", "") in ("M", "m") or str(t).lower().startswith(TIMES)
    ]:
        raise no_dates(name, times[0])


def check_count(name: str, value, *, low: int = 0, optional: bool = True) -> None:
    """Raise unless ``value`` is an integer of at least ``low`` (or None)."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise ValueError(
            f"{name} must be an integer of at least {low}"
            f"{' or None' if optional else ''}, got {name}={value!r}."
        )


def check_number(
    name: str, value, low: float, high: float = np.inf, *, above: bool = False
) -> None:
    """Raise unless ``value`` is a real number in [low, high), ``above`` without low."""
    try:
        no_number = isinstance(value, (str, bytes, bool, np.bool_))
        number = float("nan" if no_number else value)
        inside = low <= number < high and not (above and number == low)
    except (TypeError, ValueError):
        inside = False
    if not inside:
        raise ValueError(
            f"{name} must be a number in {'(' if above else '['}{low}, {high}), got "
            f"{name}={value!r}."
        )


def check_verbose(verbose) -> None:
    """Raise unless ``verbose`` is a bool or an integer."""
    if not isinstance(verbose, Integral):
        raise ValueError(
            f"verbose must be a bool or an integer, got verbose={verbose!r}."
        )


def check_flag(name: str, value) -> None:
    """Raise unless ``value`` is true or false."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, got {name}={value!r}.")


def check_length(name: str, values, n: int) -> np.ndarray:
    """Return ``values`` as a 1-D array of length ``n``, or raise."""
    values = np.asarray(off_torch(values))
    if values.shape != (n,):
        raise ValueError(
            f"{name} must have one entry per row of X, shape ({n},), got shape "
            f"{values.shape}."
        )
    return values


def check_groups(groups, n: int):
    """Return ``groups`` as an array of length ``n`` without gaps, None as it is."""
    if groups is None:
        return None
    reject_masked("groups", groups)
    groups = np.asarray(off_torch(groups))
    if groups.shape == (n, 1):  # a column of a frame
        groups = groups[:, 0]
    groups = check_length("groups", groups, n)
    check_present("groups", groups)
    if groups.dtype == object:
        codes, names = pd.factorize(groups)
        try:
            sorted(names)
        except TypeError:  # names of several types have no order
            return codes
    return groups


def check_present(
    name: str, values, remedy: str = "Leave these rows out, or name what is unknown."
) -> None:
    """Raise if a label or group is missing; ``remedy`` says what to do."""
    missing = np.flatnonzero(pd.isna(np.asarray(values)))
    if len(missing):
        raise ValueError(
            f"{name} must have no missing value, got {len(missing)}, the first at "
            f"index {missing[0]}. {remedy}"
        )


def seed_of(random_state) -> int:
    """Return a 63-bit seed from an int, a generator, or the system's entropy.

    None draws from the operating system, not from numpy's global generator, which
    therefore stays where it is.
    """
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0]) >> 1
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(0, 2**63 - 1, dtype=np.int64))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(0, 2**63 - 1))
    try:
        seed = operator.index(random_state)
    except TypeError:
        seed = -1
    if seed < 0:
        raise ValueError(
            "random_state must be None, a non-negative integer, a RandomState or a "
            f"Generator, got random_state={random_state!r}."
        )
    return seed % 2**63
