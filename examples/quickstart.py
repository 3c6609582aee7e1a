"""One training, two uses: recognise activities, and generate new windows.

The script trains one model on the windows of some people, without their labels. Then
it asks two questions, both judged on people that no training has seen:

1. Recognition: do the learned features help to tell activities apart?
2. Generation: do synthetic windows look and work like real ones?

    python examples/quickstart.py                    simulated data, two minutes
    python examples/quickstart.py --data mine.npz    your own windows

A file of your own needs the arrays X (n_windows, n_channels, n_timesteps), y (a label
per window) and groups (the person or session of each window, at least six); classes,
channels and sampling_rate are optional.
"""

import argparse
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils import Bunch

from skflowfm import FlowFMSampler, FlowFMTransformer
from skflowfm.datasets import make_wearable
from skflowfm.metrics import (
    c2st_auc,
    log_psd_distance,
    nearest_neighbour_copy,
    train_on_synthetic,
)
from skflowfm.plotting import plot_representation, plot_windows

MAX_STEPS, QUICK_STEPS = 600, 60
FEW_LABELS = 10  # per class
N_DRAWS = 5  # of the few labels; scores are averaged over them
N_CUTS = 3  # of the training people in halves; AUCs are averaged over them


# ------------------------------------------------------------------------- the data
def load_data(options):
    """Return windows X, labels y (0, 1, ...) with names, and the people (groups)."""
    if options.data is None:
        n_windows, n_people = (360, 12) if options.quick else (1800, 15)
        return make_wearable(n_windows, n_subjects=n_people, random_state=options.seed)
    if not options.data.is_file():
        raise SystemExit(f"--data: there is no file {options.data}")
    try:
        with np.load(options.data) as stored:
            arrays = dict(stored)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise SystemExit(
            f"--data: {options.data} is no npz file of plain arrays ({error}). Save "
            "one with np.savez; labels that are texts as y.astype(str)."
        ) from None
    missing = {"X", "y", "groups"} - set(arrays)
    if missing:
        raise SystemExit(
            f"--data: {options.data} must hold the arrays X, y and groups; "
            f"{sorted(missing)} missing, found {sorted(arrays)}"
        )
    return as_bunch(arrays, options.data)


def as_bunch(arrays, path):
    """Check the arrays of a file and give labels without names their own."""
    X, y, groups = arrays["X"], arrays["y"], arrays["groups"]
    if X.ndim != 3 or y.shape != (len(X),) or groups.shape != (len(X),):
        raise SystemExit(
            f"--data: {path} must hold X (n_windows, n_channels, n_timesteps) with one "
            f"entry of y and groups per window; got X {X.shape}, y {y.shape}, groups "
            f"{groups.shape}"
        )
    if len(np.unique(groups)) < 6:
        raise SystemExit(
            f"--data: {path} must hold at least 6 people to train on some and test on "
            f"others; groups has {len(np.unique(groups))}"
        )
    classes = arrays.get("classes")
    if classes is None or y.dtype.kind not in "iu":
        classes, y = np.unique(y, return_inverse=True)
    classes = np.asarray(classes)
    if y.min() < 0 or y.max() >= len(classes):
        raise SystemExit(
            f"--data: {path} must name each label: with {len(classes)} classes y goes "
            f"from 0 to {len(classes) - 1}, not from {y.min()} to {y.max()}"
        )
    channels, rate = arrays.get("channels"), arrays.get("sampling_rate")
    if channels is not None and np.shape(channels) != (X.shape[1],):
        raise SystemExit(
            f"--data: {path} must name its {X.shape[1]} channels or none; channels has "
            f"shape {np.shape(channels)}"
        )
    try:
        rate = None if rate is None else float(np.asarray(rate).item())
        good = rate is None or 0 < rate < np.inf
    except ValueError:
        good = False
    if not good:
        raise SystemExit(
            f"--data: {path} must have a sampling_rate above 0, or none; got {rate}"
        )
    return Bunch(
        X=X.astype(np.float32),
        y=y,
        groups=groups,
        classes=classes,
        channels=channels,
        sampling_rate=rate,
    )


def split_people(data, seed):
    """Return training and test windows of different people, two thirds and one."""
    splitter = GroupShuffleSplit(1, test_size=1 / 3, random_state=seed)
    rows = next(splitter.split(data.X, data.y, data.groups))
    return [Bunch(X=data.X[r], y=data.y[r], groups=data.groups[r]) for r in rows]


