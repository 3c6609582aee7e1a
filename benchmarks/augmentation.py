"""Does augmentation help a classifier when labels are few or classes are rare?

Three studies; `--study` says which.

* `few`: about 60 % of the people train. The flow is trained on all their windows
  without labels, then ten labels of each class are drawn (once per seed) and every
  method adds rows up to a total per class (`--totals`, 100). Classifiers are tested on
  the windows of the other people.
* `rare`: all training windows are labelled, but one class is cut to a twentieth of the
  largest (three rows at least) and raised back to that size. The flow sees the cut set
  only. Recall and F1 of that class are measured, on the other people.
* `harmless`: `AugmentedClassifier(amount="auto")` beside its plain classifier on small
  tables and on small parts of the data files, 3-fold, with a small training budget
  (`--small-steps`). It should nowhere be a point worse.

    python benchmarks/augmentation.py --data hapt_waist.npz
    python benchmarks/augmentation.py --study harmless --data adl_wrist.npz

Classifiers: a random forest and logistic regression on standardised columns, both of
hand-made statistics of the windows. Methods:

* `nothing`: the labelled windows alone; `all labels`: all training windows;
* `weights` (`rare` only): `class_weight="balanced"` and no new rows;
* `jitter`: noise, scaling and, of three channels, a small rotation of real windows;
* `smote`: between neighbours, on flattened windows;
* `flowfm`: `FlowFMSampler.fit_resample` of the labelled windows;
* `flowfm pool` (`few` only): the same with all training windows as `X_unlabelled`;
* `likely windows` (`few` only): no generation, training windows themselves with the
  classes that `flowfm pool` takes them for: what the labels are worth without it;

and, to find out what could be better, on request:

* `flowfm stop`: as `flowfm`, where to stop solving chosen on all training windows;
* `variants`: `sample_like` of the labelled windows;
* `variants near`: `sample_like(diversity=1)`, towards unlabelled training windows;
* `variants jittered`: `sample_like` of the windows that `jitter` gives;
* `near windows`: no generation at all, one of the four unlabelled training windows
  nearest in z, with the label of the labelled one.

Besides, `added rows only` is a classifier's score without the real windows (train on
synthetic, test on real); `right label` the share of new rows which a forest trained on
all training labels gives the class that was asked for; `coverage` the share of
training windows that have a new row nearby, both of new rows alone.

Everything is a function of the seeds. Seeds redraw labels on one cut of people and one
flow (`--splits` for more of them), so intervals over seeds leave people out of account.
"""

import argparse
import copy
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from _common import (
    data_sets,
    new_output,
    print_environment,
    statistics_features,
    write_rows,
)
from _protocol import draw_per_class
from generation import fit_sampler, jitter, smote, split_subjects
from scipy import stats
from scipy.spatial.transform import Rotation
from sklearn import datasets
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, recall_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import Bunch

from skflowfm import (
    AugmentedClassifier,
    FlowFMClassifier,
    FlowFMSampler,
    FlowFMTransformer,
)
from skflowfm.metrics import precision_recall

STUDIES = ("few", "rare", "harmless")
MIN_SUBJECTS = 5
LABELS_PER_CLASS = 10
IMBALANCE = 20
FEWEST = 3
ROTATION = 10  # degrees, standard deviation of each component of the rotation vector
N_TREES = 200
N_NEAR = 4
MAX_ROWS = 300
N_FOLDS = 3


# ------------------------------------------------------------------ the classifiers
def classifiers(seed, names=("forest", "logistic"), **parameters):
    """Unfitted classifiers by name; `parameters` are common to both."""
    known = {
        "forest": RandomForestClassifier(N_TREES, random_state=seed, **parameters),
        "logistic": make_pipeline(
            StandardScaler(), LogisticRegression(max_iter=1000, **parameters)
        ),
    }
    return {name: known[name] for name in names}


def macro_f1(y, predicted):
    """Mean F1 of the classes in `y`; one that is never predicted counts 0."""
    classes = np.unique(y)
    return f1_score(y, predicted, labels=classes, average="macro", zero_division=0)


