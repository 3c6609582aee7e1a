"""Fitted models in one file, without pickle.

``model.save(path)`` writes a safetensors file: the weights, and a description in JSON
that says what the model is, what it was fitted on and how. ``load(path)`` builds the
model from it. Nothing in a file is run or imported: only estimators and modules of this
package and a few layers of torch are built, by name from a list. A checksum over all of
it tells a damaged file; it is no signature, so it does not say who wrote the file.

A joblib or pickle of the estimators works too, but loading it runs what is in it. For
pipelines with other libraries' estimators there is ``skops.io``.
"""

import os
import platform
from datetime import date, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath

import numpy as np
import pandas as pd
import sklearn
import torch
from sklearn.utils.validation import check_is_fitted

from .._own_modules import check_module
from .._validation import check_torch_settings
from ._file import ModelFileError, halve, pack, unpack, write
from ._objects import Reader, Writer, add_estimator, as_part, from_part
from ._values import Unknown

__all__ = ["ModelFileError", "Savable", "describe", "load"]


class Savable:
    """An estimator of this package that can be saved to a file and loaded again.

    A class of this package that inherits from it can be in files. What is saved are
    its parameters and all attributes, so these must be of kinds that
    ``persistence/_objects.py`` lists; ``__setstate__`` gets them back.
    """

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if cls.__module__.startswith(f"{__package__.partition('.')[0]}."):
            add_estimator(cls)

    def __getstate__(self):
        state = super().__getstate__()
        return {name: as_part(value) for name, value in state.items()}

    def __setstate__(self, state):
        super().__setstate__({name: from_part(part) for name, part in state.items()})

    def save(self, path, *, half_precision=False):
        """Write the fitted model to one file, which :func:`skflowfm.load` reads.

        A safetensors file with a description in JSON, without pickle. It replaces what
        was there only when it is complete and on the disk.

        Parameters
        ----------
        path : str or path-like
            Where to; by custom its name ends with ``.safetensors``.
        half_precision : bool, default=False
            Store the weights with 16 bits: half the size, to send and to keep. What is
            loaded computes in single precision again, with weights rounded to three
            digits, so its results differ a little. False keeps them to the bit.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        TypeError
            If a parameter or attribute is of a kind that a file cannot hold. Of your
            own ``encoder`` or ``velocity_field`` the weights are saved, of a callable
            the name; pass them to :func:`skflowfm.load`.
        OSError
            If the file cannot be written; the old one is left as it was.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> import skflowfm
        >>> X = np.random.default_rng(0).normal(size=(60, 3))
        >>> model = skflowfm.FlowFMTransformer(2, max_steps=5, random_state=0).fit(X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.safetensors")
        ...     model.save(path)
        ...     again = skflowfm.load(path)
        >>> bool((again.transform(X) == model.transform(X)).all())
        True
        """
        check_is_fitted(self)
        writer = Writer()
        try:
            number = writer.put(self, "")
        except Unknown as error:
            raise TypeError(
                f"{error.place.lstrip('.') or 'the model'} cannot be saved: expected "
                "numbers, texts, arrays, frames, containers of these or parts of "
                f"skflowfm, got {error}. Change it, or save the model with joblib."
            ) from None
        tensors, halved = writer.tensors, []
        if half_precision:
            tensors, halved = halve(tensors)
        state = {"objects": writer.objects, "model": number, "halved": halved}
        write(path, pack({**summary(self), "state": state}, tensors))


def load(
    path, *, encoder=None, velocity_field=None, views=None, sampling_strategy=None
):
    """Return the model that ``save`` wrote to a file.

    It gives the same results, to the bit with the same versions, device and number of
    threads, unless it was saved with ``half_precision``. It runs on its ``device`` if
    that is here, else on the CPU.

    Parameters
    ----------
    path : str or path-like
        The file.
    encoder, velocity_field : nn.Module, default=None
        If the model was fitted with a module of your own: one of the same structure.
        It is copied and gets the weights in the file.
    views, sampling_strategy : callable, default=None
        If the model had a function of your own there: that function.

    Returns
    -------
    model : estimator
        Of the class that was saved, fitted.

    Raises
    ------
    ModelFileError
        If the file is cut off, damaged, something else or of another format, or if one
        of the other arguments is needed.
    OSError
        If the file cannot be read.
    ValueError, TypeError
        If an argument is of no use, or no module.

    Examples
    --------
    >>> import os, tempfile
    >>> from skflowfm import load
    >>> from skflowfm.persistence import ModelFileError
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "notes.txt")
    ...     with open(path, "w") as file:
    ...         n_written = file.write("no model")
    ...     try:
    ...         load(path)
    ...     except ModelFileError as error:
    ...         print("expected a file that its save method wrote" in str(error))
    True
    """
    check_torch_settings()
    check_module("encoder", encoder)
    check_module("velocity_field", velocity_field)
    functions = {"views": views, "sampling_strategy": sampling_strategy}
    for name, value in functions.items():
        if not (value is None or callable(value)):
            raise TypeError(
                f"{name} must be a callable, as the saved model had, got {value!r}."
            )
    supplied = {
        "encoder": encoder,
        "velocity_field": velocity_field,
        **functions,
    }
    path = os.fspath(path)
    sections, tensors = unpack(path)
    reader = Reader(tensors, supplied)
    try:
        state = sections["state"]
        for name in state.get("halved", []):
            tensors[name] = tensors[name].float()
        model = reader.read(state["objects"], state["model"])
        if not isinstance(model, Savable):
            raise ModelFileError("describes no estimator.")
    except ModelFileError as error:
        raise ModelFileError(f"{path} {error}") from None
    except Exception as error:  # a description may be wrong in any way
        raise ModelFileError(
            f"{path} is damaged, or of another version of skflowfm: its description "
            f"makes no model ({type(error).__name__}: {error}). Save the model again."
        ) from error
    useless = [k for k, v in supplied.items() if v is not None and k not in reader.used]
    if useless:
        raise ValueError(
            f"{useless[0]} must be left out: the model in {path} has none of your own."
        )
    return model


