"""q(z | class): where new representations come from."""

import torch

from ._budget import Budget, Plan
from ._draws import Z_NOISE
from ._generation import BLOCK, counter_uniform, in_blocks
from ._training import train
from .flow_matching import sample_source, sample_time, source_quantile
from .nets.density import (
    N_NEIGHBOURS,
    WIDE_NEIGHBOURS,
    RepresentationFlow,
    arcs_between_neighbours,
    normal_in_neighbourhood,
    offsets_in_larger_classes,
)
from .nets.layers import initialise

MOST_DISTANCES, MOST_WIDE_ROWS = 2**24, 5000
FLOW_CLASS_SIZE = 20
ROWS_PER_COMPONENT = 6


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


def some_of(rows: torch.Tensor, most: int) -> torch.Tensor:
    """Return the rows, or a random ``most`` of them, the same ones each time."""
    if len(rows) <= most:
        return rows
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    return rows[order[:most]]


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
        Whether classes are drawn from wide neighbourhoods, however large they are,
        unless much larger ones say how far they reach. For rows that z determines: it
        varies in few of many directions, and the small flow would lose some of that.
    """

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
        large = torch.tensor([not wide and len(rows) >= enough for rows in self.rows])
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
            if self.wide:  # distances between all of 100,000 would not fit into memory
                rows = some_of(rows, MOST_WIDE_ROWS)
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
        uniform = counter_uniform(seed, "variant", 0, len(z), 2)
        k = min(N_NEIGHBOURS, len(rows))
        nearest = [
            torch.cdist(part, rows).topk(k, largest=False).indices
            for part in z.split(at_a_time(rows))
        ]
        which = (uniform[:, :1] * k).long()
        partner = rows[torch.cat(nearest).gather(1, which)[:, 0]]
        return z + diversity * uniform[:, 1:].float() * (partner - z)

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

    def draw_codes(self, n: int, seed: int, first: int = 0) -> torch.Tensor:
        """Return codes of ``n`` samples from ``first`` on, as frequent as in fit."""
        uniform = counter_uniform(seed, "label", first, n, 1)[:, 0]
        edges = self.frequency.double().cumsum(0)
        return torch.bucketize(uniform, edges[:-1].contiguous())
