"""Augmentation in one call, and inside scikit-learn's own Pipeline."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ._amount import (
    AMOUNTS,
    best_amount,
    check_all_kept,
    compare_amounts,
    resample,
    totals_of,
)
from ._checks import (
    all_or_nothing,
    check_count,
    check_groups,
    check_length,
    off_torch,
    reject_missing_categories,
    seed_of,
)
from ._classifier import FlowFMClassifier, is_labelled
from ._columns import as_codes
from ._resampling import (
    as_container,
    check_labels,
    check_new_counts,
    class_counts,
    codes_of,
    keys_of,
    labels_like,
    rows_beside,
    rows_to_add,
)
from ._sampler import FlowFMSampler
from ._validation import check_rows


def make_synthetic(
    X,
    y=None,
    *,
    n_samples=None,
    sampling_strategy=None,
    sampler=None,
    groups=None,
    X_unlabelled=None,
    random_state=None,
):
    """Return only new rows (and labels), learned from ``X`` (and ``y``), in one call.

    Parameters
    ----------
    X : array-like of shape (n_windows, n_channels, n_timesteps) or \
            (n_samples, n_features)
        Rows to learn from.
    y : array-like of shape (n,), default=None
        Class labels.
    n_samples : int or dict, default=None
        Number of *new* rows, in the proportions of ``y`` if that is given; a dict gives
        it per class and needs ``y``. None, without ``sampling_strategy``, is as many as
        ``X`` has.
    sampling_strategy : str, float, dict or callable, default=None
        Alternatively, imbalanced-learn's grammar of *totals wanted*, counting the rows
        that are there; see :class:`FlowFMSampler`. Needs ``y``.
    sampler : FlowFMSampler or FrozenEstimator of one, default=None
        Cloned and fitted; a frozen one is used as it is, with the classes of its fit.
        None is ``FlowFMSampler()``.
    groups, X_unlabelled : array-like, default=None
        Who each row is from, and further rows without labels; see
        :meth:`FlowFMSampler.fit`. Not with a frozen ``sampler``, which is not fitted.
    random_state : int, RandomState, Generator or None, default=None
        Given, replaces the sampler's.

    Returns
    -------
    X_new : ndarray or DataFrame, of the dtype of ``X``
        The new rows alone.
    y_new : ndarray or Series
        Their labels; only if ``y`` is given.

    Raises
    ------
    TypeError
        If ``sampler`` is something else.
    ValueError
        If both ``n_samples`` and ``sampling_strategy`` are given, a count is negative
        or below what is there, a class has no row, rows per class are asked for
        without ``y``, or a frozen sampler comes with what only ``fit`` could use.

    Examples
    --------
    >>> from skflowfm import FlowFMSampler, FlowFMTransformer, make_synthetic
    >>> from skflowfm.datasets import make_wearable
    >>> X, y, _ = make_wearable(80, n_timesteps=60, random_state=0, return_X_y=True)
    >>> sampler = FlowFMSampler(FlowFMTransformer(8, max_steps=20), quality=2)
    >>> X_new, y_new = make_synthetic(
    ...     X, y, n_samples={1: 2}, sampler=sampler, random_state=0
    ... )
    >>> X_new.shape, y_new
    ((2, 3, 60), array([1, 1]))
    """
    if n_samples is not None and sampling_strategy is not None:
        raise ValueError(
            "Give n_samples (new rows) or sampling_strategy (totals wanted), not both; "
            f"got n_samples={n_samples!r} and sampling_strategy={sampling_strategy!r}."
        )
    if isinstance(n_samples, pd.Series):
        n_samples = n_samples.to_dict()
    given = sampler.estimator if isinstance(sampler, FrozenEstimator) else sampler
    if not (given is None or isinstance(given, FlowFMSampler)):
        raise TypeError(
            f"sampler must be a FlowFMSampler, a FrozenEstimator of one or None, got "
            f"{sampler!r}. FlowFMSampler(transformer) makes one of a transformer."
        )
    by_class = sampling_strategy is not None or isinstance(n_samples, dict)
    X, y = off_torch(X), y if y is None else check_labels(y)
    if by_class and y is None:
        raise ValueError("Rows per class need y: pass the labels of X.")
    wanted = n_samples
    if sampling_strategy is not None:
        wanted = rows_to_add(sampling_strategy, y)
    elif isinstance(n_samples, dict):
        wanted = check_new_counts(n_samples, np.unique(np.asarray(y)), "n_samples")
    else:
        check_count("n_samples", n_samples)
    sampler, seed = ready_sampler(sampler, X, y, groups, X_unlabelled, random_state)
    if not by_class and y is not None:
        wanted = spread_over_classes(len(X) if n_samples is None else n_samples, y)
    X = as_container(X)
    if y is None:
        n_new = len(X) if wanted is None else wanted
        return rows_beside(sampler.sample(n_new, random_state=seed), X)
    wanted = {c: n for c, n in wanted.items() if n}
    codes_of(np.array(list(wanted), dtype=np.asarray(y).dtype), sampler.classes_)
    X_new, y_new = sampler.sample(class_counts=wanted, random_state=seed)
    return rows_beside(X_new, X), labels_like(y_new, y)


def check_all_labelled(classifier, y) -> None:
    """Raise if -1 is no label to the classifier, since here it is a class."""
    last = classifier.steps[-1][1] if isinstance(classifier, Pipeline) else classifier
    if isinstance(last, FlowFMClassifier) and not is_labelled(np.asarray(y)).all():
        raise ValueError(
            "y must have a label for each row, got -1, by which FlowFMClassifier means "
            "that there is none and FlowFMSampler a class of its own. Pass the "
            "labelled rows, and all rows to the fit of the transformer, which then is "
            "given as FrozenEstimator(transformer)."
        )


def ready_sampler(sampler, X, y, groups, X_unlabelled, random_state):
    """Return a sampler that draws rows like ``X``, and the seed that ``sample`` gets.

    A frozen one is the one itself, and ``X`` must be rows of its kind.
    """
    if isinstance(sampler, FrozenEstimator):
        if groups is not None or X_unlabelled is not None:
            name = "X_unlabelled" if groups is None else "groups"
            raise ValueError(
                f"A frozen sampler is not fitted, and has no use for {name}. Pass it "
                "to the sampler's own fit, or the sampler without FrozenEstimator."
            )
        check_is_fitted(sampler.estimator)
        sampler.estimator._rows(X)
        if y is not None:
            check_length("y", y, len(X))
            sampler.estimator._check_labelled("y")
        return sampler.estimator, random_state
    sampler = FlowFMSampler() if sampler is None else clone(sampler)
    if random_state is not None:
        sampler.set_params(random_state=random_state)
    return sampler.fit(X, y, groups=groups, X_unlabelled=X_unlabelled), None


def spread_over_classes(n: int, y) -> dict:
    """Return {class: count} that sums to ``n`` in the proportions of ``y``.

    The largest remainders are rounded up, so no count is off by a whole row.
    """
    classes, counts = np.unique(np.asarray(y), return_counts=True)
    exact = n * counts / counts.sum()
    whole = np.floor(exact).astype(int)
    whole[np.argsort(whole - exact, kind="stable")[: n - whole.sum()]] += 1
    return dict(zip(keys_of(classes), whole.tolist(), strict=True))


def check_amounts(amount):
    """Return the amounts to compare, 0 first, as a list; None stays None."""
    if amount is None:
        return None
    if isinstance(amount, str) and amount == "auto":
        return list(AMOUNTS)
    values = [amount] if np.ndim(amount) == 0 else list(amount)
    try:
        no_numbers = any(isinstance(v, (str, bytes, bool, np.bool_)) for v in values)
        values = [float("nan" if no_numbers else value) for value in values]
        good = len(values) > 0 and all(0 <= v < np.inf for v in values)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ValueError(
            "amount must be None, 'auto', a number of at least 0 or a sequence of "
            f"them, got amount={amount!r}."
        )
    return values if np.ndim(amount) == 0 else sorted({0.0, *values})


def _classifier_has(name):
    """Return a check for available_if: does the classifier offer ``name``?"""

    def check(self):
        classifier = getattr(self, "classifier_", self.classifier)
        return hasattr(LogisticRegression if classifier is None else classifier, name)

    return check


class AugmentedClassifier(ClassifierMixin, BaseEstimator):
    """Classifier that is fitted on its training rows and synthetic ones.

    ``fit`` resamples, then fits; ``predict`` never does. Inside ``Pipeline``,
    ``cross_val_score`` or ``GridSearchCV`` the synthetic rows are therefore made from
    the training part of each fold alone.

    Parameters
    ----------
    classifier : classifier, default=None
        Cloned and fitted on the enlarged data. None is ``LogisticRegression()``, which
        takes tables; for windows, a pipeline that begins with a transformer of windows.
    sampler : object with ``fit_resample``, default=None
        Cloned. None is ``FlowFMSampler()``; imbalanced-learn's over-samplers work too.
    amount : None, float, sequence of float or "auto", default=None
        How much to add. None leaves it to the sampler's own ``sampling_strategy``. A
        number raises every class to that many times the size of the largest: 1
        balances, 2 also doubles, 0 adds nothing. A sequence is compared by
        cross-validation, 0 with it, and "auto" is (0, 1, 2, 4). Of those whose gain
        exceeds its standard error the best is taken, or else nothing is added. So by
        chance some are added even where rows do nothing. Each fold
        fits the sampler once and the classifier once per amount; a sampler on a
        ``FrozenEstimator`` is cheap.
    cv : int, default=5
        Most folds of that comparison, at least 2; as many as the rarest class has rows
        (groups), if those are fewer. With groups there are more where otherwise a class
        would be missing from a training part.
    random_state : int, RandomState, Generator or None, default=None
        Given, replaces the sampler's.

    Attributes
    ----------
    classifier_, sampler_
        The fitted clones; ``sampler_`` is None where an ``amount`` adds nothing.
    amount_ : float or None
        The amount that was added.
    amounts_ : DataFrame
        After a comparison: macro-F1 of each amount, its gain over none, and the gain's
        standard error and 95 % interval over folds.
    classes_ : ndarray
        Class labels.
    n_synthetic_ : int
        How many rows were added in ``fit``.
    row_shape_in_, n_features_in_, feature_names_in_
        As :class:`FlowFMTransformer` has them.

    See Also
    --------
    FlowFMSampler : Also a step of imbalanced-learn's own Pipeline.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skflowfm import AugmentedClassifier, FlowFMSampler, FlowFMTransformer
    >>> X, y = load_iris(return_X_y=True)
    >>> sampler = FlowFMSampler(FlowFMTransformer(max_steps=20), random_state=0)
    >>> sampler.set_params(sampling_strategy={0: 60})
    FlowFMSampler(random_state=0, sampling_strategy={0: 60},
                  transformer=FlowFMTransformer(max_steps=20))
    >>> classifier = LogisticRegression(max_iter=1000)
    >>> AugmentedClassifier(classifier, sampler).fit(X, y).n_synthetic_
    10
    """

    def __init__(
        self, classifier=None, sampler=None, *, amount=None, cv=5, random_state=None
    ):
        self.classifier = classifier
        self.sampler = sampler
        self.amount = amount
        self.cv = cv
        self.random_state = random_state

    @all_or_nothing
    def fit(self, X, y, *, groups=None):
        """Add synthetic rows and fit the classifier on all.

        Parameters
        ----------
        X : array-like or DataFrame
            Windows or table rows.
        y : array-like of shape (n,)
            Class labels; -1 is one of them.
        groups : array-like of shape (n,), default=None
            Subject of each row: amounts are compared on held-out subjects.

        Returns
        -------
        self : AugmentedClassifier
        """
        X, amounts = off_torch(X), check_amounts(self.amount)
        check_count("cv", self.cv, low=2, optional=False)
        y = check_labels(y)
        classifier, sampler = self._parts()
        check_all_labelled(classifier, y)
        reject_missing_categories(X)
        rows = check_rows(self, as_codes(X), reset=True)
        if self.classifier is None and rows.is_windows:
            raise TypeError(
                "classifier must take windows if X has them, got classifier=None, "
                "which is LogisticRegression() and takes tables. Pass a pipeline that "
                "begins with a transformer of windows, such as make_pipeline("
                "FrozenEstimator(fitted FlowFMTransformer), LogisticRegression())."
            )
        check_length("y", y, len(rows))
        groups = check_groups(groups, len(rows))
        vars(self).pop("amounts_", None)
        self.sampler_ = clone(sampler)
        if self.random_state is not None and "random_state" in sampler.get_params():
            self.sampler_.set_params(random_state=seed_of(self.random_state))
        self.amount_ = None if amounts is None else amounts[-1]
        if amounts is not None and len(amounts) > 1:
            self.amounts_ = compare_amounts(
                classifier, self.sampler_, X, y, groups, amounts, self.cv
            )
            self.amount_ = best_amount(self.amounts_)
        X_all, y_all = self._enlarged(X, y, groups)
        check_all_kept(self.sampler_, y, y_all)
        self.n_synthetic_ = len(y_all) - len(y)
        self.classifier_ = clone(classifier).fit(X_all, y_all)
        self.classes_ = self.classifier_.classes_
        return self

    def _parts(self):
        """Return classifier and sampler, or say what is wrong with them."""
        classifier, sampler = self.classifier, self.sampler
        classifier = LogisticRegression() if classifier is None else classifier
        sampler = FlowFMSampler() if sampler is None else sampler
        if not (hasattr(classifier, "fit") and is_classifier(classifier)):
            raise TypeError(f"classifier must be a classifier, got {classifier!r}.")
        if not hasattr(sampler, "fit_resample"):
            raise TypeError(
                f"sampler must have a fit_resample method, got {sampler!r}. Use "
                "FlowFMSampler or an over-sampler of imbalanced-learn."
            )
        if isinstance(sampler, FrozenEstimator):
            raise TypeError(
                "sampler must not be frozen, as it is fitted on each training part, "
                f"got {sampler!r}. Freeze its transformer instead: "
                "FlowFMSampler(FrozenEstimator(transformer))."
            )
        return classifier, sampler

    def _enlarged(self, X, y, groups):
        """Return the rows with ``amount_`` of new ones."""
        if self.amount_ is not None:
            counts = class_counts(y)
            totals = totals_of(self.amount_, counts)
            if totals == counts:
                self.sampler_ = None
                return X, y
            self.sampler_.set_params(sampling_strategy=totals)
        return resample(self.sampler_, X, y, groups)

    def predict(self, X):
        """Return the predicted class of each row.

        Parameters
        ----------
        X : array-like with rows as in ``fit``

        Returns
        -------
        labels : ndarray of shape (n,)
        """
        classifier, X = self._checked(X)
        return classifier.predict(X)

    @available_if(_classifier_has("predict_proba"))
    def predict_proba(self, X):
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like with rows as in ``fit``

        Returns
        -------
        probabilities : ndarray of shape (n, n_classes)
            In the order of ``classes_``.
        """
        classifier, X = self._checked(X)
        return classifier.predict_proba(X)

    @available_if(_classifier_has("decision_function"))
    def decision_function(self, X):
        """Return the classifier's decision values.

        Parameters
        ----------
        X : array-like with rows as in ``fit``

        Returns
        -------
        decisions : ndarray of shape (n,) or (n, n_classes)
        """
        classifier, X = self._checked(X)
        return classifier.decision_function(X)

    def _checked(self, X):
        check_is_fitted(self)
        X = off_torch(X)
        check_rows(self, as_codes(X), reset=False)
        return self.classifier_, X

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        if self.classifier is not None:
            inner = get_tags(self.classifier)
            tags.classifier_tags = inner.classifier_tags
        return tags
