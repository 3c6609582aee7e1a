"""Can a classifier tell real rows from synthetic ones?"""

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from skflowfm._checks import check_groups
from skflowfm.metrics._checks import (
    check_length,
    check_rows,
    check_same_columns,
    percentile_interval,
    private_generator,
)
from skflowfm.metrics._features import representation_features, standardised
from skflowfm.metrics._result import MetricResult

N_FOLDS = 5
N_TREES = 100
MIN_LEAF = 5
N_BOOTSTRAP = 200
MIN_NAMES = 5
MOST_DEALS = 20


def c2st_auc(
    X_real,
    X_synthetic,
    *,
    groups_real=None,
    groups_synthetic=None,
    random_state=None,
):
    """Cross-validated AUC of a forest that tells synthetic rows from real ones.

    The classifier two-sample test: 0.5 means that the forest cannot tell them apart,
    1 that it always can. The real rows are cut in two halves A and B; `value` pits A
    against as many synthetic rows, `floor` A against B, so that both are of the same
    size. Windows are described by fixed statistics (means, deviations, percentiles,
    differences, band powers, channel correlations), a table by its columns.

    A value well below 0.5 is not good news: it arises when synthetic rows repeat real
    ones, which the forest has then seen under the other label.

    Parameters
    ----------
    X_real : array-like of shape (n, n_channels, n_timesteps) or (n, n_features)
        At least 20 rows. More rows let the forest see smaller differences: compare
        AUCs at the same size only.
    X_synthetic : array-like with rows of the same shape
        At least 10 rows; rows beyond half the number of real ones are not used.
    groups_real : array-like of shape (n_real,), default=None
        Subject of each real row. Halves and folds then keep subjects together, so that
        recognising a person does not help. At least 4 subjects. Give them whenever
        several windows stem from one person.
    groups_synthetic : array-like of shape (n_synthetic,), default=None
        The same for the other side, where it has subjects: other people's real
        windows, say.
    random_state : None, int, Generator or RandomState, default=None
        For the halves, the folds, the forests and the bootstrap.

    Returns
    -------
    result : MetricResult
        `value`: mean AUC over 5 folds (fewer where there are fewer subjects). `floor`:
        the same for the two halves of the real rows; one cut, so that it scatters
        around 0.5, by about 0.1 with 20 subjects: average over several `random_state`.
        `interval`: 95 % of 200 bootstraps of the scored rows (of the
        subjects, where they are given), widened around `value` by
        ``sqrt(1 + k / (k - 1))`` for k folds because the forests of different folds
        share training rows [2]_. None where a side has fewer than 5 subjects.

    Raises
    ------
    ValueError
        If an input is not 2-D or 3-D, not finite, too short, or the rows differ in
        shape; if there are too few subjects.

    References
    ----------
    .. [1] D. Lopez-Paz, M. Oquab, "Revisiting classifier two-sample tests", ICLR 2017,
       arXiv 1610.06545.
    .. [2] C. Nadeau, Y. Bengio, "Inference for the generalization error", Machine
       Learning 52, 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from skflowfm.metrics import c2st_auc
    >>> rng = np.random.default_rng(0)
    >>> X_real, X_synthetic = rng.normal(size=(2, 200, 1))
    >>> c2st_auc(X_real, X_synthetic + 10, random_state=0).value
    1.0
    """
    check_same_columns(X_real=X_real, X_synthetic=X_synthetic)
    X_real = check_rows(X_real, "X_real", min_rows=20)
    X_synthetic = check_rows(
        X_synthetic, "X_synthetic", like=("X_real", X_real), min_rows=10
    )
    groups_real = _row_groups(groups_real, X_real, "real", 4)
    groups_synthetic = _row_groups(groups_synthetic, X_synthetic, "synthetic", 2)
    rng = private_generator(random_state)
    first, second = map(rng.permutation, _halves(groups_real, rng))
    size = min(len(first), len(second), len(X_synthetic))
    drawn = rng.choice(len(X_synthetic), size, replace=False)
    first, second = (_cut(side, size, groups_real) for side in (first, second))
    others = np.setdiff1d(np.arange(len(X_synthetic)), drawn)
    drawn = _cut(np.append(drawn, others), size, groups_synthetic)
    real, synthetic = standardised(*map(representation_features, (X_real, X_synthetic)))
    side_a = real[first], groups_real[first]
    side_b = synthetic[drawn], groups_synthetic[drawn]
    value_rng, floor_rng = rng.spawn(2)  # equal floors for equally many rows
    value, interval = _fold_auc(side_a, side_b, value_rng)
    floor, _ = _fold_auc(side_a, (real[second], groups_real[second]), floor_rng)
    return MetricResult(value, floor, interval)


def _row_groups(groups, X, suffix, min_groups):
    if groups is None:
        return np.arange(len(X))
    groups = check_length(groups, f"groups_{suffix}", X, f"X_{suffix}")
    groups = check_groups(groups, len(X))
    n_groups = len(np.unique(groups))
    if n_groups < min_groups:
        raise ValueError(
            f"groups_{suffix} must name at least {min_groups} subjects, got "
            f"{n_groups}. Leave it out to cut the rows at random."
        )
    return np.unique(groups, return_inverse=True)[1]


