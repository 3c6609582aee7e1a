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
        Rows to prepare, in this order; neighbours are sought among the first 20,000
        of ``index``.
    generator : torch.Generator
        Draws the views.
    budget : Budget
        Where it has a time limit, preparation stops at two fifths of it.
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
        # what is watched comes first where time may end before all rows are prepared
        wanted = torch.cat([held_out, index] if budget.max_time else [index, held_out])
        live = LiveViews(model.stem, view, two)
        features = []
        on_cuda = generator.device.type == "cuda"
        most = CUDA_CACHE_ROWS if on_cuda else CACHE_ROWS
        for part in wanted.split(fewer(most, rows.row_shape, LEAST_CACHE_ROWS)):
            with torch.no_grad():
                x = model.standardise(rows[part].to(generator.device))
                features.append(torch.stack(live(part, x, generator), dim=1))
            n_done = sum(map(len, features))
            report(n_done, len(wanted))
            if budget.seconds > limit and n_done > len(held_out):
                break
        features = torch.cat(features)  # (n_prepared, 1 or 3, n_features)
        if budget.max_time:
            features = features.roll(-len(held_out), dims=0)
        self.features, self.held_out = features, held_out
        self.index = index[: len(features) - len(held_out)]
        prepared = torch.cat([self.index, held_out])
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
