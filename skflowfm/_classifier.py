"""FlowFMClassifier: a pretrained model with a head, fine-tuned on labelled rows."""

import copy

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_is_fitted, column_or_1d

from ._checks import (
    all_or_nothing,
    check_count,
    check_groups,
    check_length,
    check_number,
    check_present,
    check_verbose,
    off_torch,
    reject_masked,
    reject_none,
    seed_of,
)
from ._device import place
from ._finetuning import (
    Labelled,
    Tuned,
    features_of,
    logistic_head,
    part_of_the_way,
    represent_features,
    tune,
)
from ._onnx import Exportable
from ._pretrained import fitted_transformer, inner_transformer, new_transformer
from ._resampling import check_labels
from ._standing import keep, module_of
from ._validation import Rows, check_rows
from ._wide import answers, widened
from .persistence import Savable

STRATEGIES = "head", "full", "scratch"
UNLABELLED = -1


def row_weights(class_weight, y):
    """Return the weight of each labelled row, or say what class_weight must be."""
    expected = (
        'class_weight must be None, "balanced" or a dict with a finite number above 0 '
        f"for each class that it names, got class_weight={class_weight!r}"
    )
    try:
        with np.errstate(over="ignore"):
            weight = compute_sample_weight(class_weight, y).astype(np.float32)
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{expected} ({error}).") from None
    if not (np.isfinite(weight) & (weight > 0)).all():
        raise ValueError(f"{expected}.")
    return weight