def _halves(groups, rng):
    """Cut rows in two parts of about equal size with no group in both.

    Each has two groups at least. A large group may be alone where it is dealt early, so
    then the order is drawn again, and at last it is that of the sizes.
    """
    _, sizes = np.unique(groups, return_counts=True)
    for order in (*(None,) * MOST_DEALS, np.argsort(sizes)):
        part = _deal(groups, 2, rng, order)
        halves = np.flatnonzero(part == 0), np.flatnonzero(part == 1)
        if min(len(np.unique(groups[half])) for half in halves) >= 2:
            break
    return halves


def _cut(rows, size, groups):
    """Return the first rows, and one of a second group in place of the last if need be.

    A group of few rows may have none among the first ones.
    """
    cut, others = rows[:size].copy(), rows[groups[rows] != groups[rows[0]]]
    if len(others) and np.all(groups[cut] == groups[rows[0]]):
        cut[-1] = others[0]
    return cut


def _deal(groups, n_parts, rng, order=None):
    """Deal groups in random order, each to the part with the fewest rows so far."""
    names, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    totals = np.zeros(n_parts)
    part_of_group = np.empty(len(names), dtype=int)
    for group in rng.permutation(len(names)) if order is None else order:
        part = int(np.argmin(totals))
        part_of_group[group] = part
        totals[part] += sizes[group]
    return part_of_group[inverse]


def _fold_auc(side_a, side_b, rng):
    """Mean AUC over folds that share no group, and its 95 % interval."""
    sides = side_a, side_b
    n_folds = min(N_FOLDS, *(len(np.unique(groups)) for _, groups in sides))
    if n_folds < 2:
        raise ValueError(
            "Each side must keep at least 2 subjects after the cut to equal size; "
            "give more subjects or leave the groups out."
        )
    folds = [_deal(groups, n_folds, rng) for _, groups in sides]
    scored = []
    for k in range(n_folds):
        forest = _forest(rng)
        train = [rows[fold != k] for (rows, _), fold in zip(sides, folds, strict=True)]
        forest.fit(np.concatenate(train), np.repeat([0, 1], [len(t) for t in train]))
        scores, groups = [], []
        for (rows, names), fold in zip(sides, folds, strict=True):
            scores.append(forest.predict_proba(rows[fold == k])[:, 1])
            groups.append(names[fold == k])
        scored.append((scores, groups))
    value = float(np.mean([_auc(scores) for scores, _ in scored]))
    if min(len(np.unique(groups)) for _, groups in sides) < MIN_NAMES:
        return value, None
    widening = np.sqrt(1 + n_folds / (n_folds - 1))
    draws = _bootstrap_auc(scored, rng)
    low, high = percentile_interval(value + widening * (draws - draws.mean()))
    return value, (max(low, 0.0), min(high, 1.0))


def _forest(rng):
    return RandomForestClassifier(
        n_estimators=N_TREES,
        min_samples_leaf=MIN_LEAF,
        random_state=int(rng.integers(2**31)),
    )


def _auc(scores):
    """Share of pairs in which the positive score is above the negative; ties half."""
    once = [np.ones((1, len(side))) for side in scores]
    return _wins(scores, once)[0] / np.prod([len(side) for side in scores])


def _wins(scores, counts):
    """Sum over pairs of 1 where the positive score is above, 1/2 where equal.

    ``counts`` says how often each score of the two sides counts, each of shape
    (n_repeats, n_scores).
    """
    negative, positive = scores
    order = np.argsort(negative)
    below = np.searchsorted(negative[order], positive, "left")
    up_to = np.searchsorted(negative[order], positive, "right")
    total = np.cumsum(counts[0][:, order], axis=1)
    total = np.concatenate([np.zeros((len(total), 1)), total], axis=1)
    return np.sum(counts[1] * (total[:, below] + total[:, up_to]), axis=1) / 2


def _bootstrap_auc(scored, rng):
    """AUC over all folds of resampled groups, which are each in one fold."""
    drawn = [
        _multiplicities(np.concatenate([names[side] for _, names in scored]), rng)
        for side in (0, 1)
    ]
    won, n_pairs, start = 0.0, 0.0, np.zeros(2, dtype=int)
    for scores, _ in scored:
        end = start + [len(side) for side in scores]
        counts = [m[:, a:b] for m, a, b in zip(drawn, start, end, strict=True)]
        won = won + _wins(scores, counts)
        n_pairs = n_pairs + np.prod([c.sum(axis=1) for c in counts], axis=0)
        start = end
    return won[n_pairs > 0] / n_pairs[n_pairs > 0]


def _multiplicities(groups, rng):
    """How often each row is drawn when its group is, shape (n_bootstrap, n_rows)."""
    names, inverse = np.unique(groups, return_inverse=True)
    share = np.full(len(names), 1 / len(names))
    drawn = rng.multinomial(len(names), share, size=N_BOOTSTRAP)
    return drawn[:, inverse].astype(float)
