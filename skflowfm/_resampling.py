"""imbalanced-learn's grammar of ``sampling_strategy``, and joining rows."""

import warnings
from collections.abc import Mapping
from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import column_or_1d

from ._checks import (
    check_length,
    check_present,
    off_torch,
    reject_masked,
    reject_none,
)
from ._columns import Columns

RESAMPLED = "n_synthetic_", "is_synthetic_", "parent_indices_"
WORDS = ("minority", "not minority", "not majority", "all", "auto")


def check_labels(y):
    """Return ``y`` as a Series or 1-D array of class labels, or raise."""
    reject_none(y)
    reject_masked("y", y)
    y = off_torch(y)
    if isinstance(y, pd.Series):
        column = y.to_numpy()
    else:
        y = column = column_or_1d(y, warn=True)
    if column.dtype.kind == "f":
        assert_all_finite(column, input_name="y")
    check_present("y", column)
    class_counts(column)
    return y


def keys_of(labels) -> list:
    """Return labels as keys of a dict: Python's own, and of dates pandas'.

    NumPy's are whole numbers where dates have nanoseconds.
    """
    labels = np.asarray(labels)
    return (pd.Index(labels) if labels.dtype.kind in "mM" else labels).tolist()


def class_counts(y) -> dict:
    """Return {class: number of rows} in sorted order, or raise if y is not classes."""
    if not len(y):
        raise ValueError("y must have at least one label, got none.")
    with warnings.catch_warnings():  # one row for each of many classes is allowed
        warnings.filterwarnings("ignore", "The number of unique classes")
        try:
            kind = type_of_target(y, input_name="y")
        except TypeError:  # labels of several types have no order
            kind = " and ".join(sorted({type(label).__name__ for label in y}))
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"Unknown label type: {kind!r}. y must be class labels, one per row "
            "(binary or multiclass), in an array of one dtype, such as y.astype(int) "
            "or y.astype(str). Bin numbers into classes, or leave y out."
        )
    classes, counts = np.unique(np.asarray(y), return_counts=True)
    return dict(zip(keys_of(classes), counts.tolist(), strict=True))


def rows_to_add(sampling_strategy, y) -> dict:
    """Return {class: number of new rows} that ``sampling_strategy`` asks for.

    Parameters
    ----------
    sampling_strategy : str, float, dict or callable
        "minority", "not minority", "not majority" (= "auto") or "all": raise these
        classes to the size of the largest. A float in (0, 1], for two classes: size of
        the smaller over the larger. A dict: total per class. A callable: ``y`` to such
        a dict.
    y : array-like of shape (n,)
        Labels that are there.

    Raises
    ------
    ValueError
        For another strategy, a class that ``y`` lacks, or fewer rows than there are.
    """
    counts = class_counts(y)
    if callable(sampling_strategy):
        sampling_strategy = sampling_strategy(y)
    if isinstance(sampling_strategy, pd.Series):
        sampling_strategy = sampling_strategy.to_dict()
    if isinstance(sampling_strategy, str):
        totals = totals_of_word(sampling_strategy, counts)
    elif isinstance(sampling_strategy, dict):
        totals = totals_of_dict(sampling_strategy, counts)
    elif isinstance(sampling_strategy, Real) and not isinstance(
        sampling_strategy, (bool, Integral)
    ):
        totals = totals_of_ratio(float(sampling_strategy), counts)
    elif sampling_strategy == 1 and not isinstance(sampling_strategy, bool):
        totals = totals_of_ratio(1.0, counts)
    else:
        raise ValueError(
            f"sampling_strategy must be one of {WORDS}, a float in (0, 1], a dict "
            "{class: total} or a callable, got "
            f"sampling_strategy={sampling_strategy!r}."
        )
    return {c: total - counts[c] for c, total in totals.items()}


def totals_of_word(word: str, counts: dict) -> dict:
    """Return the totals that a word asks for."""
    if word not in WORDS:
        raise ValueError(
            f"sampling_strategy must be one of {WORDS} if it is a string, got "
            f"sampling_strategy={word!r}."
        )
    largest, smallest = max(counts.values()), min(counts.values())
    majority = next(c for c, n in counts.items() if n == largest)
    minority = next(c for c, n in counts.items() if n == smallest)
    chosen = {
        "minority": [minority],
        "not minority": [c for c in counts if c != minority],
        "all": list(counts),
    }.get(word, [c for c in counts if c != majority])
    return dict.fromkeys(chosen, largest)


