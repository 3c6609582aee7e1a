"""Estimators and what they hold as a list of descriptions and tensors, and back.

Each estimator, module or density is described once, after its parts; others refer to it
by its number. So a model that two estimators share is in the file once, and is shared
again after loading. ``KINDS`` lists all that can be built from a file.
"""

import copy
import inspect
import json
import operator
import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn import config_context
from sklearn.frozen import FrozenEstimator
from torch import nn

from .._columns import Columns
from .._density import RepresentationDensity
from ..nets.views import table_view, window_view
from ._file import ModelFileError
from ._modules import build, is_complete, load_weights, structure_of
from ._values import (
    Unknown,
    get_array,
    get_frame,
    get_generator,
    put_array,
    put_dict,
    put_float,
    put_frame,
    put_generator,
    put_scalar,
    tagged,
)

VIEWS = {"table_view": table_view, "window_view": window_view}
FUNCTIONS = "sampling_strategy", "views"  # parameters that may be the user's function
REQUESTS = "_metadata_request"
ROUTED = (
    "fit",
    "fit_resample",
    "partial_fit",
    "predict",
    "predict_proba",
    "score",
    "transform",
)


class Writer:
    """Collects the description of a model and its tensors.

    Attributes
    ----------
    objects : list of dict
        What was described, parts first.
    tensors : dict
        Name to Tensor on the CPU.
    """

    def __init__(self):
        self.objects, self.tensors = [], {}
        self._numbers = {}  # of objects, by their id
        self._kept = []  # else an id might be used again

    def put(self, value, name: str):
        """Return ``value`` as JSON; ``name`` says where it was found."""
        try:
            return self._put(value, name)
        except Unknown as error:
            error.place = error.place or name
            raise

    def _put(self, value, name):
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return put_float(value)
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, torch.device):
            return str(value)
        if isinstance(value, np.generic):
            return put_scalar(value, self.put, name)
        if isinstance(value, np.ndarray):
            return put_array(value, self.put, self.put_tensor, name)
        if isinstance(value, torch.Tensor):
            return {"$tensor": self.put_tensor(value, name)}
        if isinstance(value, pd.DataFrame):
            return put_frame(value, self.put, name)
        if isinstance(value, pd.Series):
            return {"$series": self.put([value.name, value.to_frame()], name)}
        if isinstance(value, dict):
            return put_dict(value, self.put, name)
        if type(value) in (list, tuple):
            parts = [self.put(part, f"{name}.{i}") for i, part in enumerate(value)]
            return parts if type(value) is list else {"$tuple": parts}
        if isinstance(value, (np.random.RandomState, np.random.Generator)):
            return put_generator(value, self.put, name)
        if callable(value) and slot_of(name) in FUNCTIONS:
            return put_function(value, slot_of(name))
        return {"$object": self._put_object(value, name)}

    def put_tensor(self, value, name: str) -> str:
        """Keep the numbers of a tensor or array and return the name they have."""
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(np.array(value, order="C"))
        name, unique, n = name.lstrip("."), name.lstrip("."), 1
        while unique in self.tensors:
            n += 1
            unique = f"{name}~{n}"
        self.tensors[unique] = value.detach().cpu().contiguous().clone()
        return unique

    def _put_object(self, value, name) -> int:
        """Describe an object after its parts and return its number."""
        if id(value) not in self._numbers:
            self._numbers[id(value)] = None
            self._kept.append(value)
            kind = "module" if isinstance(value, nn.Module) else type(value).__name__
            known = KINDS.get(kind)
            if known is None or not (kind == "module" or type(value) is known.cls):
                raise Unknown(f"an object of type {type(value).__name__}")
            self.objects.append({"kind": kind, **known.to_spec(value, self, name)})
            self._numbers[id(value)] = len(self.objects) - 1
        number = self._numbers[id(value)]
        if number is None:
            raise Unknown(f"a {type(value).__name__} that contains itself")
        return number