def scores_of(y, predicted, rare=None):
    """Macro-F1 and, if there is a rare class, its recall and F1."""
    scores = {"macro_f1": macro_f1(y, predicted)}
    if rare is not None:
        kwargs = {"labels": [rare], "average": "macro", "zero_division": 0}
        scores["recall"] = recall_score(y, predicted, **kwargs)
        scores["f1"] = f1_score(y, predicted, **kwargs)
    return scores


# ---------------------------------------------------------------------- the methods
# Each takes a task (labelled rows X and y, counts of new rows, a seed, the trained
# sampler and the unlabelled rows it was fitted on) and returns new rows and labels.
def no_rows(task):
    return task.X[:0], task.y[:0]


def jitter_and_rotate(task):
    """Noise and scaling as in generation.py, then a rotation of three channels."""
    X, y = jitter(task, task.seed)
    if X.shape[1] == 3:
        rng = np.random.default_rng([task.seed, 1])
        angles = np.deg2rad(ROTATION) * rng.normal(size=(len(X), 3))
        X = np.einsum("nij,njt->nit", Rotation.from_rotvec(angles).as_matrix(), X)
    return X.astype(np.float32), y


def smote_rows(task):
    return smote(task, task.seed)


def flowfm(task, X_unlabelled=None):
    """`fit_resample` of the frozen flow; the labelled rows must come back first."""
    have = dict(zip(*np.unique(task.y, return_counts=True), strict=True))
    totals = {c: n + int(have[c]) for c, n in task.counts.items()}
    sampler = clone(task.sampler).set_params(
        sampling_strategy=totals, random_state=task.seed
    )
    X, y = sampler.fit_resample(task.X, task.y, X_unlabelled=X_unlabelled)
    task.stop = sampler.stop_
    n = len(task.y)
    assert np.array_equal(X[:n], task.X)
    assert np.array_equal(y[:n], task.y)
    assert sampler.n_synthetic_ == len(y) - n
    return X[n:], y[n:]


def flowfm_pool(task):
    """The same, with the training windows without their labels."""
    return flowfm(task, task.all)


def likely_windows(task):
    """Windows without labels, with the class that a classifier gives them."""
    rng = np.random.default_rng([task.seed, 3])
    model = FlowFMClassifier(FrozenEstimator(task.sampler.transformer_))
    likely = model.fit(task.X, task.y).predict(task.all)
    X, y = np.concatenate([task.X, task.all]), np.concatenate([task.y, likely])
    rows = [rng.choice(np.flatnonzero(y == c), n) for c, n in task.counts.items()]
    rows = np.concatenate(rows)
    return X[rows], y[rows]


def flowfm_stop(task):
    sampler = copy.copy(task.sampler).fit_condition(task.X, task.y)
    return sampler.sample(class_counts=task.counts, random_state=task.seed)


def parents(task):
    """Positions of labelled rows, each class's in turn, as often as rows are wanted."""
    return np.concatenate(
        [np.resize(np.flatnonzero(task.y == c), n) for c, n in task.counts.items()]
    )


def variants(task, diversity=0.0):
    rows = parents(task)
    X = task.sampler.sample_like(
        task.X[rows], diversity=diversity, random_state=task.seed
    )
    return X, task.y[rows]


def variants_near(task):
    return variants(task, diversity=1.0)


def variants_jittered(task):
    """`sample_like` of jittered and rotated windows."""
    X, y = jitter_and_rotate(task)
    return task.sampler.sample_like(X, random_state=task.seed), y


def near_windows(task):
    """Unlabelled windows themselves, as if near rows had equal labels."""
    rng = np.random.default_rng([task.seed, 2])
    rows = parents(task)
    transformer = task.sampler.transformer_
    pool = NearestNeighbors(n_neighbors=N_NEAR + 1).fit(transformer.transform(task.all))
    near = pool.kneighbors(transformer.transform(task.X))[1][:, 1:]
    return task.all[near[rows, rng.integers(N_NEAR, size=len(rows))]], task.y[rows]


