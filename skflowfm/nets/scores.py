r"""Coordinates of table rows: each column as normal scores.

Columns have long tails, values that many rows share, clusters and categories; the
source of the flow has none of these. Here each column is brought to the source's
distribution, so that what is left to learn is how columns depend on each other.
"""

import math

import torch
from torch import Tensor, nn

N_SCORES, LARGEST_SCORE, END_STEPS = 129, 3.0, 4
NARROWEST, FAR_BEYOND = 1e-5, 20
JUMP, SHORTEST_JUMP, FARTHEST_JUMP, THIN_TAIL = 3, 0.25, 1.0, 0.02


def slowed(steps: Tensor) -> Tensor:
    """Return steps beyond a range: from twenty on they grow like their logarithm."""
    return steps.clamp_max(FAR_BEYOND) + (steps - FAR_BEYOND).clamp_min(0).log1p()


def one_hot_blocks(x: Tensor) -> list[tuple[int, int]]:
    """Return (start, stop) of runs of columns of which each row marks exactly one.

    Each column has two values, and the larger one is the mark. Columns that are
    constant here, as of a category that no row has, may lie between.
    """
    low, high = x.amin(dim=0), x.amax(dim=0)
    marked = x == high
    two_valued = (marked | (x == low)).all(dim=0).tolist()
    constant = (low == high).tolist()
    marked, blocks, start = marked.int(), [], 0
    while start < x.shape[1]:
        total, stop = torch.zeros(len(x), dtype=torch.int), start
        while stop < x.shape[1] and two_valued[stop]:
            if not constant[stop]:
                total = total + marked[:, stop]
            stop += 1
            if total.amax() > 1 or total.amin() == 1:
                break
        found = bool((total == 1).all()) and not constant[start]
        if found:
            blocks.append((start, stop))
        start = stop if found else start + 1
    return blocks


def normal_scores() -> Tensor:
    """Return the scores whose quantiles are learned."""
    return torch.linspace(-LARGEST_SCORE, LARGEST_SCORE, N_SCORES)


def jumps(ordered: Tensor) -> Tensor:
    """Return after which of the sorted values of each column there is a wide gap.

    One is wide that is more than three times as wide as the two before and after it,
    and than a quarter of the column's spread. Among the last 2 % of the values, at both
    ends, there is none: tails are thin.
    """
    width = torch.cat([ordered.diff(dim=0), torch.zeros_like(ordered[:1])])
    near = width.new_full((4, *width.shape), torch.inf)
    for i, k in enumerate((1, 2)):
        near[i, k:] = width[:-k]
        near[i + 2, : -k - 1] = width[k:-1]
    far = width > SHORTEST_JUMP * spread_of(ordered)
    tail = math.ceil(THIN_TAIL * len(ordered))
    far[:tail], far[len(far) - tail :] = False, False
    return far & (width > JUMP * near.amax(dim=0))


def spread_of(ordered: Tensor) -> Tensor:
    """Return half the distance between the scores of -1 and 1 of sorted columns."""
    low, high = (round(share * (len(ordered) - 1)) for share in (0.16, 0.84))
    return ((ordered[high] - ordered[low]) / 2).clamp_min(NARROWEST)


