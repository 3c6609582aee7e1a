"""Distances between two clouds of rows in a space of features."""

import numpy as np
from sklearn.metrics import pairwise_distances

from skflowfm._checks import check_count
from skflowfm.metrics._checks import (
    check_rows,
    check_same_columns,
    percentile_interval,
    private_generator,
)
from skflowfm.metrics._features import embed, standardised
from skflowfm.metrics._result import CoverageResult, MetricResult, PermutationResult

N_BOOTSTRAP = 200
MAX_ROWS = 2000
N_HALVES = 20
MOST = 1.0, 1.0, np.inf, 1.0  # of precision, recall, density and coverage


def frechet_distance(X_real, X_synthetic, *, embedding=None, random_state=None):
    r"""Fréchet distance of two clouds, taken as Gaussian, in a space of features.

    .. math:: \lVert \mu - \mu' \rVert^2
        + \operatorname{tr}(\Sigma + \Sigma' - 2 (\Sigma \Sigma')^{1/2}),

    as the FID of images [1]_. It falls with the number of rows: `value` and `floor`
    are computed from equally many, compare others at the same number only.

    Parameters
    ----------
    X_real : array-like of shape (n, n_channels, n_timesteps) or (n, n_features)
        At least 4 rows, better many more than features.
    X_synthetic : array-like with rows of the same shape
        As many as half of the real ones are used, at most 2,000, drawn at random.
    embedding : transformer or callable, default=None
        A fitted transformer, such as :class:`~skflowfm.FlowFMTransformer`, or a
        function from rows to (n, n_features). None is fixed statistics of a window (the
        columns of a table), standardised by the half of the real rows that the
        others are compared with. A function gets an array, a
        transformer that was fitted on a frame gets frames. The choice moves the number
        more than the generator does [2]_, and the generator's own encoder flatters it:
        report None as well.
    random_state : None, int, Generator or RandomState, default=None
        For the halves and the bootstrap.

    Returns
    -------
    result : MetricResult
        `value`: one half of the real rows against as many synthetic ones. `floor`:
        against the other half. `interval`: the spread over 200 bootstraps of both
        sides, moved so that its mean is `value` (resampling inflates the distance).

    Raises
    ------
    ValueError, TypeError
        If an input is not 2-D or 3-D, not finite, too short, or the rows differ in
        shape; if `embedding` does not return finite features.

    References
    ----------
    .. [1] M. Heusel et al., "GANs trained by a two time-scale update rule converge to a
       local Nash equilibrium", NeurIPS 2017.
    .. [2] "STEB: In Search of the Best Evaluation Approach for Synthetic Time Series",
       2025, arXiv 2505.21160.

    Examples
    --------
    >>> import numpy as np
    >>> from skflowfm.metrics import frechet_distance
    >>> X = np.random.default_rng(0).normal(size=(4000, 2))
    >>> result = frechet_distance(X, X + [3, 0], random_state=0)
    >>> round(result.value), round(result.floor)
    (9, 0)
    """
    first, second, synthetic, rng = _scaled_samples(
        X_real, X_synthetic, embedding, random_state
    )
    value = _frechet(first, synthetic)
    draws = np.array(
        [
            _frechet(_resampled(first, rng), _resampled(synthetic, rng))
            for _ in range(N_BOOTSTRAP)
        ]
    )
    low, high = percentile_interval(draws - draws.mean() + value)
    return MetricResult(value, _frechet(first, second), (max(low, 0.0), high))


