"""Which rows a training step sees, and everything random about them."""

import numpy as np
import torch

from ._checks import check_groups
from ._own_modules import three_of, try_view
from ._positives import MIN_HELD_OUT, CachedViews, LiveViews, prepared
from ._sizes import fewer
from .flow_matching import sample_source, sample_time
from .nets import Stem
from .nets.views import table_view, window_view

STEPS_PER_ROUND = 50
FEATURES = "features", "view", "other_view"
MIN_POOL, LEAST_POOL = 4000, 1000
VISITS_PER_ROW = 8
Z_NOISE = 0.1


def private_generator(seed: int, device: str = "cpu") -> torch.Generator:
    """Return a generator of our own on ``device``; the global one is never touched."""
    return torch.Generator(device).manual_seed(seed)


def hold_out(n_rows, fraction, groups, generator):
    """Split the row numbers into training and held-out ones, shuffled.

    Parameters
    ----------
    n_rows : int
        How many rows there are.
    fraction : float
        Share to hold out; nothing where that is fewer than 32 rows.
    groups : array-like of shape (n_rows,) or None
        Whole groups are held out together: as many as have that share at most, or as
        few as have 32 rows. None has more than half of the rows (or ``fraction``), nor
        have all; where that leaves fewer than 32, nothing.
    generator : torch.Generator
        Shuffles.

    Returns
    -------
    index, held_out : Tensor of int
    """
    groups = check_groups(groups, n_rows)
    order = torch.randperm(n_rows, generator=generator)
    n_held_out = int(fraction * n_rows)
    if n_held_out < MIN_HELD_OUT:
        return order, order[:0]
    if groups is None:
        return order[n_held_out:], order[:n_held_out]
    _, codes = np.unique(groups, return_inverse=True)
    codes = torch.from_numpy(codes)
    chosen = torch.randperm(int(codes.max()) + 1, generator=generator)
    sizes = torch.bincount(codes)
    most = max(n_rows / 2, n_held_out)
    chosen = chosen[sizes[chosen] <= most]
    sums = sizes[chosen].cumsum(0)
    needed = int((sums < MIN_HELD_OUT).sum()) + 1
    chosen = chosen[: max(needed, int((sums <= n_held_out).sum()))]
    if sizes[chosen].sum() > most:
        chosen = chosen[-1:]
    out = torch.isin(codes[order], chosen)
    if not MIN_HELD_OUT <= out.sum() <= most:
        return order, order[:0]
    return order[~out], order[out]