class Reader:
    """Builds a model from its description and tensors.

    Parameters
    ----------
    tensors : dict
        Name to Tensor.
    supplied : dict
        What the user passes in the place of what a file cannot hold.
    """

    def __init__(self, tensors: dict, supplied: dict):
        self.tensors, self.supplied = tensors, supplied
        self.used = set()
        self._objects = []
        self._tags = {
            "$float": float,
            "$scalar": lambda spec: self.get(spec)[()],
            "$array": lambda spec: get_array(spec, self.get, self.get_tensor),
            "$tensor": self.get_tensor,
            "$frame": lambda spec: get_frame(spec, self.get),
            "$series": self.get_series,
            "$dict": lambda pairs: {self.get(key): self.get(v) for key, v in pairs},
            "$tuple": lambda parts: tuple(map(self.get, parts)),
            "$random": lambda spec: get_generator(spec, self.get),
            "$view": VIEWS.__getitem__,
            "$given": lambda spec: self.given(spec["name"], spec["class"]),
            "$object": self._objects.__getitem__,
        }

    def read(self, objects: list, model):
        """Build all objects, parts first, and return the one that is the model."""
        for spec in objects:
            self._objects.append(KINDS[spec["kind"]].from_spec(spec, self))
        return self.get(model)

    def get_series(self, spec):
        """Return the series that a name and a frame of one column stand for."""
        name, frame = self.get(spec)
        return frame.iloc[:, 0].rename(name)

    def get(self, spec):
        """Return the value that JSON stands for."""
        tag = tagged(spec)
        if tag:
            return self._tags[tag[0]](tag[1])
        if isinstance(spec, dict):
            return {key: self.get(part) for key, part in spec.items()}
        if isinstance(spec, list):
            return [self.get(part) for part in spec]
        return spec

    def get_tensor(self, name: str) -> torch.Tensor:
        """Return a tensor in memory of its own, aligned as torch does it."""
        return self.tensors[name].clone()

    def given(self, name: str, kind: str):
        """Return what the user supplied, or raise and say what the file needs."""
        self.used.add(name)
        if self.supplied[name] is None:
            what = "whose weights are in the file but not its code" * (
                name not in FUNCTIONS
            )
            raise ModelFileError(
                f"was saved with {name}={kind} of your own, {what or 'a function'}: "
                f"pass it, load(path, {name}=...)."
            )
        return self.supplied[name]


def slot_of(name: str) -> str:
    """Return the last part of where a value was found."""
    return name.rpartition(".")[2]


def put_function(function, slot: str):
    """Return the name of a view of ours, or say that the user has to supply it."""
    name = getattr(function, "__name__", type(function).__name__)
    if VIEWS.get(name) is function:
        return {"$view": name}
    return {"$given": {"name": slot, "class": name}}


# ------------------------------------------------------------------ kinds of objects
class Kind(NamedTuple):
    """How to describe and how to build objects of one class.

    ``to_spec(object, writer, name)`` returns a dict for JSON; ``from_spec(spec,
    reader)`` returns the object.
    """

    cls: type
    to_spec: Callable
    from_spec: Callable


