"""Does `score_samples` tell windows with a sensor fault from clean ones of new people?

About 60 % of the subjects train, the others test. Every detector is fitted to the
training windows, without labels and without faults. Of the test people's windows a
random half stays clean; the others get a fault, each kind in turn. Higher is more
anomalous for every detector here, and the figure is the ROC AUC of faulty against
clean windows: .5 is chance, below it faulty windows look more normal than clean ones.

    python benchmarks/anomaly.py --data hapt_waist.npz wisdm_watch.npz \\
        --seeds 0 1 2 --max-windows 2500 --max-steps 600

One line of the CSV file per detector, fault and level. The faults, mild and strong;
deviations are those of the channel over all training windows:

* `spike`: one to three samples of one channel off by 2 or 8 deviations;
* `stuck`: one channel constant in its last 15 to 30 % or 50 to 90 %;
* `dropout`: a tenth or a third of the window, all channels at zero or at their means;
* `drift`: a ramp on one channel that ends 1 or 2 deviations off;
* `noise`: a fifth of one channel with noise of .25 or 1 deviation added;
* `swap`: two channels exchanged, or all moved on by one.

The detectors: an isolation forest, the Mahalanobis distance (shrunk covariance) and the
local outlier factor on standardised window statistics (those of `skflowfm.metrics`);
the error of 64 principal components of the flattened windows; of one FlowFM model minus
`score_samples`, and on what `transform` returns the Mahalanobis distance and the
distance to the nearest training window.
"""

import argparse
import sys
from functools import partial

import numpy as np
import pandas as pd
from _common import data_sets, new_output, print_environment, write_rows
from generation import split_subjects
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skflowfm import FlowFMTransformer
from skflowfm.metrics._features import window_features

N_COMPONENTS = 64
N_NEIGHBOURS = 20
BURST_SHARE = 0.2
LEVELS = ("mild", "strong")


# ---------------------------------------------------------------------- the faults
# Each changes one window x (channels, time) in place; `scale` and `mean` (channels,)
# are those of the training windows.
def spike(x, size, mean, scale, rng):
    """One to three samples of one channel, off by `size` deviations."""
    c = rng.integers(len(x))
    at = rng.choice(x.shape[1], rng.integers(1, 4), replace=False)
    x[c, at] += size * scale[c] * rng.choice([-1, 1], len(at))


def stuck(x, shares, mean, scale, rng):
    """One channel keeps its value from a random time on."""
    c = rng.integers(len(x))
    start = round(x.shape[1] * (1 - rng.uniform(*shares)))
    x[c, start:] = x[c, start]


def dropout(x, share, mean, scale, rng):
    """All channels at zero or at their means for a while."""
    length = round(share * x.shape[1])
    start = rng.integers(x.shape[1] - length + 1)
    x[:, start : start + length] = 0 if rng.random() < 0.5 else mean[:, None]


def drift(x, size, mean, scale, rng):
    """A ramp on one channel."""
    c = rng.integers(len(x))
    end = size * scale[c] * rng.choice([-1, 1])
    x[c] += np.linspace(0, end, x.shape[1])


def noise(x, size, mean, scale, rng):
    """A burst of white noise on one channel."""
    c = rng.integers(len(x))
    length = round(BURST_SHARE * x.shape[1])
    start = rng.integers(x.shape[1] - length + 1)
    x[c, start : start + length] += size * scale[c] * rng.normal(size=length)


def swap(x, what, mean, scale, rng):
    """Two channels exchanged, or all moved on by one."""
    if what == "two":
        a, b = rng.choice(len(x), 2, replace=False)
        x[[a, b]] = x[[b, a]]
    else:
        x[:] = np.roll(x, 1, axis=0)


FAULTS = {  # and how large each is, mild and strong
    spike: (2.0, 8.0),
    stuck: ((0.15, 0.3), (0.5, 0.9)),
    dropout: (0.1, 1 / 3),
    drift: (1.0, 2.0),
    noise: (0.25, 1.0),
    swap: ("two", "all"),
}


def inject(X, fault, size, mean, scale, rng):
    """A copy of the windows, each with the fault."""
    X = X.copy()
    for x in X:
        fault(x, size, mean, scale, rng)
    return X


