"""Tables that are made, each of a kind that people have: (n, seed) to X, y."""

import numpy as np
from sklearn.datasets import make_classification, make_moons


def straight(n, seed):
    """Twelve columns, six of which tell four classes apart."""
    return make_classification(
        n, 12, n_informative=6, n_classes=4, n_redundant=2, random_state=seed
    )


def integers(n, seed):
    """The same, rounded."""
    X, y = straight(n, seed)
    return np.round(X), y


def long_tails(n, seed):
    """Exponentials of twenty columns: most of the variance is a few large values."""
    X, y = make_classification(n, 20, n_informative=8, n_classes=3, random_state=seed)
    return np.exp(1.5 * X), y


def categories(n, seed):
    """Six columns of six categories, one-hot, and four of noise; the classes add up."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, 6, (n, 6))
    effect = np.random.default_rng(1).normal(size=(6, 6))
    sums = effect[np.arange(6), chosen].sum(axis=1)
    y = (sums + 0.7 * rng.normal(size=n) > 0).astype(int)
    one_hot = np.eye(6)[chosen].reshape(n, -1)
    return np.hstack([one_hot, rng.normal(size=(n, 4))]), y


def counts(n, seed):
    """Sixty counts, as of words, of five classes; rows differ in their sum."""
    rng = np.random.default_rng(seed)
    rate = np.random.default_rng(3).gamma(0.3, 1, (5, 60))
    y = rng.integers(0, 5, n)
    return rng.poisson(rate[y] * rng.gamma(2, 1, (n, 1))).astype(float), y


def moons(n, seed):
    """Two columns with a curved boundary."""
    return make_moons(n, noise=0.2, random_state=seed)


def curved(n, seed):
    """Forty columns of four hidden numbers; the sign of a product is the class."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 4))
    mixing = np.random.default_rng(4).normal(size=(4, 40))
    y = (hidden[:, 0] * hidden[:, 1] > 0).astype(int)
    return np.tanh(hidden @ mixing) + 0.2 * rng.normal(size=(n, 40)), y


MADE = {
    "straight": straight,
    "integers": integers,
    "long tails": long_tails,
    "categories": categories,
    "counts": counts,
    "moons": moons,
    "curved": curved,
}
