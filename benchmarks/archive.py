"""Sets on which next to no setting was chosen: the classification sets of aeon.

The official split of each set; the representation is fitted on the training rows only,
without labels, once for each seed. A classifier then gets all labels, or five of each
class (five draws), and is judged by accuracy on the official test rows. The methods are
those of recognition.py. Series of unequal length are stretched to the median length.

    python benchmarks/archive.py --seeds 0 1 2

Needs aeon, the extra `bench`.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _common import print_environment, write_rows
from _protocol import draw_per_class
from recognition import METHODS, Options, timed

SETS = (
    "ACSF1",
    "ArrowHead",
    "BasicMotions",
    "GunPoint",
    "ItalyPowerDemand",
    "JapaneseVowels",
    "OSULeaf",
    "PickupGestureWiimoteZ",
    "UnitTest",
)
FEW = 5


def stretched(series, length):
    """Series (n_channels, any length) as an array (n, n_channels, length)."""
    new = np.linspace(0, 1, length)
    rows = []
    for one in series:
        old = np.linspace(0, 1, one.shape[1])
        rows.append([np.interp(new, old, channel) for channel in one])
    return np.asarray(rows, dtype=np.float32)


def load(name):
    """Training rows and labels, test rows and labels."""
    from aeon.datasets import load_classification

    X, y = load_classification(name, split="train")
    X_test, y_test = load_classification(name, split="test")
    length = int(np.median([one.shape[1] for one in X]))
    return stretched(X, length), y, stretched(X_test, length), y_test


def run_set(name, methods, options):
    """Rows of results: one for each method and number of labels."""
    X, y, X_test, y_test = load(name)
    for method in methods:
        transformer, classifier = METHODS[method](X, options)
        torch.set_num_threads(options.n_jobs)
        Z, seconds = timed(transformer.fit_transform, X)
        Z_test = transformer.transform(X_test)
        for labels in ("all", f"{FEW} per class"):
            accuracy = []
            for draw in range(1 if labels == "all" else options.label_draws):
                rows = np.arange(len(y))
                if labels != "all":
                    rows = draw_per_class(y, FEW, [options.seed, draw])
                classifier.fit(Z[rows], y[rows])
                accuracy.append(classifier.score(Z_test, y_test))
            yield {
                "dataset": name,
                "shape": " x ".join(map(str, X.shape)),
                "method": method,
                "seed": options.seed,
                "labels": labels,
                "accuracy": round(float(np.mean(accuracy)), 6),
                "n_test": len(y_test),
                "dim": Z.shape[1],
                "fit_seconds": round(seconds, 3),
            }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=["flowfm", "flowfm-untrained", "stem-components"]
        + ["statistics-forest", "minirocket"],
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--max-steps", type=int)
    parser.add_argument(
        "--out", default="out/archive.csv", help="replaced if it exists"
    )
    arguments = parser.parse_args()
    print_environment()
    out = Path(arguments.out)
    out.unlink(missing_ok=True)
    options = Options(max_steps=arguments.max_steps, n_jobs=torch.get_num_threads())
    rows = []
    for name in arguments.sets:
        for seed in arguments.seeds:
            new = list(run_set(name, arguments.methods, replace(options, seed=seed)))
            write_rows(out, new)
            rows += new
            said = [f"{r['method']} {r['accuracy']:.3f}" for r in new[::2]]
            print(f"{name} ({new[0]['shape']}), seed {seed}: {', '.join(said)}")
    table = pd.DataFrame(rows).pivot_table(
        "accuracy", ["labels", "dataset"], "method", aggfunc="mean"
    )[arguments.methods]
    means = table.groupby("labels").mean()
    means.index = pd.MultiIndex.from_product([means.index, ["mean"]])
    table = pd.concat([table, means]).sort_index(level=0, sort_remaining=False)
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
