"""Which representation recognises activities of people it has never seen?

Every method is fitted on the training subjects of a fold, without labels, once; then a
classifier is fitted on all labels and on a small share of them, and judged on the
subjects left out. No subject, hence no recording, is on both sides of a split.

    python benchmarks/recognition.py --data a.npz b.npz --methods flowfm pca

Two scores, because they answer different questions and differ by several points:

* `subject_macro_f1`: macro-F1 within each test subject, over the classes that subject
  performed; reported as mean and standard deviation over subjects ("what will a new
  person see?").
* `pooled_macro_f1`: one macro-F1 over all test windows of all folds.

`--ablation` compares variants of the default encoder instead (recognition_ablation.py).

To add a method, write a function `(X_train, options) -> (transformer, classifier)`,
both unfitted, and list it in `METHODS`.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from _common import (
    environment,
    leave_out_the_field,
    load_windows,
    print_environment,
    statistics_features,
    subsample,
    write_rows,
)
from _protocol import draw_labels, subject_folds, subject_scores
from recognition_ablation import LastStage, WithStatistics, ablation
from recognition_tables import print_tables
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

DEFAULT_DIM = 256  # what FlowFMTransformer takes by default
CONV_DIM = 64


# ------------------------------------------------------------------------- methods
@dataclass(frozen=True)
class Options:
    """What a method may depend on besides the training windows."""

    seed: int = 0
    n_components: int | None = None
    max_steps: int | None = None
    max_time: float | None = None
    n_jobs: int = 1
    label_draws: int = 5


def flowfm(X_train, options):
    """FlowFMTransformer with its defaults, read by a plain logistic regression."""
    from skflowfm import FlowFMTransformer

    transformer = FlowFMTransformer(
        options.n_components,
        max_steps=options.max_steps,
        max_time=options.max_time,
        random_state=options.seed,
    )
    return transformer, LogisticRegression(max_iter=1000)


def untrained(method):
    """The same without a training step: what the training is worth."""

    def build(X_train, options):
        transformer, classifier = method(X_train, options)
        return transformer.set_params(max_steps=0, max_time=None), classifier

    return build


class Altered(FunctionTransformer):
    """The default transformer, untrained, after `alter(model, rng)` has changed it."""

    def __init__(self, transformer, alter):
        super().__init__()
        self.transformer, self.alter = transformer, alter

    def fit_transform(self, X, y=None):
        from skflowfm._generation import fit_axes
        from skflowfm._validation import Rows

        model = self.transformer.set_params(max_steps=0, max_time=None).fit(X).module_
        rng = torch.Generator().manual_seed(self.transformer.random_state)
        some = torch.randperm(len(X), generator=rng)[:2000]
        with torch.no_grad():
            self.alter(model, model.standardise(Rows(X)[some]), rng)
        fit_axes(model, Rows(X), some)
        return self.transform(X)

    def transform(self, X):
        return self.transformer.transform(X)


def flowfm_random(X_train, options):
    """The default encoder with every weight at random, the fixed ones too."""

    def alter(model, x, rng):
        axes = model.stem.components.axes
        axes.copy_(torch.randn(axes.shape, generator=rng))
        axes.div_(model.stem(x).square().mean().sqrt())

    transformer, classifier = flowfm(X_train, options)
    return Altered(transformer, alter), classifier


class Leading(torch.nn.Module):
    """The first features as they are."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, features):
        return features[:, : self.size]


def stem_components(X_train, options):
    """As many principal components of the stem, nothing learned beside them."""

    def alter(model, x, rng):
        model.encoder = Leading(model.n_components)

    transformer, classifier = flowfm(X_train, options)
    return Altered(transformer, alter), classifier


def with_encoder(kind):
    """An encoder of one's own, ``kind(window_shape, n_components)``, for the stem."""

    def build(X_train, options):
        transformer, classifier = flowfm(X_train, options)
        torch.manual_seed(options.seed)
        size = options.n_components or CONV_DIM
        encoder = kind(X_train.shape[1:], size)
        return transformer.set_params(encoder=encoder, n_components=size), classifier

    return build


def conv(X_train, options):
    """A plain convolutional encoder in place of the fixed stem."""
    from skflowfm.nets import ConvEncoder

    build = with_encoder(lambda shape, size: ConvEncoder(shape[0], size))
    return build(X_train, options)


def pca(X_train, options):
    """Principal components of the flattened, standardised windows."""
    n_windows, n_channels, n_timesteps = X_train.shape
    dim = min(options.n_components or DEFAULT_DIM, n_windows, n_channels * n_timesteps)
    transformer = make_pipeline(
        FunctionTransformer(lambda X: X.reshape(len(X), -1)),
        StandardScaler(),
        PCA(dim, random_state=options.seed),
    )
    return transformer, LogisticRegression(max_iter=1000)


