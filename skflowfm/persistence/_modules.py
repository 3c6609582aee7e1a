"""Torch modules as a name and constructor arguments, and back.

Only modules listed in ``KINDS`` are built from a file. A module of the user's own is
named in the file, and whoever loads it passes an instance.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._finetuning import LogisticHead, RegressionHead
from ..nets import (
    ConvEncoder,
    FeatureEncoder,
    JointModel,
    PrincipalComponents,
    Stem,
    TableStem,
    VectorVelocityField,
    WindowVelocityField,
)
from ..nets.coordinates import Standardise, WindowCoordinates
from ..nets.density import RepresentationFlow
from ..nets.joint import Projector
from ..nets.layers import ZeroLinear
from ..nets.length import LARGEST_RATIO
from ..nets.scores import TableCoordinates
from ..nets.stem import n_signals
from ._file import ModelFileError
from ._values import Unknown

OWN = "encoder", "velocity_field"  # what may be a module of the user's own
MAX_SIZE, MAX_BLOCKS = 2**31, 1000


class Blank(NamedTuple):
    """A tensor argument of which only the shape counts: its values come later."""

    shape: tuple


class Kind(NamedTuple):
    """How to build a module again: its class and its constructor's arguments.

    ``arguments(module)`` returns numbers, lists and modules.
    """

    cls: type
    arguments: Callable


def attributes(*names):
    """Return a function from a module to these attributes of it."""
    return lambda module: {name: getattr(module, name) for name in names}


def of_convolutions(m: ConvEncoder):
    widths = [stage[0].out_channels for stage in m.stages]
    return {
        "n_channels": m.project.in_features // 3 - sum(widths),
        "n_components": m.project.out_features,
        "widths": widths,
        "kernel_size": m.stages[0][1].conv_1.kernel_size[0] if widths else 5,
    }


def of_window_field(m: WindowVelocityField):
    return {
        "n_channels": m.fold.in_channels,
        "n_timesteps": m.n_timesteps,
        "n_components": m.n_components,
        "width": m.fold.out_channels,
        "n_blocks": len(m.blocks),
        "patch": m.patch,
        "n_seen": m.n_seen,
    }


def of_vector_field(m: VectorVelocityField):
    return {
        "n_features": m.input.in_features,
        "n_condition": m.n_condition,
        "n_seen": m.n_seen,
        "width": m.input.out_features,
        "n_blocks": len(m.blocks),
    }


def of_coordinates(m: WindowCoordinates):
    return {"n_channels": len(m.centre), "n_timesteps": len(m.weight) - 2}


def of_table_coordinates(m: TableCoordinates):
    return {"n_columns": m.value.shape[1], "blocks": [list(b) for b in m.blocks]}


def of_stem(m: Stem):
    n_channels, n_timesteps = m.row_shape
    return {
        "n_channels": n_channels,
        "n_timesteps": n_timesteps,
        "n_features": m.n_features,
        "n_reference": m.n_reference,
    }


def of_table_stem(m: TableStem):
    return {"n_columns": m.blocks[0].n_features, "n_features": m.n_features}


def of_components(m: PrincipalComponents):
    return {"n_inputs": len(m.mean), "n_features": m.n_features}


def of_scaling(m: Standardise):
    return {name: Blank(m.mean.shape) for name in ("mean", "scale", "spread")}


def of_density(m: RepresentationFlow):
    return {
        "n_components": m.velocity_field.input.in_features,
        "n_classes": m.n_classes,
    }


def of_projector(m: Projector):
    return {
        "n_learned": m[0].in_features,
        "width": m[0].out_features,
        "n_projected": m[2].out_features,
    }


def of_linear(m: nn.Linear):
    return {**attributes("in_features", "out_features")(m), "bias": m.bias is not None}


def of_convolution(m: nn.Conv1d):
    names = "in_channels", "out_channels", "kernel_size", "stride", "padding"
    return {
        **attributes(*names, "dilation", "groups", "padding_mode")(m),
        "bias": m.bias is not None,
    }


def of_norm(m: nn.LayerNorm):
    names = "normalized_shape", "eps", "elementwise_affine"
    return {**attributes(*names)(m), "bias": m.bias is not None}


def sequence(**children):
    """Build a Sequential whose parts have these names."""
    return nn.Sequential(OrderedDict(children))


PARTS_OF_MODEL = "standardise", "coordinates", "stem", "encoder", "velocity_field"
KINDS = {
    "ConvEncoder": Kind(ConvEncoder, of_convolutions),
    "FeatureEncoder": Kind(
        FeatureEncoder, attributes("n_features", "n_components", "width", "least_fixed")
    ),
    "JointModel": Kind(
        JointModel, attributes(*PARTS_OF_MODEL, "projector", "n_components")
    ),
    "PrincipalComponents": Kind(PrincipalComponents, of_components),
    "Projector": Kind(Projector, of_projector),
    "RepresentationFlow": Kind(RepresentationFlow, of_density),
    "Standardise": Kind(Standardise, of_scaling),
    "Stem": Kind(Stem, of_stem),
    "TableStem": Kind(TableStem, of_table_stem),
    "TableCoordinates": Kind(TableCoordinates, of_table_coordinates),
    "VectorVelocityField": Kind(VectorVelocityField, of_vector_field),
    "WindowCoordinates": Kind(WindowCoordinates, of_coordinates),
    "WindowVelocityField": Kind(WindowVelocityField, of_window_field),
    "ZeroLinear": Kind(ZeroLinear, of_linear),
    "LogisticHead": Kind(LogisticHead, of_linear),
    "RegressionHead": Kind(
        RegressionHead,
        lambda m: {"n_components": m.in_features, "n_targets": m.out_features},
    ),
    "Conv1d": Kind(nn.Conv1d, of_convolution),
    "Flatten": Kind(nn.Flatten, attributes("start_dim", "end_dim")),
    "GELU": Kind(nn.GELU, attributes("approximate")),
    "Identity": Kind(nn.Identity, attributes()),
    "LayerNorm": Kind(nn.LayerNorm, of_norm),
    "Linear": Kind(nn.Linear, of_linear),
    "ReLU": Kind(nn.ReLU, attributes()),
    "Sequential": Kind(nn.Sequential, lambda m: dict(m.named_children())),
    "SiLU": Kind(nn.SiLU, attributes()),
    "Tanh": Kind(nn.Tanh, attributes()),
}
NAMES = {kind.cls: name for name, kind in KINDS.items()}


def structure_of(module: nn.Module, slot: str = "") -> dict:
    """Return what a module is made of, as JSON, without its weights.

    Parameters
    ----------
    module : nn.Module
        Of a kind in ``KINDS``, or of the user's own.
    slot : str, default=""
        The argument that the module was passed as.

    Raises
    ------
    Unknown
        If the module, or a part of it, is of the user's own and in no slot for such.
    """
    try:
        return known_structure(module)
    except Unknown:
        if slot not in OWN:
            raise
        return {"given": slot, "class": type(module).__name__}


def is_complete(spec: dict) -> bool:
    """Return whether nothing in a structure, or around it, is of the user's own."""
    parts = [part for part in spec.values() if isinstance(part, dict)]
    return "given" not in spec and all(map(is_complete, parts))


