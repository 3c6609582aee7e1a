"""FlowFMTransformer: the jointly trained model as a scikit-learn transformer."""

import math
import os

import pandas as pd
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted

from ._budget import Budget, Plan, batch_size, default_steps
from ._building import build_model, check_n_components, check_parameters, check_rate
from ._checks import all_or_nothing, check_groups, seed_of
from ._continuing import check_same_model, copy_for, fitted_model, take_over
from ._device import place, resolve_device
from ._draws import Z_NOISE, hold_out, private_generator
from ._generation import Steps, check_drawn, decode, fit_axes, represent, score
from ._health import health, rank_of_data, warn_of_untrained, warn_on_collapse
from ._onnx import Exportable
from ._sizes import summary_rows
from ._training import train_on
from ._validation import check_components, check_rows
from .nets.views import table_view, window_view
from .persistence import Savable

FIELD_RATE = 2.0
INVERSE_STEPS = Steps(8, "euler")


class FlowFMTransformer(
    Exportable,
    Savable,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    r"""Self-supervised representation of windows or table rows, by flow matching.

    An encoder :math:`E` and a velocity field :math:`v` are trained jointly, without
    labels, to minimise

    .. math::

        \mathbb E \lVert v(x_t, t, E(x_1)) - (x_1 - x_0) \rVert^2
        + \text{alignment} \cdot \mathrm{InfoNCE}(\text{views of } x_1),
        \qquad x_t = (1 - t) x_0 + t x_1,

    with data :math:`x_1`, source :math:`x_0 \sim \mathcal N(0, I)` and time t (0 is
    source, 1 is data) [1]_; the square is averaged over the values of a row.
    ``transform`` uses the encoder alone, :class:`FlowFMSampler` the velocity field.

    3-D ``X`` is read as windows (n_windows, n_channels, n_timesteps), 2-D ``X`` as a
    table (n_samples, n_features). A set of univariate series is
    ``X[:, np.newaxis, :]``. Scaling is learned in ``fit``, one mean and deviation per
    channel or feature, never per window: level and amplitude carry information.

    Parameters
    ----------
    n_components : int, default=None
        Size of the representation. None is four thirds of the number of values of a row
        (of tables 64 more), at most 256; with ``encoder``, what that returns. At most
        four thirds of the values of a row, of tables of 256 or more. A quarter, with
        half of the variance (less if few train), is learned, the rest are principal
        components of the features below, as are the first 16 of tables; of an encoder
        of your own all is learned. More keeps detail; fewer is safer with few labels.
    encoder : nn.Module, default=None
        Maps standardised rows to (n, n_components); cloned with its weights, such as a
        :class:`~skflowfm.nets.ConvEncoder`; no dropout, no writing in place. None is a
        :class:`~skflowfm.nets.FeatureEncoder` on a fixed
        :class:`~skflowfm.nets.Stem`, or of tables :class:`~skflowfm.nets.TableStem`.
    velocity_field : nn.Module, default=None
        ``v(x_t, t, z)`` in flow coordinates (n, n_channels, n_timesteps + 2) or
        (n, n_features); cloned with its weights. None builds a
        :class:`~skflowfm.nets.WindowVelocityField` or
        :class:`~skflowfm.nets.VectorVelocityField`.
    views : {"auto"}, callable or None, default="auto"
        What the alignment compares. "auto" is a gentle augmentation (slight stretch,
        mixed channels, jitter, masking; for tables, swapped features), a callable is
        ``view(x, generator)``, a new tensor of standardised rows, None the row. Without
        ``encoder``, a window (or its view) is compared with one like it. With views z
        also gets a little noise on its way to the velocity field.
    alignment : float, default=1.0
        Weight of the agreement of two views (InfoNCE), 0 or more. Higher favours
        linear recognition over generation. For tables and your own encoder it only
        spreads rows apart where ``views=None``. ``views=None, alignment=0`` leaves the
        published loss, with the coordinates and times of docs/theory.md.
    max_steps : int, default=None
        Most steps; with early stopping the velocity field takes half as many again.
        None is 60 passes over the rows in steps of 64, at least 400 steps (tables:
        200), at most 1,000, unless ``max_time`` is given; 0 trains nothing, no
        generator either. A step sees 64 rows (CUDA: up to 512; of more than 8,192
        values a row fewer, down to 16). Of more windows than the steps visit eight
        times (8,000 for 1,000 steps of 64; never fewer than 4,000, of large ones 1,000)
        a random part is used.
    max_time : float, default=None
        Most seconds of training, above 0; whichever of the two is spent first. With
        early stopping the last third is the velocity field's. Results depend on the
        machine's speed. Preparing views counts; the stem before and ``health_`` after
        come on top. Without ``max_steps`` it uses 4,000 windows.
    validation_fraction : float, default=0.1
        Share of the rows, in [0, 1), on which early stopping watches the flow loss, for
        the encoder: the velocity field goes on. With ``groups`` it is whole groups, of
        that many rows at most or as few groups as have 32 (not more than half of all
        rows). 0 switches it off, and it is off where it is fewer than 32 rows.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the previous fit's weights and scaling.
    device : str, default="auto"
        "auto" is CUDA if there is one, else the CPU; or any device name of torch. On
        CUDA a step of ``fit`` sees up to 512 rows: what 60 passes in 1,000 steps need.
    random_state : int, RandomState, Generator or None, default=None
        Seeds all that is random, ``inverse_transform`` and ``score_samples`` too (in a
        warm start as in the first fit). None takes entropy from the system.
    verbose : int, default=0
        1 prints a line that is updated with steps, losses and time left.

    Attributes
    ----------
    module_ : JointModel
        The trained torch module.
    n_components_, sampling_rate_ : int, float or None
        Size of the representation; rate of the windows, if known.
    history_ : DataFrame
        A row per 50 steps: step, seconds, mean losses in training and held out. Where
        rows were held out, those of the velocity field alone follow: they count on from
        the encoder's best round, and nothing is held out in them.
    health_ : dict
        ``effective_rank``, ``component_std``, ``flow_loss_by_time`` (five bands of t)
        and ``left_open`` (how little of a row z determines, 0 to 1): a readout that
        needs no labels.
    n_steps_, fit_seconds_, stopped_by_ : int, float, str
        What training took, the velocity field's steps (of all calls, after
        ``partial_fit``); "max_steps", "max_time" or "early_stopping", which ended that
        of the encoder.
    seed_, row_shape_in_ : int, tuple
        Seed of the fit; shape of one row.
    device_ : str
        Where the model was trained and runs.
    n_features_in_, feature_names_in_
        Channels or features seen in ``fit``, and their names if ``X`` was a frame.

    See Also
    --------
    FlowFMSampler : New rows from the same model.

    Notes
    -----
    ``transform`` treats every row by itself: up to rounding, a row's result does not
    depend on the others. Training is deterministic for a given ``random_state``,
    device, number of threads and version of torch, unless ``max_time`` ends it.

    Components come in order of variance, rotated to principal axes with one common
    gain; they are not whitened, so put no scaler between this and a linear classifier.

    References
    ----------
    .. [1] K. Ukita and T. Okita, "FlowFM", arXiv:2512.19729.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skflowfm import FlowFMTransformer
    >>> from skflowfm.datasets import make_wearable
    >>> X, y, _ = make_wearable(80, n_timesteps=60, random_state=0, return_X_y=True)
    >>> transformer = FlowFMTransformer(8, max_steps=20, random_state=0)
    >>> pipe = make_pipeline(transformer, LogisticRegression()).fit(X, y)
    >>> pipe[:-1].transform(X).shape
    (80, 8)
    """

    def __init__(
        self,
        n_components=None,
        *,
        encoder=None,
        velocity_field=None,
        views="auto",
        alignment=1.0,
        max_steps=None,
        max_time=None,
        validation_fraction=0.1,
        warm_start=False,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.encoder = encoder
        self.velocity_field = velocity_field
        self.views = views
        self.alignment = alignment
        self.max_steps = max_steps
        self.max_time = max_time
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def from_pretrained(cls, path):
        """Return the model saved under ``path``; its ``fit`` goes on with the training.

        It is :func:`skflowfm.load` with ``warm_start=True``; see ``init`` of
        :meth:`fit` for the rows that it takes.

        Parameters
        ----------
        path : str or path-like
            Of a file that :meth:`save` wrote.

        Returns
        -------
        model : FlowFMTransformer

        Examples
        --------
        >>> import tempfile
        >>> from skflowfm import FlowFMTransformer
        >>> from skflowfm.datasets import make_wearable
        >>> X = make_wearable(80, n_timesteps=60, random_state=0).X
        >>> new = make_wearable(80, n_timesteps=60, random_state=1).X
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = FlowFMTransformer(8, max_steps=10, random_state=0).fit(X)
        ...     first.save(f"{folder}/model")
        ...     model = FlowFMTransformer.from_pretrained(f"{folder}/model")
        >>> model.fit(new).transform(new).shape
        (80, 8)
        """
        model = fitted_model(os.fspath(path), cls, "path")
        return model.set_params(warm_start=True)

    @all_or_nothing
    def fit(self, X, y=None, *, groups=None, init=None, sampling_rate=None):
        """Train the joint model on the rows of ``X``.

        Parameters
        ----------
        X : array-like of shape (n_windows, n_channels, n_timesteps) or \
                (n_samples, n_features)
            Finite numbers, at least two rows. Never written to.
        y : default=None
            Ignored; present for the interface.
        groups : array-like of shape (n,), default=None
            Subject or recording of each row; whole groups are held out for early
            stopping, so that it watches how the model does on new ones.
        init : fitted FlowFMTransformer, FrozenEstimator of one, or path, default=None
            A model to go on from, as ``warm_start`` does from the last fit. Its scaling
            and stem stay, so rows need the same channels, rate and units. Windows may
            be up to twice as long or short as those of its first fit.
        sampling_rate : float, default=None
            Of the windows, in Hz; None is unknown. It changes no number, but is kept:
            to go on with another rate is refused, with an unknown one warned of.

        Returns
        -------
        self : FlowFMTransformer

        Raises
        ------
        ValueError, TypeError, NotFittedError
            For bad parameters, an unfitted ``init``, and for data that are empty, not
            finite, ragged, sparse, complex, of more than three dimensions, in a frame
            with a MultiIndex of rows, or not of the kind that ``init`` was fitted on.
        FloatingPointError
            If training with modules of your own has led to NaN.
        """
        check_parameters(self)
        sampling_rate = check_rate(sampling_rate)
        seed = seed_of(self.random_state)
        if init is None and self.warm_start and hasattr(self, "health_"):
            init = self
        if init is None:
            rows = check_rows(self, X, reset=True, min_rows=2)
            groups = check_groups(groups, len(rows))
        else:
            init = fitted_model(init, FlowFMTransformer, "init")
            rows = take_over(self, init, X, groups, seed, sampling_rate)
        steps = self.max_steps
        if steps is None and self.max_time is None:
            steps = default_steps(len(rows), rows.is_windows)
        batch = batch_size(len(rows), resolve_device(self.device), rows.row_shape)
        if init is None:
            self._build(rows, seed)
            self.sampling_rate_ = sampling_rate
        budget = Budget(steps, self.max_time, batch, field_rate=FIELD_RATE)
        self._train(rows, groups, budget, seed)
        return self

    @all_or_nothing
    def partial_fit(self, X, y=None, *, groups=None):
        """Train for one pass over ``X``, going on from where the model is.

        The first call learns scaling and builds the model as ``fit`` does; later ones
        keep both and use a constant learning rate. ``max_steps`` and ``max_time`` are
        not used, and nothing is held out. z rotates: refit what stands on it.
        ``history_`` and ``health_`` are of the last call.

        Parameters
        ----------
        X, y, groups
            As in :meth:`fit`.

        Returns
        -------
        self : FlowFMTransformer
        """
        check_parameters(self)
        first = not hasattr(self, "module_")
        rows = check_rows(self, X, reset=first, min_rows=2)
        check_groups(groups, len(rows))
        seed = seed_of(self.random_state)
        if first:
            self._build(rows, seed)
        else:
            check_same_model(self, self)
            self.module_ = copy_for(self.module_, rows, few=True)
        batch, before = batch_size(0, "cpu", rows.row_shape), self.n_steps_
        steps = -(-len(rows) // batch)
        budget = Budget(
            steps, None, batch, 1e-3, FIELD_RATE, decay=False, steps_before=before
        )
        self._train(rows, None, budget, seed + before)
        self.n_steps_ += before
        return self

    def transform(self, X):
        """Return the representation of each row.

        Parameters
        ----------
        X : array-like with rows as in ``fit``

        Returns
        -------
        Z : ndarray of shape (n, n_components), float32
        """
        check_is_fitted(self)
        return represent(self.module_, check_rows(self, X, reset=False)).numpy()

    def inverse_transform(self, X):
        """Draw one row for each representation, with eight Euler steps.

        The same at each call, place by place; ``FlowFMSampler.sample_like`` has others.

        Parameters
        ----------
        X : array-like of shape (n, n_components)
            Representations, as returned by ``transform``.

        Returns
        -------
        rows : ndarray of the shape of the rows of ``fit``, float32
        """
        check_is_fitted(self)
        warn_of_untrained(self)
        z = check_components(X, self.n_components_)
        rows = decode(self.module_, z, self.row_shape_in_, self.seed_, INVERSE_STEPS)
        return check_drawn(rows).numpy()

    def score_samples(self, X):
        r"""Return how usual each row is: higher is more normal.

        .. math:: -\log (d^2(z) / D) - \log L(x),

        with d the Mahalanobis distance of the representation, of D components, from the
        training rows, L the flow-matching loss of the row, averaged over eight fixed
        pairs of time and source draw, the same for every row. The distance sees what
        is far from all that was learned, the loss what the field cannot explain. It is
        not a log-likelihood and not calibrated: compare it between rows of one fitted
        model, and set a threshold on held-out normal rows, since those of ``fit`` look
        more normal than new ones.

        Parameters
        ----------
        X : array-like with rows as in ``fit``

        Returns
        -------
        scores : ndarray of shape (n,), float32
        """
        check_is_fitted(self)
        return score(self.module_, check_rows(self, X, reset=False), self.seed_).numpy()

    def _build(self, rows, seed):
        """Make the untrained model; sets module_ and what describes it."""
        check_n_components(self, rows.row_shape)
        self.seed_, self.n_steps_, self.sampling_rate_ = seed, 0, None
        generator = private_generator(seed)
        some = torch.randperm(len(rows), generator=generator)
        some = some[: summary_rows(rows.row_shape)]
        self.module_ = build_model(self, rows, rows[some], generator)
        self.n_components_ = self.module_.n_components

    def _train(self, rows, groups, budget, seed):
        """Train module_ in place and describe the result; sets device_."""
        self.device_ = resolve_device(self.device)
        place(self.module_, self.device_)
        generator = private_generator(seed)
        fraction = self.validation_fraction if budget.decay else 0
        index, held_out = hold_out(len(rows), fraction, groups, generator)
        if self.verbose:
            shape, d = " x ".join(map(str, rows.row_shape)), self.n_components_
            print(f"{len(rows)} rows of {shape}, {d} components, device {self.device_}")
        if budget.max_steps != 0:
            auto = window_view if rows.is_windows else table_view
            view = auto if self.views == "auto" else self.views
            plan = Plan(budget, seed, self.device_, self.alignment, self.verbose)
            training, index = train_on(
                self.module_, rows, index, held_out, view, Z_NOISE, plan
            )
            self.history_, self.stopped_by_ = training.history, training.stopped_by
        else:
            self.history_, self.stopped_by_ = pd.DataFrame(), "max_steps"
        self.n_steps_ = budget.n_steps
        self._describe(rows, index[: summary_rows(rows.row_shape)], generator)
        self.fit_seconds_ = budget.seconds

    def _describe(self, rows, index, generator):
        """Fix the principal axes and measure the model's health."""
        fit_axes(self.module_, rows, index)
        self.health_ = health(self.module_, rows, index, generator)
        if self.n_steps_:
            data_rank = rank_of_data(self.module_, rows, index)
            n_varying = int((self.module_.standardise.spread > 0).sum())
            n_varying *= math.prod(rows.row_shape[1:])  # of windows, time steps
            warn_on_collapse(self.health_, data_rank, len(index), n_varying)

    @property
    def _n_features_out(self):
        return self.n_components_

    def __setstate__(self, state):
        super().__setstate__(state)
        if "module_" in state:
            try:
                self.device_ = resolve_device(self.device)
            except ValueError:  # trained on a device that is not here
                self.device_ = "cpu"
            place(self.module_, self.device_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