METHODS = {
    "nothing": no_rows,
    "weights": no_rows,
    "jitter": jitter_and_rotate,
    "smote": smote_rows,
    "flowfm": flowfm,
    "flowfm pool": flowfm_pool,
    "likely windows": likely_windows,
    "flowfm stop": flowfm_stop,
    "variants": variants,
    "variants near": variants_near,
    "variants jittered": variants_jittered,
    "near windows": near_windows,
}
FEW_ONLY = ("flowfm pool", "likely windows")
DEFAULT_METHODS = ("nothing", "weights", "jitter", "smote", "flowfm", *FEW_ONLY)


# ------------------------------------------------------------- the first two studies
def run_few(data, split_seed, options):
    """Ten labels of each class, raised to each total by each method."""
    split = prepared(data, split_seed)
    sampler = fit_sampler(split, split_seed, options).fit(split.X)
    judge = classifiers(split_seed)["forest"].fit(split.features, split.y)
    where = {"study": "few", "dataset": data.name, "case": "", "split": split_seed}
    everything = score_all(split, split.features, split.y, split_seed)
    record(options, {**where, "method": "all labels", "seed": split_seed}, everything)
    for seed in options.seeds:
        rows = draw_per_class(split.y, LABELS_PER_CLASS, seed)
        for total in options.totals:
            task = task_of(split, rows, total, seed, sampler)
            for method in options.methods:
                if method == "weights" or (
                    method == "nothing" and total != options.totals[0]
                ):
                    continue
                scores = score_method(split, task, method, judge=judge)
                key = {**where, "method": method, "seed": seed}
                if method != "nothing":
                    key["total"] = total
                record(options, key, scores)


def run_rare(data, split_seed, options):
    """One class after the other cut to a twentieth, and raised to the largest."""
    split = prepared(data, split_seed)
    for rare in rare_classes(split, split_seed, options.rare_classes):
        for seed in options.seeds:
            rows = cut_class(split.y, rare, seed)
            n = int(np.sum(split.y[rows] == rare))
            case = f"{data.classes[rare]}, {n} rows"
            cut = Bunch(X=split.X[rows], groups=split.groups[rows])
            print(f"{data.name}: {case}, seed {seed}", flush=True)
            sampler = fit_sampler(cut, seed, options).fit(cut.X)
            largest = np.unique(split.y[rows], return_counts=True)[1].max()
            task = task_of(split, rows, int(largest), seed, sampler, only=rare)
            task.all = cut.X
            where = {
                "study": "rare",
                "dataset": data.name,
                "case": str(data.classes[rare]),
                "split": split_seed,
                "seed": seed,
            }
            for method in options.methods:
                if method in FEW_ONLY:
                    continue
                scores = score_method(split, task, method, rare=rare)
                record(options, {**where, "method": method}, scores)
            scores = score_all(split, split.features, split.y, seed, rare)
            record(options, {**where, "method": "all labels"}, scores)


def prepared(data, seed):
    """Training and test people, with the statistics that classifiers look at."""
    split = split_subjects(data, seed, MIN_SUBJECTS)
    split.features = statistics_features(split.X)
    split.features_test = statistics_features(split.X_test)
    print(
        f"\n{data.name}, split {seed}: {len(split.y)} windows of "
        f"{len(np.unique(split.groups))} people train, {len(split.y_test)} of "
        f"{len(np.unique(split.groups_test))} test",
        flush=True,
    )
    return split


