"""How good are generated windows, judged on people the generator has never seen?

About 60 % of the subjects train, the others test. The flow is trained on the training
windows without labels; then labels are shown to the sampler, which draws the same
number of windows per class as there are real ones. SMOTE on flattened windows and
jitter (noise and scaling of real windows) are drawn to the same counts.

    python benchmarks/generation.py --data hapt_waist.npz --figure hapt.png

One line of the CSV file per measure, with `floor`, the value that real windows reach:

* `tstr_logistic`, `tstr_forest`: macro-F1 on the test people of classifiers trained on
  synthetic windows; `floor` is the same trained on the real ones (here a ceiling);
* `c2st_auc`: can a forest tell synthetic from the training people's windows? `floor`:
  training people against each other. Well below .5 means copies, not quality. The row
  `test people` puts their real windows in place of synthetic ones: another crowd;
* `log_psd_distance` in decades; `floor`: equally many real windows of the same people;
* `frechet_distance`, `precision`, `coverage` in a space of fixed statistics; `floor`:
  real windows of the same people;
* `copy_fraction`: share of windows nearer to a training window than to one of the test
  people; `floor`: the same for real windows of the training people. Above it: copies;
* `windows_per_second` of drawing, on one machine and one run: see the environment.

Test people are others than those that train, so real windows are nearer to training
windows too. `--copies` asks with windows of the same people, a random half of which
trains: without copying, half of the new windows are nearer to a training window. It
writes `copy_fraction` with the ends of its interval, of each method by itself.

Two samples of one model differ by .01 to .02 in C2ST: `--repeats 3` draws three of each
of the default solver and writes their means.

`nfe` counts evaluations of the velocity field; solver `auto` is the sampler's default,
which chooses from the training windows where to stop.
"""

import argparse
import sys
import time

import numpy as np
import pandas as pd
from _common import data_sets, new_output, print_environment, write_rows
from generation_figure import draw_figure
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import Bunch

from skflowfm.metrics import (
    c2st_auc,
    frechet_distance,
    log_psd_distance,
    nearest_neighbour_copy,
    precision_recall,
    train_on_synthetic,
)

TRAIN_SHARE = 0.6
EVALUATIONS = (4, 8, 32)
SOLVERS = ("auto", "midpoint")
N_CUTS = 5
APART = 1000  # between the seeds of two samples of one model
MIN_SUBJECTS = 12
N_NEIGHBOURS = 5
JITTER, SCALING = 0.05, 0.1
METHODS = ("test people", "smote", "jitter", "flowfm")


# ----------------------------------------------------------------------- the split
def counts_of(y):
    """Return how many windows each class has."""
    classes, counts = np.unique(y, return_counts=True)
    return dict(zip(classes.tolist(), counts.tolist(), strict=True))


def split_subjects(data, seed, min_subjects=MIN_SUBJECTS):
    """Training and test windows of different subjects, and the counts to draw."""
    subjects = np.random.default_rng(seed).permutation(np.unique(data.groups))
    if len(subjects) < min_subjects:
        raise ValueError(
            f"{data.name}: {min_subjects} subjects needed, so that each half of the "
            f"training people can be cut into folds, got {len(subjects)}"
        )
    n_train = max(round(TRAIN_SHARE * len(subjects)), 4)
    train = np.isin(data.groups, subjects[:n_train])
    test = np.isin(data.groups, subjects[n_train:])
    assert not set(data.groups[train]) & set(data.groups[test])
    assert train.sum() + test.sum() == len(data.y)
    return Bunch(
        X=data.X[train],
        y=data.y[train],
        groups=data.groups[train],
        X_test=data.X[test],
        y_test=data.y[test],
        groups_test=data.groups[test],
        counts=counts_of(data.y[train]),
    )


def split_windows(data, seed):
    """A random half of the windows trains, the other half of the same people tests."""
    order = np.random.default_rng(seed).permutation(len(data.y))
    train, test = np.sort(order[::2]), np.sort(order[1::2])
    return Bunch(
        X=data.X[train],
        y=data.y[train],
        groups=data.groups[train],
        X_test=data.X[test],
        counts=counts_of(data.y[train]),
    )


# --------------------------------------------------------------------- the drawers
def smote(split, seed):
    """A random point between a window and one of its 5 nearest of the same class."""
    rng = np.random.default_rng(seed)
    drawn = []
    for label, n in split.counts.items():
        flat = split.X[split.y == label]
        m = len(flat)
        flat = flat.reshape(m, -1)
        k = min(N_NEIGHBOURS + 1, m)
        neighbours = NearestNeighbors(n_neighbors=k).fit(flat).kneighbors(flat)[1]
        start = rng.integers(m, size=n)
        end = neighbours[start, rng.integers(1, k, size=n) if k > 1 else 0]
        weight = rng.uniform(size=(n, 1))
        drawn.append(flat[start] + weight * (flat[end] - flat[start]))
    X = np.concatenate(drawn).reshape(-1, *split.X.shape[1:])
    return X.astype(np.float32), np.repeat(
        list(split.counts), list(split.counts.values())
    )


