"""Are the features of table rows worth having beside the columns themselves?

scikit-learn's own tables, stratified 5-fold. Each representation is fitted on the
training rows without labels; then a plain logistic regression gets all labels of the
fold or a tenth of them (five draws), and is judged on the rows left out by accuracy.
"Forest" is a random forest on the columns, "head" a FlowFMClassifier on the same model
as "FlowFM". Made tables (`_made_tables.py`) have 500 rows to learn from and 2,000 to be
judged on.

    python benchmarks/tables.py --seeds 0 1 2

"half" is half as many components as columns, at most 16, for ours and for PCA.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from _common import print_environment, write_rows
from _made_tables import MADE
from _protocol import draw_labels
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skflowfm import FlowFMClassifier, FlowFMTransformer

TABLES = {
    "digits": datasets.load_digits,
    "breast cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "iris": datasets.load_iris,
}
FOREST, HEAD = "columns, forest", "FlowFM, head"
N_TRAIN, N_TEST = 500, 2000


def methods(n_columns, seed, max_steps):
    """The representations that are compared, unfitted, by name."""
    half = min(16, n_columns // 2)

    def ours(size, steps):
        return FlowFMTransformer(size, max_steps=steps, random_state=seed)

    return {
        "scaled columns": StandardScaler(),
        FOREST: "passthrough",
        "FlowFM": ours(None, max_steps),
        HEAD: "passthrough",
        "FlowFM untrained": ours(None, 0),
        "PCA half": make_pipeline(StandardScaler(), PCA(half, random_state=seed)),
        "FlowFM half": ours(half, max_steps),
    }


def split(name, seed):
    """Return X, y and the folds."""
    if name in MADE:
        X, y = MADE[name](N_TRAIN + N_TEST, seed)
        return X, y, [(np.arange(N_TRAIN), np.arange(N_TRAIN, len(y)))]
    X, y = TABLES[name](return_X_y=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return X, y, folds.split(X, y)


def run_table(name, seed, label_draws, max_steps):
    """Rows of results: one for each method, fold and share of the labels."""
    X, y, folds = split(name, seed)
    for fold, (train, test) in enumerate(folds):
        for method, transformer in methods(X.shape[1], seed, max_steps).items():
            pipeline = make_pipeline(transformer).fit(X[train])
            Z, Z_test = pipeline.transform(X[train]), pipeline.transform(X[test])
            if method == "FlowFM":
                model = FrozenEstimator(pipeline[-1])
            for fraction in (1.0, 0.1):
                accuracy = []
                for draw in range(label_draws if fraction < 1 else 1):
                    rows = draw_labels(y[train], fraction, [seed, draw])
                    classifier = LogisticRegression(max_iter=1000)
                    if method == FOREST:
                        classifier = RandomForestClassifier(random_state=seed)
                    elif method == HEAD:
                        classifier = FlowFMClassifier(model, random_state=seed)
                    classifier.fit(Z[rows], y[train][rows])
                    accuracy.append(classifier.score(Z_test, y[test]))
                yield {
                    "table": name,
                    "method": method,
                    "seed": seed,
                    "fold": fold,
                    "label_fraction": fraction,
                    "dim": Z.shape[1],
                    "accuracy": round(float(np.mean(accuracy)), 6),
                }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*TABLES, *MADE]
    parser.add_argument("--tables", nargs="+", default=names, choices=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--label-draws", type=int, default=5)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--out", default="out/tables.csv", help="replaced if it exists")
    arguments = parser.parse_args()
    print_environment()
    out = Path(arguments.out)
    out.unlink(missing_ok=True)
    rows = []
    for name in arguments.tables:
        for seed in arguments.seeds:
            new = list(
                run_table(name, seed, arguments.label_draws, arguments.max_steps)
            )
            write_rows(out, new)
            rows += new
    frame = pd.DataFrame(rows)
    order = list(dict.fromkeys(frame["method"]))
    table = frame.pivot_table(
        "accuracy", "method", ["label_fraction", "table"], aggfunc="mean"
    ).loc[order, [1.0, 0.1]]
    for group in (TABLES, MADE):
        part = table.loc[:, [c for c in table.columns if c[1] in group]].copy()
        part[("mean", "")] = part.mean(axis=1)
        if part.shape[1] > 1:
            print(part.round(3).to_string())


if __name__ == "__main__":
    warnings.simplefilter("ignore", ConvergenceWarning)
    main()