class TableCoordinates(nn.Module):
    r"""Coordinates of table rows: normal scores, column by column.

    .. math:: u = \Phi^{-1}(F(x)),

    with F the share of training rows below, linear between 129 quantiles and on beyond
    them. So each column is standard normal as the source is, however long its tail;
    what is left to learn is how columns depend on each other. A value that many rows
    share takes the middle of their scores, and all of these lead back to it. Of columns
    that mark one of several categories, the drawn row marks the one whose score is
    nearest to that of a mark.

    **Shape.** Rows and coordinates (n, n_columns).

    Parameters
    ----------
    n_columns : int
        Columns of the table.
    blocks : sequence of (int, int), default=()
        Start and stop of the columns of each category, as :func:`one_hot_blocks` finds
        them in ``fit``.
    """

    weight = None

    def __init__(self, n_columns: int, blocks=()):
        super().__init__()
        self.blocks = [tuple(block) for block in blocks]
        score = normal_scores()[:, None]
        for name in ("score", "value", "as_given"):
            self.register_buffer(name, score.repeat(1, n_columns))
        self.register_buffer("jump", torch.zeros(N_SCORES - 1, n_columns))
        for name in ("low", "high", "lowest", "highest"):  # no value is infinite
            self.register_buffer(name, torch.full((n_columns,), torch.inf))
        for name in ("of_low", "of_high"):  # equal but for columns of two values
            self.register_buffer(name, torch.zeros(n_columns))

    def fit(self, x: Tensor, as_given: Tensor | None = None) -> None:
        """Learn the quantiles of standardised rows.

        Parameters
        ----------
        x : Tensor of shape (n, n_columns)
            Standardised rows.
        as_given : Tensor of the same shape, default=None
            The same in the user's units; None if these are the same.
        """
        as_given = x if as_given is None else as_given
        ordered, given = (rows.sort(dim=0).values for rows in (x, as_given))
        self.learn_quantiles(ordered, given)
        self.leave_gaps(spread_of(ordered))
        self.blocks = one_hot_blocks(x)
        self.low.copy_(ordered[0])
        self.high.copy_(ordered[-1])
        self.lowest.copy_(given[0])
        self.highest.copy_(given[-1])
        marks = ((x == self.low) | (x == self.high)).all(dim=0) & (self.low < self.high)
        for score, v in ((self.of_low, self.low), (self.of_high, self.high)):
            score.copy_(self.forward(v[None])[0].masked_fill(~marks, 0))

    def learn_quantiles(self, ordered: Tensor, given: Tensor) -> None:
        """Learn the value of each score from sorted rows, and where values jump.

        A quantile lies between two rows, but of a jump on one of its sides, and of
        those next to it one on each.
        """
        n, gap = len(ordered), jumps(ordered)
        at = torch.special.ndtr(normal_scores().double()) * n - 0.5
        at = at.clamp(0, n - 1)
        k = at.floor().long()
        after = (k + 1).clamp_max(n - 1)
        share = (at - k).float()[:, None].expand(-1, ordered.shape[1])
        share = torch.where(gap[k], share.round(), share)
        both = (self.value, ordered), (self.as_given, given)
        for values, rows in both:
            values.copy_(torch.lerp(rows[k], rows[after], share))
        self.jump.zero_()
        row = k[:, None] + (share == 1)
        for i, column in gap.nonzero().tolist():
            before = int((row[:, column] <= i).sum()) - 1
            if 0 <= before < N_SCORES - 1:
                for values, rows in both:
                    values[before : before + 2, column] = rows[i : i + 2, column]
                self.jump[before, column] = 1

    def refit(self, x: Tensor, which: Tensor) -> None:
        """Take some columns as they are: what woke late may vary in any way."""
        score = normal_scores()[:, None].to(self.value.device)
        self.value.copy_(torch.where(which, score, self.value))
        self.score.copy_(torch.where(which, score, self.score))
        self.jump.masked_fill_(which, 0)
        for extreme in (self.low, self.high):
            extreme.masked_fill_(which, torch.inf)
        for score in (self.of_low, self.of_high):
            score.masked_fill_(which, 0)

    def leave_gaps(self, spread: Tensor) -> None:
        """Set scores apart where values jump, and standardise them again.

        A jump has no width in scores, so that a small error of the field would lead
        across.

        Parameters
        ----------
        spread : Tensor of shape (n_columns,)
            Of each column; a jump of it sets scores apart by as much as 1, which is the
            most.
        """
        base, length = normal_scores(), self.value.diff(dim=0) / spread
        step = base.diff()[:, None] + self.jump * length.clamp_max(FARTHEST_JUMP)
        score = torch.cat([step.new_zeros(1, step.shape[1]), step.cumsum(dim=0)])
        share = torch.special.ndtr(base).diff()[:, None]
        share = share / share.sum()
        middle, plain = ((s[1:] + s[:-1]) / 2 for s in (score, base[:, None]))
        mean = (share * middle).sum(dim=0)
        variance = (share * (middle - mean).square()).sum(dim=0)
        variance = variance / (share * plain.square()).sum()
        self.score.copy_((score - mean) / variance.sqrt())

    def equal(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first quantile that is equal, but for rounding, and the next."""
        value, x = self.value.T.contiguous(), x.T.contiguous()
        first = torch.searchsorted(value, x - NARROWEST / 2)
        after = torch.searchsorted(value, x + NARROWEST / 2, right=True)
        return first.T, after.T

    def ends(self) -> tuple[Tensor, Tensor]:
        """Return how fast values change at both ends, for a step of the score."""
        low, high = (self.value[i] - self.value[i - END_STEPS] for i in (END_STEPS, -1))
        return low / END_STEPS, high / END_STEPS

    def forward(self, x: Tensor) -> Tensor:
        first, after = self.equal(x)
        k = (first - 1).clamp(0, N_SCORES - 2)
        low, high = (self.value.gather(0, k + i) for i in (0, 1))
        share = ((x - low) / (high - low).clamp_min(NARROWEST / 2)).clamp(0, 1)
        low, high = (self.score.gather(0, k + i) for i in (0, 1))
        between = torch.lerp(low, high, share)
        low, high = (
            self.score.gather(0, i.clamp(0, N_SCORES - 1)) for i in (first, after - 1)
        )
        score = torch.where(after > first, (low + high) / 2, between)
        of_low, of_high = (end.clamp_min(NARROWEST) for end in self.ends())
        below = ((self.value[0] - x) / of_low).clamp_min(0)
        beyond = ((x - self.value[-1]) / of_high).clamp_min(0)
        low, high = self.score.diff(dim=0)[[0, -1]]
        return score + high * slowed(beyond) - low * slowed(below)

    def inverse(self, coordinates: Tensor) -> Tensor:
        """Return standardised rows; a value that was shared comes exactly."""
        inside = coordinates.clamp(self.score[0], self.score[-1])
        k = (inside[:, None] >= self.score[1:-1]).sum(dim=1)
        low, high = (self.score.gather(0, k + i) for i in (0, 1))
        share = (inside - low) / (high - low)
        share = torch.where(self.jump.gather(0, k) > 0, share.round(), share)
        low, high = (self.value.gather(0, k + i) for i in (0, 1))
        x = torch.lerp(low, high, share)
        over = coordinates - inside
        low, high = self.score.diff(dim=0)[[0, -1]]
        of_low, of_high = self.ends()
        x = x + over.clamp_max(0) * of_low / low + over.clamp_min(0) * of_high / high
        return self.marked(x, coordinates)

    def marked(self, x: Tensor, coordinates: Tensor) -> Tensor:
        """Return rows whose columns of two values have the one of the nearer score.

        Of each block one column has the larger value, the one that is nearest to it.
        """
        two = self.of_high > self.of_low
        nearness = (coordinates - self.of_low) / (self.of_high - self.of_low)
        nearness = torch.where(two, nearness, -torch.inf)
        x = torch.where(two, torch.where(nearness > 0.5, self.high, self.low), x)
        parts, end = [], 0
        for start, stop in self.blocks:
            nearest = nearness[:, start:stop].argmax(dim=1)
            mark = nearest[:, None] == torch.arange(stop - start, device=x.device)
            part = torch.where(mark, self.high[start:stop], self.low[start:stop])
            varies = two[start:stop]
            parts += [x[:, end:start], torch.where(varies, part, x[:, start:stop])]
            end = stop
        return torch.cat([*parts, x[:, end:]], dim=1)

    def exact(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Return rows in the user's units, shared values as they were given.

        Scaled and back, they are off by a rounding, which 0 is not expected to be.

        Parameters
        ----------
        x, drawn : Tensor of shape (n, n_columns)
            Standardised rows, and what they are in the user's units.
        """
        first, after = self.equal(x)
        last = (after - 1).clamp_min(0)
        value, other = (
            self.as_given.gather(0, k.clamp_max(N_SCORES - 1)) for k in (first, last)
        )
        drawn = torch.where((after > first + 1) & (value == other), value, drawn)
        drawn = torch.where(x == self.low, self.lowest, drawn)
        return torch.where(x == self.high, self.highest, drawn)
