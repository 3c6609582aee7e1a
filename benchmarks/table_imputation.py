"""How good are gaps of tables filled?

Two thirds of the rows train, without labels; a fifth of the values of the others are
left out at random. Twenty draws of FlowFM's `impute` are judged one by one, by their
mean, and by how often the truth lies between the second and the nineteenth of them (of
twenty draws of the true distribution, 81 % of the time). Beside it the mean of the
column, scikit-learn's KNNImputer and IterativeImputer, which give one answer each.

    python benchmarks/table_imputation.py --seeds 0 1 2

Errors are root mean squares over the missing values, in deviations of the column.
"""

import argparse

import numpy as np
import pandas as pd
from _common import new_output, print_environment, write_rows
from sklearn import datasets
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from skflowfm import FlowFMSampler, FlowFMTransformer

TABLES = {
    "breast cancer": datasets.load_breast_cancer,
    "diabetes": datasets.load_diabetes,
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
}
RIVALS = {
    "mean": lambda seed: SimpleImputer(),
    "neighbours": lambda seed: KNNImputer(),
    "iterative": lambda seed: IterativeImputer(random_state=seed),
}
MISSING, N_DRAWS = 0.2, 20


def split(name, seed):
    """Return training rows, rows to be judged on, and which of their values miss."""
    X, _ = TABLES[name](return_X_y=True)
    rng = np.random.default_rng(seed)
    X = ((X - X.mean(axis=0)) / X.std(axis=0))[rng.permutation(len(X))]
    train, test = X[len(X) // 3 :], X[: len(X) // 3]
    gaps = rng.random(test.shape) < MISSING
    gaps[gaps.all(axis=1), 0] = False
    return train, test, gaps


def run_table(name, seed):
    """Return {(method, measure): value}."""
    train, test, gaps = split(name, seed)
    holed = np.where(gaps, np.nan, test)

    def rmse(X):
        return np.sqrt(np.mean((X - test)[gaps] ** 2))

    found = {
        (method, "rmse"): rmse(make(seed).fit(train).transform(holed))
        for method, make in RIVALS.items()
    }
    transformer = FlowFMTransformer(random_state=seed)
    sampler = FlowFMSampler(transformer, random_state=seed).fit(train)
    draws = [sampler.impute(holed, random_state=s) for s in range(N_DRAWS)]
    found["FlowFM, one draw", "rmse"] = np.mean([rmse(X) for X in draws])
    found["FlowFM, mean of draws", "rmse"] = rmse(np.mean(draws, axis=0))
    low, *_, high = np.sort(draws, axis=0)[1:-1]
    inside = (low <= test) & (test <= high)
    found["FlowFM, draws", "truth between them"] = inside[gaps].mean()
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    add("--seeds", nargs="+", type=int, default=[0])
    add("--out", default="out/table_imputation.csv", help="replaced if it exists")
    options = parser.parse_args()
    print_environment()
    out = new_output(options)
    for name in options.tables:
        for seed in options.seeds:
            for (method, metric), value in run_table(name, seed).items():
                row = {"table": name, "method": method, "seed": seed}
                row |= {"metric": metric, "value": round(float(value), 6)}
                write_rows(out, [row])
        print(name, flush=True)
    rows = pd.read_csv(out)
    keys = ["metric", "method", "table"]
    print(rows.groupby(keys, sort=False).value.mean().unstack().round(3).to_string())


if __name__ == "__main__":
    main()
