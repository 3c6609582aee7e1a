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


def prepared(make, index, held_out, row_shape, budget, report, on_cuda=False):
    """Return the features of all rows, or of as many as there is time for.

    With a time limit preparation stops at two fifths of it, but for the first rows, and
    rows of either kind come in turn. Fewer than 32 held-out ones are then left out.

    Parameters
    ----------
    make : callable
        ``make(part)`` returns the features of the rows numbered ``part``.
    index, held_out : Tensor of int
        Rows to train on and to watch.
    row_shape : tuple of int
        Large rows are prepared fewer at a time.
    budget : Budget
        Has the time limit and the clock.
    report : callable
        ``report(n_done, n)`` is told about progress.
    on_cuda : bool, default=False
        Whether many rows at a time cost little.

    Returns
    -------
    features : Tensor of shape (n_prepared, ...)
        Of the rows at ``index``, then of those held out.
    index, held_out : Tensor of int
        The rows that are prepared.
    """
    limit = CACHE_SHARE * budget.max_time if budget.max_time else float("inf")
    wanted, watched = torch.cat([index, held_out]), len(index)
    order = torch.arange(len(wanted))
    if budget.max_time:  # it may end before all is prepared: a share of either
        shares = [(torch.arange(len(i)) + 0.5) / len(i) for i in (index, held_out)]
        order = torch.cat(shares).argsort(stable=True)
    features, n_done = [], 0
    most = CUDA_CACHE_ROWS if on_cuda else CACHE_ROWS
    size = fewer(most, row_shape, LEAST_CACHE_ROWS)
    for part in wanted[order].split(size):
        features.append(make(part))
        n_done += len(part)
        report(n_done, len(wanted))
        n_trained = int((order[:n_done] < watched).sum())
        if budget.seconds > limit and n_trained >= min(size, len(index)):
            break
    back = order[:n_done].argsort()
    if n_done - n_trained < min(MIN_HELD_OUT, len(held_out)):
        back = back[:n_trained]
    features = torch.cat(features)
    if budget.max_time:
        features = features[back]
    return features, index[:n_trained], held_out[: len(back) - n_trained]


class CachedViews:
    """Features of rows and of their views, computed once: for a stem that costs more.

    Where there are two, the second view is one of a near row: what looks much alike to
    the stem most often means the same, and that two windows of one activity differ more
    than two views of one window is what the encoder is to learn [1]_. Neighbours are
    sought among the first 20,000 rows that are trained on.

    Parameters
    ----------
    features : Tensor of shape (n, 1 or 3, n_features)
        Of each row and, for an alignment term, of two views of it.
    index, held_out : Tensor of int
        Numbers of these rows: those to train on come first.

    References
    ----------
    .. [1] D. Dwibedi et al., "With a Little Help from My Friends: Nearest-Neighbor
           Contrastive Learning of Visual Representations", ICCV 2021.
    """

    def __init__(self, features, index, held_out):
        self.features = features
        rows = torch.cat([index, held_out])
        self.position = torch.full((int(rows.max()) + 1,), -1)
        self.position[rows] = torch.arange(len(rows))
        n_candidates = min(len(index), MAX_CANDIDATES)
        two = features.shape[1] > 1
        self.near = nearest_rows(features[:, 0], n_candidates) if two else None

    def __call__(self, index, x_1, generator):
        at = self.position[index].to(self.features.device)
        if self.near is None:
            return (self.features[at, 0],)
        draw = torch.rand(len(at), generator=generator, device=generator.device)
        near = self.near[at, (draw * self.near.shape[1]).long()]
        return self.features[at, 0], self.features[at, 1], self.features[near, 2]
