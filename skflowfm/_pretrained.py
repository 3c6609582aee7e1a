"""What fine-tuning and generation start from: a new model, a fitted one, a file."""

import os

from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from ._checks import check_groups
from ._transformer import FlowFMTransformer
from ._validation import check_rows
from .persistence import load


def inner_transformer(transformer):
    """Return the FlowFMTransformer of a parameter, and whether it stays as it is.

    Parameters
    ----------
    transformer : None, FlowFMTransformer, FrozenEstimator of one, or path
        None is a new one with its defaults.

    Raises
    ------
    TypeError
        For anything else.
    ValueError
        For a fitted one that is to go on learning, which a clone would not.
    """
    if transformer is None:
        return FlowFMTransformer(), False
    is_path = isinstance(transformer, (str, os.PathLike))
    given = load(transformer) if is_path else transformer
    inner = given.estimator if isinstance(given, FrozenEstimator) else given
    if not isinstance(inner, FlowFMTransformer):
        raise TypeError(
            "transformer must be a FlowFMTransformer, a FrozenEstimator of a fitted "
            f"one, or the path of a saved one, got {given!r}."
        )
    is_frozen = is_path or inner is not given
    if not is_frozen and inner.warm_start and hasattr(inner, "module_"):
        raise ValueError(
            "transformer must be frozen to be started from, got a fitted "
            "FlowFMTransformer with warm_start=True (from_pretrained sets it): it "
            "would be cloned and trained anew. Give FrozenEstimator(transformer) or "
            "the path of the file; to go on learning without labels, call its fit."
        )
    return inner, is_frozen


def fitted_transformer(transformer, X, groups, seed):
    """Return a fitted FlowFMTransformer: a new one, or the frozen one itself.

    Parameters
    ----------
    transformer : None, FlowFMTransformer, FrozenEstimator of one, or path
        See :func:`inner_transformer`.
    X : array-like or DataFrame
        Rows to train on, or to check.
    groups : array-like of shape (n,) or None
        As in ``FlowFMTransformer.fit``.
    seed : int
        For a transformer that has no ``random_state`` of its own.
    """
    inner, is_frozen = inner_transformer(transformer)
    if is_frozen:
        check_is_fitted(inner)
        check_groups(groups, len(check_rows(inner, X, reset=False)))
        return inner
    return new_transformer(inner, seed).fit(X, groups=groups)


def check_spread(transformer, columns, rows) -> None:
    """Raise if a frozen transformer has read categories as numbers, one column each."""
    if not columns.categories:
        return
    inner, is_frozen = inner_transformer(transformer)
    n, n_spread = len(columns.like.columns), rows.row_shape[0]
    if is_frozen and getattr(inner, "n_features_in_", n_spread) == n != n_spread:
        names = [columns.like.columns[k] for k in columns.categories]
        raise ValueError(
            f"X must have numbers where transformer was fitted on numbers, got "
            f"categories in {names}, which a sampler gives a column each, {n_spread} "
            "in all. Turn them into numbers, X.astype(float), or give a transformer "
            "that is not fitted."
        )


def new_transformer(transformer, seed):
    """Return an unfitted clone that has a seed."""
    transformer = clone(transformer)
    if transformer.random_state is None:
        transformer.set_params(random_state=seed)
    return transformer
