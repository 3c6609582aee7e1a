"""Numbers, texts, arrays, frames and generators as JSON and tensors, and back.

JSON holds None, bool, int, str, finite floats, lists and dicts with plain keys as they
are. Everything else is a dict with one key that starts with ``$`` and says what it is.
``put(value, name)`` stands for writing a part, ``get(spec)`` for reading one.
"""

import math
import re

import numpy as np
import pandas as pd

PLAIN_ARRAYS = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")
RAW_ARRAYS = re.compile(r"[<>|](S\d+|[mM]8(\[\d*\w+\])?|c(8|16)|[iu][1248]|f[248])")
TEXT_ARRAYS = re.compile(r"[<>]U\d+")
PANDAS_TYPES = re.compile(
    r"U?Int(8|16|32|64)|Float(32|64)|boolean|str|string|object|bool|u?int(8|16|32|64)"
    r"|float(16|32|64)|(datetime|timedelta)64\[(s|ms|us|ns)\]"
)
SIDES = "left", "right"  # of an interval
BIT_GENERATORS = {
    cls.__name__: cls
    for cls in (
        np.random.MT19937,
        np.random.PCG64,
        np.random.PCG64DXSM,
        np.random.Philox,
        np.random.SFC64,
    )
}


class Unknown(TypeError):
    """A value is not of a kind that a file can hold; ``place`` is where it was."""

    def __init__(self, what: str, place: str = ""):
        super().__init__(what)
        self.place = place


def chosen(pattern, text):
    """Return ``text`` if it matches, or raise: names of types come from a list."""
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError(f"{text!r} is no type that a file can hold")
    return text


def place_of(name, label, i) -> str:
    """Return where a part of ``name`` is: by its label if that is a plain word."""
    plain = isinstance(label, str) and label.isidentifier()
    return f"{name}.{label if plain else i}"


def tagged(spec):
    """Return tag and content of a dict that stands for something else, or None."""
    if isinstance(spec, dict) and len(spec) == 1:
        ((tag, content),) = spec.items()
        if tag.startswith("$"):
            return tag, content
    return None


# ------------------------------------------------------------------ numbers, containers
def put_float(value: float):
    """Return a float, or its name where JSON has no number for it."""
    return value if math.isfinite(value) else {"$float": repr(value)}


def put_scalar(value: np.generic, put, name):
    """Return a numpy scalar with its type."""
    return {"$scalar": put(np.asarray(value), name)}


def put_dict(value: dict, put, name):
    """Return a dict as it is, or as pairs where its keys are not plain texts."""
    parts = {
        key: put(part, place_of(name, key, i))
        for i, (key, part) in enumerate(value.items())
    }
    if all(type(key) is str and not key.startswith("$") for key in parts):
        return parts
    keys = [put(key, f"{name}.key") for key in parts]
    return {"$dict": list(zip(keys, parts.values(), strict=True))}


# ------------------------------------------------------------------ arrays
def put_array(array: np.ndarray, put, put_tensor, name):
    """Return an array: numbers become a tensor, texts and objects stay readable."""
    kind = array.dtype
    if kind.isnative and PLAIN_ARRAYS.fullmatch(kind.name):
        return {"$array": put_tensor(array, name)}
    if TEXT_ARRAYS.fullmatch(kind.str):
        content = {"type": kind.str, "texts": array.ravel().tolist()}
    elif kind.hasobject and kind.kind == "O":
        values = [put(v, f"{name}.{i}") for i, v in enumerate(array.ravel())]
        content = {"type": "object", "values": values}
    elif RAW_ARRAYS.fullmatch(kind.str):
        numbers = np.frombuffer(array.tobytes(), np.uint8)
        content = {"type": kind.str, "bytes": put_tensor(numbers, name)}
    else:
        raise Unknown(f"an array of type {kind}")
    return {"$array": {**content, "shape": list(array.shape)}}


def get_array(spec, get, get_tensor):
    """Return the array that ``put_array`` described."""
    if isinstance(spec, str):
        return get_tensor(spec).numpy()
    if "texts" in spec:
        array = np.array(spec["texts"], dtype=chosen(TEXT_ARRAYS, spec["type"]))
    elif "values" in spec:
        array = np.empty(len(spec["values"]), dtype=object)
        for i, value in enumerate(spec["values"]):
            array[i] = get(value)
    else:
        kind = np.dtype(chosen(RAW_ARRAYS, spec["type"]))
        array = np.frombuffer(get_tensor(spec["bytes"]).numpy().tobytes(), kind).copy()
    return array.reshape(spec["shape"])