def parameters_of(cls) -> dict:
    """Return names and defaults of a constructor's parameters."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(cls).parameters.items()
    }


def put_estimator(model, writer, name) -> dict:
    """Describe an estimator by its parameters and what ``fit`` has set."""
    state = {**vars(model)}
    requests = state.pop(REQUESTS, None)
    spec = {key: writer.put(value, f"{name}.{key}") for key, value in state.items()}
    names = parameters_of(type(model))
    out = {
        "parameters": {key: spec.pop(key) for key in names},
        "fitted": spec,
    }
    if requests is not None:
        methods = {key: getattr(requests, key, None) for key in ROUTED}
        out["requests"] = {k: m.requests for k, m in methods.items() if m is not None}
    return out


def get_estimator(spec, reader, cls):
    """Build an estimator without its constructor, as unpickling does."""
    defaults = parameters_of(cls)
    new = spec["parameters"].keys() - defaults
    if new:
        raise ModelFileError(
            f"has parameters of {cls.__name__} that are not known here, {sorted(new)}: "
            "a newer skflowfm wrote it. Update skflowfm."
        )
    bad = [k for k in spec["fitted"] if not k.isidentifier() or hasattr(cls, k)]
    if bad:
        raise ModelFileError(f"describes no model: {bad[0]!r} is no fitted attribute.")
    state = {key: reader.get(part) for key, part in spec["fitted"].items()}
    given = {key: reader.get(part) for key, part in spec["parameters"].items()}
    model = cls.__new__(cls)
    model.__setstate__({**defaults, **given, **state})
    for method, requests in spec.get("requests", {}).items():
        asked = {key: value for key, value in requests.items() if value is not None}
        setter = f"set_{method}_request"  # that of fit_resample is imbalanced-learn's
        if method in ROUTED and asked and hasattr(model, setter):
            with config_context(enable_metadata_routing=True):
                getattr(model, setter)(**asked)
    return model


def put_module(module, writer, name) -> dict:
    """Describe a module by its structure; its weights become tensors."""
    structure = structure_of(module, slot_of(name))
    for key, tensor in module.state_dict().items():
        if not isinstance(tensor, torch.Tensor) or nn.parameter.is_lazy(tensor):
            raise Unknown(f"a module whose {key} is no tensor yet")
        writer.put_tensor(tensor, f"{name}.{key}")
    frozen = [key for key, p in module.named_parameters() if not p.requires_grad]
    return {
        "structure": structure,
        "weights": name.lstrip("."),
        "training": module.training,
        "frozen": frozen,
    }


def get_module(spec, reader):
    """Build a module and give it its weights."""
    prefix = spec["weights"] + "."
    names = [name for name in reader.tensors if name.startswith(prefix)]
    weights = {name.removeprefix(prefix): reader.get_tensor(name) for name in names}
    module = build(spec["structure"], reader.given, weights)
    load_weights(module, weights)
    for name in spec["frozen"]:
        module.get_parameter(name).requires_grad_(False)
    return module.train(spec["training"])


def put_density(density, writer, name) -> dict:
    """Describe q(z | class); the rows of all classes come one after another."""
    state = {**vars(density), "sizes": [len(rows) for rows in density.rows]}
    for key in BY_CLASS:
        state[key] = torch.cat(state[key])
    return {key: writer.put(value, f"{name}.{key}") for key, value in state.items()}


BY_CLASS = "rows", "index"


def get_density(spec, reader) -> RepresentationDensity:
    """Build q(z | class) without fitting it."""
    state = {key: reader.get(part) for key, part in spec.items() if key != "kind"}
    sizes = state.pop("sizes")
    for key in BY_CLASS:
        state[key] = [part.clone() for part in state[key].split(sizes)]
    density = RepresentationDensity.__new__(RepresentationDensity)
    vars(density).update(state)
    return density


FLAGS = "whole", "truth"


def put_columns(columns, writer, name) -> dict:
    """Describe the columns of a frame by a frame without rows."""
    like = columns.like
    like = None if like is None else like.reset_index(drop=True)
    flags = {key: np.asarray(getattr(columns, key)).tolist() for key in FLAGS}
    return {"like": writer.put(like, f"{name}.like"), **flags}


def get_columns(spec, reader) -> Columns:
    """Return what the columns of ``fit`` held."""
    columns = Columns(reader.get(spec["like"]))
    for key in FLAGS:
        setattr(columns, key, np.array(spec[key], dtype=bool))
    return columns


def put_frozen(frozen, writer, name) -> dict:
    """Describe what is frozen."""
    return {"estimator": writer.put(frozen.estimator, f"{name}.estimator")}


KINDS = {
    "Columns": Kind(Columns, put_columns, get_columns),
    "FrozenEstimator": Kind(
        FrozenEstimator, put_frozen, lambda s, r: FrozenEstimator(r.get(s["estimator"]))
    ),
    "RepresentationDensity": Kind(RepresentationDensity, put_density, get_density),
    "module": Kind(nn.Module, put_module, get_module),
}


def add_estimator(cls) -> None:
    """Let files hold estimators of this class."""
    build_one = partial(get_estimator, cls=cls)
    KINDS[cls.__name__] = Kind(cls, put_estimator, build_one)


# ------------------------------------------------------------------ parts of a pickle
PART, NUMBERS = "skflowfm_part", "numbers"
IN_PARTS = nn.Module, Columns, RepresentationDensity, pd.DataFrame


def as_part(value):
    """Return a module, density or frame as a text and arrays; others as they are.

    A pickle then holds no class of torch or pandas and no device.
    """
    if not isinstance(value, IN_PARTS):
        return value
    writer = Writer()
    try:
        spec = writer.put(value, "part")
        complete = all(is_complete(part) for part in writer.objects)
    except Unknown:
        complete = False
    if not complete:  # a module of the user's own is left to pickle
        return copy.deepcopy(value).cpu() if isinstance(value, nn.Module) else value
    whole = {"objects": writer.objects, "model": spec}
    text = json.dumps(whole, default=operator.index)  # sizes may be numpy's integers
    return {PART: text, NUMBERS: {k: t.numpy() for k, t in writer.tensors.items()}}


def from_part(value):
    """Return what ``as_part`` was given."""
    if not (isinstance(value, dict) and PART in value):
        return value
    numbers = {k: torch.from_numpy(np.array(v)) for k, v in value[NUMBERS].items()}
    return Reader(numbers, {}).read(**json.loads(value[PART]))
