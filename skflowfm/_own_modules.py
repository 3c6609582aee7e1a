"""What a user's own encoder, velocity field or view must do, tried on a few rows.

Nothing is left to be found out in training: a wrong shape may broadcast, and what
writes to its input changes the rows that the loss is about.
"""

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from .nets.views import table_view, window_view

DROPOUT = nn.modules.dropout._DropoutNd
BATCH_NORM = nn.modules.batchnorm._BatchNorm


def drops(layer) -> bool:
    """Return whether a layer of torch drops values in training."""
    if isinstance(layer, DROPOUT):
        return layer.p > 0
    if isinstance(layer, nn.RNNBase):
        return layer.dropout > 0 and layer.num_layers > 1
    return isinstance(layer, nn.MultiheadAttention) and layer.dropout > 0


def check_module(name, module):
    """Raise unless ``module`` is None or an nn.Module that can be trained here."""
    if module is None:
        return
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"{name} must be an instance of torch.nn.Module or None, got {module!r}."
        )
    if any(is_lazy(part) for part in module.parameters()):
        raise ValueError(
            f"{name} must have weights, got layers that make theirs at the first row "
            "they see. Pass a row through it before."
        )
    for layer in module.modules():
        if drops(layer):
            raise ValueError(
                f"{name} must not contain dropout, got {layer}: it draws from torch's "
                "global generator, which fit never touches. Set it to 0."
            )
        if isinstance(layer, BATCH_NORM):
            raise ValueError(
                f"{name} must treat every row by itself, got {layer}: in training it "
                "mixes the rows of a batch. Use GroupNorm or LayerNorm, or fold it "
                "into the layer before (torch.nn.utils.fusion)."
            )
    if any(part.is_meta for part in module.parameters()):
        raise ValueError(
            f"{name} must have weights, got some on the device 'meta', which holds "
            "none. Make it outside of torch.device('meta')."
        )


def three_of(x):
    """Return three rows of a few, one of them twice where there are two."""
    return x[[k % len(x) for k in range(3)]]


def tried(name, call, *inputs):
    """Return what a user's ``call`` makes of a few rows, or say what is wrong with it.

    Parameters
    ----------
    name : str
        What errors call it.
    call : callable
        The module or view.
    *inputs : Tensor
        What it is given; the first one has the rows.
    """
    shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
    written = [x._version for x in inputs]
    try:
        with torch.no_grad():
            out = call(*inputs)
    except Exception as error:
        raise ValueError(
            f"{name} failed on float32 tensors of shape {shapes}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if [x._version for x in inputs] != written:
        raise ValueError(
            f"{name} must not write to what it is given, as x += ... and modules with "
            "inplace=True do. Return a new tensor."
        )
    if not isinstance(out, torch.Tensor) or out.dtype != torch.float32:
        got = out.dtype if isinstance(out, torch.Tensor) else type(out).__name__
        raise TypeError(f"{name} must return a float32 tensor, got {got}.")
    if not len(out.shape) or len(out) != len(inputs[0]):
        raise ValueError(
            f"{name} must return one row for each that it is given, got shape "
            f"{tuple(out.shape)} for {shapes}."
        )
    if not torch.isfinite(out).all():
        raise ValueError(f"{name} must return finite numbers, got NaN or infinity.")
    return out


def try_encoder(encoder, x, n_components):
    """Return the size of what a given encoder returns, or raise if it does not fit."""
    z = tried("encoder", encoder, three_of(x))
    n = n_components or z.shape[-1]
    if z.ndim != 2 or n != z.shape[1] or not n:
        raise ValueError(
            f"encoder must map rows of shape {tuple(x.shape[1:])} to "
            f"({n_components or 'n_components'},), got {tuple(z.shape[1:])}. "
            "Change its last layer or n_components."
        )
    return n


def try_velocity_field(model, x):
    """Raise unless the velocity field of ``model`` returns what it is to be."""
    with torch.no_grad():
        x = three_of(x)
        x_t, z = model.coordinates(x), model.encode(model.stem(x))
    v = tried("velocity_field", model.velocity_field, x_t, x_t.new_full((3,), 0.5), z)
    if v.shape != x_t.shape:
        raise ValueError(
            "velocity_field must return v(x_t, t, z) of the shape of x_t, "
            f"{tuple(x_t.shape)}, got {tuple(v.shape)}. Rows of windows come with two "
            "more columns, their level and log-scale."
        )


def try_view(view, model, x, generator):
    """Raise unless the encoder can read what a given view makes of a few rows."""
    if view in (None, window_view, table_view):
        return
    seen = tried("views", lambda x: view(x, generator), x)
    if seen.device != x.device:
        raise ValueError(
            f"views must return tensors on the device of x, {x.device}, got "
            f"{seen.device}."
        )
    own_encoder = isinstance(model.stem, nn.Identity)
    if not own_encoder and seen.shape != x.shape:
        raise ValueError(
            f"views must return rows of the shape of x, {tuple(x.shape[1:])}, got "
            f"{tuple(seen.shape[1:])}."
        )
    if own_encoder:
        tried("encoder, on what views returns,", model.encoder, seen)
