"""FlowFMSampler: new windows or rows from the jointly trained model."""

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ._checks import (
    all_or_nothing,
    forget,
    off_torch,
    reject_missing_categories,
    seed_of,
)
from ._columns import Columns, as_codes
from ._conditions import (
    check_groups_of_both,
    checked_pool,
    density_of,
)
from ._generation import represent
from ._health import warn_of_untrained
from ._onnx import Exportable
from ._pretrained import check_spread, fitted_transformer
from ._resampling import (
    RESAMPLED,
    as_container,
    check_labels,
    checked_labels,
    codes_of,
    enlarged,
    labels_of,
    like_frame,
    rows_to_add,
)
from ._sampling import Sampling
from ._standing import keep, module_of
from ._steps import calibrated, check_quality
from ._validation import Rows, check_bounds, check_rows
from .persistence import Savable


class FlowFMSampler(Sampling, Exportable, Savable, BaseEstimator):
    r"""Draw synthetic windows or table rows, with exact class counts.

    Generation takes two draws: a representation :math:`z \sim q(z \mid y)`, then a row
    :math:`x \sim p(x \mid z)` by solving :math:`\mathrm dx = v(x, t, z)\,\mathrm dt`
    from t = 0 (source) to t = 1 (data). The velocity field v is trained without labels,
    by a :class:`FlowFMTransformer`; labels only enter the small density q, which is
    fitted in seconds. So labels may be few, and may come after training:
    ``FlowFMSampler(FrozenEstimator(fitted_transformer)).fit(X_labelled, y_labelled)``
    trains no network on rows again.

    Parameters
    ----------
    transformer : FlowFMTransformer, FrozenEstimator of one or path, default=None
        Cloned and trained in ``fit`` on all rows, also if it was fitted before; within
        ``sklearn.frozen.FrozenEstimator`` it is used as it is, as is one loaded from a
        path. None is ``FlowFMTransformer()``.
    quality : {"fast", "balanced", "high"} or int, default="balanced"
        At most how often the velocity field is evaluated for each row: 4, 8 or 32
        times, or this number. Cost is proportional to it.
    solver : {"auto", "euler", "adams", "midpoint", "rk4"}, default="auto"
        How the evaluations are spent. "auto" takes the steps of "adams", and finds out
        in ``fit``, from windows of ``X`` that it draws again, what gives them the right
        spectra: ``stop_`` and ``spectral_gain_``. The others solve to the end, with 1,
        1, 2 and 4 evaluations for each step; see :mod:`skflowfm.ode`.
    sampling_strategy : str, float, dict or callable, default="auto"
        For ``fit_resample``, as in imbalanced-learn's over-samplers. "auto" ("not
        majority") raises every class to the size of the largest; "minority", "not
        minority", "all"; a float in (0, 1] is the ratio of two classes; a dict
        {class: total}, or a Series of these; a callable, y to such a dict.
    bounds : None, "data" or pair, default=None
        Values outside are moved to the edge. "data" takes the smallest and largest of
        each channel or feature in ``fit``; a pair (low, high) has numbers, or one for
        each (a Series by name), infinite where there is no bound. Categories are not
        touched; whole numbers stay whole. Without it a count may come out negative, and
        a window may go beyond the range of its sensor.
    random_state : int, RandomState, Generator or None, default=None
        Seeds training (if the transformer has no seed of its own), q and the draws.

    Attributes
    ----------
    transformer_ : FlowFMTransformer
        The fitted model.
    stop_ : float
        With ``solver="auto"``, the time where solving stops: 1 is the end.
    spectral_gain_ : ndarray of shape (n_channels, n_timesteps + 1) or None
        With ``solver="auto"`` of windows: what amplitudes from frequency 0 to half of
        the sampling rate are multiplied by. Level and scale of a window stay.
    classes_ : ndarray or None
        Classes seen in ``fit``; None without labels.
    row_shape_in_, n_features_in_, feature_names_in_
        As :class:`FlowFMTransformer` has them.
    n_synthetic_ : int
        After ``fit_resample``: how many rows were added; they come last.
    is_synthetic_ : ndarray of bool
        After ``fit_resample``: which of the returned rows were added.
    parent_indices_ : ndarray of int
        After ``fit_resample``: for each returned row the position in ``X`` of itself
        or, if it was added, of the row of its class that is nearest to it in z, as
        ``transform`` of both gives it. So
        ``groups[parent_indices_]`` keeps a synthetic row with its kin when folds are
        cut, and ``~is_synthetic_`` keeps it out of test folds.

    See Also
    --------
    AugmentedClassifier : The same inside scikit-learn's own Pipeline.
    make_synthetic : The same in one call.

    Notes
    -----
    Of one fitted sampler with an integer seed, sample i depends on the seed, i, its
    class, and how many of its class come before: ``sample(100)`` is the first hundred
    of ``sample(1000)``, to the byte. Classes of
    fewer than ``6 * n_components_`` rows (1,536 by default, never fewer than 20) get
    points in z between or near their rows, not a flow; one row is enough. Without
    labels all rows are one class. Synthetic rows are not anonymous: nothing here is a
    privacy guarantee.

    As it has ``fit_resample`` and no ``transform``, it is a step of imbalanced-learn's
    ``Pipeline``, which resamples within training folds only.

    References
    ----------
    .. [1] K. Ukita and T. Okita, "FlowFM", arXiv:2512.19729.
    .. [2] T. Li, D. Katabi and K. He, "Return of Unconditional Generation: A
           Self-supervised Representation Generation Method", NeurIPS 2024.

    Examples
    --------
    >>> from skflowfm import FlowFMSampler, FlowFMTransformer
    >>> from skflowfm.datasets import make_wearable
    >>> X, y, _ = make_wearable(80, n_timesteps=60, random_state=0, return_X_y=True)
    >>> transformer = FlowFMTransformer(8, max_steps=20, random_state=0)
    >>> sampler = FlowFMSampler(transformer, quality=2, random_state=0).fit(X, y)
    >>> X_new, y_new = sampler.sample(class_counts={0: 3, 2: 1})
    >>> X_new.shape, y_new
    ((4, 3, 60), array([0, 0, 0, 2]))
    """

    def __init__(
        self,
        transformer=None,
        *,
        quality="balanced",
        solver="auto",
        sampling_strategy="auto",
        bounds=None,
        random_state=None,
    ):
        self.transformer = transformer
        self.quality = quality
        self.solver = solver
        self.sampling_strategy = sampling_strategy
        self.bounds = bounds
        self.random_state = random_state

    @all_or_nothing
    def fit(self, X, y=None, *, groups=None, X_unlabelled=None):
        """Train the transformer unless it is frozen, then fit q(z) or q(z | y).

        Parameters
        ----------
        X : array-like of shape (n_windows, n_channels, n_timesteps) or \
                (n_samples, n_features)
            Rows to learn from.
        y : array-like of shape (n,), default=None
            Class labels, -1 one of them. Without labels ``sample`` cannot ask for
            classes.
        groups : array-like of shape (n,), default=None
            Passed to the transformer; see :meth:`FlowFMTransformer.fit`. With
            ``X_unlabelled`` of the rows of both, one after the other.
        X_unlabelled : array-like with rows as in ``X``, default=None
            Further rows of the same classes; copied. The transformer learns from them,
            and each counts for q as one of the class that a linear classifier on ``X``
            and ``y`` gives it, even if it is of none. Helps where labels are few.

        Returns
        -------
        self : FlowFMSampler

        Raises
        ------
        ValueError, TypeError
            For bad parameters or rows, and ``X_unlabelled`` without ``y``.
        """
        n_evaluations = check_quality(self.quality, self.solver)
        forget(self, RESAMPLED)
        reject_missing_categories(X)
        self._columns = Columns(as_container(X))
        coded = check_rows(self, as_codes(X), reset=True)
        y = checked_labels(y, len(coded))
        n, pool = len(coded), checked_pool(self, X_unlabelled, y)
        check_groups_of_both(groups, n, pool)
        if pool is not None:
            coded = Rows(np.concatenate([coded.array, pool.array]))
            X = like_frame(coded.array, X)
        self._bounds = self._columns.limits(check_bounds(self, coded))
        rows, seed = self._spread(coded), seed_of(self.random_state)
        seen = rows.array if self._columns.categories else X
        check_spread(self.transformer, self._columns, rows)
        keep(self, fitted_transformer(self.transformer, seen, groups, seed))
        warn_of_untrained(self.transformer_)
        own, pool = Rows(rows.array[:n]), pool and Rows(rows.array[n:])
        learned, self.stop_, self.spectral_gain_ = self.transformer_, 1.0, None
        self._density, self.classes_ = density_of(learned, own, y, pool, seed)
        if self.solver == "auto":
            found = calibrated(learned.module_, rows, n_evaluations, seed)
            self.stop_, self.spectral_gain_ = found
        return self

    @all_or_nothing
    def fit_condition(self, X, y=None, *, X_unlabelled=None):
        """Fit q(z) or q(z | y) anew, for other labels; no network is trained on rows.

        Parameters
        ----------
        X : array-like with rows as in ``fit``
            Need not be those of ``fit``.
        y : array-like of shape (n,), default=None
            Their labels, in place of those of ``fit``.
        X_unlabelled : array-like with rows as in ``fit``, default=None
            As in ``fit``, but may stay on disk; a row of ``X`` in it counts twice.

        Returns
        -------
        self : FlowFMSampler
        """
        check_is_fitted(self)
        rows = self._rows(X)
        y = checked_labels(y, len(rows))
        forget(self, RESAMPLED)
        learned, pool = self.transformer_, checked_pool(self, X_unlabelled, y)
        pool, seed = pool and self._spread(pool), seed_of(self.random_state)
        self._density, self.classes_ = density_of(learned, rows, y, pool, seed)
        return self

    @all_or_nothing
    def fit_resample(self, X, y, *, groups=None, X_unlabelled=None):
        """Fit, and return ``X`` and ``y`` followed by new rows.

        Parameters
        ----------
        X : array-like or DataFrame
            Rows; come back first and unchanged, in the same dtype and container (a
            frame's index is numbered anew).
        y : array-like of shape (n,)
            Class labels.
        groups, X_unlabelled : array-like, default=None
            As in :meth:`fit`; unlabelled rows do not come back.

        Returns
        -------
        X_resampled, y_resampled
            Exactly the counts that ``sampling_strategy`` asks for.
        """
        X, y = off_torch(X), check_labels(y)
        wanted = rows_to_add(self.sampling_strategy, y)
        self.fit(X, y, groups=groups, X_unlabelled=X_unlabelled)
        y_new = labels_of(wanted, self.classes_)
        codes = torch.from_numpy(codes_of(y_new, self.classes_))
        seed = seed_of(self.random_state)
        z = self._density.draw(codes, seed)
        X_new = self._decode(z, seed)
        drawn = as_codes(X_new)
        if not isinstance(drawn, np.ndarray):
            drawn = drawn.to_numpy(dtype=np.float64)
        z_new = represent(module_of(self), self._spread(Rows(drawn)))
        parents = self._density.parents(z_new, codes).numpy()
        self.n_synthetic_ = len(y_new)
        self.is_synthetic_ = np.arange(len(y) + len(y_new)) >= len(y)
        self.parent_indices_ = np.concatenate([np.arange(len(y)), parents])
        return enlarged(X, y, X_new, y_new)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
