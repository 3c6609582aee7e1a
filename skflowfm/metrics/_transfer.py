"""Does a classifier trained on synthetic rows work on real ones?"""

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skflowfm.metrics._checks import (
    check_classes,
    check_rows,
    check_same_classes,
    check_same_columns,
    check_several,
    percentile_interval,
    private_generator,
)
from skflowfm.metrics._features import representation_features
from skflowfm.metrics._result import TransferResult, TransferScore

REMEDY = {
    "synthetic": "Request rows of every class from the generator.",
    "train": "Give rows of every class.",
}
N_TREES = 200
N_BOOTSTRAP = 200


def train_on_synthetic(
    X_synthetic,
    y_synthetic,
    X_test,
    y_test,
    *,
    X_train=None,
    y_train=None,
    random_state=None,
):
    """Macro-F1 on real test rows after training on synthetic rows (TSTR).

    Two fixed classifiers, logistic regression on standardised features, with as many
    iterations as it takes, and a random forest of 200 trees. Windows are
    described by fixed statistics, a table by its columns. Give the real training rows
    to have the same classifiers trained on them (TRTR): only the ratio says
    whether synthetic rows can replace real ones.

    Parameters
    ----------
    X_synthetic : array-like of shape (n, n_channels, n_timesteps) or (n, n_features)
    y_synthetic : array-like of shape (n,)
        Labels of the synthetic rows, two classes or more.
    X_test : array-like with rows of the same shape
        Real rows the generator has not seen; of other subjects, where there are
        subjects.
    y_test : array-like of shape (n_test,)
    X_train, y_train : array-like, default=None
        The real rows the generator was fitted on, both or none. Use as many synthetic
        rows as real ones, in the same class proportions, for a fair ratio.
    random_state : None, int, Generator or RandomState, default=None
        For the forests and the bootstrap. The two trainings share the forest's seed.

    Returns
    -------
    result : TransferResult
        ``result.logistic`` and ``result.forest``, each with ``synthetic`` (TSTR),
        ``real`` (TRTR), ``ratio``, ``interval`` and the recall of each class,
        ``recall_synthetic`` and ``recall_real``. F1 is averaged over the classes of
        `y_test`; a class never predicted counts 0. The interval resamples the
        test rows of each class 200 times with the classifier fixed; test windows of
        one subject are dependent, so that it is then too narrow.

    Raises
    ------
    ValueError
        If shapes or lengths disagree, if training labels hold one class, or none of
        `y_test`, if labels are no classes, if only one of `X_train` and `y_train` is
        given.

    References
    ----------
    .. [1] C. Esteban, S. Hyland, G. Ratsch, "Real-valued (medical) time series
       generation with recurrent conditional GANs", 2017, arXiv 1706.02633.

    Examples
    --------
    >>> import numpy as np
    >>> from skflowfm.metrics import train_on_synthetic
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 50)
    >>> X, X_new, X_test = (rng.normal(size=(100, 2)) + 2 * y[:, None] for _ in "abc")
    >>> result = train_on_synthetic(
    ...     X_new, y, X_test, y, X_train=X, y_train=y, random_state=0
    ... )
    >>> result.logistic.real > 0.85, abs(result.logistic.ratio - 1) < 0.1
    (True, True)
    """
    if (X_train is None) != (y_train is None):
        raise ValueError("Give both X_train and y_train, or none of them.")
    check_same_columns(X_test=X_test, X_synthetic=X_synthetic, X_train=X_train)
    X_test = check_rows(X_test, "X_test", min_rows=1)
    y_test = check_classes(y_test, "y_test", X_test, "X_test")
    X_test_features = representation_features(X_test)
    rng = private_generator(random_state)
    seed = int(rng.integers(2**31))
    synthetic = _training_set(X_synthetic, y_synthetic, "synthetic", X_test)
    real = None
    if X_train is not None:
        real = _training_set(X_train, y_train, "train", X_test)
    sides = {"y_test": y_test, "y_synthetic": synthetic[1]}
    check_same_classes(**sides, **({} if real is None else {"y_train": real[1]}))
    scores = []
    for classifier in classifiers(seed):
        predicted = [
            classifier.fit(*rows).predict(X_test_features)
            for rows in (synthetic, real)
            if rows is not None
        ]
        scores.append(_score(y_test, *predicted, rng=rng))
    return TransferResult(*scores)


def classifiers(seed):
    """Return the two fixed classifiers, unfitted."""
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    forest = RandomForestClassifier(n_estimators=N_TREES, random_state=seed)
    return logistic, make_pipeline(StandardScaler(), forest)


def _training_set(X, y, suffix, X_test):
    X = check_rows(X, f"X_{suffix}", like=("X_test", X_test))
    y = check_classes(y, f"y_{suffix}", X, f"X_{suffix}")
    check_several(y, f"y_{suffix}", REMEDY[suffix])
    return representation_features(X), y


def _macro_f1(y_test, predicted):
    return float(
        f1_score(
            y_test,
            predicted,
            labels=np.unique(y_test),
            average="macro",
            zero_division=0,
        )
    )


def _score(y_test, synthetic, real=None, *, rng):
    """Score what was predicted after synthetic rows and, if at all, after real ones."""
    tstr = _macro_f1(y_test, synthetic)
    trtr = None if real is None else _macro_f1(y_test, real)
    ratio = tstr / trtr if trtr else None
    interval = percentile_interval(_bootstrap_f1(y_test, synthetic, rng))
    recall = _recall(y_test, synthetic), None if real is None else _recall(y_test, real)
    return TransferScore(tstr, trtr, ratio, interval, *recall)


def _recall(y_test, predicted):
    labels = np.unique(y_test)
    hit = np.asarray(y_test) == np.asarray(predicted)
    return {
        label: float(hit[y_test == value].mean())
        for label, value in zip(labels.tolist(), labels, strict=True)
    }


def _bootstrap_f1(y_test, predicted, rng):
    """Macro-F1 of test rows resampled within each class, from confusion counts."""
    tested = np.unique(y_test)
    classes = np.concatenate([tested, np.setdiff1d(predicted, tested)])
    confusion = confusion_matrix(y_test, predicted, labels=classes)[: len(tested)]
    support = confusion.sum(axis=1)
    draws = np.stack(
        [
            rng.multinomial(n, row / n, size=N_BOOTSTRAP)
            for n, row in zip(support, confusion, strict=True)
        ],
        axis=1,
    )[:, :, : len(tested)]
    hits = np.diagonal(draws, axis1=1, axis2=2)
    return np.mean(2 * hits / (support + draws.sum(axis=1)), axis=1)
