"""The only place that turns a request into draws.

Every random number of sample i is a function of the seed and i alone (a counter-based
generator), and the networks always run on blocks of one size; the rows of a small class
are taken in turn, for which only the samples before i count. So sample i does not
depend on how many others are asked for, nor on how many are computed at a time:
``sample(100)`` is the first hundred rows of ``sample(1000)``, to the byte.

References
----------
.. [1] J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel Random Numbers:
       As Easy as 1, 2, 3", SC 2011 (Philox).
"""

from typing import NamedTuple

import numpy as np
import torch

from ._device import the_same_again
from ._sizes import fewer
from .flow_matching import (
    flow_matching_loss,
    source_quantile,
)

BLOCK = 64
CUDA_BLOCK = 1024
ROWS_AT_A_TIME = 4096
TRANSFORM_BLOCK = 512
LEAST_ROWS = 16
STREAMS = {"representation": 1, "source": 2, "score": 3, "label": 4, "variant": 5}


def counter_uniform(seed: int, stream: str, start: int, n: int, size: int):
    """Return (n, size) uniform numbers in (0, 1) of samples start, ..., start + n - 1.

    Row i of the result depends on ``seed``, ``stream`` and start + i only.
    """
    padded = -(-size // 4) * 4  # the counter advances by four numbers
    bits = np.random.Philox(key=[seed, STREAMS[stream]])
    bits.advance(start * padded // 4)
    uniform = np.random.Generator(bits).random((n, padded))[:, :size]
    return torch.from_numpy(uniform + 2.0**-54).clamp_(max=1 - 2.0**-53)


def source_rows(seed: int, stream: str, start: int, n: int, shape) -> torch.Tensor:
    """Return the float32 source draws of samples start, ..., start + n - 1."""
    uniform = counter_uniform(seed, stream, start, n, int(np.prod(shape)))
    return source_quantile(uniform).float().reshape(n, *shape)


def filled(block: torch.Tensor, size: int) -> torch.Tensor:
    """Return the rows, and copies of the first one if they are fewer than ``size``."""
    missing = size - len(block)
    if missing <= 0 or not len(block):
        return block
    return torch.cat([block, block[:1].expand(missing, *block.shape[1:])])


def filled_up(block: torch.Tensor) -> torch.Tensor:
    """Return a table of at least sixteen rows, or windows of at least two.

    Products and convolutions of fewer add in another order, and what is said of a row
    should not depend on how many others come with it.
    """
    return filled(block, LEAST_ROWS if block.ndim == 2 else 2)


def block_size(device: torch.device, row_shape) -> int:
    """Return how many rows the networks see at a time when rows are made."""
    size = CUDA_BLOCK if device.type == "cuda" else BLOCK
    return fewer(size, row_shape, LEAST_ROWS)


def rows_at_a_time(device: torch.device, row_shape) -> int:
    """Return how many rows are drawn before the next ones: a number of whole blocks."""
    size = block_size(device, row_shape)
    return max(fewer(ROWS_AT_A_TIME, row_shape, size) // size, 1) * size


def transform_block(row_shape) -> int:
    """Return how many rows are read at a time to be represented."""
    return fewer(TRANSFORM_BLOCK, row_shape, LEAST_ROWS)


@the_same_again()
def in_blocks(function, *tensors, size: int, pad: bool):
    """Apply ``function`` to blocks of rows and join the results on the CPU.

    With ``pad`` the last block is filled up with copies of its first row: floating
    point sums then come in the same order whatever the number of rows.
    """
    if not len(tensors[0]):
        return function(*tensors)
    out = []
    for start in range(0, len(tensors[0]), size):
        block = [x[start : start + size] for x in tensors]
        n = len(block[0])
        if pad:
            block = [filled(b, size) for b in block]
        with torch.inference_mode():
            out.append(function(*block)[:n].cpu())
    return torch.cat(out)


def device_of(model) -> torch.device:
    """Return where the model's weights are."""
    return model.axes.mean.device


def represent(model, rows) -> torch.Tensor:
    """Return the representations of ``rows``, block by block."""
    device, size = device_of(model), transform_block(rows[:0].shape[1:])
    out = torch.empty(len(rows), model.n_components)
    for start in range(0, len(rows), size):
        with torch.inference_mode():
            block = rows[start : start + size].to(device)
            n = len(block)
            out[start : start + n] = model.represent(filled_up(block))[:n]
    return out


def fit_axes(model, rows, index) -> None:
    """Learn the principal axes of the encoder's output on the rows at ``index``."""
    device = device_of(model)
    with torch.inference_mode():
        blocks = [
            model.encode(model.stem(model.standardise(rows[part].to(device))))
            for part in index.split(transform_block(rows.row_shape))
        ]
        z = torch.cat(blocks)
    if not torch.isfinite(z).all():
        raise FloatingPointError(
            "Training has diverged: representations of the training rows are not "
            "finite. An encoder or velocity field of your own may grow what it is "
            "given; end it with a normalisation, or train for fewer max_steps."
        )
    model.axes.fit(z, model.n_learned, len(rows))


def flow_shape(model, row_shape) -> tuple[int, ...]:
    """Return the shape of one row in flow coordinates."""
    blank = torch.zeros(1, *row_shape, device=device_of(model))
    return tuple(model.coordinates(blank).shape[1:])


class Steps(NamedTuple):
    """How rows are drawn from representations; see :meth:`JointModel.decode`."""

    n_steps: int
    solver: str
    stop: float = 1.0
    gain: np.ndarray | None = None


def check_drawn(rows: torch.Tensor) -> torch.Tensor:
    """Return drawn rows, or raise if they are not finite."""
    if not torch.isfinite(rows).all():
        raise ValueError(
            "The drawn rows are not finite: their representations are too far from "
            "those of fit. Give nearer ones, or a lower diversity."
        )
    return rows


def decode(
    model, z, row_shape, seed, steps: Steps, n_shared=1, first=0
) -> torch.Tensor:
    """Return one row for each representation; row i's source is that of sample i.

    With ``n_shared`` rows in turn share one: row i's is that of sample i // n_shared.
    Counting starts with sample ``first``.
    """
    device = device_of(model)
    shape, at_a_time = flow_shape(model, row_shape), rows_at_a_time(device, row_shape)
    out = [torch.empty(0, *row_shape)]
    for start in range(0, len(z), at_a_time):
        block = z[start : start + at_a_time]
        sample = first + torch.arange(start, start + len(block)) // n_shared
        low, n_sources = int(sample[0]), int(sample[-1] - sample[0]) + 1
        x_0 = source_rows(seed, "source", low, n_sources, shape)[sample - low]
        out.append(
            in_blocks(
                lambda z, x_0: model.decode(z.to(device), x_0.to(device), *steps),
                block,
                x_0,
                size=block_size(device, row_shape),
                pad=True,
            )
        )
    return torch.cat(out)


@the_same_again()
def score(model, rows, seed, n_draws: int = 8) -> torch.Tensor:
    """Return minus the log of the loss and of the distance in z, row by row.

    The flow-matching loss is taken on the same draws for all rows.
    """
    device = device_of(model)
    shape = flow_shape(model, rows.row_shape)
    x_0 = source_rows(seed, "score", 0, n_draws, shape).to(device)
    times = (torch.arange(n_draws) + 0.5) / n_draws
    out, size = torch.empty(len(rows)), transform_block(rows.row_shape)
    for start in range(0, len(rows), size):
        with torch.inference_mode():
            block = rows[start : start + size].to(device)
            n, x = len(block), model.standardise(filled_up(block))
            x_1, z = model.coordinates(x), model.encode(model.stem(x))
            losses = [
                flow_matching_loss(
                    model.velocity_field,
                    x_1,
                    source.expand_as(x_1),
                    x_1.new_full((len(x_1),), float(t)),
                    z,
                    model.coordinates.weight,
                )
                for source, t in zip(x_0, times, strict=True)
            ]
            loss = torch.stack(losses).mean(0).clamp_min(1e-12)
            distance = model.axes.distance(model.axes(z)).clamp_min(1e-12)
            out[start : start + n] = -(loss.log() + distance.log())[:n]
    return out