def pool(index, held_out, budget, row_shape=()):
    """Return as many of the rows as a budget can use, so that its cost does not grow.

    Every row is visited at least eight times, or there are at most 4,000 of them, 1,000
    of large ones. One pass, as ``partial_fit`` makes, takes all.
    """
    if not budget.decay:
        return index, held_out
    visits = (budget.max_steps or 0) * budget.batch_size
    least = fewer(MIN_POOL, row_shape, LEAST_POOL)
    size = max(least, visits // VISITS_PER_ROW)
    return index[:size], held_out[: max(MIN_HELD_OUT, size // 10)]


def ignore(n_done: int, n: int) -> None:
    """Report nothing."""


class JointDraws:
    """Everything random in a training step of the joint model, as named tensors.

    Parameters
    ----------
    model : JointModel
        Gives the scaling and the flow coordinates; it is not changed.
    rows : Rows
        The user's data.
    views : callable
        ``views(index, x_1, generator)`` returns the features of the rows and, for an
        alignment term, of two views of them.
    z_noise : float
        Standard deviation of the noise on z.
    device : str
        Where the draws are made and used.
    """

    def __init__(self, model, rows, views, z_noise, device):
        self.model, self.rows, self.views = model, rows, views
        self.z_noise, self.device = z_noise, device

    def __call__(self, index: torch.Tensor, generator: torch.Generator) -> dict:
        with torch.no_grad():
            x_1 = self.model.standardise(self.rows[index].to(self.device))
            shape = self.model.coordinates(x_1[:1]).shape[1:]
            features = self.views(index, x_1, generator)
        n = len(index)
        x_0 = sample_source((n, *shape), generator)
        t = sample_time(n, generator)
        draws = {"x_1": x_1, "x_0": x_0, "t": t}
        draws |= zip(FEATURES, features, strict=False)
        if self.z_noise:
            noise = sample_source((n, self.model.n_components), generator)
            draws["z_noise"] = self.z_noise * noise
        return draws


class Batches:
    """Rounds of training batches: shuffled passes over ``index``, cut into rounds.

    Each batch indexes the data once as a whole; iterating yields one round of
    ``STEPS_PER_ROUND`` batches, or fewer where the budget ends.
    """

    def __init__(self, draw, index, budget, generator):
        self.draw, self.index, self.budget = draw, index, budget
        self.generator = generator
        self.order = index[:0]
        steps = -(-len(index) // budget.batch_size)
        self.one_pass = not budget.decay and budget.max_steps == steps

    def next_index(self) -> torch.Tensor:
        size = min(self.budget.batch_size, len(self.index))
        if self.one_pass:  # cut evenly
            left = len(self.order) or len(self.index)
            size = -(-left // (self.budget.max_steps - self.budget.n_steps))
        if len(self.order) < size:
            shuffle = torch.randperm(
                len(self.index), generator=self.generator, device=self.generator.device
            )
            self.order = self.index[shuffle.cpu()]
        taken, self.order = self.order[:size], self.order[size:]
        return taken

    def __iter__(self):
        for _ in range(STEPS_PER_ROUND):
            draws = self.draw(self.next_index(), self.generator)
            yield draws, None  # skorch's X and y: the draws hold all
            if self.budget.spent() >= 1:
                return


class FixedBatches(list):
    """Held-out batches whose draws never change, so that rounds are comparable."""

    def __init__(self, draw, index, batch_size, generator):
        parts = index.split(batch_size)
        super().__init__((draw(part, generator), None) for part in parts)


def sparing_constants(view, standardise):
    """Return one of our views so that what was constant in ``fit`` stays so.

    Its unit is arbitrary: a little noise on a large constant would be all that the
    squared magnitude of a window says.
    """
    constant = standardise.spread == 0
    if view not in (window_view, table_view) or not constant.any():
        return view
    return lambda x, generator: torch.where(constant, x, view(x, generator))


def prepare(model, rows, index, held_out, view, z_noise, plan, report=ignore):
    """Return the draws of a training, and which rows it can draw from.

    Parameters
    ----------
    model : JointModel
        To be trained.
    rows : Rows
        The user's data.
    index, held_out : Tensor of int
        Rows to train on and to watch.
    view : callable or None
        ``view(x, generator)``; None switches views and the noise on z off.
    z_noise : float
        Standard deviation of the noise on z.
    plan : Plan
        How training will be run; with an alignment term it needs a second view.
    report : callable
        ``report(n_done, n)`` is told about rows whose views are computed.

    Returns
    -------
    draw : JointDraws
    index, held_out : Tensor of int
        Those of the rows that are used.
    """
    budget, seed, device = plan.budget, plan.seed, plan.device
    two_views = plan.alignment > 0
    x = model.standardise(rows[three_of(index)].to(device))
    try_view(view, model, x, private_generator(seed, device))
    view = sparing_constants(view, model.standardise)
    views = LiveViews(model.stem, view, two_views)
    if isinstance(model.stem, Stem):
        live, generator = views, private_generator(seed, device)

        def make(part):
            with torch.no_grad():
                x = model.standardise(rows[part].to(device))
                return torch.stack(live(part, x, generator), dim=1)

        some = pool(index, held_out, budget, rows.row_shape)
        on_cuda = generator.device.type == "cuda"
        features, index, held_out = prepared(
            make, *some, rows.row_shape, budget, report, on_cuda
        )
        views = CachedViews(features, index, held_out)
    noise = 0.0 if view is None else z_noise
    return JointDraws(model, rows, views, noise, device), index, held_out
