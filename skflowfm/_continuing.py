"""Going on with a fitted model, on windows that may be longer or shorter."""

import copy
import os
import warnings

import torch
from sklearn.utils.validation import check_is_fitted

from ._generation import device_of
from ._validation import Rows, check_rows
from .nets.length import at_length
from .persistence import load

LARGEST_RATIO = 2
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
    model = load(given) if is_path else getattr(given, "estimator", given)
    if not isinstance(model, kind):
        way_out = (
            " Load it with skflowfm.load, and save its transformer_ by itself."
            if is_path
            else ""
        )
        raise TypeError(
            f"{given if is_path else name} must hold a {kind.__name__}, got a "
            f"{type(model).__name__}.{way_out}"
        )
    check_is_fitted(model)
    return model


def take_over(estimator, start, X) -> Rows:
    """Give ``estimator`` the model of ``start``, for rows like those of ``X``.

    Parameters
    ----------
    estimator : FlowFMTransformer
        Gets ``module_``, ``n_components_`` and what ``fit`` remembers of X; its module
        is a copy unless it is ``start`` itself.
    start : FlowFMTransformer
        Fitted.
    X : array-like
        Rows of the same kind. Windows may have another number of time steps.

    Returns
    -------
    rows : Rows
        X, checked.

    Raises
    ------
    ValueError
        If the rows are of another kind, or the parameters ask for another model.
    """
    n_components, module = start.n_components_, start.module_
    if estimator.n_components not in (None, n_components):
        raise ValueError(
            f"n_components must be None or the {n_components} of the model that fit "
            f"goes on with, got n_components={estimator.n_components}. Change it, or "
            "fit anew (without init, warm_start=False)."
        )
    for name in ("encoder", "velocity_field"):
        own = getattr(estimator, name)
        if own is not None and type(own) is not type(getattr(module, name)):
            raise ValueError(
                f"{name} must be None or of the kind that the fitted model has, "
                f"{type(getattr(module, name)).__name__}, got {own!r}. fit goes on "
                "with that model's own."
            )
    rows = check_rows(start, X, reset=False, min_rows=2, any_length=True)
    old, new = start.row_shape_in_, rows.row_shape
    if old != new:
        module = module_at(module, old, new)
    elif start is not estimator:
        module = copy.deepcopy(module)
    seen = {name: getattr(start, name) for name in SEEN if hasattr(start, name)}
    for name in SEEN:
        vars(estimator).pop(name, None)
    vars(estimator).update(seen, row_shape_in_=new)
    estimator.module_, estimator.n_components_ = module, n_components
    return rows


def module_at(module, old, new):
    """Return a copy of a joint model for windows of another length, or say why not."""
    if not old[1] / LARGEST_RATIO <= new[1] <= old[1] * LARGEST_RATIO:
        raise ValueError(
            f"X must have windows of {-(-old[1] // LARGEST_RATIO)} to "
            f"{old[1] * LARGEST_RATIO} time steps to go on with a model of windows of "
            f"{old[1]}, got {new[1]}. Cut windows of about that length "
            "(skflowfm.datasets.sliding_windows), or fit anew."
        )
    module = at_length(module, new)
    with torch.inference_mode():
        x = torch.zeros(2, *new, device=device_of(module))
        t, coordinates = x.new_zeros(2), module.coordinates(x)
        try:
            z = module.encode(module.stem(x))
            fits = module.velocity_field(coordinates, t, z).shape == coordinates.shape
        except RuntimeError:
            fits = False
    if not fits:
        raise ValueError(
            f"X must have windows of {old[1]} time steps, which is all that the "
            f"encoder or velocity field given to the first fit takes, got {new[1]}."
        )
    warnings.warn(
        f"fit goes on with windows of {new[1]} time steps where the model was fitted "
        f"on {old[1]}, and takes them for {'longer' if new > old else 'shorter'} ones "
        "of the same sampling rate. If the rate is another one, bring it to the fitted "
        "one with skflowfm.datasets.resample_windows.",
        stacklevel=4,
    )
    return module