def statistics_forest(X_train, options):
    """Hand-made features and a random forest: what practitioners try first."""
    forest = RandomForestClassifier(
        300, n_jobs=options.n_jobs, random_state=options.seed
    )
    return FunctionTransformer(statistics_features), forest


def statistics_logistic(X_train, options):
    """The same hand-made features, standardised, and logistic regression."""
    transformer = make_pipeline(
        FunctionTransformer(statistics_features), StandardScaler()
    )
    return transformer, LogisticRegression(max_iter=1000)


def minirocket(X_train, options):
    """10 000 random-convolution features and ridge regression: the bar to beat."""
    os.environ.setdefault("NUMBA_NUM_THREADS", str(options.n_jobs))
    try:
        from aeon.transformations.collection.convolution_based import MiniRocket
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}; install the extra: pip install 'skflowfm[bench]'"
        ) from error

    rocket = MiniRocket(n_jobs=options.n_jobs, random_state=options.seed)
    rocket.fit_transform(X_train[:8])  # compiles, so that the timing does not
    ridge = RidgeClassifierCV(alphas=np.logspace(-3, 3, 10))
    return rocket, make_pipeline(StandardScaler(with_mean=False), ridge)


METHODS = {
    "flowfm": flowfm,
    "flowfm-untrained": untrained(flowfm),
    "flowfm-random": flowfm_random,
    "stem-components": stem_components,
    "conv": conv,
    "conv-untrained": untrained(conv),
    "pca": pca,
    "statistics-forest": statistics_forest,
    "statistics-logistic": statistics_logistic,
    "minirocket": minirocket,
}
ABLATION = {
    **ablation(flowfm),
    "learned stem": conv,
    "learned stem, last stage only": with_encoder(
        lambda shape, size: LastStage(shape[0], size)
    ),
    "learned stem + statistics": with_encoder(
        lambda shape, size: WithStatistics(shape[0], size, shape[1])
    ),
    "stem's components only": stem_components,
    "untrained": untrained(flowfm),
    "random throughout": flowfm_random,
}


# ------------------------------------------------------------------------ protocol
def timed(function, *arguments):
    """The function's result and the seconds it took."""
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def run_fold(method, data, train, test, fractions, options):
    """Fit one method on one fold; yields (fraction, [predicted], measurements).

    There is one prediction for each draw of a share of the labels, and one if all are
    used: which few labels are known moves a score by several points.

    `fit_seconds` covers fitting the representation and computing the training
    features, `transform_seconds` the features of the test windows.
    """
    transformer, classifier = method(data.X[train], options)
    # numba's OpenMP layer changes torch's thread count: training took 5 times the CPU
    torch.set_num_threads(options.n_jobs)
    Z_train, fit_seconds = timed(transformer.fit_transform, data.X[train])
    Z_test, transform_seconds = timed(transformer.transform, data.X[test])
    for fraction in fractions:
        predicted = []
        for draw in range(options.label_draws if fraction < 1 else 1):
            rows = draw_labels(data.y[train], fraction, [options.seed, draw])
            _, seconds = timed(classifier.fit, Z_train[rows], data.y[train][rows])
            predicted.append(classifier.predict(Z_test))
        yield (
            fraction,
            predicted,
            {
                "n_train": len(train),
                "n_labels": len(rows),
                "n_test": len(test),
                "dim": Z_train.shape[1],
                "fit_seconds": round(fit_seconds, 4),
                "classifier_seconds": round(seconds, 4),
                "transform_seconds": round(transform_seconds, 4),
                "steps": getattr(transformer, "n_steps_", ""),
            },
        )


def run_dataset(data, methods, n_folds, fractions, options, out, one_fold=False):
    """All methods on all folds of one data set with one seed, written to `out`."""
    folds = subject_folds(data, n_folds, options.seed)
    n_subjects = len(np.unique(data.groups))
    protocol = f"grouped-{len(folds)}-fold"
    if len(folds) == n_subjects:
        protocol = "leave-one-subject-out"
    common = {"dataset": data.name, "protocol": protocol, "seed": options.seed}
    print(
        f"\n{data.name}: {len(data.y)} windows {data.X.shape[1:]}, {n_subjects} "
        f"subjects, {len(data.classes)} classes, {protocol}, seed {options.seed}",
        flush=True,
    )
    pooled = {}
    for fold, (train, test) in enumerate(folds):
        if one_fold and fold != options.seed % len(folds):
            continue
        for name, method in methods.items():
            results = run_fold(method, data, train, test, fractions, options)
            said = f"  fold {fold + 1}/{len(folds)} {name}:"
            for fraction, predicted, measured in results:
                shape = len(predicted), len(data.y)
                whole = pooled.setdefault((name, fraction), np.empty(shape, int))
                whole[:, test] = predicted
                scores = mean_scores(data.y[test], predicted, data.groups[test])
                key = {**common, "method": name, "label_fraction": fraction}
                new = [
                    row(key, fold, "subject_macro_f1", value, measured, subject)
                    for subject, value in scores.items()
                ]
                write_rows(out, new)
                said += f" F1 {np.mean(list(scores.values())):.3f} ({fraction:.0%}),"
            print(f"{said} fit {measured['fit_seconds']:.1f} s", flush=True)
    if one_fold:
        return
    for (name, fraction), predicted in pooled.items():
        key = {**common, "method": name, "label_fraction": fraction}
        value = np.mean(
            [f1_score(data.y, p, average="macro", zero_division=0) for p in predicted]
        )
        write_rows(out, [row(key, "all", "pooled_macro_f1", value, {}, "all")])


