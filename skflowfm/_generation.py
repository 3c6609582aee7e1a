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

from ._budget import Budget, Plan
from ._device import the_same_again
from ._training import train
from .flow_matching import (
    flow_matching_loss,
    sample_source,
    sample_time,
    source_quantile,
)
from .nets.density import (
    N_NEIGHBOURS,
    WIDE_NEIGHBOURS,
    RepresentationFlow,
    arcs_between_neighbours,
    normal_in_neighbourhood,
    offsets_in_larger_classes,
)
from .nets.layers import initialise

BLOCK = 64
CUDA_BLOCK = 1024
ROWS_AT_A_TIME = 4096
TRANSFORM_BLOCK = 512
MOST_DISTANCES = 2**24
LEAST_ROWS = 16
FLOW_CLASS_SIZE = 20
ROWS_PER_COMPONENT = 6
Z_NOISE = 0.1
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


def block_size(device: torch.device) -> int:
    """Return how many rows the networks see at a time when rows are made."""
    return CUDA_BLOCK if device.type == "cuda" else BLOCK


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
    device = device_of(model)
    out = torch.empty(len(rows), model.n_components)
    for start in range(0, len(rows), TRANSFORM_BLOCK):
        with torch.inference_mode():
            block = rows[start : start + TRANSFORM_BLOCK].to(device)
            n = len(block)
            out[start : start + n] = model.represent(filled_up(block))[:n]
    return out


