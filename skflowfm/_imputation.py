"""Filling gaps: a draw of the missing values given the known ones.

The flow is solved as for a new row, but after each step the field's estimate of the
finished row gets its known values back, and the path goes on towards that [1]_. That is
not exact: with the true field of two Gaussian variables of correlation .9 the draws
reach .8. The representation is that of the row itself, its gaps first filled by hand,
then by the model.

References
----------
.. [1] Y. Wang, J. Yu and J. Zhang, "Zero-Shot Image Restoration Using Denoising
       Diffusion Null-Space Model", ICLR 2023 (the same on images).
"""

import numpy as np
import pandas as pd
import torch

from ._checks import off_torch, reject_dates
from ._generation import (
    block_size,
    device_of,
    flow_shape,
    in_blocks,
    rows_at_a_time,
    source_rows,
)
from ._resampling import rows_like

ROUNDS = 2
AS_IF_KNOWN = 5


def numbers_of(X) -> np.ndarray:
    """Return ``X`` as a float array, NaN where a value is missing, or raise."""
    X = off_torch(X)
    reject_dates(X)
    try:
        if isinstance(X, pd.DataFrame):
            return X.to_numpy(dtype=np.float64, na_value=np.nan)
        if np.ma.isMaskedArray(X):
            X = X.astype(np.float64).filled(np.nan)
        X = np.asarray(X)
        if X.dtype.kind in "OSU":
            return X.astype(np.float64)  # None becomes NaN
        return X.astype(np.result_type(X.dtype, np.float32), copy=False)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"X must be numeric, NaN where a value is missing ({error})."
        ) from None


def with_zeros(X, values: np.ndarray):
    """Return ``values`` with 0 in the gaps, as a frame if ``X`` is one."""
    values = np.nan_to_num(values, posinf=np.inf, neginf=-np.inf)
    return pd.DataFrame(values, columns=X.columns) if hasattr(X, "columns") else values


def check_known(values: np.ndarray) -> np.ndarray:
    """Return where values are known, or raise for rows of which nothing is."""
    known = ~np.isnan(values)
    empty = np.flatnonzero(~known.reshape(len(known), -1).any(axis=1))
    if len(empty):
        raise ValueError(
            f"X has {len(empty)} row(s) without any known value, the first at index "
            f"{empty[0]}. Leave them out, or draw new rows with sample."
        )
    return known


def fill_by_hand(X: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return ``X`` with every gap filled: in time by lines, else by the mean.

    Parameters
    ----------
    X : ndarray of shape (n, n_channels, n_timesteps) or (n, n_features)
        Rows with NaN where nothing is known.
    mean : ndarray broadcastable to a row
        Of each channel or feature; for what has no neighbour in time.
    """
    filled = np.where(np.isnan(X), mean, X)
    if X.ndim == 2:
        return filled
    steps = np.arange(X.shape[2])
    for row, channel in np.argwhere(np.isnan(X).any(axis=2)):
        known = ~np.isnan(X[row, channel])
        if known.any():
            filled[row, channel] = np.interp(
                steps, steps[known], X[row, channel, known]
            )
    return filled


def complete(
    model, values: np.ndarray, seed: int, n_steps: int, first: int = 0
) -> np.ndarray:
    """Return ``values``, float32, with what is missing drawn from the model.

    Parameters
    ----------
    model : JointModel
        Trained.
    values : ndarray of shape (n, ...)
        In the user's units, NaN where a value is missing.
    seed : int
        Seed of the draws.
    n_steps : int
        Steps of the solver.
    first : int, default=0
        Number of the first row's draw.
    """
    by_hand = fill_by_hand(values, model.standardise.mean.cpu().numpy())
    rows = torch.from_numpy(by_hand.astype(np.float32))
    known = torch.from_numpy(~np.isnan(values))
    device, row_shape = device_of(model), tuple(rows.shape[1:])
    shape = flow_shape(model, row_shape)

    def block(x, known, x_0):
        x, known, x_0 = x.to(device), known.to(device), x_0.to(device)
        truth = x = model.standardise(x)
        for _ in range(ROUNDS):
            z = model.encode(model.stem(x))
            x = one_round(model, truth, known, x_0, z, n_steps)
        if x.ndim == 3:  # a channel that was constant may have another level here
            return model.standardise.inverse(x)
        return model.standardise.drawn(x)

    out = [torch.empty(0, *row_shape)]
    size, at_a_time = block_size(device, row_shape), rows_at_a_time(device, row_shape)
    for start in range(0, len(rows), at_a_time):
        part = slice(start, start + at_a_time)
        x_0 = source_rows(seed, "source", first + start, len(rows[part]), shape)
        given = rows[part], known[part], x_0
        out.append(in_blocks(block, *given, size=size, pad=True))
    return torch.cat(out).numpy()


def one_round(model, truth, known, x_t, z, n_steps):
    """Solve once, and return the rows, standardised as ``truth``."""
    for k in range(n_steps):
        t, after = k / n_steps, (k + 1) / n_steps
        v = model.velocity_field(x_t, x_t.new_full((len(x_t),), t), z)
        source, estimate = x_t - t * v, x_t + (1 - t) * v
        x = model.coordinates.inverse(estimate)
        x = torch.where(known, truth, match(x, truth, known))
        x_t = torch.lerp(source, model.coordinates(x), after)
    return x


def match(x, truth, known):
    """Return windows shifted and scaled, by channel, to agree with what is known.

    Few known values say little of a scale, so it counts as if a few more were known and
    had that of ``x``.
    """
    if x.ndim == 2:
        return x
    n = known.sum(dim=-1, keepdim=True)

    def moments(x):
        mean = torch.where(known, x, 0).sum(dim=-1, keepdim=True) / n.clamp_min(1)
        return mean, torch.where(known, x - mean, 0).square().sum(dim=-1, keepdim=True)

    (wanted, squares), (mean, drawn) = moments(truth), moments(x)
    more = AS_IF_KNOWN * x.var(dim=-1, keepdim=True, correction=0) + 1e-12
    scale = ((squares + more) / (drawn + more)).sqrt()
    return torch.where(n > 1, (x - mean) * scale + wanted, x)


def put_in(X, drawn: np.ndarray, known: np.ndarray, kinds):
    """Return a copy of ``X`` with the drawn values where nothing is known.

    ``kinds``, a Columns, says what ``fit`` had: integers, and true or false, come as
    objects where there is a gap.
    """
    drawn = rows_like(drawn, X, kinds)
    if isinstance(X, pd.DataFrame):
        drawn.index = X.index
        return X.where(known, drawn)
    filled = np.array(X)
    filled[~known] = drawn[~known]
    return filled
