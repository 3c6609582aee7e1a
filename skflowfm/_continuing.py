"""Going on with a fitted model, on windows that may be longer or shorter."""

import copy
import math
import os
import warnings

import torch
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from ._building import wake_constants
from ._checks import check_groups, outside
from ._generation import device_of
from ._validation import Rows, check_rows
from .nets.length import LARGEST_RATIO, at_length
from .persistence import load

SEEN = "row_shape_in_", "n_features_in_", "feature_names_in_"


def fitted_model(given, kind, name):
    """Return the fitted ``kind`` that a parameter stands for.

    Parameters
    ----------
    given : fitted estimator, FrozenEstimator of one, or path
        What the user passed.
    kind : type
        What it has to be.
    name : str
        Of the parameter, for the error.

    Raises
    ------
    TypeError
        For anything else.
    NotFittedError
        If it is not fitted.
    """
    is_path = isinstance(given, (str, os.PathLike))
    model = load(given) if is_path else given
    if isinstance(model, FrozenEstimator):
        model = model.estimator
    if not isinstance(model, kind):
        way_out = ""
        if hasattr(model, "transformer_"):
            own_file = ", loaded with skflowfm.load and saved by itself"
            way_out = f" Give its transformer_{own_file if is_path else ''}."
        raise TypeError(
            f"{given if is_path else name} must hold a {kind.__name__}, got an object "
            f"of type {type(model).__name__}.{way_out}"
        )
    check_is_fitted(model, ["module_", "health_"])
    return model


def check_same_model(estimator, start) -> None:
    """Raise if the parameters of ``estimator`` ask for another model than ``start``."""
    n_components = start.n_components_
    if estimator.n_components not in (None, n_components):
        raise ValueError(
            f"n_components must be None or the {n_components} of the model that is to "
            f"go on learning, got n_components={estimator.n_components}. Change it, or "
            "fit anew (without init, warm_start=False)."
        )
    for name in ("encoder", "velocity_field"):
        own, fitted = getattr(estimator, name), getattr(start.module_, name)
        if own is not None and repr(own) != repr(fitted):
            raise ValueError(
                f"{name} must be None or like that of the fitted model, a "
                f"{type(fitted).__name__}, got {own!r}. Training goes on with that "
                "model's own."
            )


def copy_for(module, rows, few=False):
    """Return a copy that can learn from ``rows``; what breaks off spoils nothing."""
    module = copy.deepcopy(module)
    wake_constants(module, rows, few)
    return module


def take_over(estimator, start, X, groups, seed, rate) -> Rows:
    """Give ``estimator`` the model of ``start``, for rows like those of ``X``.

    Nothing is changed where something is refused.

    Parameters
    ----------
    estimator : FlowFMTransformer
        Gets ``module_``, ``n_components_`` and what ``fit`` remembers of X; its module
        is a copy, so that a training which is interrupted spoils nothing.
    start : FlowFMTransformer
        Fitted.
    X : array-like
        Rows of the same kind. Windows may have another number of time steps.
    groups : array-like or None
        As in ``fit``; checked here.
    seed : int
        Of the fit; becomes ``seed_`` where the model is another one's.
    rate : float or None
        Sampling rate of the windows in Hz, if known.

    Returns
    -------
    rows : Rows
        X, checked.

    Raises
    ------
    ValueError
        If the rows are of another kind, or the parameters ask for another model.
    """
    check_same_model(estimator, start)
    known = getattr(start, "sampling_rate_", None)
    if None not in (rate, known) and not math.isclose(rate, known, rel_tol=1e-3):
        raise ValueError(
            f"sampling_rate must be {known:g} Hz, that of the model which fit goes on "
            f"with, got {rate:g}. Bring the windows there with "
            "skflowfm.datasets.resample_windows, and give that rate."
        )
    rows = check_rows(start, X, reset=False, min_rows=2, any_length=True)
    check_groups(groups, len(rows))
    if start.row_shape_in_ != rows.row_shape:
        module = module_at(start.module_, start.row_shape_in_, rows.row_shape)
    else:
        module = start.module_
    if rate is None and known is not None:
        warn_of_rate(f"a model of windows at {known:g} Hz", f"one of {known:g} Hz")
    elif known is None and start.row_shape_in_ != rows.row_shape:
        warn_of_rate(
            f"windows of {rows.row_shape[1]} time steps where the model was fitted on "
            f"{start.row_shape_in_[1]}",
            "the same",
        )
    seen = {name: getattr(start, name) for name in SEEN if hasattr(start, name)}
    for name in SEEN:
        vars(estimator).pop(name, None)
    vars(estimator).update(seen, row_shape_in_=rows.row_shape)
    estimator.module_ = copy_for(module, rows)
    estimator.n_components_ = start.n_components_
    estimator.seed_ = start.seed_ if start is estimator else seed
    estimator.sampling_rate_ = rate if known is None else known
    return rows


def module_at(module, old, new):
    """Return a copy of a joint model for windows of another length, or say why not."""
    first = getattr(module.stem, "n_reference", old[1])
    if not first / LARGEST_RATIO <= new[1] <= first * LARGEST_RATIO:
        raise ValueError(
            f"X must have windows of {-(-first // LARGEST_RATIO)} to "
            f"{first * LARGEST_RATIO} time steps to go on with a model that was first "
            f"fitted on {first}, got {new[1]}. Cut windows of about that length "
            "(skflowfm.datasets.sliding_windows), or fit anew."
        )
    module = at_length(module, new)
    with torch.inference_mode():
        x = torch.zeros(2, *new, device=device_of(module))
        t, coordinates = x.new_zeros(2), module.coordinates(x)
        reason = None
        try:  # an encoder or velocity field of the user's own may do anything
            z = module.encode(module.stem(x))
            fits = module.velocity_field(coordinates, t, z).shape == coordinates.shape
        except Exception as error:
            fits, reason = False, error
    if not fits:
        raise ValueError(
            f"X must have windows of {old[1]} time steps as in fit, got {new[1]}: the "
            "encoder or velocity field does not take them. Fit anew, or give one that "
            "takes any length."
        ) from reason
    return module


def warn_of_rate(situation, rate):
    """Say which sampling rate the windows are taken to have."""
    warnings.warn(
        f"fit goes on with {situation}, and takes the sampling rate of X for {rate}. "
        "If it is another one, bring the windows there with "
        "skflowfm.datasets.resample_windows. Tell both fits their sampling_rate, and "
        "it is compared.",
        stacklevel=outside(),
    )