def jitter(split, seed):
    """Real windows, each channel scaled by N(1, .1), plus 5 % of its own deviation."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate(
        [rng.choice(np.flatnonzero(split.y == c), n) for c, n in split.counts.items()]
    )
    X = split.X[rows]
    scale = 1 + SCALING * rng.normal(size=(*X.shape[:2], 1))
    noise = JITTER * X.std(axis=2, keepdims=True) * rng.normal(size=X.shape)
    return (X * scale + noise).astype(np.float32), split.y[rows]


def fit_sampler(split, seed, options):
    """Train the flow without labels."""
    from sklearn.frozen import FrozenEstimator

    from skflowfm import FlowFMSampler, FlowFMTransformer

    transformer = FlowFMTransformer(
        max_steps=options.max_steps, max_time=options.max_time, random_state=seed
    ).fit(split.X, groups=split.groups)
    print(
        f"  flowfm: {transformer.n_steps_} steps in {transformer.fit_seconds_:.1f} s",
        flush=True,
    )
    return FlowFMSampler(FrozenEstimator(transformer), random_state=seed)


def draw_flow(split, seed, options):
    """Yield (solver, nfe, samples) of one trained flow at each budget.

    Labels are shown to the sampler after training. A sample is (X, y, seconds).
    """
    sampler = fit_sampler(split, seed, options)
    for solver in SOLVERS:
        for nfe in EVALUATIONS:
            sampler.set_params(quality=nfe, solver=solver).fit(split.X, split.y)
            if solver == "auto":
                print(f"  {nfe} evaluations: stop at {sampler.stop_}", flush=True)
            n_samples = options.repeats if solver == "auto" else 1
            seeds = [seed + APART * i for i in range(n_samples)]
            yield (
                solver,
                nfe,
                [
                    timed_draw(
                        sampler.sample, class_counts=split.counts, random_state=i
                    )
                    for i in seeds
                ],
            )


def timed_draw(function, *args, **kwargs):
    """X, y and the seconds that drawing them took."""
    start = time.perf_counter()
    X, y = function(*args, **kwargs)
    return X, y, time.perf_counter() - start


def drawings(split, seed, options):
    """Yield (method, solver, nfe, samples) of every method asked for."""
    for name, draw in (("smote", smote), ("jitter", jitter)):
        if name in options.methods:
            yield name, "", "", [timed_draw(draw, split, seed)]
    if "flowfm" in options.methods:
        for drawn in draw_flow(split, seed, options):
            yield "flowfm", *drawn


# --------------------------------------------------------------------- the measures
def measure(split, X, y, seconds, seed):
    """All measures of one synthetic sample, each as (value, floor)."""
    transfer = train_on_synthetic(
        X,
        y,
        split.X_test,
        split.y_test,
        X_train=split.X,
        y_train=split.y,
        random_state=seed,
    )
    spectrum = log_psd_distance(split.X, X, random_state=seed)
    copies = nearest_neighbour_copy(split.X, X, split.X_test, random_state=seed)
    frechet = frechet_distance(split.X, X, random_state=seed)
    shares = precision_recall(split.X, X, random_state=seed)
    return {
        "tstr_logistic": (transfer.logistic.synthetic, transfer.logistic.real),
        "tstr_forest": (transfer.forest.synthetic, transfer.forest.real),
        "c2st_auc": mean_c2st(split, X, None, seed),
        "log_psd_distance": (spectrum.value, spectrum.floor),
        "frechet_distance": (frechet.value, frechet.floor),
        "precision": (shares.precision.value, shares.precision.floor),
        "coverage": (shares.coverage.value, shares.coverage.floor),
        "copy_fraction": (copies.value, copies.floor),
        "windows_per_second": (len(X) / seconds, None),
    }


def means(measured):
    """The mean over samples of each measure and of its floor."""
    return {
        metric: tuple(
            None if side[0] is None else float(np.mean(side))
            for side in zip(*(found[metric] for found in measured), strict=True)
        )
        for metric in measured[0]
    }


def measure_test_people(split, seed):
    """How far other people's real windows are from those of the training people."""
    spectrum = log_psd_distance(split.X, split.X_test, random_state=seed)
    return {
        "c2st_auc": mean_c2st(split, split.X_test, split.groups_test, seed),
        "log_psd_distance": (spectrum.value, spectrum.floor),
    }


def mean_c2st(split, X, groups, seed):
    """AUC and floor, each the mean over several cuts of the training subjects."""
    sides = {"groups_real": split.groups, "groups_synthetic": groups}
    cuts = range(N_CUTS * seed, N_CUTS * (seed + 1))
    results = [c2st_auc(split.X, X, **sides, random_state=cut) for cut in cuts]
    return np.mean([(result.value, result.floor) for result in results], axis=0)


