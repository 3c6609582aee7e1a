"""Mean absolute difference of mean profiles, with its floor and interval."""

import numpy as np

from skflowfm.metrics._checks import percentile_interval
from skflowfm.metrics._result import MetricResult

N_SPLITS = 20
N_BOOTSTRAP = 200


def profile_distance(real, synthetic, rng):
    """Compare the mean rows of two samples entry by entry.

    Parameters
    ----------
    real, synthetic : ndarray of shape (n, n_entries)
        One profile (a spectrum, say) per row of data; at least 4 real ones.
    rng : numpy Generator
        For the splits of the floor and the bootstrap.

    Returns
    -------
    result : MetricResult
        `floor`: mean distance of 20 random splits of the real profiles in halves,
        carried over to the sizes compared. `interval`: the spread over 200 bootstraps
        of both sides, moved to have the mean `value`, since resampling inflates an
        absolute difference.
    """
    value = _distance(real.mean(axis=0), synthetic.mean(axis=0))
    return MetricResult(
        value,
        _split_floor(real, len(synthetic), rng),
        _bootstrap(real, synthetic, value, rng),
    )


def _distance(first, second):
    return float(np.mean(np.abs(first - second)))


def _split_floor(real, n_synthetic, rng):
    half = len(real) // 2
    distances = []
    for _ in range(N_SPLITS):
        order = rng.permutation(len(real))
        halves = real[order[:half]], real[order[half : 2 * half]]
        distances.append(_distance(*(rows.mean(axis=0) for rows in halves)))
    size_ratio = (1 / len(real) + 1 / n_synthetic) / (2 / half)
    return float(np.mean(distances) * np.sqrt(size_ratio))


def _bootstrap(real, synthetic, value, rng):
    draws = np.array(
        [
            _distance(_resampled_mean(real, rng), _resampled_mean(synthetic, rng))
            for _ in range(N_BOOTSTRAP)
        ]
    )
    low, high = percentile_interval(draws - draws.mean() + value)
    return max(low, 0.0), high


def _resampled_mean(rows, rng):
    counts = np.bincount(rng.integers(len(rows), size=len(rows)), minlength=len(rows))
    return counts @ rows / len(rows)
