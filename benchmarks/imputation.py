"""How good are gaps filled by the generator, on people it has never seen?

About 60 % of the subjects train, without labels. Windows of the others get gaps, and
each method fills them. Lines are straight ones between the known neighbours in time,
the mean is that of the known part of the channel, neighbours are scikit-learn's
`KNNImputer` on flattened training windows.

    python benchmarks/imputation.py --data hapt_waist.npz --seeds 0 1 2

* `rmse`: over the missing values, in deviations of the channel over the training
  windows. One draw of two that are equally likely misses by more than their average:
  1.41 times as much as the mean of the right distribution, so lines and means are
  favoured here;
* `log_psd_distance`: between the whole windows and the filled ones, in decades. It
  sees what an average lacks.
"""

import argparse
import sys

import numpy as np
import pandas as pd
from _common import data_sets, new_output, print_environment, write_rows
from generation import fit_sampler, split_subjects
from sklearn.impute import KNNImputer

from skflowfm._imputation import fill_by_hand
from skflowfm.metrics import log_psd_distance

MAX_TEST_WINDOWS = 600


def gaps_of(kind, shape, rng):
    """Which values are missing: a boolean array of ``shape``."""
    _, n_channels, n_timesteps = shape
    gaps = np.zeros(shape, dtype=bool)
    for row in gaps:
        channel = rng.integers(n_channels)
        if kind == "a fifth of the window":
            length = n_timesteps // 5
            start = rng.integers(n_timesteps - length)
            row[:, start : start + length] = True
        elif kind == "half of one channel":
            length = n_timesteps // 2
            start = rng.integers(n_timesteps - length)
            row[channel, start : start + length] = True
        elif kind == "scattered, 30 %":
            row[:] = rng.random(row.shape) < 0.3
        else:
            row[channel] = True
    return gaps


KINDS = (
    "a fifth of the window",
    "half of one channel",
    "scattered, 30 %",
    "one channel",
)


def filled(X, sampler, train):
    """Yield (method, filled windows)."""
    mean = train.mean(axis=(0, 2))[:, None]
    yield "lines", fill_by_hand(X, mean)
    known = ~np.isnan(X)
    n_known = known.sum(axis=2, keepdims=True)
    own = np.where(known, X, 0).sum(axis=2, keepdims=True) / np.maximum(n_known, 1)
    yield "mean", np.where(known, X, np.where(n_known > 0, own, mean))
    neighbours = KNNImputer(n_neighbors=5).fit(train.reshape(len(train), -1))
    yield "neighbours", neighbours.transform(X.reshape(len(X), -1)).reshape(X.shape)
    yield "flowfm", sampler.impute(X)


def run_dataset(data, seed, options):
    """All methods and kinds of gaps on one data set with one seed."""
    split = split_subjects(data, seed)
    print(f"\n{data.name}, seed {seed}", flush=True)
    sampler = fit_sampler(split, seed, options).fit(split.X)
    rng = np.random.default_rng(seed)
    index = rng.permutation(len(split.X_test))[:MAX_TEST_WINDOWS]
    whole = split.X_test[index].astype(np.float32)
    deviation = split.X.std(axis=(0, 2))[:, None]
    for kind in KINDS:
        gaps = gaps_of(kind, whole.shape, rng)
        for method, X in filled(np.where(gaps, np.nan, whole), sampler, split.X):
            assert np.array_equal(X[~gaps], whole[~gaps])
            error = ((X - whole) / deviation)[gaps]
            measures = {
                "rmse": np.sqrt(np.mean(error**2)),
                "log_psd_distance": log_psd_distance(whole, X, random_state=seed).value,
            }
            rows = [
                {
                    "dataset": data.name,
                    "gaps": kind,
                    "method": method,
                    "seed": seed,
                    "metric": metric,
                    "value": round(float(value), 6),
                }
                for metric, value in measures.items()
            ]
            write_rows(options.out, rows)
            said = ", ".join(f"{row['metric']} {row['value']:.3f}" for row in rows)
            print(f"  {kind}, {method}: {said}", flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", nargs="+", required=True, metavar="FILE.npz")
    add("--seeds", nargs="+", type=int, default=[0])
    add("--max-windows", type=int, help="a random subset, for a quick look")
    add("--max-steps", type=int, default=600, help="training steps")
    add("--max-time", type=float, help="seconds of training")
    add("--out", default="out/imputation.csv", help="replaced if it exists")
    return parser.parse_args()


def main():
    options = parse_arguments()
    print_environment()
    out = new_output(options)
    for data in data_sets(options.data, options.max_windows):
        for seed in options.seeds:
            run_dataset(data, seed, options)
    if not out.exists():
        sys.exit("nothing was run: no data file found")
    rows = pd.read_csv(out)
    keys = ["dataset", "gaps", "method", "metric"]
    table = rows.groupby(keys, sort=False)["value"].mean().unstack(["metric"])
    print("\nmean over seeds\n")
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