def run_dataset(data, seed, options):
    """All methods on one data set with one seed; returns what the figure shows."""
    split = split_subjects(data, seed)
    print(
        f"\n{data.name}, seed {seed}: {len(split.y)} windows {data.X.shape[1:]} of "
        f"{len(np.unique(split.groups))} training subjects, {len(split.y_test)} of "
        f"{len(np.unique(split.groups_test))} test subjects",
        flush=True,
    )
    record(data, seed, "test people", "", "", measure_test_people(split, seed), options)
    shown = None
    for method, solver, nfe, samples in drawings(split, seed, options):
        for _, y, _ in samples:
            assert {c: int(np.sum(y == c)) for c in split.counts} == split.counts
        measures = means([measure(split, *sample, seed) for sample in samples])
        record(data, seed, method, solver, nfe, measures, options)
        if shown is None or solver == "auto":
            shown = f"{method} {solver} {nfe}".strip(), *samples[0][:2]
    return split, shown


def run_copies(data, seed, options):
    """How many new windows are nearer to training windows than to as good others?"""
    split = split_windows(data, seed)
    print(f"\n{data.name}, seed {seed}: {len(split.y)} windows train", flush=True)
    drawn = {}
    for name, draw in (("smote", smote), ("jitter", jitter)):
        if name in options.methods:
            drawn[name] = draw(split, seed)
    if "flowfm" in options.methods:
        sampler = fit_sampler(split, seed, options).fit(split.X, split.y)
        drawn["flowfm"] = sampler.sample(class_counts=split.counts, random_state=seed)
    for method, (X, _) in drawn.items():
        copies = nearest_neighbour_copy(split.X, X, split.X_test, random_state=seed)
        low, high = copies.interval
        measures = {
            "copy_fraction": (copies.value, copies.floor),
            "copy_fraction_low": (low, None),
            "copy_fraction_high": (high, None),
        }
        record(data, seed, method, "", "", measures, options)


def record(data, seed, method, solver, nfe, measures, options):
    """Print one line and append one CSV row per measure."""
    rows = [
        {
            "dataset": data.name,
            "method": method,
            "solver": solver,
            "nfe": nfe,
            "seed": seed,
            "metric": metric,
            "value": round(float(value), 6),
            "floor": "" if floor is None else round(float(floor), 6),
        }
        for metric, (value, floor) in measures.items()
    ]
    write_rows(options.out, rows)
    said = ", ".join(f"{row['metric']} {row['value']:.3g}" for row in rows)
    print(f"  {method} {solver} {nfe}".rstrip() + f": {said}", flush=True)


def print_table(path):
    """Mean over seeds, value with floor in brackets, a line per method and budget."""
    rows = pd.read_csv(path, keep_default_na=False, dtype={"nfe": str})
    rows["floor"] = pd.to_numeric(rows["floor"])
    keys = ["dataset", "method", "solver", "nfe"]
    cells = rows.groupby([*keys, "metric"], sort=False)[["value", "floor"]].mean()
    texts = [
        f"{value:.3g}" if np.isnan(floor) else f"{value:.3f} ({floor:.3f})"
        for value, floor in cells.to_numpy()
    ]
    table = pd.Series(texts, cells.index).unstack("metric", sort=False, fill_value="")
    print("\nvalue (floor), mean over seeds\n")
    print(table.to_string())


# --------------------------------------------------------------------- command line
def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", nargs="+", required=True, metavar="FILE.npz")
    add("--methods", nargs="+", default=list(METHODS[1:]), choices=METHODS[1:])
    add("--seeds", nargs="+", type=int, default=[0])
    add("--max-windows", type=int, help="a random subset, for a quick look")
    add("--max-steps", type=int, help="training steps of FlowFMTransformer")
    add("--max-time", type=float, help="seconds of training of FlowFMTransformer")
    add("--out", default="out/generation.csv", help="replaced if it exists")
    add("--repeats", type=int, default=1, help="samples of FlowFM; means are kept")
    add("--copies", action="store_true", help="ask for copies alone")
    add("--figure", metavar="FILE.png", help="of the first data set and seed")
    return parser.parse_args()


def main():
    options = parse_arguments()
    print_environment()
    out = new_output(options)
    figure = options.figure
    for data in data_sets(options.data, options.max_windows):
        for seed in options.seeds:
            if options.copies:
                run_copies(data, seed, options)
                continue
            split, shown = run_dataset(data, seed, options)
            if figure and shown:
                draw_figure(figure, data, split, *shown)
                figure = None
    if not out.exists():
        sys.exit("nothing was run: no data file found")
    print_table(out)


if __name__ == "__main__":
    main()