def fit_axes(model, rows, index) -> None:
    """Learn the principal axes of the encoder's output on the rows at ``index``."""
    device = device_of(model)
    with torch.inference_mode():
        blocks = [
            model.encode(model.stem(model.standardise(rows[part].to(device))))
            for part in index.split(TRANSFORM_BLOCK)
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


def decode(
    model, z, row_shape, seed, steps: Steps, n_shared=1, first=0
) -> torch.Tensor:
    """Return one row for each representation; row i's source is that of sample i.

    With ``n_shared`` rows in turn share one: row i's is that of sample i // n_shared.
    Counting starts with sample ``first``.
    """
    device = device_of(model)
    shape = flow_shape(model, row_shape)
    out = [torch.empty(0, *row_shape)]
    for start in range(0, len(z), ROWS_AT_A_TIME):
        block = z[start : start + ROWS_AT_A_TIME]
        sample = first + torch.arange(start, start + len(block)) // n_shared
        low, n_sources = int(sample[0]), int(sample[-1] - sample[0]) + 1
        x_0 = source_rows(seed, "source", low, n_sources, shape)[sample - low]
        out.append(
            in_blocks(
                lambda z, x_0: model.decode(z.to(device), x_0.to(device), *steps),
                block,
                x_0,
                size=block_size(device),
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
    out = torch.empty(len(rows))
    for start in range(0, len(rows), TRANSFORM_BLOCK):
        with torch.inference_mode():
            block = rows[start : start + TRANSFORM_BLOCK].to(device)
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


def at_a_time(rows: torch.Tensor) -> int:
    """Return for how many points distances to all rows are held at a time."""
    return max(1, MOST_DISTANCES // max(len(rows), 1))


def in_turn(place: torch.Tensor, n_rows: int, seed: int) -> torch.Tensor:
    """Return a row for each place among samples of a class; all rows come in turn.

    Drawn at random, a third of the rows would have no part in ``n_rows`` samples, and a
    quarter would have several that look alike.
    """
    order = torch.randperm(n_rows, generator=torch.Generator().manual_seed(seed))
    return order[place % n_rows]


class RepresentationDensity:
    """q(z | class), fitted to the representations of labelled or unlabelled rows.

    Parameters
    ----------
    z : Tensor of shape (n, n_components)
        Representations, as ``transform`` returns them.
    codes : Tensor of int of shape (n,)
        Class of each row, 0 to n_classes - 1; every class has at least one row.
    gain : float
        Factor between the encoder's z and these representations; scales the noise.
    seed : int
        Seed of the fit.
    n_parents : int, default=None
        How many of the rows, from the first, count as parents; None is all.
    wide : bool, default=False
        Whether small classes are drawn from wide neighbourhoods, where no class is
        large enough to learn from how far they reach.
    """

    wide = False  # in files that say nothing about it

    def __init__(
        self,
        z: torch.Tensor,
        codes: torch.Tensor,
        gain: float,
        seed: int,
        n_parents: int | None = None,
        wide: bool = False,
    ):
        self.wide = wide
        self.n_parents = len(z) if n_parents is None else n_parents
        self.index = [
            torch.nonzero(codes == c)[:, 0] for c in range(int(codes.max()) + 1)
        ]
        self.rows = [z[index] for index in self.index]
        self.frequency = torch.tensor([len(rows) for rows in self.rows]) / len(z)
        self.noise = Z_NOISE * gain
        self.mean = z.mean(dim=0)
        self.scale = (z.var(dim=0, correction=0) + self.noise**2).sqrt()
        enough = max(FLOW_CLASS_SIZE, ROWS_PER_COMPONENT * z.shape[1])
        large = torch.tensor([len(rows) >= enough for rows in self.rows])
        self.uses_flow = large
        self.flow = None
        if large.any():
            keep = large[codes]
            self.flow = self._fit(
                (z[keep] - self.mean) / self.scale, codes[keep], len(self.rows), seed
            )

    @staticmethod
    def _fit(z, codes, n_classes, seed) -> RepresentationFlow:
        """Train the small flow, in seconds."""
        with torch.device("meta"):
            flow = RepresentationFlow(z.shape[1], n_classes)
        flow.to_empty(device="cpu")
        initialise(flow, torch.Generator().manual_seed(seed))

        def draw(index, generator):
            x_0 = sample_source((len(index), z.shape[1]), generator)
            t = sample_time(len(index), generator)
            return {"x_1": z[index], "x_0": x_0, "t": t, "classes": codes[index]}

        batch_size = min(256, len(z))
        n_steps = min(1000, max(200, 30 * len(z) // batch_size))
        index = torch.arange(len(z))
        plan = Plan(Budget(n_steps, None, batch_size), seed)
        train(flow, draw, index, index[:0], plan)
        return flow

    def draw(
        self, codes: torch.Tensor, seed: int, first: int = 0, earlier=None
    ) -> torch.Tensor:
        """Return one representation for each class code; row i is sample first + i's.

        To the byte if ``first`` is a multiple of ``ROWS_AT_A_TIME``. ``earlier`` has
        how many of each class came before, so that rows go on being taken in turn.
        """
        if earlier is None:
            earlier = torch.zeros(len(self.rows), dtype=torch.long)
        n, d = len(codes), len(self.mean)
        size = 2 + max(d, WIDE_NEIGHBOURS if self.wide else 0)
        uniform = counter_uniform(seed, "representation", first, n, size)
        normal = source_quantile(uniform[:, 2:]).float()
        noise = normal[:, :d]
        out = torch.empty(n, d)
        by_flow = self.uses_flow[codes]
        if by_flow.any():
            standard = in_blocks(self.flow.draw, noise, codes, size=BLOCK, pad=True)
            out = standard * self.scale + self.mean
        for c in codes[~by_flow].unique().tolist():
            here, rows = codes == c, self.rows[c]
            place = earlier[c] + torch.arange(int(here.sum()))
            parent = in_turn(place, len(rows), seed)
            offsets = offsets_in_larger_classes(self.rows, c)
            if offsets is not None:
                which = (uniform[here, 0] * len(offsets)).long()
                out[here] = rows[parent] + offsets[which]
            elif self.wide:
                out[here] = normal_in_neighbourhood(rows, parent, normal[here])
            else:
                out[here] = arcs_between_neighbours(rows, parent, uniform[here, :2])
            if len(rows) == 1:
                out[here] += self.noise * noise[here]
        return out

    def vary(self, z: torch.Tensor, diversity: float, seed: int) -> torch.Tensor:
        """Move each representation towards one of its nearest fitted rows, at random.

        Row i moves by at most ``diversity`` times the way there.
        """
        rows = torch.cat(self.rows)
        uniform = counter_uniform(seed, "variant", 0, len(z), 2).float()
        k = min(N_NEIGHBOURS, len(rows))
        nearest = [
            torch.cdist(part, rows).topk(k, largest=False).indices
            for part in z.split(at_a_time(rows))
        ]
        which = (uniform[:, :1] * k).long()
        partner = rows[torch.cat(nearest).gather(1, which)[:, 0]]
        return z + diversity * uniform[:, 1:] * (partner - z)

    def parents(self, z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Return the position of the nearest parent of its class for each z."""
        out = torch.empty(len(z), dtype=torch.long)
        for c in codes.unique().tolist():
            here = torch.nonzero(codes == c)[:, 0]
            own = self.index[c] < self.n_parents
            index, rows = self.index[c][own], self.rows[c][own]
            for part in here.split(at_a_time(rows)):
                out[part] = index[torch.cdist(z[part], rows).argmin(dim=1)]
        return out

    def draw_codes(self, n: int, seed: int) -> torch.Tensor:
        """Return ``n`` class codes at the frequencies of the fit."""
        uniform = counter_uniform(seed, "label", 0, n, 1)[:, 0]
        edges = self.frequency.double().cumsum(0)
        return torch.bucketize(uniform, edges[:-1].contiguous())