def known_structure(module) -> dict:
    """Return the structure of a module of a kind in ``KINDS``."""
    name = NAMES.get(type(module))
    if name is None:
        raise Unknown(f"a module of type {type(module).__name__}")
    arguments = {}
    for key, value in KINDS[name].arguments(module).items():
        if isinstance(value, nn.Module):
            value = structure_of(value, key if name == "JointModel" else "")
        elif isinstance(value, Blank):
            value = {"shape": list(value.shape)}
        arguments[key] = list(value) if isinstance(value, tuple) else value
    structure = {"kind": name, "arguments": arguments}
    if name != "JointModel" and not alike(module, build(structure, None)):
        raise Unknown(f"a module {name} whose layers were changed or have hooks")
    return structure


CHANGES = (
    "forward",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def alike(a: nn.Module, b: nn.Module) -> bool:
    """Return whether two modules have the same layers and tensors of the same kind.

    What hooks, or a ``forward`` of its own, do to a layer is not seen in either, so
    there must be none.
    """
    changed = any(vars(m).get(name) for m in a.modules() for name in CHANGES)
    return not changed and repr(a) == repr(b) and layout(a) == layout(b)


def layout_of(tensors: dict) -> dict:
    """Return the shape and type of each tensor."""
    return {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}


def layout(module) -> dict:
    """Return the shape and type of each of a module's tensors."""
    return layout_of(module.state_dict())


def build(structure: dict, given: Callable, tensors=None, prefix="") -> nn.Module:
    """Return a module of this structure; its weights are still to be loaded.

    Most modules are built without memory for their weights and without draws. Those
    that compute in their constructor need memory, and are compared with the tensors
    first, lest a wrong number asks for more than there is.

    Parameters
    ----------
    structure : dict
        As ``structure_of`` returns it.
    given : callable
        ``given(slot, name of a class)`` returns the user's own module.
    tensors : dict, default=None
        The weights. None trusts the structure.
    prefix : str, default=""
        What the names of this module's weights begin with.
    """
    if "given" in structure:
        return copy.deepcopy(given(structure["given"], structure["class"]))
    name, arguments = structure["kind"], {}
    for key, value in structure["arguments"].items():
        if isinstance(value, dict):
            parts = f"{prefix}{key}."
            value = (
                blank(value)
                if "shape" in value
                else build(value, given, tensors, parts)
            )
        check_size(key, value)
        arguments[key] = value
    cls = sequence if name == "Sequential" else KINDS[name].cls
    if name in COMPUTING:
        check_tensor(COMPUTING[name](arguments), tensors, prefix)
        return cls(**arguments)
    with torch.device("meta"):
        return cls(**arguments)


def stem_shapes(arguments) -> dict:
    """Return shapes that say how much memory a stem takes; None is any size."""
    n_timesteps = arguments["n_timesteps"]
    n_reference = arguments.get("n_reference", n_timesteps)
    if not (
        isinstance(n_reference, int)
        and 1 <= n_reference
        and n_reference / LARGEST_RATIO <= n_timesteps <= n_reference * LARGEST_RATIO
    ):
        raise ModelFileError(
            f"describes no model: expected n_timesteps within {LARGEST_RATIO} times "
            f"n_reference, got {n_timesteps} and {n_reference}."
        )
    n_bins = n_reference // 2
    return {
        "blocks.0.channels": (None, None, n_signals(arguments["n_channels"])),
        "blocks.2.band": (n_bins, min(16, n_bins)),
        "components.axes": (None, arguments["n_features"]),
    }


def model_shapes(arguments) -> dict:
    """Return the shape that says how much memory a joint model's own axes take.

    Raises if its parts are for windows of different lengths.
    """
    parts = [arguments[name] for name in ("coordinates", "stem", "velocity_field")]
    lengths = {length for length in map(length_of, parts) if length is not None}
    if len(lengths) > 1:
        raise ModelFileError(
            f"describes no model: expected parts for windows of one length, got parts "
            f"for {sorted(lengths)} time steps."
        )
    return {"axes.axes": (arguments["n_components"],) * 2}


def length_of(part) -> int | None:
    """Return the number of time steps that a part of a model is made for, if any."""
    if isinstance(part, WindowCoordinates):
        return len(part.weight) - 2
    if isinstance(part, Stem):
        return part.row_shape[1]
    return part.n_timesteps if isinstance(part, WindowVelocityField) else None


COMPUTING = {"Stem": stem_shapes, "JointModel": model_shapes}


def check_tensor(shapes: dict, tensors, prefix: str) -> None:
    """Raise unless these tensors are there, and hold numbers, in these shapes."""
    for name, expected in shapes.items() if tensors is not None else ():
        got = tensors[prefix + name].shape
        same = len(got) == len(expected) and all(
            size in (None, n) for size, n in zip(expected, got, strict=True)
        )
        if not same or (0 in got and any(expected)):
            raise ModelFileError(
                f"describes no model: expected {name} of shape {expected}, got "
                f"{tuple(got)}."
            )


def blank(spec) -> Tensor:
    """Return a tensor of a shape, without memory for values."""
    return torch.empty(spec["shape"], device="meta")


def check_size(name, value) -> None:
    """Raise on numbers that no model has, before something is built of them."""
    most = MAX_BLOCKS if name == "n_blocks" else MAX_SIZE
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, int) and not -1 <= number <= most:
            raise ModelFileError(
                f"describes no model: expected {name} to be at most {most}, got "
                f"{number}."
            )


def load_weights(module: nn.Module, tensors: dict) -> None:
    """Put tensors in the place of a module's weights, if they are those it needs."""
    expected, got = layout(module), layout_of(tensors)
    for name in sorted(expected.keys() | got.keys()):
        if expected.get(name) != got.get(name):
            raise ModelFileError(
                f"has other tensors than a {type(module).__name__} needs: for {name} "
                f"expected {expected.get(name)}, got {got.get(name)}."
            )
    empty = {name for name, t in module.state_dict().items() if t.is_meta}
    new = {name: tensors[name] for name in empty}
    # those of the user's own modules are filled: what such a module shares stays shared
    filled = {name: t for name, t in tensors.items() if name not in empty}
    module.load_state_dict(new, strict=False, assign=True)
    module.load_state_dict(filled, strict=False)