def describe(path) -> dict:
    """Return what a file says about its model, without building it.

    Parameters
    ----------
    path : str or path-like
        A file that ``save`` wrote. Its checksum is verified.

    Returns
    -------
    dict
        ``format_version``; ``class``; ``libraries`` (versions that wrote it);
        ``parameters`` (those that JSON does not hold as text); ``input`` (shape of a
        row, names of features, classes); ``training`` (steps, seconds, what ended it,
        last losses, health); ``fine_tuning`` (the same, of a classifier or regressor
        that has it); ``tensors`` (how many, and their bytes).

    Raises
    ------
    ModelFileError
        If the file is cut off, damaged, something else or of another format.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from skflowfm import FlowFMTransformer
    >>> from skflowfm.persistence import describe
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> model = FlowFMTransformer(2, max_steps=5, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     model.save(path)
    ...     about = describe(path)
    >>> about["class"], about["input"]
    ('FlowFMTransformer', {'kind': 'table', 'n_features': 3})
    >>> about["training"]["steps"], about["training"]["stopped_by"]
    (5, 'max_steps')
    """
    sections, tensors = unpack(os.fspath(path))
    n_bytes = sum(tensor.nbytes for tensor in tensors.values())
    sections.pop("state", None)
    return {**sections, "tensors": {"number": len(tensors), "bytes": n_bytes}}


# ------------------------------------------------------------------ the description
def summary(model) -> dict:
    """Return what a reader of the file wants to know; loading needs none of it."""
    pretrained = getattr(model, "transformer_", model)
    tuned = pretrained is not model and getattr(model, "n_steps_", 0) > 0
    return {
        "class": type(model).__name__,
        "libraries": libraries(),
        "parameters": {
            name: readable(value) for name, value in model.get_params().items()
        },
        "input": input_of(model),
        "training": training_of(pretrained),
        **({"fine_tuning": training_of(model)} if tuned else {}),
    }


def libraries() -> dict:
    """Return the versions that results depend on."""
    try:
        own = version("skflowfm")
    except PackageNotFoundError:
        own = "unknown"
    modules = {"numpy": np, "pandas": pd, "scikit-learn": sklearn, "torch": torch}
    versions = {name: str(module.__version__) for name, module in modules.items()}
    return {"skflowfm": own, **versions, "python": platform.python_version()}


def input_of(model) -> dict:
    """Return what rows have to look like."""
    shape = getattr(model, "row_shape_in_", (model.n_features_in_,))
    if len(shape) == 2:
        about = {"kind": "windows", "n_channels": shape[0], "n_timesteps": shape[1]}
    else:
        about = {"kind": "table", "n_features": shape[0]}
    for name in ("feature_names_in_", "classes_", "sampling_rate_"):
        if getattr(model, name, None) is not None:
            about[name.rstrip("_")] = readable(getattr(model, name))
    return about


def training_of(model) -> dict:
    """Return how long training took and how it went."""
    history = getattr(model, "history_", pd.DataFrame())
    last = history.iloc[-1].to_dict() if len(history) else {}
    names = {"n_steps_": "steps", "fit_seconds_": "seconds"}
    names |= {"stopped_by_": "stopped_by", "health_": "health"}
    about = {
        new: readable(getattr(model, old))
        for old, new in names.items()
        if hasattr(model, old)
    }
    losses = {k: readable(v) for k, v in last.items() if k not in ("step", "seconds")}
    return {**about, "last": losses}


def readable(value):
    """Return ``value`` for JSON, as text where JSON has nothing like it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else repr(value)
    if isinstance(value, (np.generic, np.ndarray)):
        dates = value.dtype.kind in "mM"
        return readable((value.astype(str) if dates else value).tolist())
    if isinstance(value, (PurePath, date, timedelta)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [readable(part) for part in value]
    if isinstance(value, dict):
        return {str(key): readable(part) for key, part in value.items()}
    return type(value).__name__
