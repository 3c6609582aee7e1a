"""Are training rows being repeated?"""

import math
import warnings

import numpy as np
from sklearn.metrics import pairwise_distances_argmin_min

from skflowfm.metrics._checks import check_rows, check_same_columns, private_generator
from skflowfm.metrics._features import standardised
from skflowfm.metrics._result import MetricResult

Z_95 = 1.959963984540054
FEW_SHARED = 0.1


def nearest_neighbour_copy(X_train, X_synthetic, X_holdout, *, random_state=None):
    """Fraction of synthetic rows nearer to training than to held-out rows.

    A copy detector, not a privacy guarantee: rows that pass may still reveal who was
    in the training set [1]_. It compares values step by step, so that a copy moved in
    time escapes it.

    For every synthetic row the nearest neighbour is sought among the training rows and
    among equally many held-out rows. A generator that has learned the law of the data
    is as often nearer to one as to the other; one that repeats its training rows is
    nearer to them. Distances are Euclidean after division of each channel (of each
    column of a table) by its standard deviation in the training rows. A tie counts
    half.

    Parameters
    ----------
    X_train : array-like of shape (n, n_channels, n_timesteps) or (n, n_features)
        Rows the generator was fitted on. The larger of `X_train` and `X_holdout` is
        subsampled to the size of the smaller: copies of rows that drop out are missed,
        so that a holdout as large as the training set detects best. At least 4 rows.
    X_synthetic, X_holdout : array-like with rows of the same shape
        At least two held-out rows, of the same population; where they are other
        people, `floor` shows how far that alone moves the fraction. None of them may be
        a training row: copies of it tie, and so look like no copying.
    random_state : None, int, Generator or RandomState, default=None
        For the subsampling and the floor.

    Returns
    -------
    result : MetricResult
        `value`: 0.5 means no copying, 1 that every row is nearest to a training row.
        `floor`: the fraction of one half of the training rows that is nearer to the
        other half than to as many held-out rows; about 0.5 unless the held-out rows
        follow another law. `interval`: Wilson's binomial interval over the synthetic
        rows, given the training and held-out rows.

    Raises
    ------
    ValueError
        If an input is not 2-D or 3-D, not finite, or the rows differ in shape.

    Warns
    -----
    UserWarning
        If more than a tenth of the held-out rows are training rows too.

    References
    ----------
    .. [1] "The DCR Delusion: Measuring the Privacy Risk of Synthetic Data", 2025,
       arXiv 2505.01524.
    .. [2] E. B. Wilson, "Probable inference, the law of succession, and statistical
       inference", J. American Statistical Association 22, 1927.

    Examples
    --------
    >>> import numpy as np
    >>> from skflowfm.metrics import nearest_neighbour_copy
    >>> rng = np.random.default_rng(0)
    >>> X_train, X_holdout = rng.normal(size=(2, 300, 5))
    >>> nearest_neighbour_copy(X_train, X_train, X_holdout, random_state=0).value
    1.0
    """
    check_same_columns(X_train=X_train, X_synthetic=X_synthetic, X_holdout=X_holdout)
    X_train = check_rows(X_train, "X_train", min_rows=4)
    like = ("X_train", X_train)
    X_synthetic = check_rows(X_synthetic, "X_synthetic", like=like, min_rows=1)
    X_holdout = check_rows(X_holdout, "X_holdout", like=like)
    if note := note_on_shared(X_train, X_holdout, "X_train", "X_holdout"):
        warnings.warn(note, UserWarning, stacklevel=2)
    return share_of_copies(X_train, X_synthetic, X_holdout, random_state)


def note_on_shared(train, holdout, train_name, holdout_name):
    """Return what to say where held-out rows are training rows, or None."""
    known = {row.tobytes() for row in train}
    shared = sum(row.tobytes() in known for row in holdout)
    if shared <= FEW_SHARED * len(holdout):
        return None
    return (
        f"{shared} of {len(holdout)} rows of {holdout_name} are rows of {train_name} "
        "too: copies of them count half, as if nothing were copied. Hold out rows that "
        "the generator has not seen."
    )


def share_of_copies(X_train, X_synthetic, X_holdout, random_state):
    """Return the measure of rows that have been checked."""
    rng = private_generator(random_state)
    axes = (0, 2) if X_train.ndim == 3 else (0,)
    train, synthetic, holdout = (
        X.reshape(len(X), -1)
        for X in standardised(X_train, X_synthetic, X_holdout, axes=axes)
    )
    value = _fraction_nearer(synthetic, train, holdout, rng)
    order = rng.permutation(len(train))
    half = len(train) // 2
    floor = _fraction_nearer(train[order[:half]], train[order[half:]], holdout, rng)
    return MetricResult(value, floor, _wilson_interval(value, len(synthetic)))


def _fraction_nearer(rows, train, holdout, rng):
    size = min(len(train), len(holdout))
    to_train, to_holdout = (
        pairwise_distances_argmin_min(
            rows, reference[rng.permutation(len(reference))[:size]]
        )[1]
        for reference in (train, holdout)
    )
    nearer, tie = to_train < to_holdout, to_train == to_holdout
    return float(np.mean(nearer) + 0.5 * np.mean(tie))


def _wilson_interval(fraction, n):
    spread = Z_95**2 / n
    centre = (fraction + spread / 2) / (1 + spread)
    half_width = math.sqrt(spread * fraction * (1 - fraction) + spread**2 / 4) / (
        1 + spread
    )
    return max(0.0, centre - half_width), min(1.0, centre + half_width)
