"""Results for more rows than memory holds, block by block."""

import sys
import time

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from ._checks import check_verbose, off_torch
from ._generation import transform_block
from ._sampling import Sampling

DRAWING = Sampling.sample, Sampling.sample_like, Sampling.impute
LEARNING = "fit", "fit_transform", "fit_resample", "fit_condition", "partial_fit"
NO_ROWS = "inverse_transform", "interpolate", "score"  # alone, or not of fit


def stream(method, blocks, *, out=None, verbose=0):
    """Return what a fitted model says about rows that come bit by bit.

    Arrays and memory maps need no stream: ``transform``, ``score_samples`` and
    ``predict`` read them a few thousand rows at a time. This is for rows that a
    generator gives, or a reader of files, and for draws of more rows than memory holds.
    Only one block and its result are held at a time.

    Parameters
    ----------
    method : bound method
        Of a fitted estimator, or of a pipeline or search that starts with one, such as
        ``model.transform``, ``model.score_samples``, ``model.predict`` or
        ``sampler.sample``.
    blocks : iterable, int or array-like
        Rows or blocks of rows, each of the shape that was fitted, after one another and
        in any mixture; rows that come singly are gathered into blocks of 512. For
        ``sampler.sample`` how many rows to draw, or the class of each.
    out : array, default=None
        Where to write the results, one after the other, for example a memory map; it
        may be longer than they are.
    verbose : int, default=0
        1 prints a line that is updated with the number of rows and their rate.

    Returns
    -------
    results : iterator of ndarray (of what ``set_output`` says), or array
        The result of each block, computed when it is asked for. With ``out`` all are
        computed now, and the part of it that was filled is returned.

    Raises
    ------
    TypeError, ValueError
        If ``method`` belongs to nothing that was fitted on rows, a block has rows of
        another shape, or ``out`` has no room for the results.

    See Also
    --------
    skflowfm.datasets.resample_windows : For windows of another rate or length.

    Notes
    -----
    Draws are those of one call of ``sampler.sample``, to the byte. Other results, draws
    of ``sampler.sample_like`` and ``sampler.impute`` among them, are those of one call
    up to rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from skflowfm import FlowFMSampler, FlowFMTransformer, stream
    >>> from skflowfm.datasets import make_wearable
    >>> X = make_wearable(80, n_timesteps=60, random_state=0).X
    >>> model = FlowFMTransformer(8, max_steps=10, random_state=0).fit(X)
    >>> arriving = (make_wearable(10, n_timesteps=60, random_state=k).X for k in (1, 2))
    >>> [Z.shape for Z in stream(model.transform, arriving)]
    [(10, 8), (10, 8)]
    >>> singly = (window for window in X)
    >>> scores = stream(model.score_samples, singly, out=np.empty(100, np.float32))
    >>> scores.shape
    (80,)
    """
    model = getattr(method, "__self__", None)
    if model is not None and getattr(method, "__name__", "") in LEARNING:
        raise TypeError(
            "method must be one that reads rows or makes them, such as "
            f"model.transform, got {method.__name__}, which learns from them."
        )
    if model is not None and getattr(method, "__name__", "") in NO_ROWS:
        raise TypeError(
            "method must be one that takes rows and nothing else, such as "
            f"model.transform, got {method.__name__}. Call it for each block yourself."
        )
    check_verbose(verbose)
    draws = getattr(method, "__func__", None) in DRAWING
    if draws and method == model.sample:
        results = model._blocks("sample", blocks)
    else:
        row_shape = fitted_row_shape(model)
        if not np.iterable(blocks):
            raise TypeError(
                f"blocks must be an iterable of rows of shape {row_shape}, or of "
                f"blocks of them, got {blocks!r}."
            )
        if isinstance(blocks, pd.DataFrame):
            blocks = [blocks]
        blocks = whole_blocks(blocks, row_shape)
        drawn = draws and model._blocks(method.__name__, blocks)
        results = drawn or map(method, blocks)
    if verbose:
        results = reported(results)
    return results if out is None else written(results, out)