def mean_scores(y, predictions, groups):
    """Score of each subject, averaged over predictions."""
    scores = [subject_scores(y, predicted, groups) for predicted in predictions]
    return {subject: np.mean([s[subject] for s in scores]) for subject in scores[0]}


def row(key, fold, metric, value, measured, subject):
    """One line of the CSV file; the columns stand here."""
    columns = (
        "n_train n_labels n_test dim fit_seconds classifier_seconds "
        "transform_seconds steps"
    ).split()
    return {
        "dataset": key["dataset"],
        "method": key["method"],
        "protocol": key["protocol"],
        "seed": key["seed"],
        "fold": fold,
        "subject": subject,
        "label_fraction": key["label_fraction"],
        "metric": metric,
        "value": round(float(value), 6),
        **{column: measured.get(column, "") for column in columns},
    }


# -------------------------------------------------------------------- command line
def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", nargs="+", required=True, metavar="FILE.npz")
    add(
        "--methods",
        nargs="+",
        help=f"of {', '.join(METHODS)}; all by default",
    )
    add("--ablation", action="store_true", help="--methods are variants of the default")
    add("--seeds", nargs="+", type=int, default=[0])
    add("--folds", type=int, default=5, help="0 leaves one subject out at a time")
    add("--fold-per-seed", action="store_true", help="seed s has fold s alone")
    add("--label-fractions", nargs="+", type=float, default=[1.0, 0.1, 0.01])
    add("--label-draws", type=int, default=5, help="of a share of the labels")
    add("--n-components", type=int, help="size of z, and of the PCA")
    add("--max-windows", type=int, help="a random subset, for a quick look")
    add("--max-steps", type=int, help="training steps of FlowFMTransformer")
    add("--max-time", type=float, help="seconds of training of FlowFMTransformer")
    add("--without-field", action="store_true", help="skip what z does not depend on")
    add("--out", default="out/recognition.csv", help="replaced if it exists")
    arguments = parser.parse_args()
    if arguments.folds < 0 or arguments.folds == 1:
        parser.error("--folds must be 0 (leave one subject out) or at least 2")
    if not all(0 < fraction <= 1 for fraction in arguments.label_fractions):
        parser.error("--label-fractions must lie in (0, 1]")
    known = ABLATION if arguments.ablation else METHODS
    arguments.methods = arguments.methods or list(known)
    if unknown := set(arguments.methods) - set(known):
        parser.error(f"unknown methods {sorted(unknown)}; there are {sorted(known)}")
    return arguments


def available_methods(names, known, options):
    """The methods whose packages are installed; says which are not."""
    probe = np.random.default_rng(0).standard_normal((8, 1, 16)).astype(np.float32)
    methods = {}
    for name in names:
        try:
            known[name](probe, options)
            methods[name] = known[name]
        except ImportError as error:
            print(f"{name} skipped: {error}", flush=True)
    return methods


def load_available(paths):
    """The data sets that are there; says which are not."""
    for path in paths:
        try:
            yield load_windows(path)
        except FileNotFoundError as error:
            print(f"{Path(path).stem} skipped: {error}", flush=True)


def main():
    arguments = parse_arguments()
    print_environment()
    if arguments.without_field:
        leave_out_the_field()
    options = Options(
        n_components=arguments.n_components,
        max_steps=arguments.max_steps,
        max_time=arguments.max_time,
        n_jobs=torch.get_num_threads(),
        label_draws=arguments.label_draws,
    )
    known = ABLATION if arguments.ablation else METHODS
    methods = available_methods(arguments.methods, known, options)
    out = Path(arguments.out)
    out.unlink(missing_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {"arguments": vars(arguments), "environment": environment()}
    out.with_suffix(".json").write_text(json.dumps(record, indent=1))
    n_sets = 0
    for data in load_available(arguments.data):
        n_sets += 1
        data = subsample(data, arguments.max_windows)
        for seed in arguments.seeds:
            seeded = replace(options, seed=seed)
            fractions = arguments.label_fractions
            run_dataset(
                data,
                methods,
                arguments.folds,
                fractions,
                seeded,
                out,
                arguments.fold_per_seed,
            )
    if n_sets == 0 or not methods:
        sys.exit("nothing was run: no data file found, or no method available")
    print_tables([out], "default" if arguments.ablation else "flowfm")


if __name__ == "__main__":
    main()