def mmd(X_real, X_synthetic, *, embedding=None, n_permutations=500, random_state=None):
    r"""Squared maximum mean discrepancy, with a permutation test of equal laws.

    The unbiased estimate with a Gaussian kernel whose width is the median distance of
    the rows [1]_: 0 in expectation, and so at times below, for equal laws. So smooth a
    kernel sees levels and spreads before fine structure.

    Parameters
    ----------
    X_real, X_synthetic, embedding
        As in :func:`frechet_distance`. With None, features are standardised by the
        rows of both sides together: scaled by one side, the two could be told apart by
        that alone.
    n_permutations : int, default=500
        Random relabellings; the smallest p-value is one over them plus one.
    random_state : None, int, Generator or RandomState, default=None
        For the halves and the relabellings.

    Returns
    -------
    result : PermutationResult
        `value`: one half of the real rows against as many synthetic ones; `floor`:
        against the other half; `p_value`. No `interval`: the test replaces it. Windows
        of one person are dependent, so that the test then rejects too often.

    Raises
    ------
    ValueError, TypeError
        As :func:`frechet_distance`, and for fewer than one permutation.

    References
    ----------
    .. [1] A. Gretton et al., "A kernel two-sample test", JMLR 13, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from skflowfm.metrics import mmd
    >>> X, X_new = np.random.default_rng(0).normal(size=(2, 300, 2))
    >>> mmd(X, X_new, random_state=0).p_value > 0.05
    True
    >>> round(mmd(X, X_new + 1, random_state=0).p_value, 3)
    0.002
    """
    check_count("n_permutations", n_permutations, low=1, optional=False)
    first, second, synthetic, rng = _three_samples(
        X_real, X_synthetic, embedding, random_state
    )
    side = np.repeat([1.0, -1.0], len(first))
    shuffled = np.stack([rng.permutation(side) for _ in range(n_permutations)])
    kernel = _kernel_of_both(embedding, first, synthetic)
    value = _unbiased_mmd(kernel, side[None])[0]
    draws = _unbiased_mmd(kernel, shuffled)
    same = 1e-12 * np.abs(kernel).mean()  # a relabelling back, up to rounding
    p_value = (1 + np.sum(draws >= value - same)) / (1 + n_permutations)
    kernel = _kernel_of_both(embedding, first, second)
    floor = _unbiased_mmd(kernel, side[None])[0]
    return PermutationResult(float(value), float(floor), None, float(p_value))


def precision_recall(
    X_real, X_synthetic, *, n_neighbors=5, embedding=None, random_state=None
):
    """How synthetic rows lie among real ones: precision, recall, density, coverage.

    The neighbourhood of a row is the ball out to its `n_neighbors`-th nearest row of
    its own side. Precision and recall count rows of one side in the union of the
    other's balls [1]_, density and coverage use the balls of the real rows alone [2]_.

    Parameters
    ----------
    X_real : array-like of shape (n, n_channels, n_timesteps) or (n, n_features)
        At least ``2 (n_neighbors + 1)`` rows.
    X_synthetic : array-like with rows of the same shape
        More than `n_neighbors` rows, of which as many are used as in
        :func:`frechet_distance`.
    n_neighbors : int, default=5
        Larger balls: precision, recall and coverage rise.
    embedding : transformer or callable, default=None
        As in :func:`frechet_distance`.
    random_state : None, int, Generator or RandomState, default=None
        For the halves.

    Returns
    -------
    result : CoverageResult
        ``precision``, ``recall``, ``density`` and ``coverage``, each with `value` (half
        of the real rows against synthetic ones), `floor` (against the other half; here
        the best to be hoped for) and `interval` (twice the spread that `value` has over
        20 random halves of both sides, neighbourhoods anew in each; None of fewer than
        ``2 (n_neighbors + 1)`` rows a side).

    Raises
    ------
    ValueError, TypeError
        As :func:`frechet_distance`, and for too few rows for `n_neighbors`.

    References
    ----------
    .. [1] T. Kynkäänniemi et al., "Improved precision and recall metric for assessing
       generative models", NeurIPS 2019.
    .. [2] M. F. Naeem et al., "Reliable fidelity and diversity metrics for generative
       models", ICML 2020.

    Examples
    --------
    Rows of one of two modes are precise, and cover half:

    >>> import numpy as np
    >>> from skflowfm.metrics import precision_recall
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 2)) + 100 * rng.integers(2, size=(400, 1))
    >>> result = precision_recall(X, rng.normal(size=(200, 2)), random_state=0)
    >>> result.precision.value > 0.8, round(result.coverage.value, 1)
    (True, 0.5)
    """
    first, second, synthetic, rng = _scaled_samples(
        X_real, X_synthetic, embedding, random_state
    )
    check_count("n_neighbors", n_neighbors, low=1, optional=False)
    if not 1 <= n_neighbors < len(first):
        raise ValueError(
            f"n_neighbors must lie between 1 and {len(first) - 1}, one less than the "
            f"rows of each side that are compared, got {n_neighbors!r}."
        )
    distances = _distances(first, synthetic)
    values = _neighbourhood_shares(*distances, n_neighbors)
    floors = _neighbourhood_shares(*_distances(first, second), n_neighbors)
    if len(first) < 2 * (n_neighbors + 1):
        spread = [None] * len(values)
    else:
        spread = _spread_of_halves(*distances, n_neighbors, rng)
    results = []
    for value, floor, s, most in zip(values, floors, spread, MOST, strict=True):
        interval = None
        if s is not None:
            interval = max(value - 1.96 * s, 0.0), min(value + 1.96 * s, most)
        results.append(MetricResult(value, floor, interval))
    return CoverageResult(*results)