def fitted_row_shape(model):
    """Return the shape of a row that an estimator, pipeline or search was fitted on."""
    if hasattr(model, "fit"):
        check_is_fitted(model)
    first = getattr(model, "best_estimator_", model)
    first = first.steps[0][1] if hasattr(first, "steps") else first
    if not hasattr(first, "row_shape_in_"):
        raise TypeError(
            "method must be a method of a fitted estimator of skflowfm, or of a "
            "pipeline that starts with one, such as model.transform, got one of "
            f"{model!r}."
        )
    return tuple(first.row_shape_in_)


def whole_blocks(blocks, row_shape):
    """Yield the blocks that are there; single rows are gathered into blocks."""
    single, size = [], transform_block(row_shape)
    for place, block in enumerate(blocks):
        shape = shape_of(block)
        if shape == row_shape:
            single.append(own(block))
            if len(single) < size:
                continue
        elif isinstance(shape, str) or shape[1:] != row_shape:
            raise ValueError(
                f"blocks must hold rows of shape {row_shape} as in fit, or blocks of "
                f"shape {('n', *row_shape)}, got shape {shape} at place {place}. Bring "
                "windows to the fitted rate and length, for example with "
                "skflowfm.datasets.resample_windows."
            )
        if single:
            yield joined(single)
            single = []
        if shape != row_shape and len(block):
            yield block
    if single:
        yield joined(single)


def shape_of(block):
    """Return the shape of a row or block, or in words that it has none."""
    try:
        return np.shape(block)
    except ValueError:  # of a pair (index, row), or of rows that differ in length
        return f"of parts that differ ({type(block).__name__})"


def own(row):
    """Return a copy of a row, as a reader may use its array again."""
    values = np.array(off_torch(row))
    return pd.Series(values, row.index) if isinstance(row, pd.Series) else values


def joined(rows):
    """Return rows as one block: a frame if they have names."""
    if all(isinstance(row, pd.Series) for row in rows):
        return pd.DataFrame(rows)
    return np.stack(rows)


def written(results, out):
    """Write results to ``out``, one after the other, and return the filled part."""
    n = 0
    has_rows = len(getattr(out, "shape", ())) > 0
    if not (has_rows and isinstance(getattr(out, "dtype", None), np.dtype)):
        raise TypeError(
            "out must be an array or a memory map with rows, got a "
            f"{type(out).__name__}."
        )
    if isinstance(out, np.ndarray) and not out.flags.writeable:
        raise ValueError(
            "out must be writeable, got an array that is only for reading. Pass a copy "
            "of it, or open the memory map with mode='r+'."
        )
    for result in results:
        result = np.asarray(result)
        room = len(out) - n
        if (
            len(result) > room
            or result.shape[1:] != out.shape[1:]
            or not holds(out.dtype, result)
        ):
            raise ValueError(
                f"out must have room for results of shape {('n', *result.shape[1:])} "
                f"and dtype {result.dtype}, got out.shape={out.shape}, dtype "
                f"{out.dtype}, with {n} rows filled and {len(result)} to come. Make a "
                "larger one of this dtype."
            )
        out[n : n + len(result)] = result
        n += len(result)
    if hasattr(out, "flush"):
        out.flush()
    return out[:n]


def holds(dtype, result) -> bool:
    """Return whether numbers or texts fit into ``dtype``; floats may be rounded."""
    casting = "safe" if result.dtype.kind in "US" else "same_kind"
    if not np.can_cast(result.dtype, dtype, casting):
        return False
    if result.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return bool(np.isfinite(result.astype(dtype)).all())
    return bool((result.astype(dtype) == result).all())


def reported(results):
    """Yield the results, and say how many rows there were; in a file, at the end."""
    n, started = 0, time.perf_counter()
    on_screen = sys.stdout.isatty()
    for result in results:
        n += len(result)
        rate = n / max(time.perf_counter() - started, 1e-9)
        line = f"{n} rows, {rate:.0f} rows/s"
        if on_screen:
            sys.stdout.write(f"\r{line}   ")
            sys.stdout.flush()
        yield result
    if n:
        sys.stdout.write("\n" if on_screen else line + "\n")
