r"""Scaling, and the coordinates in which the flow works.

A window at rest moves a hundred times less than a running one. Under one global scale
the squared error cannot see its shape. The flow therefore works on the window's level,
log-scale and *shape*, per window and channel:

.. math::

    x = \ell + e^{s}\, w, \qquad
    \ell = \operatorname{mean}(x), \quad e^{s} = \max(\operatorname{std}(x), \epsilon).

The map is one-to-one, so this is the same flow matching in other coordinates: a row of
C channels and T steps becomes C x (T + 2) numbers, the last two columns being the
standardised :math:`\ell` and :math:`s`. The encoder never sees these coordinates: it
gets the window under one global scale per channel, in which gravity and amplitude
(that is, posture and intensity) are intact.
"""

import math

import torch
from torch import Tensor, nn

FLOOR = 1e-3
FARTHEST = 1e6
LEVEL_SHARE = 0.1
N_SCORES, LARGEST_SCORE, END_STEPS = 129, 3.0, 4
NARROWEST, FAR_BEYOND = 1e-5, 20
JUMP, SHORTEST_JUMP, FARTHEST_JUMP, THIN_TAIL = 3, 0.25, 1.0, 0.02


def mirrored_spectrum(x: Tensor) -> Tensor:
    """Return the Fourier transform of windows followed by their mirror images.

    The mirror image joins the ends, which a transform of the window alone would take
    for a jump: so this is the discrete cosine transform (DCT-II), but for phases.

    **Shape.** (..., T) to (..., T + 1), from frequency 0 to half of the sampling rate.
    """
    return torch.fft.rfft(torch.cat([x, x.flip(-1)], dim=-1))


def equalised(coordinates: Tensor, gain: Tensor) -> Tensor:
    """Return window coordinates, the frequencies of their shapes times ``gain``.

    Parameters
    ----------
    coordinates : Tensor of shape (n, C, T + 2)
        As :class:`WindowCoordinates` has them.
    gain : array of shape (C, T + 1)
        For each channel and frequency of :func:`mirrored_spectrum`.
    """
    shape, summary = coordinates[..., :-2], coordinates[..., -2:]
    n = shape.shape[-1]
    spectrum = mirrored_spectrum(shape) * torch.as_tensor(gain, device=shape.device)
    shape = torch.fft.irfft(spectrum, n=2 * n)[..., :n]
    return torch.cat([shape, summary], dim=-1)


class Standardise(nn.Module):
    """Global standardisation per channel, learned once: ``(x - mean) / scale``.

    What is farther out than a million counts as a million: squares of squares of it are
    still finite in float32.

    Parameters
    ----------
    mean, scale : Tensor broadcastable to a row
        (n_channels, 1) for windows, (n_features,) for tables; ``scale`` is positive.
    spread : Tensor of the same shape, default=None
        What drawn rows are scaled by, 0 where the data are constant; None is ``scale``.
    """

    def __init__(self, mean: Tensor, scale: Tensor, spread: Tensor | None = None):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.register_buffer("spread", scale.clone() if spread is None else spread)

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.scale).clamp(-FARTHEST, FARTHEST)

    def inverse(self, x: Tensor) -> Tensor:
        """Return to the user's units."""
        return x * self.scale + self.mean

    def drawn(self, x: Tensor) -> Tensor:
        """Return drawn rows in the user's units: what was constant is so exactly."""
        return x * self.spread + self.mean

    def wake(self, mean: Tensor, spread: Tensor, few: bool = False) -> Tensor:
        """Let vary what was constant, where these moments of new rows say it does.

        Nothing was learned of its scale, so it gets theirs. Where they are constant
        again, or ``few`` that may vary more later, it is the distance from the old
        constant, if that is more. Returns which channels or columns these are.
        """
        mean, spread = mean.to(self.mean.device), spread.to(self.mean.device)
        distance = (mean - self.mean).abs()
        moved = distance > 1e-6 * self.mean.abs()
        awake = (self.spread == 0) & ((spread > 0) | moved)
        scale = torch.maximum(spread, distance)
        scale = scale if few else torch.where(spread > 0, spread, scale)
        self.mean.copy_(torch.where(awake & (spread > 0), mean, self.mean))
        self.scale.copy_(torch.where(awake, scale, self.scale))
        self.spread.copy_(torch.where(awake, scale, self.spread))
        return awake


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


class WindowCoordinates(nn.Module):
    """Coordinates of windows: shape, level and log-scale of each channel.

    **Shape.** Windows (n, C, T); coordinates (n, C, T + 2).

    Parameters
    ----------
    n_channels, n_timesteps : int
        C and T.
    """

    def __init__(self, n_channels: int, n_timesteps: int):
        super().__init__()
        for name in ("centre", "spread", "lowest", "highest"):
            self.register_buffer(name, torch.zeros(n_channels, 2))
        weight = torch.full(
            (n_timesteps + 2,), (1 - LEVEL_SHARE) * (n_timesteps + 2) / n_timesteps
        )
        weight[n_timesteps:] = LEVEL_SHARE * (n_timesteps + 2) / 2
        self.register_buffer("weight", weight)

    @staticmethod
    def split(x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shapes (n, C, T) and the levels and log-scales (n, C, 2)."""
        level = x.mean(dim=-1, keepdim=True)
        scale = x.std(dim=-1, keepdim=True, correction=0).clamp_min(FLOOR)
        return (x - level) / scale, torch.cat([level, scale.log()], dim=-1)

    def fit(self, x: Tensor) -> None:
        """Learn how levels and log-scales spread, from standardised windows."""
        _, summary = self.split(x)
        self.centre.copy_(summary.mean(dim=0))
        spread = summary.std(dim=0, correction=0)
        self.spread.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))
        self.lowest.copy_(summary.amin(dim=0))
        self.highest.copy_(summary.amax(dim=0))

    def refit(self, x: Tensor, which: Tensor) -> None:
        """Learn anew how levels and log-scales of some channels spread."""
        new = WindowCoordinates(*x.shape[1:])
        new.fit(x)
        for name in ("centre", "spread", "lowest", "highest"):
            old = getattr(self, name)
            old.copy_(torch.where(which, getattr(new, name).to(old.device), old))

    def forward(self, x: Tensor) -> Tensor:
        shape, summary = self.split(x)
        return torch.cat([shape, (summary - self.centre) / self.spread], dim=-1)

    def exact(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Return ``drawn``, as no value of a window is shared."""
        return drawn

    def inverse(self, coordinates: Tensor) -> Tensor:
        """Return windows; levels and log-scales are kept within what ``fit`` saw.

        A drawn shape need not have mean 0 and scale 1 exactly, so it is given them:
        the level and scale drawn with it then say where the window lies.
        """
        shape, summary = coordinates[..., :-2], coordinates[..., -2:]
        shape, _ = self.split(shape)
        summary = summary * self.spread + self.centre
        summary = summary.clamp(self.lowest, self.highest)
        level, log_scale = summary[..., :1], summary[..., 1:]
        return level + log_scale.exp() * shape
