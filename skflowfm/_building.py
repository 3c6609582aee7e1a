"""From data and parameters to an untrained joint model."""

import copy
import math
from functools import partial

import torch
from torch import nn

from ._checks import check_count, check_flag, check_number, check_verbose
from ._device import place, resolve_device
from ._own_modules import check_module, try_encoder, try_velocity_field
from ._sizes import summary_rows
from .nets import (
    FeatureEncoder,
    JointModel,
    PrincipalComponents,
    Stem,
    VectorVelocityField,
    WindowVelocityField,
)
from .nets.coordinates import Standardise, TableCoordinates, WindowCoordinates
from .nets.encoder import LEARNED_SHARE
from .nets.joint import Projector
from .nets.layers import initialise

DEFAULT_COMPONENTS = 256


def check_parameters(estimator):
    """Raise unless the parameters of a FlowFMTransformer can be used here."""
    check_count("n_components", estimator.n_components, low=1)
    check_count("max_steps", estimator.max_steps)
    if estimator.max_time is not None:
        check_number("max_time", estimator.max_time, 0, above=True)
    check_number("alignment", estimator.alignment, 0)
    check_number("validation_fraction", estimator.validation_fraction, 0, 1)
    views = estimator.views
    auto = views is None or (isinstance(views, str) and views == "auto")
    if not (auto or callable(views)):
        raise ValueError(
            "views must be 'auto', None or a callable view(x, generator), got "
            f"views={views!r}."
        )
    for name in ("encoder", "velocity_field"):
        check_module(name, getattr(estimator, name))
    resolve_device(estimator.device)
    check_verbose(estimator.verbose)
    check_flag("warm_start", estimator.warm_start)


def check_rate(sampling_rate):
    """Return a sampling rate as a float, None as it is, or raise."""
    if sampling_rate is None:
        return None
    check_number("sampling_rate", sampling_rate, 0, above=True)
    return float(sampling_rate)


def check_n_components(estimator, row_shape):
    """Raise if there are to be more components than the default encoder can have."""
    n_components, most = estimator.n_components, most_components(row_shape)
    if estimator.encoder is None and n_components is not None and n_components > most:
        raise ValueError(
            f"n_components must be at most {most} for a row of shape {row_shape} (its "
            f"{math.prod(row_shape)} values and a third more), got "
            f"n_components={n_components}. Lower it, or leave it at None."
        )


def most_components(row_shape) -> int:
    """Return the values of a row and a third more: a quarter of z is learned."""
    n_values = math.prod(row_shape)
    return n_values + -(-n_values // (LEARNED_SHARE - 1))


def table_stem(some) -> PrincipalComponents:
    """Return the stem of a table, to be fitted."""
    n_features = some.shape[1]
    return PrincipalComponents(n_features, min(n_features, DEFAULT_COMPONENTS))


def build_model(estimator, rows, some, generator):
    """Return the untrained joint model, scaled to ``rows``.

    Parameters
    ----------
    estimator : FlowFMTransformer
        Gives ``n_components``, ``encoder`` and ``velocity_field``.
    rows : Rows
        The data, for the scaling.
    some : Tensor of shape (n, ...)
        Some of its rows, for the coordinates and a dry run.
    generator : torch.Generator
        Draws the initial weights.
    """
    standardise = Standardise(*rows.moments())
    some = standardise(some)
    coordinates = (
        WindowCoordinates(*rows.row_shape) if rows.is_windows else TableCoordinates()
    )
    coordinates.fit(some)
    n_components = estimator.n_components
    stem, encoder = nn.Identity(), copy.deepcopy(estimator.encoder)
    if encoder is not None:
        encoder = place(encoder, "cpu")
        n_components = try_encoder(encoder, some, n_components)
    elif n_components is None:
        n_components = min(DEFAULT_COMPONENTS, most_components(rows.row_shape))
    if encoder is None:
        stem = Stem(*rows.row_shape) if rows.is_windows else table_stem(some)
        how = (generator, standardise) if rows.is_windows else (generator,)
        stem.fit(some, *how)
        kind = partial(FeatureEncoder, continues=not rows.is_windows)
        encoder = on_meta(kind, generator, stem.n_features, n_components)
    velocity_field = copy.deepcopy(estimator.velocity_field)
    if velocity_field is not None:
        place(velocity_field, "cpu")
    else:
        kind = VectorVelocityField
        if rows.is_windows:
            whole = None if estimator.encoder is None else n_components
            kind = partial(WindowVelocityField, n_seen=whole)
        velocity_field = on_meta(kind, generator, *rows.row_shape, n_components)
    n_learned = getattr(encoder, "n_learned", n_components)
    projector = on_meta(Projector, generator, n_learned)
    model = JointModel(
        standardise,
        coordinates,
        stem,
        encoder,
        velocity_field,
        projector,
        n_components,
    )
    if estimator.velocity_field is not None:
        try_velocity_field(model, some)
    return model


def on_meta(kind, generator, *sizes):
    """Build a module and draw its weights without touching torch's global generator."""
    with torch.device("meta"):
        module = kind(*sizes)
    module.to_empty(device="cpu")
    initialise(module, generator)
    return module


def wake_constants(model, rows, few):
    """Let vary what was constant so far, where it does in these rows; in place.

    Parameters
    ----------
    model : JointModel
        Trained on other rows.
    rows : Rows
        Those to go on with.
    few : bool
        Whether more rows will follow, so that these do not say how much it varies.
    """
    if model.standardise.spread.all():
        return
    before = copy.deepcopy(model.standardise)
    mean, _, spread = rows.moments()
    awake = model.standardise.wake(mean, spread, few)
    if not awake.any():
        return
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    some = rows[order[: summary_rows(rows.row_shape)]].to(awake.device)
    model.coordinates.refit(model.standardise(some).cpu(), awake)
    magnitude = getattr(model.stem, "magnitude", None)
    if magnitude is not None:
        magnitude.rescale(before, model.standardise)
