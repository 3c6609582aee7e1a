"""How good are synthetic rows of tables?

A half of each table trains, with its labels for which class to draw; as many rows are
drawn, in the same proportions, and compared with the other half. Beside FlowFM: SMOTE,
and a normal distribution for each class.

    python benchmarks/table_generation.py --seeds 0 1
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from _common import print_environment, write_rows
from _made_tables import MADE
from generation import smote
from sklearn import datasets
from sklearn.utils import Bunch

from skflowfm import FlowFMSampler, FlowFMTransformer
from skflowfm.metrics import (
    c2st_auc,
    nearest_neighbour_copy,
    precision_recall,
    train_on_synthetic,
)

REAL = {
    "breast cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
    "wine": datasets.load_wine,
}
N_ROWS = 1000


def load(name, seed):
    """Return X and y, shuffled."""
    if name in MADE:
        return MADE[name](N_ROWS, seed)
    X, y = REAL[name](return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    return X[order], y[order]


def normal(split, seed):
    """Rows of the normal distribution of each class."""
    rng, drawn = np.random.default_rng(seed), []
    for label, n in split.counts.items():
        rows = split.X[split.y == label]
        drawn.append(
            rng.multivariate_normal(
                rows.mean(axis=0), np.cov(rows.T), n, check_valid="ignore"
            )
        )
    return np.concatenate(drawn), np.repeat(
        list(split.counts), list(split.counts.values())
    )


def flowfm(split, seed):
    """Rows of the default model."""
    sampler = FlowFMSampler(FlowFMTransformer(random_state=seed), random_state=seed)
    return sampler.fit(split.X, split.y).sample(class_counts=split.counts)


METHODS = {"FlowFM": flowfm, "SMOTE": smote, "normal": normal}


def judge(split, X, y, seed):
    """Return {measure: value}."""
    transfer = train_on_synthetic(
        X,
        y,
        split.X_test,
        split.y_test,
        X_train=split.X,
        y_train=split.y,
        random_state=seed,
    )
    copies = nearest_neighbour_copy(split.X, X, split.X_test, random_state=seed)
    return {
        "forest": transfer.forest.synthetic,
        "logistic": transfer.logistic.synthetic,
        "forest_real": transfer.forest.real,
        "logistic_real": transfer.logistic.real,
        "c2st_auc": c2st_auc(split.X_test, X, random_state=seed).value,
        "coverage": precision_recall(split.X_test, X, random_state=seed).coverage.value,
        "copies": copies.value,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*REAL, *MADE]
    parser.add_argument("--tables", nargs="+", default=names, choices=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--out", default="out/table_generation.csv", help="replaced if it exists"
    )
    arguments = parser.parse_args()
    print_environment()
    out = Path(arguments.out)
    out.unlink(missing_ok=True)
    rows = []
    for name in arguments.tables:
        for seed in arguments.seeds:
            X, y = load(name, seed)
            half = len(y) // 2
            labels, numbers = np.unique(y[:half], return_counts=True)
            counts = dict(zip(labels.tolist(), numbers.tolist(), strict=True))
            split = Bunch(X=X[:half], y=y[:half], counts=counts)
            split.X_test, split.y_test = X[half:], y[half:]
            for method, draw in METHODS.items():
                found = judge(split, *draw(split, seed), seed)
                found = {k: round(float(v), 6) for k, v in found.items()}
                rows.append({"table": name, "method": method, "seed": seed, **found})
                write_rows(out, rows[-1:])
        part = pd.DataFrame([row for row in rows if row["table"] == name])
        part = part.drop(columns=["seed", "table"]).groupby("method", sort=False)
        print(name, part.mean().round(3).to_string(), sep="\n", flush=True)


if __name__ == "__main__":
    main()
