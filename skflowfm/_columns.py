"""Categories of a frame: one column of zeros and ones each for the model, and back."""

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_bool_dtype, is_integer_dtype


def is_categorical(X) -> bool:
    """Return whether ``X`` is a frame with columns of categories."""
    return isinstance(X, pd.DataFrame) and any(
        isinstance(dtype, pd.CategoricalDtype) for dtype in X.dtypes
    )


def is_whole(column) -> bool:
    """Return whether a Series is of integers, of Python's in one of objects."""
    if column.dtype == object:
        return infer_dtype(column, skipna=True) == "integer"
    return is_integer_dtype(column.dtype)


def is_truth(column) -> bool:
    """Return whether a Series is of true and false."""
    if column.dtype == object:
        return infer_dtype(column, skipna=True) == "boolean"
    return is_bool_dtype(column.dtype)


def as_codes(X):
    """Return a frame with the number of each category in its place; others as is."""
    if not is_categorical(X):
        return X
    codes = {
        k: X.iloc[:, k].cat.codes.where(lambda code: code >= 0, np.nan)
        if isinstance(dtype, pd.CategoricalDtype)
        else X.iloc[:, k]
        for k, dtype in enumerate(X.dtypes)
    }
    frame = pd.DataFrame(codes)
    frame.columns = X.columns
    return frame


class Columns:
    """What the columns of ``fit`` hold.

    Parameters
    ----------
    X : array or DataFrame
        The rows of ``fit``.

    Attributes
    ----------
    categories : dict
        {position: categories} of the columns of categories.
    like : DataFrame or None
        No row, but the columns and dtypes, where there are categories.
    whole, truth : bool or ndarray of shape (n_features,)
        Whether the values, or which columns, are integers, or true or false.
    """

    def __init__(self, X):
        self.categories, self.like = {}, None
        if getattr(X, "dtype", None) == np.dtype(object) and X.ndim == 2:
            X = pd.DataFrame(X)
        if isinstance(X, pd.DataFrame):
            columns = [X.iloc[:, k] for k in range(X.shape[1])]
            self.whole = np.array([is_whole(column) for column in columns])
            self.truth = np.array([is_truth(column) for column in columns])
        else:
            kind = getattr(getattr(X, "dtype", None), "kind", "")
            self.whole, self.truth = kind in tuple("iu"), kind == "b"
        if is_categorical(X):
            self.like = X.iloc[:0]
            self.categories = {
                k: dtype.categories
                for k, dtype in enumerate(X.dtypes)
                if isinstance(dtype, pd.CategoricalDtype)
            }

    def limits(self, bounds):
        """Return bounds that spare categories and are whole where the values are."""
        if bounds is None:
            return None
        low, high = bounds
        if np.any(self.whole):
            upwards, downwards = np.ceil(low), np.floor(high)
            if np.any(self.whole & (upwards > downwards)):
                raise ValueError(
                    "bounds must leave a whole number where the values of fit are "
                    f"whole, got low={np.ravel(low).tolist()} and high="
                    f"{np.ravel(high).tolist()}. Widen them, or pass X as floats."
                )
            low = np.where(self.whole, upwards, low)
            high = np.where(self.whole, downwards, high)
        if self.categories:
            codes = np.isin(np.arange(self.like.shape[1]), list(self.categories))
            low, high = np.where(codes, -np.inf, low), np.where(codes, np.inf, high)
        return low.astype(np.float32), high.astype(np.float32)

    def rounded(self, rows):
        """Return rows with whole numbers, or 0 and 1, where ``fit`` had such."""
        if isinstance(rows, pd.DataFrame) or not np.any(self.whole | self.truth):
            return rows
        rows = np.where(self.whole, np.rint(rows), rows)
        return np.where(self.truth, (rows > 0.5).astype(rows.dtype), rows)

    def codes_of(self, X):
        """Return the frame with categories replaced by their number, or raise."""
        n = None if self.like is None else self.like.shape[1]
        if n is not None and np.shape(X)[1:] != (n,):
            raise ValueError(
                f"X must be a frame with the {n} columns of fit, got shape "
                f"{np.shape(X)}."
            )
        if n is not None and hasattr(X, "columns"):
            names, given = list(self.like.columns), list(X.columns)
            if given != names and sorted(map(str, given)) == sorted(map(str, names)):
                raise ValueError(
                    f"X must have the columns of fit in the same order, {names}, got "
                    f"{given}. Take them from the frame in that order."
                )
        for k, categories in self.categories.items():
            dtype = X.dtypes.iloc[k] if hasattr(X, "columns") else None
            known = getattr(dtype, "categories", None)
            if known is None or not known.equals(categories):
                raise ValueError(
                    f"column {self.like.columns[k]!r} must have the categories of fit, "
                    f"{categories.tolist()}, got {'none' if known is None else known}. "
                    "Set them with astype(pd.CategoricalDtype(...))."
                )
        if not self.categories and is_categorical(X):
            raise ValueError(
                "X has columns of categories, but in fit it had none. Pass the frame "
                "to fit, with the same dtypes."
            )
        return as_codes(X)

    def spread(self, codes: np.ndarray) -> np.ndarray:
        """Return columns of zeros and ones in place of codes; NaN stays NaN."""
        if not self.categories:
            return codes
        parts = []
        for k in range(codes.shape[1]):
            column = codes[:, [k]].astype(np.float64)
            if k in self.categories:
                each = np.arange(len(self.categories[k]))
                column = np.where(np.isnan(column), np.nan, column == each)
            parts.append(column)
        return np.concatenate(parts, axis=1)

    def collapse(self, rows: np.ndarray) -> np.ndarray:
        """Return codes again: the number of the largest of each category's columns."""
        if not self.categories:
            return rows
        out, start = [], 0
        for k in range(self.like.shape[1]):
            width = len(self.categories.get(k, "?"))
            part = rows[:, start : start + width]
            codes = part.argmax(axis=1) if k in self.categories else part[:, 0]
            out.append(codes.astype(rows.dtype))
            start += width
        return np.stack(out, axis=1)
