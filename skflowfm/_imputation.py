"""Filling gaps: a draw of the missing values given the known ones.

The flow is solved as for a new row, but after each step the field's estimate of the
finished row gets its known values back, and the path goes on towards that [1]_. That is
not exact: with the true field of two Gaussian variables of correlation .9 the draws
reach .8. The representation is that of the row itself, its gaps first filled by hand,
then by the model. Of a table it says nearly all about the row, gaps included: there the
first one is that of a donor, a drawn row that is near in what is known, as in hot-deck
imputation [2]_.

References
----------
.. [1] Y. Wang, J. Yu and J. Zhang, "Zero-Shot Image Restoration Using Denoising
       Diffusion Null-Space Model", ICLR 2023 (the same on images).
.. [2] R. R. Andridge and R. J. A. Little, "A Review of Hot Deck Imputation for Survey
       Non-response", International Statistical Review 78, 2010.
"""

import numpy as np
import pandas as pd
import torch

from ._checks import off_torch, reject_dates
from ._density import some_of
from ._generation import (
    block_size,
    counter_uniform,
    decode,
    device_of,
    flow_shape,
    in_blocks,
    rows_at_a_time,
    source_rows,
)
from ._resampling import rows_like

ROUNDS = 2
MOST_DONORS, N_DONORS, ROWS_AT_A_TIME = 2000, 5, 512
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
    model, values: np.ndarray, seed: int, n_steps: int, first: int = 0, z=None
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
    z : Tensor of shape (n, n_components), default=None
        Representations to begin with, see :func:`of_donors`; None are those of the rows
        filled by hand.
    """
    by_hand = fill_by_hand(values, model.standardise.mean.cpu().numpy())
    rows = torch.from_numpy(by_hand.astype(np.float32))
    known = torch.from_numpy(~np.isnan(values))
    device, row_shape = device_of(model), tuple(rows.shape[1:])
    shape = flow_shape(model, row_shape)

    def block(x, known, x_0, *z):
        x, known, x_0, *z = (part.to(device) for part in (x, known, x_0, *z))
        truth = x = model.standardise(x)
        z = model.axes.inverse(*z) if z else model.encode(model.stem(x))
        x = one_round(model, truth, known, x_0, z, n_steps)
        for _ in range(ROUNDS - 1):
            z = model.encode(model.stem(x))
            x = one_round(model, truth, known, x_0, z, n_steps)
        if x.ndim == 3:  # a channel that was constant may have another level here
            return model.standardise.inverse(x)
        return model.drawn(x)

    out = [torch.empty(0, *row_shape)]
    size, at_a_time = block_size(device, row_shape), rows_at_a_time(device, row_shape)
    for start in range(0, len(rows), at_a_time):
        part = slice(start, start + at_a_time)
        x_0 = source_rows(seed, "source", first + start, len(rows[part]), shape)
        given = rows[part], known[part], x_0, *([] if z is None else [z[part]])
        out.append(in_blocks(block, *given, size=size, pad=True))
    return torch.cat(out).numpy()


def of_donors(model, values: np.ndarray, z, seed: int, steps, first: int = 0):
    """Return the representation of a donor for each row of a table.

    A donor is drawn from one of the given representations. Each row takes one of the
    five that are nearest in what is known of it, each column a normal score.

    Parameters
    ----------
    model, values, seed, first
        As in :func:`complete`.
    z : Tensor of shape (n_rows, n_components)
        Of the rows that the model knows.
    steps : Steps
        How donors are drawn.
    """
    z = some_of(z, MOST_DONORS)

    def scores(rows):
        return model.coordinates(model.standardise(rows.to(device))).cpu()

    device = device_of(model)
    donors = scores(decode(model, z, values.shape[1:], seed, steps))
    uniform = counter_uniform(seed, "representation", first, len(values), 1)[:, 0]
    k, chosen = min(N_DONORS, len(z)), torch.empty(len(values), dtype=torch.long)
    known = torch.from_numpy(~np.isnan(values))
    rows = scores(torch.from_numpy(np.nan_to_num(values).astype(np.float32)))
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        part = slice(start, start + ROWS_AT_A_TIME)
        distance = torch.zeros(len(rows[part]), len(z))
        for column in range(rows.shape[1]):
            apart = rows[part, column, None] - donors[:, column]
            distance += torch.where(known[part, column, None], apart.square(), 0)
        nearest = distance.topk(k, largest=False).indices
        which = (uniform[part, None] * k).long()
        chosen[part] = nearest.gather(1, which)[:, 0]
    return z[chosen]


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
