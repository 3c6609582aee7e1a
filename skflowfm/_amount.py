"""How many synthetic rows to add, by cross-validation; none is an answer."""

from inspect import signature

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.base import clone
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

from ._resampling import as_container, class_counts

AMOUNTS = (0, 1, 2, 4)
N_FOLDS = 5
N_CUTS = 10


def check_all_kept(sampler, y, y_all) -> None:
    """Raise unless a sampler has returned all rows, and new ones behind them."""
    if not np.array_equal(np.asarray(y_all)[: len(y)], np.asarray(y)):
        raise ValueError(
            "sampler must return all rows it was given, new ones behind them, got "
            f"{sampler!r}. Use an over-sampler."
        )


def totals_of(amount: float, counts: dict) -> dict:
    """Return the total of each class that ``amount`` asks for.

    Every class is raised to ``amount`` times the size of the largest; 0 adds nothing.
    """
    target = round(amount * max(counts.values()))
    return {c: max(n, target) for c, n in counts.items()}


def take(rows, index):
    """Return the rows at ``index`` of an array, frame or series."""
    return rows.iloc[index] if hasattr(rows, "iloc") else np.asarray(rows)[index]


def folds_of(y, groups, cv: int):
    """Return (train, test) positions: stratified, of whole groups where they are given.

    Every class is in all training parts.

    Raises
    ------
    ValueError
        Where a class has a single row or group, so that nothing can be held out.
    """
    _, codes = np.unique(np.asarray(y), return_inverse=True)
    units = np.arange(len(codes)) if groups is None else np.asarray(groups)
    fewest = min(len(np.unique(units[codes == c])) for c in range(codes.max() + 1))
    if fewest < 2:
        raise ValueError(
            "Choosing the amount by cross-validation needs at least two rows of every "
            "class (two groups, if groups are given), got a class with one. Give a "
            "number as amount, or more rows."
        )
    n_folds = min(cv, fewest)
    if groups is None:
        return folds_by(StratifiedKFold, n_folds, 0, codes, None)
    tries = [(StratifiedGroupKFold, n_folds, seed) for seed in range(N_CUTS)]
    tries += [(GroupKFold, n, 0) for n in range(n_folds, len(np.unique(units)) + 1)]
    for way in tries:  # any may hold out all groups of a class, but for the last
        folds = folds_by(*way, codes, groups)
        if all(len(np.unique(codes[train])) > codes.max() for train, _ in folds):
            break
    return folds


def folds_by(kind, n_folds, seed, codes, groups):
    """Return (train, test) positions of one of scikit-learn's splitters."""
    splitter = kind(n_folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(codes)), codes, groups))


def resample(sampler, X, y, groups):
    """Call ``fit_resample``, with groups where there are any and it takes them."""
    takes = "groups" in signature(sampler.fit_resample).parameters
    if groups is None or not takes:
        return sampler.fit_resample(X, y)
    return sampler.fit_resample(X, y, groups=groups)


def with_amounts(sampler, X, y, groups, amounts):
    """Yield ``X`` and ``y`` with each amount of new rows, all from one resampling.

    A smaller amount takes the first of the new rows of each class.
    """
    counts = class_counts(y)
    most = totals_of(max(amounts), counts)
    new_X, new_y, n = X, y, len(y)
    if max(most[c] - counts[c] for c in counts):
        sampler = clone(sampler).set_params(sampling_strategy=most)
        new_X, new_y = resample(sampler, X, y, groups)
    check_all_kept(sampler, y, new_y)
    labels = np.asarray(new_y)
    for amount in amounts:
        totals = totals_of(amount, counts)
        kept = np.concatenate(
            [np.arange(n)]
            + [
                n + np.flatnonzero(labels[n:] == c)[: total - counts[c]]
                for c, total in totals.items()
            ]
        )
        yield take(new_X, kept), take(new_y, kept)


def compare_amounts(classifier, sampler, X, y, groups, amounts, cv) -> pd.DataFrame:
    """Return how each amount does in cross-validation beside the first, which is 0.

    Parameters
    ----------
    classifier, sampler
        Cloned in each fold. The sampler sees the training part alone.
    X, y : array-like, DataFrame or Series
        Rows and labels.
    groups : array-like or None
        Whole groups are held out.
    amounts : sequence of float
        What to compare; the first is 0.
    cv : int
        Most folds.

    Returns
    -------
    table : DataFrame
        A line per amount: mean macro-F1, mean gain over 0, its standard error and 95 %
        interval over folds. Folds share training rows, so the variance is multiplied by
        1 / k + n_test / n_train in place of 1 / k [1]_.

    References
    ----------
    .. [1] C. Nadeau and Y. Bengio, "Inference for the generalization error", Machine
       Learning 52, 2003.
    """
    X = as_container(X)
    folds = folds_of(y, groups, cv)
    scores = np.empty((len(folds), len(amounts)))
    for k, (train, test) in enumerate(folds):
        X_train, y_train = take(X, train), take(y, train)
        X_test, y_test = take(X, test), np.asarray(take(y, test))
        g_train = None if groups is None else np.asarray(groups)[train]
        enlarged = with_amounts(sampler, X_train, y_train, g_train, amounts)
        for j, (X_all, y_all) in enumerate(enlarged):
            predicted = clone(classifier).fit(X_all, y_all).predict(X_test)
            scores[k, j] = f1_score(
                y_test,
                predicted,
                labels=np.unique(y_test),
                average="macro",
                zero_division=0,
            )
    gain = scores - scores[:, :1]
    n_folds = len(folds)
    ratio = np.mean([len(test) / len(train) for train, test in folds])
    error = np.sqrt(gain.var(axis=0, ddof=1) * (1 / n_folds + ratio))
    half_width = stats.t.ppf(0.975, n_folds - 1) * error
    return pd.DataFrame(
        {
            "macro_f1": scores.mean(axis=0),
            "gain": gain.mean(axis=0),
            "standard_error": error,
            "low": gain.mean(axis=0) - half_width,
            "high": gain.mean(axis=0) + half_width,
        },
        index=pd.Index(amounts, name="amount"),
    )


def best_amount(table: pd.DataFrame) -> float:
    """Return the amount of the largest gain that exceeds its standard error, or 0."""
    clear = table[table["gain"] > table["standard_error"]]
    return clear["gain"].idxmax() if len(clear) else 0
