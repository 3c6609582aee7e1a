"""FlowFMRegressor: a pretrained model with a head for numbers."""

import numpy as np
import torch
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_array, column_or_1d

from ._checks import (
    all_or_nothing,
    check_groups,
    check_length,
    off_torch,
    reject_dates,
    reject_masked,
    reject_none,
    seed_of,
)
from ._classifier import FineTuned
from ._finetuning import Labelled, regression_head
from ._validation import check_rows


def check_resolved(y):
    """Raise if float32, in which training works, cannot tell the numbers apart."""
    limits, largest = np.finfo(np.float32), np.abs(y).max()
    part = y / largest if largest > 0 else y
    deviation = part.std() * largest if np.ptp(part) > 0 else 0.0
    if largest > limits.max / 2 or (
        np.ptp(part) > 0
        and deviation < max(4 * np.spacing(np.float32(largest)), limits.tiny)
    ):
        raise ValueError(
            "y must vary by more than float32 resolves, and be finite in it, got a "
            f"deviation of {deviation:g} and values up to {largest:g} in size. "
            "Subtract a constant, or divide by one, and undo it after predict."
        )


def reject_text(y):
    """Raise on text, which numpy would read numbers from."""
    values = np.asarray(y)
    objects = values.ravel() if values.dtype == object else ()
    if values.dtype.kind in "US" or any(isinstance(v, (str, bytes)) for v in objects):
        raise TypeError(
            "y must be numeric, got text. Turn it into numbers, y.astype(float)."
        )


class FlowFMRegressor(RegressorMixin, FineTuned):
    """Regressor on a pretrained encoder: a ridge head, or encoder and head trained.

    Parameters
    ----------
    transformer : FlowFMTransformer, FrozenEstimator of one or path, default=None
        As in :class:`FlowFMClassifier`.
    strategy : {"head", "full", "scratch"}, default="head"
        As in :class:`FlowFMClassifier`, with weights that go n / (n + 400) of the way
        to the trained ones, of n rows. The head is a ridge regression on z, whose
        penalty is chosen by leaving one row out.
    max_steps : int, default=None
        Steps of fine-tuning, at least 1, of 64 rows each. None takes 20 passes, at
        least 500 steps and at most 2,000.
    validation_fraction : float, default=0.1
        As in :class:`FlowFMClassifier`.
    random_state : int, RandomState, Generator or None, default=None
        Seeds fine-tuning, and a transformer that has none of its own.
    verbose : int, default=0
        1 prints a line that is updated while encoder and head are trained.

    Attributes
    ----------
    transformer_ : FlowFMTransformer
        The transformer, fine-tuned unless the strategy is "head".
    head_ : nn.Linear
        Numbers from representations.
    history_ : DataFrame
        Of fine-tuning: a row per 50 steps with the losses.
    n_steps_, stopped_by_ : int, str or None
        What fine-tuning took and what ended it; with the strategy "head" 0 and None,
        and ``history_`` is empty.
    row_shape_in_, n_features_in_, feature_names_in_
        As :class:`FlowFMTransformer` has them.

    See Also
    --------
    FlowFMClassifier : For classes.

    Notes
    -----
    Every row needs a number; -1 is one. To use rows without, pretrain a transformer on
    all rows and pass it in a ``FrozenEstimator``.

    Predictions are float32, which has seven digits. Subtract an offset that is large
    beside what varies, a year or a time stamp, from ``y`` before; ``fit`` asks for it
    where nothing would be left.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skflowfm import FlowFMRegressor, FlowFMTransformer
    >>> X, y = load_diabetes(return_X_y=True)
    >>> transformer = FlowFMTransformer(max_steps=20, random_state=0)
    >>> model = FlowFMRegressor(transformer, strategy="head").fit(X[:300], y[:300])
    >>> model.score(X[300:], y[300:]) > 0.4
    True
    """

    _n_answers = 10  # a number asks for as many rows as so many classes

    _onnx_parts = "encoder", "regressor"

    def __init__(
        self,
        transformer=None,
        *,
        strategy="head",
        max_steps=None,
        validation_fraction=0.1,
        random_state=None,
        verbose=0,
    ):
        self.transformer = transformer
        self.strategy = strategy
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
            Finite numbers.
        groups : array-like of shape (n,), default=None
            As in :meth:`FlowFMClassifier.fit`.

        Returns
        -------
        self : FlowFMRegressor

        Raises
        ------
        ValueError, TypeError
            For bad parameters and data.
        """
        self._check_parameters()
        reject_none(y)
        y = off_torch(y)
        reject_masked("y", y)
        reject_dates(y, "y")
        reject_text(y)
        y = column_or_1d(y, warn=True)
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        rows = check_rows(self, X, reset=True, min_rows=2)
        check_length("y", y, len(rows))
        groups = check_groups(groups, len(rows))
        check_resolved(y)
        seed = seed_of(self.random_state)
        target = torch.from_numpy(y.astype(np.float32))
        weight = torch.ones(len(rows))
        known = Labelled(torch.arange(len(rows)), target, weight, groups)
        self._learn(X, rows, known, groups, seed)
        return self

    def _fit_head(self, z, labelled):
        return regression_head(z.numpy(), labelled.target.double().numpy())

    def predict(self, X):
        """Return the predicted number for each row.

        Parameters
        ----------
        X : array-like with rows as in ``fit``

        Returns
        -------
        y : ndarray of shape (n,), float32
        """
        return self._answers(X)[:, 0].numpy()