def rare_classes(split, seed, n):
    """Classes to cut: drawn of those that have enough rows and are tested."""
    classes, counts = np.unique(split.y, return_counts=True)
    enough = counts > max(FEWEST, counts.max() // IMBALANCE)
    classes = np.intersect1d(classes[enough], split.y_test)
    return np.random.default_rng(seed).permutation(classes)[:n].tolist()


def cut_class(y, rare, seed):
    """Positions of all rows, but few of those of the class `rare`."""
    rng = np.random.default_rng(seed)
    others = np.flatnonzero(y != rare)
    largest = np.unique(y[others], return_counts=True)[1].max()
    n = max(FEWEST, round(largest / IMBALANCE))
    kept = rng.permutation(np.flatnonzero(y == rare))[:n]
    return np.sort(np.concatenate([others, kept]))


def task_of(split, rows, total, seed, sampler, only=None):
    """The labelled rows and how many new ones each class needs for the total."""
    classes, have = np.unique(split.y[rows], return_counts=True)
    counts = {
        c: max(total - n, 0)
        for c, n in zip(classes.tolist(), have.tolist(), strict=True)
        if only is None or c == only
    }
    return Bunch(
        X=split.X[rows],
        y=split.y[rows],
        features=split.features[rows],
        counts=counts,
        seed=seed,
        sampler=sampler,
        all=split.X,
    )


def score_method(split, task, method, rare=None, judge=None):
    """Scores of the classifiers on the test people with this method's new rows.

    Returns
    -------
    dict
        {(classifier, metric): value}; measures of the rows themselves have no
        classifier.
    """
    X_new, y_new = METHODS[method](task)
    wanted = task.counts if METHODS[method] is not no_rows else {}
    got = dict(zip(*np.unique(y_new, return_counts=True), strict=True))
    assert got == {c: n for c, n in wanted.items() if n}, (got, wanted)
    assert np.isfinite(X_new).all()
    features, y = task.features, task.y
    out = {}
    if len(X_new):
        new = statistics_features(X_new)
        features, y = np.concatenate([features, new]), np.concatenate([y, y_new])
        if judge is not None:
            out |= about_new_rows(split, X_new, new, y_new, judge)
            only = score_all(split, new, y_new, task.seed)
            out |= {(name, "added_rows_only"): f1 for (name, _), f1 in only.items()}
    if method in ("flowfm", "flowfm pool"):
        out["", "stop"] = task.stop
    weight = "balanced" if method == "weights" else None
    return out | score_all(split, features, y, task.seed, rare, weight)


def score_all(split, features, y, seed, rare=None, class_weight=None):
    """{(classifier, metric): score on the test people} after training on these rows."""
    out = {}
    for name, model in classifiers(seed, class_weight=class_weight).items():
        predicted = model.fit(features, y).predict(split.features_test)
        scores = scores_of(split.y_test, predicted, rare)
        out |= {(name, metric): value for metric, value in scores.items()}
    return out


def about_new_rows(split, X_new, features, y_new, judge):
    """Whether new rows have the class they were asked for, and how much they cover."""
    coverage = precision_recall(split.X, X_new, random_state=0).coverage
    return {
        ("", "right_label"): np.mean(judge.predict(features) == y_new),
        ("", "coverage"): coverage.value,
    }


# ----------------------------------------------------------------------- harmless?
def small_sets(options):
    """Yield (name, X, y, groups) of small tables, then of parts of the data files."""
    loaders = ("iris", "wine", "breast_cancer", "digits")
    for name in loaders:
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        rows = np.random.default_rng(0).permutation(len(y))[:MAX_ROWS]
        yield name, X[rows], y[rows], None
    for weights in ((0.9, 0.1), (0.7, 0.2, 0.1)):
        X, y = datasets.make_classification(
            MAX_ROWS,
            n_features=10,
            n_informative=5,
            n_classes=len(weights),
            weights=list(weights),
            flip_y=0.02,
            random_state=0,
        )
        yield f"{len(weights)} classes, made", X, y, None
    for data in data_sets(options.data, options.small_windows):
        yield data.name, data.X, data.y, data.groups


def run_harmless(options):
    """The plain classifier and the augmented one on the same folds."""
    for name, X, y, groups in small_sets(options):
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        print(f"{name}: {X.shape}", flush=True)
        for seed in options.seeds:
            folds = kind(N_FOLDS, shuffle=True, random_state=seed).split(X, y, groups)
            for fold, (train, test) in enumerate(folds):
                compare_plain(name, X, y, groups, train, test, seed, fold, options)


def compare_plain(name, X, y, groups, train, test, seed, fold, options):
    """Record macro-F1 of both on one fold, and the amount that was chosen."""
    sampler = FlowFMSampler(FlowFMTransformer(max_steps=options.small_steps))
    inner = {} if groups is None else {"groups": groups[train]}
    for kind, model in classifiers(seed, options.classifiers).items():
        if X.ndim == 3:
            model = make_pipeline(FunctionTransformer(statistics_features), model)
        augmented = AugmentedClassifier(
            model, sampler, amount="auto", cv=options.cv, random_state=seed
        )
        for method, estimator in (("plain", model), ("augmented", augmented)):
            kwargs = inner if method == "augmented" else {}
            estimator = clone(estimator).fit(X[train], y[train], **kwargs)
            scores = {(kind, "macro_f1"): macro_f1(y[test], estimator.predict(X[test]))}
            if method == "augmented":
                scores[kind, "amount"] = estimator.amount_
            key = {"study": "harmless", "dataset": name, "case": f"fold {fold}"}
            record(options, {**key, "method": method, "seed": seed}, scores)


# ------------------------------------------------------------------------ the record
def record(options, key, scores):
    """Print one line and append one CSV row per score."""
    blank = dict.fromkeys(
        ("study", "dataset", "case", "method", "total", "split", "seed"), ""
    )
    rows = [
        {
            **blank,
            **key,
            "classifier": classifier,
            "metric": metric,
            "value": round(float(value), 6),
        }
        for (classifier, metric), value in scores.items()
    ]
    write_rows(options.out, rows)
    said = ", ".join(
        f"{row['classifier']} {row['metric']} {row['value']:.3f}".strip()
        for row in rows
    )
    parts = [key.get(k, "") for k in ("case", "method", "total", "seed")]
    print("  " + " ".join(str(p) for p in parts if p != "") + f": {said}", flush=True)


def interval(differences):
    """Mean and half of the 95 % t interval, as text."""
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return f"{d.mean():+.3f}"
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    text = f"{d.mean():+.3f} [{d.mean() - half:+.3f}, {d.mean() + half:+.3f}]"
    return f"**{text}**" if abs(d.mean()) > half else text


def show(title, frame):
    """Print a frame as a markdown table, its index as the first columns."""
    print(f"\n{title}\n")
    frame = frame.reset_index()
    lines = [[str(c) for c in frame.columns], ["---"] * frame.shape[1]]
    for row in frame.itertuples(index=False):
        lines.append([f"{v:.3f}" if isinstance(v, float) else str(v) for v in row])
    for line in lines:
        print("| " + " | ".join(line).replace("nan", "") + " |")


def against_best(rows, index):
    """FlowFM minus the best of the others, paired over splits, seeds and cases.

    The best is the one with the largest mean, which favours it a little.
    """
    ours = [m for m in ("flowfm", "flowfm pool") if m in set(rows.m)]
    rivals = [m for m in ("nothing", "weights", "jitter", "smote") if m in set(rows.m)]
    lines = []
    for keys, part in rows.groupby(index, sort=False):
        scores = part.pivot_table("value", ["split", "seed", "case"], "m", dropna=True)
        known = [m for m in rivals if m in scores]
        if not known:
            continue
        best = scores[known].mean().idxmax()
        for method in ours:
            difference = interval(scores[method] - scores[best])
            lines.append([*keys, method, best, len(scores), difference])
    columns = [*index, "method", "best of the others", "pairs", "method minus it"]
    return pd.DataFrame(lines, columns=columns).set_index(index)


def print_few(rows):
    rows = rows[rows["study"] == "few"].assign(m=lambda r: r["method"])
    wide = rows.pivot_table(
        "value",
        ["dataset", "method", "total"],
        ["metric", "classifier"],
        sort=False,
    )
    wide.columns = [" ".join(c).strip() for c in wide.columns]
    show("few labels: mean over seeds and splits", wide)
    scores = rows[rows["metric"] == "macro_f1"]
    for total in [t for t in scores["total"].unique() if t != ""]:
        some = scores[scores["total"].isin(["", total])]
        some = some[some["method"] != "all labels"]
        table = against_best(some, ["dataset", "classifier"])
        show(f"macro-F1 with {total} per class, 95 % interval", table)


def print_rare(rows):
    rows = rows[rows["study"] == "rare"].assign(m=lambda r: r["method"])
    rows = rows[rows["metric"] != "stop"]
    wide = rows.pivot_table(
        "value",
        ["dataset", "case", "method"],
        ["classifier", "metric"],
        sort=False,
    )
    wide.columns = [" ".join(c).strip() for c in wide.columns]
    show("a rare class: mean over seeds and splits", wide)
    pooled = rows[rows["method"] != "all labels"]
    index = ["dataset", "classifier", "metric"]
    show("pooled over rare classes, 95 % interval", against_best(pooled, index))


def print_harmless(rows):
    rows = rows[rows["study"] == "harmless"]
    scores = rows[rows["metric"] == "macro_f1"].pivot_table(
        "value", ["dataset", "classifier", "seed", "case"], "method", sort=False
    )
    amounts = rows[rows["metric"] == "amount"].groupby(
        ["dataset", "classifier"], sort=False
    )["value"]
    scores["difference"] = scores["augmented"] - scores["plain"]
    by_seed = scores.groupby(["dataset", "classifier", "seed"], sort=False)
    table = by_seed.mean().groupby(["dataset", "classifier"], sort=False).mean()
    table["worst fold"] = scores.groupby(["dataset", "classifier"], sort=False)[
        "difference"
    ].min()
    table["amounts"] = amounts.apply(lambda a: " ".join(f"{v:g}" for v in a))
    show("harmless: macro-F1, mean over folds", table)
    worst = table["difference"].min()
    print(f"\nworst mean difference {worst:+.4f}: target is -.01 or better")


# ---------------------------------------------------------------------- command line
def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--study", nargs="+", default=["few"], choices=STUDIES)
    add("--data", nargs="+", default=[], metavar="FILE.npz")
    add("--methods", nargs="+", default=list(DEFAULT_METHODS), choices=list(METHODS))
    add("--seeds", nargs="+", type=int, help="0 to 4 in few, else 0")
    add("--splits", nargs="+", type=int, default=[0], help="cuts of people, few, rare")
    add("--totals", nargs="+", type=int, default=[100], help="rows per class in few")
    add("--rare-classes", type=int, default=3, help="how many are cut in turn")
    add("--max-windows", type=int, help="a random subset, for a quick look")
    add("--max-steps", type=int, help="training steps in few and rare")
    add("--max-time", type=float, help="seconds of training in few and rare")
    add("--small-steps", type=int, default=100, help="training steps in harmless")
    add("--small-windows", type=int, default=200, help="of each file in harmless")
    add("--cv", type=int, default=3, help="inner folds in harmless")
    add(
        "--classifiers",
        nargs="+",
        default=["forest", "logistic"],
        choices=["forest", "logistic"],
        help="in harmless",
    )
    add("--out", default="out/augmentation.csv", help="replaced if it exists")
    add("--tables", action="store_true", help="run nothing, print the tables of --out")
    return parser.parse_args()


def run_on_files(run, options):
    """One of the first two studies on every file and split."""
    for data in data_sets(options.data, options.max_windows):
        for split_seed in options.splits:
            run(data, split_seed, options)


def run_studies(options):
    """Run what was asked for; rows go to a new file."""
    new_output(options)
    given = options.seeds
    for study in options.study:
        options.seeds = given or (list(range(5)) if study == "few" else [0])
        if study == "harmless":
            print(f"\nharmless: budget of {options.small_steps} steps", flush=True)
            run_harmless(options)
        else:
            budget = options.max_steps or "default"
            print(f"\n{study}: budget of steps: {budget}", flush=True)
            run_on_files({"few": run_few, "rare": run_rare}[study], options)


def main():
    options = parse_arguments()
    print_environment()
    if not options.tables:
        run_studies(options)
    if not Path(options.out).exists():
        sys.exit("nothing was run: no data file found")
    rows = pd.read_csv(options.out, keep_default_na=False, dtype={"total": str})
    printers = {"few": print_few, "rare": print_rare, "harmless": print_harmless}
    for study in rows["study"].unique():
        printers[study](rows)


if __name__ == "__main__":
    warnings.simplefilter("ignore", ConvergenceWarning)
    main()