def totals_of_dict(totals: dict, counts: dict) -> dict:
    """Return ``totals`` with its counts checked."""
    unknown = [c for c in totals if c not in counts]
    if unknown:
        raise ValueError(
            f"sampling_strategy asks for classes {unknown} that y lacks; y has "
            f"{list(counts)}. A class needs at least one row."
        )
    for c, total in totals.items():
        if not isinstance(total, Integral) or isinstance(total, bool):
            raise ValueError(
                f"sampling_strategy must give whole totals, got {total!r} for class "
                f"{c!r}."
            )
        if total < counts[c]:
            raise ValueError(
                f"sampling_strategy must not ask for fewer rows than there are: class "
                f"{c!r} has {counts[c]}, got a total of {total}. An over-sampler only "
                "adds; use an under-sampler to remove."
            )
    return {c: int(total) for c, total in totals.items()}


def totals_of_ratio(ratio: float, counts: dict) -> dict:
    """Return the totals that bring two classes to ``ratio``."""
    if len(counts) != 2:
        raise ValueError(
            f"sampling_strategy as a float needs two classes, y has {len(counts)}: "
            "pass a dict {class: total}."
        )
    if not 0 < ratio <= 1:
        raise ValueError(
            "sampling_strategy as a float is the smaller over the larger class, in "
            f"(0, 1], got {ratio}."
        )
    (minority, few), (_, many) = sorted(counts.items(), key=lambda item: item[1])
    total = int(ratio * many)
    if total < few:
        raise ValueError(
            f"sampling_strategy={ratio} is below the ratio {few / many:.3f} that is "
            "there. An over-sampler only adds; raise it."
        )
    return {minority: total}


def check_new_counts(counts, classes, name: str) -> dict:
    """Return {class: new rows} checked against the classes that fit saw."""
    known = keys_of(classes)
    if isinstance(counts, pd.Series):
        counts = counts.to_dict()
    if not isinstance(counts, Mapping):
        raise TypeError(
            f"{name} must be a dict {{class: number of rows}}, got {counts!r}."
        )
    unknown = [c for c in counts if c not in known]
    if unknown:
        raise ValueError(f"{name} asks for classes {unknown}; fit saw {known}.")
    for c, n in counts.items():
        if not isinstance(n, Integral) or isinstance(n, bool) or n < 0:
            raise ValueError(
                f"{name} must give a number of rows, 0 or more, per class, got {n!r} "
                f"for class {c!r}."
            )
    return {c: int(n) for c, n in counts.items()}


def cast_like(new: np.ndarray, like: np.dtype) -> np.ndarray:
    """Return float32 rows in another dtype; integers are rounded and kept in range."""
    if like.kind in "iu":
        info = np.iinfo(like)
        high = float(info.max)
        high = high if int(high) <= info.max else np.nextafter(high, 0)
        return np.clip(np.rint(new.astype(np.float64)), info.min, high).astype(like)
    if like.kind == "b":
        return new > 0.5
    if like == np.float16:
        return np.clip(new, np.finfo(like).min, np.finfo(like).max).astype(like)
    return new.astype(like)


def as_container(X):
    """Return ``X`` itself if it has dtypes (array, frame), else as an array."""
    X = off_torch(X)
    return X if hasattr(X, "dtype") or hasattr(X, "dtypes") else np.asarray(X)


def as_objects(values: np.ndarray, whole: bool, truth: bool) -> np.ndarray:
    """Return a column of Python's integers, of true and false, or of floats."""
    if whole:
        values = cast_like(values, np.dtype(np.int64))
    elif truth:
        values = values > 0.5
    return values.astype(object)


