"""Who is in which fold, which labels are shown, and how a subject is scored."""

import numpy as np
from sklearn.metrics import f1_score
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold

N_RESAMPLES = 2000


def subject_folds(data, n_folds, seed):
    """Lists of (train, test) row indices that share no subject; 0 folds: one each."""
    n_subjects = len(np.unique(data.groups))
    if n_folds == 0 or n_folds >= n_subjects:
        splitter = LeaveOneGroupOut()
    else:
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    folds = list(splitter.split(data.X, data.y, data.groups))
    for train, test in folds:
        assert not set(data.groups[train]) & set(data.groups[test])
        assert len(test) > 0
    assert np.array_equal(
        np.sort(np.concatenate([test for _, test in folds])), np.arange(len(data.y))
    )
    return folds


def draw_per_class(y, n, seed):
    """Return positions of ``n`` rows of each class, or all that it has."""
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(y == c))[:n] for c in np.unique(y)]
    return np.sort(np.concatenate(drawn))


def interval(values, seed=0):
    """Return a 95 % bootstrap interval of the mean."""
    rng = np.random.default_rng(seed)
    means = rng.choice(values, (N_RESAMPLES, len(values))).mean(axis=1)
    return np.percentile(means, [2.5, 97.5])


def draw_labels(y, fraction, seed):
    """Positions of a share of the labels, the same in each class, at least one each."""
    rng = np.random.default_rng(seed)
    drawn = []
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        n = max(1, round(fraction * len(rows)))
        drawn.append(rng.permutation(rows)[:n])
    return np.sort(np.concatenate(drawn))


def subject_scores(y, predicted, groups):
    """Macro-F1 of each subject over the classes that subject performed."""
    scores = {}
    for subject in np.unique(groups):
        rows = groups == subject
        scores[subject] = f1_score(
            y[rows],
            predicted[rows],
            labels=np.unique(y[rows]),
            average="macro",
            zero_division=0,
        )
    return scores