# ---------------------------------------------------------------------- recognition
def statistics(X):
    """Hand-made features of each window: what one would try first."""
    spectrum = np.abs(np.fft.rfft(X - X.mean(axis=-1, keepdims=True)))[..., 1:]
    bands = np.array_split(spectrum, 8, axis=-1)
    features = [
        X.mean(axis=-1),
        X.std(axis=-1),
        *np.percentile(X, (0, 10, 25, 50, 75, 90, 100), axis=-1),
        np.abs(np.diff(X)).mean(axis=-1),
        *(np.log10(band.mean(axis=-1) + 1e-6) for band in bands),
    ]
    return np.concatenate(features, axis=1)


def few_labels(y, rng):
    """Return the positions of at most ten random labels per class."""
    by_class = [rng.permutation(np.flatnonzero(y == c)) for c in np.unique(y)]
    return np.concatenate([rows[:FEW_LABELS] for rows in by_class])


def scores_by_person(classifier, Z, y, Z_test, test):
    """Fit on the labelled rows; return the macro-F1 of each person in the test."""
    predicted = classifier.fit(Z, y).predict(Z_test)
    scores = []
    for person in np.unique(test.groups):
        here = test.groups == person
        present = np.unique(test.y[here])
        scores.append(
            f1_score(test.y[here], predicted[here], labels=present, average="macro")
        )
    return np.array(scores)


def recognition_table(train, test, transformer, seed):
    """Compare features, each with a classifier that suits them."""
    untrained = FlowFMTransformer(max_steps=0, random_state=seed).fit(train.X)
    logistic = LogisticRegression(max_iter=5000)
    forest = RandomForestClassifier(200, random_state=seed)
    methods = {
        "FlowFM features + logistic regression": (transformer.transform, logistic),
        "same encoder, not trained + logistic regression": (
            untrained.transform,
            logistic,
        ),
        "hand-made statistics + random forest": (statistics, forest),
    }
    table = {}
    for name, (features, classifier) in methods.items():
        Z, Z_test = features(train.X), features(test.X)
        rng = np.random.default_rng(seed)
        draws = [few_labels(train.y, rng) for _ in range(N_DRAWS)]
        few = [
            scores_by_person(classifier, Z[rows], train.y[rows], Z_test, test)
            for rows in draws
        ]
        table[name] = {
            f"all {len(train.y)} labels": mean_and_deviation(
                scores_by_person(classifier, Z, train.y, Z_test, test)
            ),
            f"{FEW_LABELS} labels per class": mean_and_deviation(np.mean(few, axis=0)),
        }
    return pd.DataFrame(table).T


def mean_and_deviation(scores):
    return f"{scores.mean():.3f} +- {scores.std(ddof=1):.3f}"


# ----------------------------------------------------------------------- generation
def draw_like(sampler, train):
    """Draw as many synthetic windows of each class as the training set has."""
    classes, counts = np.unique(train.y, return_counts=True)
    asked = dict(zip(classes.tolist(), counts.tolist(), strict=True))
    start = time.perf_counter()
    X, y = sampler.sample(class_counts=asked)
    return X, y, asked, len(X) / (time.perf_counter() - start)


def generation_measures(train, test, X, y, seed):
    """Judge synthetic windows; every value stands beside what real windows reach."""
    transfer = train_on_synthetic(
        X, y, test.X, test.y, X_train=train.X, y_train=train.y, random_state=seed
    ).forest
    cuts = [
        c2st_auc(train.X, X, groups_real=train.groups, random_state=seed + k)
        for k in range(N_CUTS)
    ]
    spectrum = log_psd_distance(train.X, X, random_state=seed)
    copies = nearest_neighbour_copy(train.X, X, test.X, random_state=seed)
    return {
        "F1 of a forest trained on them": (transfer.synthetic, transfer.real),
        "AUC of telling them from real": (
            np.mean([cut.value for cut in cuts]),
            np.mean([cut.floor for cut in cuts]),
        ),
        "distance of spectra, in decades": (spectrum.value, spectrum.floor),
        "share nearer to training than test": (copies.value, copies.floor),
    }


