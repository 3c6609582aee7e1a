"""From data and parameters to an untrained joint model."""

import copy

import numpy as np
import torch
from torch import nn

from .nets import (
    FeatureEncoder,
    JointModel,
    Stem,
    TableEncoder,
    VectorVelocityField,
    WindowVelocityField,
)
from .nets.coordinates import Standardise, TableCoordinates, WindowCoordinates
from .nets.joint import Projector
from .nets.layers import initialise

DEFAULT_COMPONENTS = 256
STEM_ROWS = 2000


def check_module(name, module):
    """Raise unless ``module`` is None or an nn.Module that can be trained here."""
    if module is None:
        return
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"{name} must be an instance of torch.nn.Module or None, got {module!r}."
        )
    for layer in module.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p > 0:
            raise ValueError(
                f"{name} must not contain dropout, got {layer}: it draws from torch's "
                "global generator, which fit never touches. Set its p to 0."
            )


def check_n_components(n_components, row_shape):
    """Raise if there are to be more components than a row has values."""
    n_values = int(np.prod(row_shape))
    if n_components is not None and n_components > n_values:
        raise ValueError(
            f"n_components must be at most the {n_values} values of a row of shape "
            f"{row_shape}, got n_components={n_components}. Lower it, or leave it at "
            "None."
        )


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
        n_components = dry_run(encoder, some[:2], n_components)
    elif n_components is None:
        n_components = min(DEFAULT_COMPONENTS, some[0].numel())
    if encoder is None and rows.is_windows:
        stem = Stem(*rows.row_shape)
        stem.fit(some[:STEM_ROWS], generator)
        encoder = on_meta(FeatureEncoder, generator, stem.n_features, n_components)
    elif encoder is None:
        encoder = on_meta(TableEncoder, generator, rows.row_shape[0], n_components)
    velocity_field = copy.deepcopy(estimator.velocity_field)
    if velocity_field is None:
        kind = WindowVelocityField if rows.is_windows else VectorVelocityField
        velocity_field = on_meta(kind, generator, *rows.row_shape, n_components)
    projector = on_meta(Projector, generator, n_components)
    return JointModel(
        standardise,
        coordinates,
        stem,
        encoder,
        velocity_field,
        projector,
        n_components,
    )


def on_meta(kind, generator, *sizes):
    """Build a module and draw its weights without touching torch's global generator."""
    with torch.device("meta"):
        module = kind(*sizes)
    module.to_empty(device="cpu")
    initialise(module, generator)
    return module


def dry_run(encoder, x, n_components):
    """Return the size of what a given encoder returns, or raise if it does not fit."""
    with torch.inference_mode():
        z = encoder(x)
    if z.ndim != 2 or len(z) != len(x) or (n_components or z.shape[1]) != z.shape[1]:
        raise ValueError(
            f"encoder must map rows of shape {tuple(x.shape[1:])} to "
            f"({n_components or 'n_components'},), got {tuple(z.shape[1:])}. "
            "Change its last layer or n_components."
        )
    return z.shape[1]
