"""Is there a better way to few evaluations than plain flow matching?

    python benchmarks/few_step.py --data hapt_waist.npz --seeds 0 1 2

Plain flow matching with the package's solver ("auto" stops early and mends spectra)
and with midpoint steps, against two ways of teaching the field to jump, shortcut models
and MeanFlow (`_few_step.py`), trained on the same windows with as many steps, without
early stopping; spectra of their windows are mended as the package's are. Windows of the
training people's classes are drawn with 1 to 32 evaluations, and judged as in
`paper.py`.
"""

import argparse
import sys

import pandas as pd
from _common import data_sets, new_output, print_environment, write_rows
from _few_step import JumpSampler, MeanFlowTransformer, ShortcutTransformer
from generation import split_subjects
from paper_generation import fitted, quality, smaller
from sklearn.frozen import FrozenEstimator

from skflowfm import FlowFMSampler, FlowFMTransformer

EVALUATIONS = 1, 2, 4, 8, 16, 32
METHODS = {
    "plain": (FlowFMTransformer, ("auto", "midpoint")),
    "shortcut": (ShortcutTransformer, ("jumps",)),
    "meanflow": (MeanFlowTransformer, ("jumps",)),
}


def draws(model, split, counts, solver, n, seed):
    """Return (X, y) drawn with ``n`` evaluations of a trained model."""
    if solver == "jumps":
        sampler = JumpSampler(FrozenEstimator(model), quality=n, random_state=seed)
        sampler.fit(split.X, split.y).mend(split.X)
    else:
        sampler = FlowFMSampler(
            FrozenEstimator(model), quality=n, solver=solver, random_state=seed
        ).fit(split.X, split.y)
    return sampler.sample(class_counts=counts)


def run(data, seed, options):
    """Train each method, draw at each number of evaluations, append the rows."""
    split = split_subjects(data, seed)
    counts = smaller(split, options.draws)
    for name in options.methods:
        kind, solvers = METHODS[name]
        model, _, cpu = fitted(kind, split, options.max_steps, seed)
        for solver in solvers:
            for n in EVALUATIONS:
                if solver == "midpoint" and n < 2:
                    continue
                X, y = draws(model, split, counts, solver, n, seed)
                found = quality(split, X, y, seed) | {"train_cpu_seconds": cpu}
                write_rows(
                    options.out,
                    [
                        {
                            "dataset": data.name,
                            "method": name,
                            "solver": solver,
                            "nfe": n,
                            "seed": seed,
                            "metric": metric,
                            "value": round(float(value), 6),
                        }
                        for metric, value in found.items()
                    ],
                )
                said = ", ".join(f"{k} {v:.3f}" for k, v in found.items())
                print(
                    f"{data.name} seed {seed} {name} {solver} {n}: {said}", flush=True
                )


def print_tables(path):
    """Print the mean over seeds, and the seeds' standard deviation of C2ST."""
    rows = pd.read_csv(path)
    keys = ["dataset", "method", "solver", "nfe"]
    table = rows.pivot_table("value", keys, "metric", sort=False)
    spread = rows[rows.metric == "c2st_auc"].groupby(keys).value.std()
    print("\nmean over seeds\n")
    print(table.assign(c2st_spread=spread).round(3).to_string())


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", nargs="+", required=True, metavar="FILE.npz")
    add("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--max-windows", type=int, help="a random subset of each set")
    add("--max-steps", type=int, default=800)
    add("--draws", type=int, default=256, help="windows to generate")
    add("--out", default="out/few_step.csv", help="replaced if it exists")
    return parser.parse_args()


def main():
    options = parse_arguments()
    print_environment()
    out = new_output(options)
    for data in data_sets(options.data, options.max_windows):
        for seed in options.seeds:
            run(data, seed, options)
    if not out.exists():
        sys.exit("nothing was run: no data file found")
    print_tables(out)


if __name__ == "__main__":
    main()
