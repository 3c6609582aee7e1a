"""A fitted model for windows of another number of time steps.

Nothing in the default model counts time steps but for its sizes: kernels keep their
dilations, shares and moments do not depend on how long a window is, spectra are
interpolated, and the velocity field convolves patches of a fixed length. So the weights
that were learned on ten seconds say something about five.
"""

import copy
from collections.abc import Sequence

from torch import nn

from .coordinates import WindowCoordinates
from .joint import JointModel
from .stem import Stem
from .velocity_field import WindowVelocityField

LARGEST_RATIO = 2  # of the lengths: beyond it features are about something else


def fill(new: nn.Module, old: nn.Module, but=()) -> nn.Module:
    """Return ``new`` with the weights of ``old``, but for some that are its own."""
    kept = {k: v for k, v in old.state_dict().items() if k not in but}
    new.to(next(iter(kept.values())).device).load_state_dict(kept, strict=not but)
    return new


def at_length(model: JointModel, row_shape: Sequence[int]) -> JointModel:
    """Return a copy of a model of windows for windows of another length.

    An encoder or velocity field of the user's own stays as it is.

    Parameters
    ----------
    model : JointModel
        Fitted on windows.
    row_shape : sequence of int
        Its number of channels, and the new number of time steps.
    """
    model = copy.deepcopy(model)
    coordinates = WindowCoordinates(*row_shape)
    model.coordinates = fill(coordinates, model.coordinates, but=["weight"])
    if isinstance(model.stem, Stem):
        old = model.stem
        stem = Stem(*row_shape, old.n_features, n_reference=old.n_reference)
        model.stem = fill(stem, old)
    if isinstance(model.velocity_field, WindowVelocityField):
        field = model.velocity_field
        field.n_timesteps = row_shape[1]
        field.n_patches = -(-row_shape[1] // field.patch)
    return model