def test_windows(split, seed):
    """The clean half of the test windows, and the other half with each fault."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(split.X_test))
    clean, other = np.array_split(rows, 2)
    mean, scale = split.X.mean(axis=(0, 2)), split.X.std(axis=(0, 2))
    faulty = {
        (fault.__name__, level): inject(
            split.X_test[other], fault, size, mean, scale, rng
        )
        for fault, sizes in FAULTS.items()
        for level, size in zip(LEVELS, sizes, strict=True)
    }
    return split.X_test[clean], faulty


# ------------------------------------------------------------------- the detectors
# Each takes training rows and returns a function from rows to scores.
def isolation_forest(features, seed):
    model = IsolationForest(n_estimators=200, random_state=seed).fit(features)
    return lambda rows: -model.score_samples(rows)


def mahalanobis(features, seed):
    return LedoitWolf().fit(features).mahalanobis


def local_outlier_factor(features, seed):
    model = LocalOutlierFactor(N_NEIGHBOURS, novelty=True).fit(features)
    return lambda rows: -model.score_samples(rows)


def nearest_neighbour(features, seed):
    model = NearestNeighbors(n_neighbors=1).fit(features)
    return lambda rows: model.kneighbors(rows)[0][:, 0]


def pca_error(features, seed):
    """Squared error of the standardised columns."""
    model = make_pipeline(StandardScaler(), PCA(N_COMPONENTS, random_state=seed))
    model.fit(features)

    def error(rows):
        again = model.inverse_transform(model.transform(rows))
        return np.square((rows - again) / model[0].scale_).mean(axis=1)

    return error


def flatten(X):
    return X.reshape(len(X), -1)


def fit_flow(split, seed, options):
    """Train the model without labels."""
    model = FlowFMTransformer(max_steps=options.max_steps, random_state=seed)
    model.fit(split.X, groups=split.groups)
    print(f"  flowfm: {model.n_steps_} steps in {model.fit_seconds_:.1f} s", flush=True)
    return model


def detectors(split, model, seed):
    """Yield (name, function from windows to scores), fitted to the training windows."""
    scaler = StandardScaler().fit(window_features(split.X))
    spaces = {
        "statistics": lambda X: scaler.transform(window_features(X)),
        "windows": flatten,
        "flowfm": model.transform,
    }
    fits = {
        "statistics": (isolation_forest, mahalanobis, local_outlier_factor),
        "windows": (pca_error,),
        "flowfm": (mahalanobis, nearest_neighbour),
    }

    def score(X, space, detect):
        return detect(space(X))

    for name, space in spaces.items():
        features = space(split.X)
        for fit in fits[name]:
            detector = f"{name} {fit.__name__}"
            yield detector, partial(score, space=space, detect=fit(features, seed))
    yield "flowfm score_samples", lambda X: -model.score_samples(X)


# --------------------------------------------------------------------- the measure
def auc(clean, faulty):
    """ROC AUC of faulty against clean scores."""
    truth = np.repeat([0, 1], [len(clean), len(faulty)])
    return roc_auc_score(truth, np.concatenate([clean, faulty]))


def run_dataset(data, seed, options):
    """All detectors on one data set with one seed."""
    split = split_subjects(data, seed)
    clean, faulty = test_windows(split, seed)
    print(
        f"\n{data.name}, seed {seed}: {len(split.y)} windows {data.X.shape[1:]} of "
        f"{len(np.unique(split.groups))} training subjects; {len(clean)} clean windows "
        f"of {len(np.unique(split.groups_test))} test subjects",
        flush=True,
    )
    model = fit_flow(split, seed, options)
    for name, score in detectors(split, model, seed):
        normal = score(clean)
        aucs = {key: auc(normal, score(X)) for key, X in faulty.items()}
        record(data, seed, name, aucs, options)


def record(data, seed, detector, aucs, options):
    """Print one line and append one CSV row per fault and level."""
    rows = [
        {
            "dataset": data.name,
            "detector": detector,
            "seed": seed,
            "fault": fault,
            "level": level,
            "auc": round(float(value), 6),
        }
        for (fault, level), value in aucs.items()
    ]
    write_rows(options.out, rows)
    said = ", ".join(f"{r['fault']} {r['level']} {r['auc']:.3f}" for r in rows)
    print(f"  {detector}: {said}", flush=True)


def print_table(path):
    """Mean over seeds, mild / strong, a line per detector."""
    rows = pd.read_csv(path)
    keys = ["dataset", "detector"]
    means = rows.groupby([*keys, "fault", "level"], sort=False)["auc"].mean()
    over_faults = means.groupby([*keys, "level"], sort=False).mean()
    over_faults = pd.concat({"mean": over_faults}, names=["fault"])
    means = pd.concat([means, over_faults.reorder_levels(means.index.names)])
    levels = means.unstack("level", sort=False)
    texts = [" / ".join(f"{value:.3f}" for value in pair) for pair in levels.to_numpy()]
    print("\nROC AUC mild / strong, mean over seeds\n")
    print(pd.Series(texts, levels.index).unstack("fault", sort=False).to_string())


# --------------------------------------------------------------------- command line
def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", nargs="+", required=True, metavar="FILE.npz")
    add("--seeds", nargs="+", type=int, default=[0])
    add("--max-windows", type=int, help="a random subset, for a quick look")
    add("--max-steps", type=int, help="training steps of FlowFMTransformer")
    add("--out", default="out/anomaly.csv", help="replaced if it exists")
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
    print_table(out)


if __name__ == "__main__":
    main()