class FineTuned(Exportable, Savable, BaseEstimator):
    """What a classifier and a regressor on a pretrained model have in common.

    A subclass has the parameters of :class:`FlowFMClassifier`, if need be without ``C``
    and ``class_weight``; ``_fit_head(z, labelled)`` returns its head and the penalty,
    ``_n_answers`` is the number of classes.
    """

    def _check_parameters(self):
        if not (isinstance(self.strategy, str) and self.strategy in STRATEGIES):
            raise ValueError(
                f"strategy must be one of {STRATEGIES}, got strategy={self.strategy!r}."
            )
        check_count("max_steps", self.max_steps, low=1)
        check_number("validation_fraction", self.validation_fraction, 0, 1)
        check_verbose(self.verbose)

    def _pretrain(self, X, groups, seed):
        """Set ``transformer_``: pretrained, frozen or, from scratch, untrained."""
        if self.strategy == "scratch":
            inner, _ = inner_transformer(self.transformer)
            untrained = new_transformer(inner, seed)
            untrained.set_params(max_steps=0, max_time=None, warm_start=False)
            keep(self, untrained.fit(X, groups=groups))
            return
        keep(self, fitted_transformer(self.transformer, X, groups, seed))

    def _learn(self, X, rows, labelled, groups, seed):
        """Pretrain if need be, fit the head and, unless it is all, train both on."""
        self._pretrain(X, groups, seed)
        self.history_, self.n_steps_, self.stopped_by_ = pd.DataFrame(), 0, None
        if self.strategy != "head":
            self.transformer_ = copy.deepcopy(self.transformer_)
        model = self.transformer_.module_
        features = features_of(model, rows, labelled.index)
        head, penalty = self._fit_head(represent_features(model, features), labelled)
        self.head_ = place(head, self.transformer_.device_)
        if self.strategy != "head":
            self._train(features, labelled, penalty, seed)
        head = self._finish(rows, labelled, seed)
        self.head_ = place(head, self.transformer_.device_)

    def _train(self, features, labelled, penalty, seed):
        """Train encoder and head."""
        model, n = self.transformer_.module_, len(labelled)
        keep = part_of_the_way(n, self._n_answers) if self.strategy == "full" else 1.0
        training = tune(
            Tuned(model, self.head_, penalty / n),
            features,
            labelled,
            keep,
            max_steps=self.max_steps,
            validation_fraction=self.validation_fraction,
            seed=seed,
            verbose=self.verbose,
        )
        self.history_ = training.history.filter(regex="^(?!.*flow)")
        self.n_steps_, self.stopped_by_ = training.n_steps, training.stopped_by

    def _finish(self, rows, labelled, seed):
        """Return the head as it answers."""
        return self.head_

    def _answers(self, X):
        """Return the head's output for each row, float32 as the representation is."""
        check_is_fitted(self)
        rows, model = check_rows(self, X, reset=False), module_of(self)
        parts = (Rows(rows.array[part]) for part in rows.chunks())
        return torch.cat([answers(self.head_, model, part) for part in parts])

    def __setstate__(self, state):
        super().__setstate__(state)
        if hasattr(self, "head_"):
            place(self.head_, self.transformer_.device_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


class FlowFMClassifier(ClassifierMixin, FineTuned):
    r"""Classifier on a pretrained encoder: a linear head, or encoder and head trained.

    A linear head is fitted on the frozen representation. With the strategy
    "full", encoder and head are then trained together on the labelled rows, with noise,
    and the result is averaged with where it started: with few labels the classifier
    stays near the frozen one, with many it takes what training found. Compare the two
    on people of your own: which is better depends on the data.

    The encoder stands on hundreds to thousands of fixed features, of which z keeps the
    leading components. A ridge classifier on all of them [1]_ joins the head: the
    logits are a mean of both, in which its weight grows with the labelled rows. It is
    fitted on at most about 2,000 of these, on features scaled by how well they tell the
    classes apart, their F statistic. Its penalty is chosen by leaving one row out, and
    it errs on other rows than the logistic regression does. Encoders of your own have z
    alone.

    Parameters
    ----------
    transformer : FlowFMTransformer, FrozenEstimator of one or path, default=None
        What to start from. One by itself is cloned and trained anew in ``fit``, on all
        rows, labelled or not; a fitted one within ``sklearn.frozen.FrozenEstimator``,
        or saved under a path, is used as it is and left as it was. None is
        ``FlowFMTransformer()``.
    strategy : {"head", "full", "scratch"}, default="head"
        "head" leaves the encoder frozen: quickest, and the features of the
        transformer stay those that others use; safest with few people. "full" trains
        it too. "scratch" does so without pretraining, to see what that is worth.
    C : float, default=1.0
        Inverse strength of the penalty of the logistic regression on z, at least 1e-30,
        as in ``LogisticRegression``. Smaller is smoother, for few or doubtful labels.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class in the loss; "balanced" is inversely proportional to its
        frequency among the labelled rows.
    max_steps : int, default=None
        Steps of fine-tuning, at least 1, of 64 labelled rows each. None takes 20
        passes, at least 500 steps and at most 2,000; they are quick, as the stem is not
        in them.
    validation_fraction : float, default=0.1
        Share of the labelled rows, in [0, 1), on which early stopping of fine-tuning
        watches the loss; the steps do not learn from them, though the head from which
        they start has seen all rows. With ``groups`` as of :class:`FlowFMTransformer`.
        0 switches it off, and it is off where it is fewer than 32 rows.
    random_state : int, RandomState, Generator or None, default=None
        Seeds fine-tuning, and a transformer that has none of its own.
    verbose : int, default=0
        1 prints a line that is updated while encoder and head are trained.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, without that of unlabelled rows.
    transformer_ : FlowFMTransformer
        The transformer, fine-tuned unless the strategy is "head". Its velocity field
        is that of pretraining: for generation use the transformer that you passed.
    head_ : nn.Linear
        Logits from z or, without an encoder of your own, from z and the features that
        it stands on.
    n_labelled_ : int
        How many rows had a label.
    history_ : DataFrame
        Of fine-tuning: a row per 50 steps with the losses.
    n_steps_, stopped_by_ : int, str or None
        What fine-tuning took and what ended it; with the strategy "head" 0 and None,
        and ``history_`` is empty.
    row_shape_in_, n_features_in_, feature_names_in_
        As :class:`FlowFMTransformer` has them.

    See Also
    --------
    FlowFMRegressor : For numbers in place of classes.
    FlowFMTransformer : The representation alone, for any classifier.

    Notes
    -----
    Rows whose label is -1 are unlabelled, as in ``sklearn.semi_supervised``: they serve
    pretraining alone, and ``score`` leaves them out. Other scorers take -1 for a class
    of its own: cross-validate on labelled rows, with a transformer that was fitted on
    all. With only one other class, -1 is a class. Rows have no weights, classes do.

    References
    ----------
    .. [1] A. Dempster, D. F. Schmidt and G. I. Webb, "MiniRocket", KDD 2021: a ridge
           classifier on random convolutions of time series.

    Examples
    --------
    >>> import numpy as np
    >>> from skflowfm import FlowFMClassifier, FlowFMTransformer
    >>> from skflowfm.datasets import make_wearable
    >>> X, y, _ = make_wearable(120, n_timesteps=60, random_state=0, return_X_y=True)
    >>> few = np.where(np.arange(120) < 60, y, -1)  # half of the rows have no label
    >>> transformer = FlowFMTransformer(16, max_steps=20, random_state=0)
    >>> model = FlowFMClassifier(transformer, random_state=0).fit(X, few)
    >>> model.n_labelled_, model.predict_proba(X).shape
    (60, (120, 6))
    """

    _onnx_parts = "encoder", "classifier"

    def __init__(
        self,
        transformer=None,
        *,
        strategy="head",
        C=1.0,
        class_weight=None,
        max_steps=None,
        validation_fraction=0.1,
        random_state=None,
        verbose=0,
    ):
        self.transformer = transformer
        self.strategy = strategy
        self.C = C
        self.class_weight = class_weight
        self.max_steps = max_steps
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.verbose = verbose

    @all_or_nothing
    def fit(self, X, y, *, groups=None):
        """Pretrain if need be, fit the head, and fine-tune.

        Parameters
        ----------
        X : array-like of shape (n_windows, n_channels, n_timesteps) or \
                (n_samples, n_features)
            Finite numbers. Never written to.
        y : array-like of shape (n,)
            Class labels; -1 is no label.
        groups : array-like of shape (n,), default=None
            Subject or recording of each row; whole groups are held out for early
            stopping, in pretraining and in fine-tuning.

        Returns
        -------
        self : FlowFMClassifier

        Raises
        ------
        ValueError, TypeError
            For bad parameters and data, or fewer than two classes.
        """
        self._check_parameters()
        check_number("C", self.C, 1e-30)
        reject_none(y)
        y = off_torch(y)
        reject_masked("y", y)
        y = column_or_1d(y, warn=True)
        check_present("y", y, "-1 is the label of rows without one: y.fillna(-1).")
        rows = check_rows(self, X, reset=True, min_rows=2)
        check_length("y", y, len(rows))
        groups = check_groups(groups, len(rows))
        labelled = is_labelled(y)
        check_labels(y[labelled])
        self.classes_, codes = np.unique(y[labelled], return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "y must have at least two classes, got one class "
                f"({self.classes_.tolist()[0]!r}). Add labelled rows of another."
            )
        seed = seed_of(self.random_state)
        weight = row_weights(self.class_weight, y[labelled])
        self.n_labelled_ = int(labelled.sum())
        known = Labelled(
            torch.from_numpy(np.flatnonzero(labelled)),
            torch.from_numpy(codes),
            torch.from_numpy(weight),
            None if groups is None else groups[labelled],
        )
        self._learn(X, rows, known, groups, seed)
        return self

    def score(self, X, y, sample_weight=None):
        """Return the accuracy on the rows that have a label.

        Parameters
        ----------
        X : array-like with rows as in ``fit``
        y : array-like of shape (n,)
            Their labels; rows of label -1 are left out, unless that is a class.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows.

        Returns
        -------
        score : float
        """
        check_is_fitted(self)
        y = off_torch(y)
        reject_masked("y", y)
        labels = column_or_1d(y)
        known = np.array([label != -1 for label in labels.tolist()])
        if known.all() or -1 in self.classes_.tolist():
            return super().score(X, y, sample_weight)
        if not known.any():
            raise ValueError("y must have a label other than -1, got none to score.")
        predicted = self.predict(X)
        check_length("y", labels, len(predicted))
        if sample_weight is not None:
            n = len(labels)
            sample_weight = check_length("sample_weight", sample_weight, n)[known]
        return accuracy_score(
            labels[known], predicted[known], sample_weight=sample_weight
        )

    @property
    def _n_answers(self):
        return len(self.classes_)

    def _fit_head(self, z, labelled):
        codes, weight = labelled.target.numpy(), labelled.weight.numpy()
        return logistic_head(z.numpy(), codes, weight, self.C)

    def _finish(self, rows, labelled, seed):
        return widened(self.head_, self.transformer_.module_, rows, labelled, seed)

    def decision_function(self, X):
        """Return the logits of each row, of the second class over the first if binary.

        Parameters
        ----------
        X : array-like with rows as in ``fit``

        Returns
        -------
        logits : ndarray of shape (n,) or (n, n_classes), float32
        """
        logits = self._answers(X).numpy()
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X):
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like with rows as in ``fit``

        Returns
        -------
        probabilities : ndarray of shape (n, n_classes), float32
            In the order of ``classes_``.
        """
        return self._answers(X).softmax(dim=1).numpy()

    def predict(self, X):
        """Return the likeliest class of each row.

        Parameters
        ----------
        X : array-like with rows as in ``fit``

        Returns
        -------
        labels : ndarray of shape (n,)
        """
        codes = self._answers(X).argmax(dim=1).numpy()
        return self.classes_[codes]


def is_number(label) -> bool:
    """Return whether a label, maybe a text, can be read as a number."""
    try:
        float(label)
    except (TypeError, ValueError):
        return False
    return True


def is_labelled(y):
    """Return which rows have a label: all, unless -1 stands beside two classes.

    Or raise, where a text of -1 stands beside names: numpy makes one in mixed lists.
    """
    labels = set(y.tolist()) if y.dtype.kind in "UO" else set()
    if "-1" in labels and not all(map(is_number, labels)):
        raise ValueError(
            "y has the text '-1' beside names, got labels of dtype "
            f"{y.dtype}. The number -1 marks rows without a label: with names as "
            "labels give that number in an array of dtype object."
        )
    if y.dtype.kind in "iufO":
        unlabelled = np.asarray(y == UNLABELLED, dtype=bool)
        if len(set(y[~unlabelled].tolist())) > 1:
            return ~unlabelled
    return np.ones(len(y), dtype=bool)