# ------------------------------------------------------------------ frames
def put_index(index: pd.Index, put, name):
    """Return the labels of rows or columns, or the categories of a column."""
    label = put(index.name, f"{name}.name")
    if isinstance(index, pd.RangeIndex):
        return {"range": [index.start, index.stop, index.step], "name": label}
    if isinstance(index, pd.IntervalIndex):
        ends = {k: put_index(getattr(index, k), put, f"{name}.{k}") for k in SIDES}
        return {"intervals": ends, "closed": index.closed, "name": label}
    if isinstance(index, pd.MultiIndex):
        raise Unknown("a MultiIndex", name)
    return {"values": put_series(pd.Series(index), put, name), "name": label}


def get_index(spec, get):
    """Return the index that ``put_index`` described."""
    name = get(spec["name"])
    if "range" in spec:
        return pd.RangeIndex(*map(int, spec["range"]), name=name)
    if "intervals" in spec:
        left, right = (get_index(spec["intervals"][k], get) for k in SIDES)
        return pd.IntervalIndex.from_arrays(left, right, spec["closed"], name=name)
    values = get_series(spec["values"], get)
    return pd.Index(values, dtype=values.dtype, name=name)


def put_series(column: pd.Series, put, name):
    """Return the values of a column with their type."""
    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype):
        codes = put(column.cat.codes.to_numpy(), name)
        categories = put_index(kind.categories, put, f"{name}.categories")
        return {"codes": codes, "categories": categories, "ordered": bool(kind.ordered)}
    if not PANDAS_TYPES.fullmatch(str(kind)):
        raise Unknown(f"a column of type {kind}", name)
    values = column.to_numpy()
    if not isinstance(kind, np.dtype):  # missing values have a type's own name
        values = column.astype(object).where(column.notna(), None).to_numpy(object)
    return {"type": str(kind), "values": put(values, name)}


def get_series(spec, get):
    """Return the values that ``put_series`` described."""
    if "codes" in spec:
        categories = get_index(spec["categories"], get)
        kind = pd.CategoricalDtype(categories, ordered=spec["ordered"])
        return pd.Series(pd.Categorical.from_codes(get(spec["codes"]), dtype=kind))
    return pd.Series(get(spec["values"]), dtype=chosen(PANDAS_TYPES, spec["type"]))


def put_frame(frame: pd.DataFrame, put, name):
    """Return a frame, column by column."""
    columns = [
        put_series(frame.iloc[:, k], put, place_of(name, label, k))
        for k, label in enumerate(frame.columns)
    ]
    labels = put_index(frame.columns, put, f"{name}.columns")
    index = put_index(frame.index, put, f"{name}.index")
    return {"$frame": {"labels": labels, "index": index, "columns": columns}}


def get_frame(spec, get):
    """Return the frame that ``put_frame`` described."""
    columns = {k: get_series(part, get) for k, part in enumerate(spec["columns"])}
    frame = pd.DataFrame(columns)
    if not columns:
        return pd.DataFrame(index=get_index(spec["index"], get))
    frame.index = get_index(spec["index"], get)
    frame.columns = get_index(spec["labels"], get)
    return frame


# ------------------------------------------------------------------ generators
def put_generator(generator, put, name):
    """Return a numpy generator with its state."""
    if isinstance(generator, np.random.RandomState):
        kind, state = "RandomState", generator.get_state(legacy=False)
    else:
        kind, state = "Generator", generator.bit_generator.state
    if state["bit_generator"] not in BIT_GENERATORS:
        raise Unknown(f"a generator of type {state['bit_generator']}")
    return {"$random": {"kind": kind, "state": put(state, name)}}


def get_generator(spec, get):
    """Return the generator that ``put_generator`` described."""
    state = get(spec["state"])
    bits = BIT_GENERATORS[state["bit_generator"]]()
    if spec["kind"] == "RandomState":
        generator = np.random.RandomState(bits)
        generator.set_state(state)
    else:
        generator = np.random.Generator(bits)
        generator.bit_generator.state = state
    return generator
