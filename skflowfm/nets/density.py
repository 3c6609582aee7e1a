r"""q(z | class): where new representations come from.

Generation draws a representation first and a row given it second,
:math:`z \sim q(z \mid y)`, :math:`x \sim p(x \mid z)` [1]_. Labels enter here only, so
they may arrive after training. A class with enough rows gets a small flow, trained with
the same loss as the rows; a smaller one gets points between its rows and their
neighbours, as in [2]_, and a class of one row gets that row and a little noise. Beside
much larger classes, a small one has too few rows to show how far it reaches, and learns
that from the others. Where z leaves little of a row open, points so near the rows would
give copies of them: there the draws are from the normal distribution of a wider
neighbourhood.

References
----------
.. [1] T. Li, D. Katabi and K. He, "Return of Unconditional Generation: A
       Self-supervised Representation Generation Method", NeurIPS 2024.
.. [2] N. V. Chawla et al., "SMOTE: Synthetic Minority Over-sampling Technique",
       JAIR 16, 2002.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..flow_matching import flow_matching_loss
from ..ode import integrate
from .velocity_field import VectorVelocityField

N_NEIGHBOURS, WIDE_NEIGHBOURS = 5, 40
ENOUGH_ROWS, MIDDLE = 20, 0.2
LARGER, COMPARABLE, OFFSET = 4, 10, 0.7
MOST_CLASSES, N_CHOICES, MOST_OFFSETS = 20, 5, 100
N_STEPS = 8


class RepresentationFlow(nn.Module):
    """Class-conditional flow on standardised representations.

    Parameters
    ----------
    n_components, n_classes : int
        Size of z; number of classes (1 if there are no labels).
    """

    def __init__(self, n_components: int, n_classes: int):
        super().__init__()
        self.n_classes = n_classes
        self.velocity_field = VectorVelocityField(
            n_components, n_classes, width=96, n_blocks=2
        )

    def condition(self, classes: Tensor) -> Tensor:
        """One-hot rows, (n, n_classes)."""
        return F.one_hot(classes, self.n_classes).float()

    def forward(self, x_1: Tensor, x_0: Tensor, t: Tensor, classes: Tensor):
        """Return the flow-matching loss of each row, and no views."""
        given = self.condition(classes)
        flow = flow_matching_loss(self.velocity_field, x_1, x_0, t, given)
        return flow, None, None

    def draw(self, x_0: Tensor, classes: Tensor) -> Tensor:
        """Return a standardised representation for each source row and class."""
        given = self.condition(classes)

        def v(x, t):
            return self.velocity_field(x, x.new_full((len(x),), t), given)

        return integrate(v, x_0, N_STEPS)


def arcs_between_neighbours(rows: Tensor, parent: Tensor, uniform: Tensor) -> Tensor:
    r"""Return points on arcs from given rows to one of their nearest neighbours.

    About the mean :math:`\mu` of a row a and its neighbours, one of which is b,

    .. math:: z = \mu + (a - \mu) \cos\varphi + (b - \mu) \sin\varphi .

    Of fewer than twenty rows the whole arc counts, :math:`0 < \varphi < \pi / 2`; of
    more, the middle fifth, as points near an end give copies of its row.

    Where the rows of a neighbourhood are independent, points on the straight line to b
    have a third less variance than the rows, those on the whole arc a tenth less, those
    on its middle fifth a sixth less.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, n_components)
        Rows of one class, at least one.
    parent : Tensor of int of shape (n,)
        Where each arc starts.
    uniform : Tensor of shape (n, 2)
        Numbers in (0, 1): which neighbour, how far towards it.

    Returns
    -------
    Tensor of shape (n, n_components)
        Of a single row, copies.
    """
    n_rows = len(rows)
    if n_rows == 1:
        return rows[parent]
    k = min(N_NEIGHBOURS, n_rows - 1)
    distance = torch.cdist(rows, rows).fill_diagonal_(float("inf"))
    nearest = distance.topk(k, largest=False).indices  # (n_rows, k)
    mean = (rows + rows[nearest].sum(dim=1)) / (k + 1)
    start, mean = rows[parent], mean[parent]
    end = rows[nearest[parent, (uniform[:, 0] * k).long()]]
    share = MIDDLE if n_rows >= ENOUGH_ROWS else 1.0
    angle = (0.5 + share * (uniform[:, 1:].to(rows.dtype) - 0.5)) * (math.pi / 2)
    return mean + angle.cos() * (start - mean) + angle.sin() * (end - mean)


def normal_in_neighbourhood(rows: Tensor, parent: Tensor, normal: Tensor) -> Tensor:
    r"""Return draws from the normal distributions of neighbourhoods.

    .. math:: z = \mu + \sum_{j=1}^{k} \varepsilon_j (z_j - \mu) / \sqrt{k - 1}

    has the mean and the covariance of the k rows :math:`z_j`, those nearest to the
    parent and itself.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, n_components)
        Rows of one class, at least one.
    parent : Tensor of int of shape (n,)
        Whose neighbourhood.
    normal : Tensor of shape (n, 40)
        Independent standard normal numbers.

    Returns
    -------
    Tensor of shape (n, n_components)
        Of a single row, copies.
    """
    k = min(WIDE_NEIGHBOURS, len(rows))
    nearest = torch.cdist(rows, rows).topk(k, largest=False).indices  # (n_rows, k)
    mean = rows[nearest].mean(dim=1)[parent]
    out = mean.clone()
    for j in range(k):  # term by term, so that a draw does not depend on the others
        weight = normal[:, j : j + 1] / max(k - 1, 1) ** 0.5
        out += weight * (rows[nearest[parent, j]] - mean)
    return out


def offsets_in_larger_classes(rows: list[Tensor], code: int) -> Tensor | None:
    """Return how far a row may be from a known one, going by larger classes.

    Of each class that is at least four times as large as class ``code``, some rows are
    taken for known, as many as that class has, and others give their offset from the
    nearest of these; so a few times, with other rows. Offsets are scaled by how near
    the rows of class ``code`` lie to each other, in comparison with those known rows; a
    class in which that differs by more than a factor of ten gives none. As classes
    reach in different directions, an offset counts seven tenths.

    Parameters
    ----------
    rows : list of Tensor of shape (n_rows, n_components)
        Rows of each class.
    code : int
        The small class.

    Returns
    -------
    Tensor of shape (n, n_components) or None
        None if there is no such class.
    """
    n_known, own, offsets = len(rows[code]), spacing(rows[code]), []
    larger = [others for others in rows if len(others) >= LARGER * n_known]
    for others in sorted(larger, key=len, reverse=True)[:MOST_CLASSES]:
        generator = torch.Generator().manual_seed(len(others))
        for _ in range(N_CHOICES):
            order = torch.randperm(len(others), generator=generator)
            some = others[order[: n_known + MOST_OFFSETS]]
            known, rest = some.tensor_split([n_known])
            ratio = own / spacing(known) if n_known > 1 else 1.0
            if 1 / COMPARABLE < ratio < COMPARABLE:
                nearest = torch.cdist(rest, known).argmin(dim=1)
                offsets.append(OFFSET * ratio * (rest - known[nearest]))
    return torch.cat(offsets) if offsets else None


def spacing(rows: Tensor) -> Tensor:
    """Return the mean distance of rows from their nearest other one."""
    distance = torch.cdist(rows, rows).fill_diagonal_(float("inf"))
    return distance.amin(dim=1).mean()