def rows_like(new: np.ndarray, X, kinds=None):
    """Return new rows as the container and dtypes of ``X``.

    Columns of categories come as the number of the category. ``kinds``, a Columns, says
    what the columns of objects hold where ``X`` has no row.
    """
    if isinstance(new, pd.DataFrame):
        return new
    if isinstance(X, pd.DataFrame):
        columns, kinds = {}, kinds or Columns(X)
        whole, truth = (
            np.broadcast_to(flags, X.shape[1]) for flags in (kinds.whole, kinds.truth)
        )
        for k, dtype in enumerate(X.dtypes):
            values = new[:, k]
            if isinstance(dtype, pd.CategoricalDtype):
                values = pd.Categorical.from_codes(values.astype(int), dtype=dtype)
            elif dtype is np.dtype(object):
                values = as_objects(values, whole[k], truth[k])
            elif isinstance(dtype, np.dtype):
                values = cast_like(values, dtype)
            elif pd.api.types.is_integer_dtype(dtype):
                plain = getattr(dtype, "numpy_dtype", getattr(dtype, "subtype", None))
                values = cast_like(values, np.dtype(plain))
            elif pd.api.types.is_bool_dtype(dtype):
                values = values > 0.5
            columns[k] = pd.Series(values).astype(dtype)
        frame = pd.DataFrame(columns)
        frame.columns = X.columns
        return frame
    X = np.asarray(X)
    if X.dtype == np.dtype(object):
        if X.ndim == 2:
            return rows_like(new, pd.DataFrame(X), kinds).to_numpy(dtype=object)
        kinds = kinds or Columns(X)
        return as_objects(new, np.all(kinds.whole), np.all(kinds.truth))
    return cast_like(new, X.dtype)


def like_frame(rows: np.ndarray, X):
    """Return rows under the column names of ``X``, if it has any."""
    return pd.DataFrame(rows, columns=X.columns) if hasattr(X, "columns") else rows


def checked_labels(y, n: int):
    """Return labels as an array of length ``n``, or None if there are none."""
    if y is None:
        return None
    y = np.asarray(check_labels(y))
    check_length("y", y, n)
    return y


def append_rows(old, new):
    """Return ``old`` followed by ``new``: frames get a fresh index, dtypes stay."""
    if isinstance(old, (pd.DataFrame, pd.Series)):
        return pd.concat([old, new], ignore_index=True)
    old = np.asarray(old)
    return np.concatenate([old, np.asarray(new, dtype=old.dtype)])


def rows_beside(new: np.ndarray, X):
    """Return rows like ``X``, in which what never changes there is as exact.

    The model has it in float32, which holds neither 20240101 nor 52.520008.
    """
    new = rows_like(new, X)
    if isinstance(X, pd.DataFrame):
        for k, dtype in enumerate(X.dtypes):
            if pd.api.types.is_numeric_dtype(dtype) and X.iloc[:, k].nunique() == 1:
                exact = X.iloc[:1, k].repeat(len(new)).array
                if as_in_float32(new.iloc[:, k], exact).all():
                    new.isetitem(k, exact)
        return new
    X = np.asarray(X)
    axes = (0, *range(2, X.ndim))
    low, high = X.min(axis=axes, keepdims=True), X.max(axis=axes, keepdims=True)
    return np.where((low == high) & as_in_float32(new, low), low, new)


def as_in_float32(values, exact):
    """Return where values are what float32 makes of others, or next to it."""
    values, exact = np.float64(values), np.float64(exact)
    return abs(values - exact) <= np.spacing(np.float32(abs(exact)))


def enlarged(X, y, X_new, y_new):
    """Return rows and labels followed by new ones, in their containers and dtypes."""
    X = as_container(X)
    X_all = append_rows(X, rows_beside(X_new, X))
    return X_all, append_rows(y, labels_like(y_new, y))


def labels_of(counts: dict, classes: np.ndarray) -> np.ndarray:
    """Return labels class by class, as often as ``counts`` says."""
    return np.repeat(np.array(list(counts), dtype=classes.dtype), list(counts.values()))


def codes_of(y, classes: np.ndarray) -> np.ndarray:
    """Return the position in ``classes`` of each label, or raise for an unknown one."""
    check_present("y", y)
    known = dict.fromkeys(keys_of(classes))
    unknown = [c for c in dict.fromkeys(keys_of(y)) if c not in known]
    if unknown:
        raise ValueError(f"y asks for classes {unknown}; fit saw {list(known)}.")
    return np.searchsorted(classes, y)


def labels_like(labels: np.ndarray, y):
    """Return new labels as the container and dtype of ``y``."""
    if isinstance(y, pd.Series):
        return pd.Series(labels, name=y.name).astype(y.dtype)
    return np.asarray(labels, dtype=np.asarray(y).dtype)
