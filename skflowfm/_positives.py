"""What the alignment term compares: two views of a row, or of rows that are near."""

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch.nn import functional as F

from ._sizes import fewer

N_VIEWS = 2
CACHE_ROWS = 64
CUDA_CACHE_ROWS = 512
LEAST_CACHE_ROWS = 16
CACHE_SHARE = 0.4
N_NEIGHBOURS = 5
MIN_HELD_OUT = 32
MAX_CANDIDATES = 20_000


class LiveViews:
    """Features of rows and of their views, made in each step: for a cheap stem.

    Parameters
    ----------
    stem : nn.Module
        Makes the features.
    view : callable or None
        ``view(x, generator)``; None is the row itself.
    two : bool
        Whether an alignment term needs a second view.
    """

    def __init__(self, stem, view, two):
        self.stem, self.view, self.two = stem, view, two

    def __call__(self, index, x_1, generator):
        features = self.stem(x_1)
        if not self.two:
            return (features,)
        if self.view is None:
            return features, features, features
        views = [self.stem(self.view(x_1, generator)) for _ in range(N_VIEWS)]
        return features, *views


def nearest_rows(features: torch.Tensor, n_candidates: int) -> torch.Tensor:
    """Return the positions of each row's nearest others among the first ones.

    Near is a small angle between features.

    Parameters
    ----------
    features : Tensor of shape (n, n_features)
        Centred features of the rows.
    n_candidates : int
        How many of the rows, from the first, can be neighbours.

    Returns
    -------
    Tensor of shape (n, n_neighbours), int
        Five neighbours, fewer where there are fewer; of a lonely row itself.
    """
    k = min(N_NEIGHBOURS, n_candidates - 1)
    if k < 1:
        return torch.arange(len(features), device=features.device)[:, None]
    unit = F.normalize(features, dim=1).cpu().numpy()
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(unit[:n_candidates])
    near = [search.kneighbors(return_distance=False)]
    if n_candidates < len(unit):
        near.append(search.kneighbors(unit[n_candidates:], return_distance=False))
    return torch.from_numpy(np.concatenate(near)).to(features.device)


class CachedViews:
    """Features of rows and of their views, computed once: for a stem that costs more.

    With ``two``, the second view is one of a near row: what looks much alike to the
    stem most often means the same, and that two windows of one activity differ more
    than two views of one window is what the encoder is to learn [1]_.

    Parameters
    ----------
    model : JointModel
        Gives the scaling and the stem.
    rows : Rows
        The user's data.
    view : callable or None
        ``view(x, generator)``; None is the row itself.
    two : bool
        Whether an alignment term needs a second view.
    index, held_out : Tensor of int
        Rows to prepare, in this order, or with a time limit in turn; neighbours are
        sought among the first 20,000 of ``index``.
    generator : torch.Generator
        Draws the views.
    budget : Budget
        Where it has a time limit, preparation stops at two fifths of it, but for the
        first rows. Fewer than 32 held-out ones are then left out.
    report : callable
        ``report(n_done, n)`` is told about progress.

    Attributes
    ----------
    index, held_out : Tensor of int
        The rows that are prepared.

    References
    ----------
    .. [1] D. Dwibedi et al., "With a Little Help from My Friends: Nearest-Neighbor
           Contrastive Learning of Visual Representations", ICCV 2021.
    """

    def __init__(
        self, model, rows, view, two, index, held_out, generator, budget, report
    ):
        limit = CACHE_SHARE * budget.max_time if budget.max_time else float("inf")
        wanted, watched = torch.cat([index, held_out]), len(index)
        order = torch.arange(len(wanted))
        if budget.max_time:  # it may end before all is prepared: a share of either
            shares = [(torch.arange(len(i)) + 0.5) / len(i) for i in (index, held_out)]
            order = torch.cat(shares).argsort(stable=True)
        live = LiveViews(model.stem, view, two)
        features = []
        on_cuda = generator.device.type == "cuda"
        most = CUDA_CACHE_ROWS if on_cuda else CACHE_ROWS
        size = fewer(most, rows.row_shape, LEAST_CACHE_ROWS)
        for part in wanted[order].split(size):
            with torch.no_grad():
                x = model.standardise(rows[part].to(generator.device))
                features.append(torch.stack(live(part, x, generator), dim=1))
            n_done = sum(map(len, features))
            report(n_done, len(wanted))
            n_trained = int((order[:n_done] < watched).sum())
            if budget.seconds > limit and n_trained >= min(size, len(index)):
                break
        back = order[:n_done].argsort()
        if n_done - n_trained < min(MIN_HELD_OUT, len(held_out)):
            back = back[:n_trained]
        features = torch.cat(features)  # (n_prepared, 1 or 3, n_features)
        self.features = features[back] if budget.max_time else features
        self.index, self.held_out = index[:n_trained], held_out[: len(back) - n_trained]
        prepared = torch.cat([self.index, self.held_out])
        self.position = torch.full((len(rows),), -1)
        self.position[prepared] = torch.arange(len(prepared))
        n_candidates = min(len(self.index), MAX_CANDIDATES)
        self.near = nearest_rows(self.features[:, 0], n_candidates) if two else None

    def __call__(self, index, x_1, generator):
        at = self.position[index].to(self.features.device)
        if self.near is None:
            return (self.features[at, 0],)
        draw = torch.rand(len(at), generator=generator, device=generator.device)
        near = self.near[at, (draw * self.near.shape[1]).long()]
        return self.features[at, 0], self.features[at, 1], self.features[near, 2]