def _three_samples(X_real, X_synthetic, embedding, random_state):
    """Halves A and B of the real points and equally many synthetic ones; and a rng."""
    check_same_columns(X_real=X_real, X_synthetic=X_synthetic)
    frames = X_real, X_synthetic
    X_real = check_rows(X_real, "X_real", min_rows=4)
    X_synthetic = check_rows(X_synthetic, "X_synthetic", like=("X_real", X_real))
    rng = private_generator(random_state)
    order = rng.permutation(len(X_real))
    size = min(len(X_real) // 2, len(X_synthetic), MAX_ROWS)
    drawn = rng.permutation(len(X_synthetic))[:size]
    named = hasattr(embedding, "feature_names_in_")
    if named and all(hasattr(X, "iloc") for X in frames):
        frames = frames[0], frames[1].iloc[drawn]
    else:
        frames = None
    real, synthetic = embed(embedding, X_real, X_synthetic[drawn], frames=frames)
    return real[order[:size]], real[order[size : 2 * size]], synthetic, rng


def _scaled_samples(X_real, X_synthetic, embedding, random_state):
    """The same, fixed features standardised by A: the other two are then on a par."""
    *samples, rng = _three_samples(X_real, X_synthetic, embedding, random_state)
    if embedding is None:
        samples = standardised(*samples, more=np.concatenate(samples[:2]))
    return *samples, rng


def _frechet(first, second):
    (mean, root, trace), (mean_2, root_2, trace_2) = map(_moments, (first, second))
    # tr (S S')^(1/2) is the sum of the singular values of one root times the other
    common = np.linalg.svd(root @ root_2.T, compute_uv=False).sum()
    return float(max(np.sum((mean - mean_2) ** 2) + trace + trace_2 - 2 * common, 0.0))


def _moments(points):
    """Mean, a root R of the covariance R' R, and its trace."""
    mean = points.mean(axis=0)
    root = (points - mean) / np.sqrt(max(len(points) - 1, 1))
    if len(root) > root.shape[1]:
        root = np.linalg.qr(root, mode="r")
    return mean, root, np.sum(root**2)


def _resampled(points, rng):
    return points[rng.integers(len(points), size=len(points))]


def _kernel_of_both(embedding, *sides):
    """Kernel matrix of the rows of both sides, which are scaled together."""
    points = np.concatenate(sides)
    return _gaussian_kernel(standardised(points)[0] if embedding is None else points)


def _gaussian_kernel(points):
    """Kernel matrix with a zero diagonal; the width is the median distance."""
    squared = pairwise_distances(points, metric="sqeuclidean")
    off_diagonal = squared[np.triu_indices(len(points), 1)]
    width = np.median(off_diagonal[off_diagonal > 0]) if off_diagonal.any() else 1.0
    kernel = np.exp(-squared / (2 * width))
    np.fill_diagonal(kernel, 0.0)
    return kernel


def _unbiased_mmd(kernel, sides):
    """Unbiased squared MMD for each row of +1 and -1, equally many of both."""
    n = kernel.shape[0] // 2
    total = kernel.sum()
    signed = np.einsum("pi,pi->p", sides @ kernel, sides)
    within, across = (total + signed) / 2, (total - signed) / 4
    return within / (n * (n - 1)) - 2 * across / n**2


def _distances(real, other):
    """Distances from real to other points, among real and among other ones."""
    return [pairwise_distances(*pair) for pair in ((real, other), (real,), (other,))]


def _neighbourhood_shares(between, among_real, among_other, k):
    """Precision, recall, density and coverage, from distances."""
    real_radius, other_radius = (
        np.partition(distances, k, axis=1)[:, k]
        for distances in (among_real, among_other)
    )
    in_real = between <= real_radius[:, None]
    in_other = between <= other_radius
    precision, recall = in_real.any(axis=0), in_other.any(axis=1)
    density, coverage = in_real.sum(axis=0) / k, in_real.any(axis=1)
    return [float(shares.mean()) for shares in (precision, recall, density, coverage)]


def _spread_of_halves(between, among_real, among_other, k, rng):
    """Standard deviation over random halves of both sides, which is that of the whole.

    Drawn without replacement, a half varies about the whole as the whole does about
    what it estimates; a bootstrap would put copies into the neighbourhoods.
    """
    n = len(among_real)
    size = n // 2
    shares = []
    for _ in range(N_HALVES):
        real, other = (rng.permutation(n)[:size] for _ in range(2))
        part = (
            between[np.ix_(real, other)],
            among_real[np.ix_(real, real)],
            among_other[np.ix_(other, other)],
        )
        shares.append(_neighbourhood_shares(*part, k))
    return (np.std(shares, axis=0) * np.sqrt(size / (n - size))).tolist()
