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
    Stem,
    TableStem,
    VectorVelocityField,
    WindowVelocityField,
)
from .nets.coordinates import Standardise, WindowCoordinates
from .nets.encoder import LEARNED_SHARE
from .nets.joint import Projector
from .nets.layers import initialise
from .nets.scores import TableCoordinates

DEFAULT_COMPONENTS, CURVED_COMPONENTS = 256, 64
FIXED = 16  # leading components of a table that nothing learned takes the place of


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
            f"n_components must be at most {most} for a row of shape {row_shape}, got "
            f"n_components={n_components}. Lower it, or leave it at None."
        )


def and_a_third(n: int) -> int:
    """Return how many components there are with ``n`` fixed ones, rounded up."""
    return n + -(-n // (LEARNED_SHARE - 1))


def most_components(row_shape) -> int:
    """Return the values of a row, of a table at least 256, and a third more."""
    least = DEFAULT_COMPONENTS if len(row_shape) == 1 else 0
    return and_a_third(max(math.prod(row_shape), least))


def default_components(row_shape) -> int:
    """Return the values of a row and a third more, of a table and 64, at most 256.

    A window says no more than its values do; what is curved in a table's columns takes
    components of its own.
    """
    curved = CURVED_COMPONENTS if len(row_shape) == 1 else 0
    return min(DEFAULT_COMPONENTS, and_a_third(math.prod(row_shape)) + curved)


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
    as_given, some = some, standardise(some)
    if rows.is_windows:
        coordinates = WindowCoordinates(*rows.row_shape)
        coordinates.fit(some)
    else:
        coordinates = TableCoordinates(*rows.row_shape)
        coordinates.fit(some, as_given)
    n_components = estimator.n_components
    stem, encoder = nn.Identity(), copy.deepcopy(estimator.encoder)
    if encoder is not None:
        encoder = place(encoder, "cpu")
        n_components = try_encoder(encoder, some, n_components)
    elif n_components is None:
        n_components = default_components(rows.row_shape)
    if encoder is None:
        stem = Stem(*rows.row_shape) if rows.is_windows else TableStem(*rows.row_shape)
        how = (generator, standardise) if rows.is_windows else (generator,)
        stem.fit(some, *how)
        kind = partial(FeatureEncoder, least_fixed=0 if rows.is_windows else FIXED)
        encoder = on_meta(kind, generator, stem.n_features, n_components)
    n_learned = getattr(encoder, "n_learned", n_components)
    velocity_field = copy.deepcopy(estimator.velocity_field)
    if velocity_field is not None:
        place(velocity_field, "cpu")
    else:
        seen = n_components if estimator.encoder is not None else None
        kind = partial(WindowVelocityField, n_seen=seen)
        if not rows.is_windows:
            seen = seen or max(n_learned, *rows.row_shape)
            kind = partial(VectorVelocityField, n_seen=seen)
        velocity_field = on_meta(kind, generator, *rows.row_shape, n_components)
    projector = on_meta(Projector, generator, max(n_learned, 1))
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