def generation_table(measures, per_second):
    """Lay the measures out with a word on how to read each."""
    meanings = (
        "on people never seen; synthetic should come close to real",
        "0.5 cannot tell, 1 always can; real: some people against others",
        "0.3 is a factor of 2 in power; real: sampling noise alone",
        "far above real would mean copies of training windows",
    )
    lines = [f"{'':<36}{'synthetic':>10}{'real':>8}   how to read it"]
    for (name, (value, real)), meaning in zip(measures.items(), meanings, strict=True):
        lines.append(f"{name:<36}{value:>10.3f}{real:>8.3f}   {meaning}")
    lines.append(f"{'windows drawn per second':<36}{per_second:>10.0f}")
    return "\n".join(lines)


# ----------------------------------------------------------------------- the report
def health_report(transformer):
    """Say in words what the readout of the training means."""
    health = transformer.health_
    bands = ", ".join(f"{loss:.2f}" for loss in health["flow_loss_by_time"])
    return (
        f"effective rank {health['effective_rank']:.1f} of "
        f"{transformer.n_components_} components: how many directions carry variance "
        "(1 would be a collapse)\n"
        f"flow loss from t = 0 (noise) to t = 1 (data): {bands} (2 is where an "
        "untrained model starts, 0 would know every window)\n"
        f"{transformer.n_steps_} steps in {transformer.fit_seconds_:.0f} s, ended by "
        f"{transformer.stopped_by_}"
    )


def draw_figures(data, train, transformer, X, y, out):
    """Write the two figures and return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    windows = plot_windows(
        train.X,
        X,
        train.y,
        y,
        classes=data.classes,
        channels=data.channels,
        sampling_rate=data.sampling_rate,
    )
    representation = plot_representation(
        transformer.transform(train.X),
        train.y,
        Z_synthetic=transformer.transform(X),
        y_synthetic=y,
        classes=data.classes,
    )
    paths = out / "quickstart_windows.png", out / "quickstart_representation.png"
    windows.savefig(paths[0], dpi=110)
    representation.savefig(paths[1], dpi=110)
    return paths


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, metavar="FILE.npz", help="your own windows")
    add("--max-time", type=float, metavar="SECONDS", help="train this long instead")
    add("--quick", action="store_true", help="a small run that only shows the way")
    add("--out", type=Path, default=Path("out"), metavar="DIR", help="for the figures")
    add("--seed", type=int, default=0)
    return parser.parse_args()


def describe_data(data, train, test):
    """Say what there is, and who is on which side."""
    names = ", ".join(map(str, data.classes))
    lines = [
        f"1. Data: {len(data.X)} windows of {data.X.shape[1]} channels x "
        f"{data.X.shape[2]} time steps, {len(data.classes)} classes: {names}"
    ]
    for part, use in ((train, "train"), (test, "test")):
        n_people = len(np.unique(part.groups))
        lines.append(f"   {n_people} people to {use} on, {len(part.X)} windows")
    return "\n".join(lines)


def learn(train, options):
    """Train the one model that everything below uses; it never sees a label."""
    steps = QUICK_STEPS if options.quick else MAX_STEPS
    transformer = FlowFMTransformer(
        max_steps=steps if options.max_time is None else None,
        max_time=options.max_time,
        random_state=options.seed,
        verbose=1,
    )
    return transformer.fit(train.X, groups=train.groups)


def main():
    options = parse_arguments()
    start = time.perf_counter()
    data = load_data(options)
    train, test = split_people(data, options.seed)
    print(describe_data(data, train, test))
    if options.quick:
        print("   A quick run only shows the way: its scores mean little.")

    print("\n2. Training one model, without labels")
    transformer = learn(train, options)

    print("\n3. Recognition: macro-F1, mean +- standard deviation over the test people")
    print(recognition_table(train, test, transformer, options.seed).to_string())

    print("\n4. Generation, by the same model: synthetic windows beside real ones")
    sampler = FlowFMSampler(FrozenEstimator(transformer), random_state=options.seed)
    sampler.fit(train.X, train.y)  # labels enter only here, the networks stay as is
    X, y, asked, per_second = draw_like(sampler, train)
    measures = generation_measures(train, test, X, y, options.seed)
    print(generation_table(measures, per_second))
    got = (f"{data.classes[c]} {n}/{np.sum(y == c)}" for c, n in asked.items())
    print(f"windows asked/got per class: {', '.join(got)}")

    print("\n5. Health of the model")
    print(health_report(transformer))
    for path in draw_figures(data, train, transformer, X, y, options.out):
        print(f"figure: {path}")
    print(f"whole run: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
