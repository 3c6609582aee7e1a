"""How many labels does fine-tuning need, and is it ever worse than the frozen features?

The people of a fold are left out. The others' windows pretrain one model without
labels; then a few labels per class are shown, and six classifiers are fitted on them:

* `head`: FlowFMClassifier with the encoder frozen, its default;
* `full`: the same with encoder and head trained;
* `frozen`: a logistic regression on what `transform` returns;
* `scratch`: as `full`, without pretraining;
* `minirocket`: MiniRocket's 9,996 features of all training windows, ridge on the
  labelled ones (needs the extra "bench"; left out without it);
* `forest`: hand-made statistics and a random forest.

    python benchmarks/finetuning.py --data adl_wrist.npz hapt_waist.npz --seeds 0 1 2

`--pretrain FILE.npz ...` asks about transfer: a model is pretrained on the windows of
other data sets. With each of the strategies,

* `transfer head`, `transfer full` start from it;
* `continued head`, `continued full` from what it becomes when it goes on learning from
  the windows that `head` and `full` are pretrained on;

and `labelled head` is for comparison: pretrained on the labelled windows alone.

Seed s leaves out fold s of five, and seeds everything. One row per (dataset, method,
labels, seed, draw, person): macro-F1 over the classes of that person, and the seconds
of fitting. `--models DIR` keeps pretrained models, so that another run starts there;
`--methods` runs some of the methods. `--length` cuts the windows of `--data`, so that a
model of other data goes on with shorter ones. `--tables FILE.csv` prints the tables of
a run that is finished, of those of its seeds that `--seeds` names, and runs nothing.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from _common import (
    data_sets,
    leave_out_the_field,
    new_output,
    print_environment,
    write_rows,
)
from _protocol import draw_per_class, interval, subject_folds, subject_scores
from recognition import Options, minirocket, statistics_forest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import skflowfm
from skflowfm import FlowFMClassifier, FlowFMTransformer

N_FOLDS = 5
LABELS = (1, 5, 10, 50)
OURS = ("head", "full")
RIVALS = ("frozen", "scratch", "minirocket", "forest")
TRANSFER = ("transfer head", "transfer full", "continued head", "continued full")
METHODS = (*OURS, *RIVALS, *TRANSFER, "labelled head")


# ------------------------------------------------------------------------ the models
def kept(path, fit):
    """Return the model saved under a path, or fit and save it."""
    if path is not None and path.exists():
        return skflowfm.load(path)
    model = fit()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(path)
    return model


def place_of(names, seed, options):
    """Return where a model is kept, or None: models of other settings lie elsewhere."""
    if options.models is None:
        return None
    settings = [*names, seed]
    if options.max_steps is not None:
        settings.append(f"{options.max_steps}_steps")
    if options.without_field:
        settings.append("without_field")
    return options.models / ("-".join(map(str, settings)) + ".safetensors")


def pretrained(data, train, seed, options):
    """Return a transformer that is fitted on the training people's windows."""

    def fit():
        model = FlowFMTransformer(max_steps=options.max_steps, random_state=seed)
        return model.fit(data.X[train], groups=data.groups[train])

    return kept(place_of([data.name], seed, options), fit)


def pooled(others, seed, options):
    """Return a transformer that is fitted on the windows of other data sets."""

    def fit():
        X = np.concatenate([data.X for data in others])
        groups = np.concatenate(
            [[f"{data.name} {g}" for g in data.groups] for data in others]
        )
        model = FlowFMTransformer(max_steps=options.max_steps, random_state=seed)
        return model.fit(X, groups=groups)

    return kept(place_of([data.name for data in others], seed, options), fit)


def continued(model, others, data, train, seed, options):
    """Return a copy of a fitted transformer that goes on learning here."""

    def fit():
        going_on = FlowFMTransformer(max_steps=options.max_steps, random_state=seed)
        return going_on.fit(data.X[train], groups=data.groups[train], init=model)

    names = [*(other.name for other in others), "continued", data.name]
    return kept(place_of(names, seed, options), fit)


class Precomputed:
    """Classifiers of one fold, each `fit_predict(rows, y, groups)` on labelled rows."""

    def __init__(self, data, train, test, seed, options, others):
        self.X, self.X_test, self.seed = data.X[train], data.X[test], seed
        self.max_steps = options.max_steps
        wanted = [m for m in options.methods if others or m in (*OURS, *RIVALS)]
        sources = {}
        if {*OURS, "frozen", "scratch"} & {*wanted}:
            sources[""] = pretrained(data, train, seed, options)
        if {*TRANSFER} & {*wanted}:
            sources["transfer "] = pooled(others, seed, options)
            if sources["transfer "].row_shape_in_ != self.X.shape[1:]:
                as_it_is = FlowFMTransformer(max_steps=0, random_state=seed)
                sources["transfer "] = as_it_is.fit(self.X, init=sources["transfer "])
        if {*TRANSFER[2:]} & {*wanted}:
            model = sources["transfer "]
            sources["continued "] = continued(model, others, data, train, seed, options)
        self.classifiers = {}
        for name in wanted:
            made = self.made(name, sources)
            if made is not None:
                self.classifiers[name] = made

    def made(self, name, sources):
        """Return fit_predict of a method, or None where a package is missing."""
        source, _, strategy = name.rpartition(" ")
        if name == "labelled head":
            return self.pretrained_on_labelled
        if strategy in (*OURS, "scratch"):
            return self.tuned(sources[source and f"{source} "], strategy)
        if name == "frozen":
            model = FrozenEstimator(sources[""])
            return self.on_features(model, LogisticRegression(max_iter=1000))
        method = {"forest": statistics_forest, "minirocket": minirocket}[name]
        try:
            parts = method(self.X, Options(seed=self.seed))
        except ModuleNotFoundError as error:
            print(f"  {name} left out: {error}", flush=True)
            return None
        return self.on_features(*parts)

    def pretrained_on_labelled(self, rows, y, groups):
        """Pretrain, fit and predict with no other windows than the labelled ones."""
        model = FlowFMTransformer(max_steps=self.max_steps, random_state=self.seed)
        classifier = FlowFMClassifier(model, random_state=self.seed)
        return classifier.fit(self.X[rows], y, groups=groups).predict(self.X_test)

    def tuned(self, model, strategy):
        """Return fit_predict of a FlowFMClassifier on a fitted transformer."""

        def fit_predict(rows, y, groups):
            classifier = FlowFMClassifier(
                FrozenEstimator(model), strategy=strategy, random_state=self.seed
            )
            classifier.fit(self.X[rows], y, groups=groups)
            return classifier.predict(self.X_test)

        return fit_predict

    def on_features(self, transformer, classifier):
        """Return fit_predict of a classifier on features that are computed once."""
        features = transformer.fit(self.X, None).transform(self.X)
        features_test = transformer.transform(self.X_test)
        classifier = make_pipeline(classifier)

        def fit_predict(rows, y, groups):
            classifier.fit(np.asarray(features)[rows], y)
            return classifier.predict(features_test)

        return fit_predict


def cut(data, n_timesteps):
    """Return data of windows that end after so many time steps."""
    data.X = np.ascontiguousarray(data.X[..., :n_timesteps])
    data.name += f"[:{n_timesteps}]"
    return data


def run(data, seed, options, others):
    """Fit everything on one fold; write a row per person."""
    folds = subject_folds(data, N_FOLDS, 0)
    train, test = folds[seed % len(folds)]
    fold = Precomputed(data, train, test, seed, options, others)
    y, groups = data.y[train], data.groups[train]
    for n in options.labels:
        for draw in range(options.draws):
            rows = draw_per_class(y, n, draw)
            for method, fit_predict in fold.classifiers.items():
                start = time.perf_counter()
                predicted = fit_predict(rows, y[rows], groups[rows])
                seconds = time.perf_counter() - start
                scores = subject_scores(data.y[test], predicted, data.groups[test])
                record(data, method, n, seed, draw, scores, seconds, options)


def record(data, method, n, seed, draw, scores, seconds, options):
    """Print one line and append one CSV row per person."""
    rows = [
        {
            "dataset": data.name,
            "method": method,
            "labels_per_class": n,
            "seed": seed,
            "draw": draw,
            "person": person,
            "macro_f1": round(float(f1), 6),
            "seconds": round(seconds, 3),
        }
        for person, f1 in scores.items()
    ]
    write_rows(options.out, rows)
    mean = np.mean(list(scores.values()))
    print(
        f"  {data.name} seed {seed}, {n} per class, draw {draw}: {method} {mean:.3f}",
        flush=True,
    )


# ----------------------------------------------------------------------- the tables
def print_tables(path, seeds):
    """Print means, and how far ours are from the best rival, with intervals."""
    rows = pd.read_csv(path)
    rows = rows if seeds is None else rows[rows.seed.isin(seeds)]
    print(f"seeds {sorted(rows.seed.unique().tolist())}")
    keys = ["dataset", "labels_per_class", "method", "seed", "person"]
    people = rows.groupby(keys).macro_f1.mean()
    table = people.groupby(level=[0, 1, 2]).mean().unstack("method")
    methods = [m for m in rows.method.unique() if m in table]
    print("\nmacro-F1 per person, mean over people, seeds and draws\n")
    print(table[methods].round(3).to_string())
    print("\nmean over sets\n")
    print(table[methods].groupby(level=1).mean().round(3).to_string())
    print("\nours - best rival, points; 95 % interval over people\n")
    pairs = [(ours, RIVALS) for ours in OURS]
    for source in ("transfer", "continued"):
        pairs += [(f"{source} {ours}", (ours,)) for ours in OURS]
    pairs.append(("transfer head", ("labelled head",)))
    for (dataset, n), cell in table.iterrows():
        for ours, others in pairs:
            known = [m for m in others if m in cell and not np.isnan(cell[m])]
            if ours not in cell or np.isnan(cell[ours]) or not known:
                continue
            best = max(known, key=lambda method: cell[method])
            part = people.loc[dataset, n].unstack("method")
            gap = 100 * (part[ours] - part[best]).dropna().to_numpy()
            low, high = interval(gap)
            print(
                f"{dataset:20s} {n:3d} per class: {ours} - {best:13s} "
                f"{gap.mean():+5.1f} [{low:+.1f}, {high:+.1f}]"
            )


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", nargs="+", default=[], metavar="FILE.npz")
    add("--tables", metavar="FILE.csv", help="print them and run nothing")
    add("--pretrain", nargs="+", default=[], metavar="FILE.npz")
    add("--seeds", nargs="+", type=int, help="0 by default; of --tables all")
    add("--labels", nargs="+", type=int, default=list(LABELS))
    add("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    add("--draws", type=int, default=3, help="draws of labels for each seed")
    add("--max-windows", type=int, help="a random subset of each set")
    add("--max-steps", type=int, help="of pretraining")
    add("--length", type=int, help="time steps that are kept of the windows of --data")
    add("--without-field", action="store_true", help="skip what z does not depend on")
    add("--models", type=Path, help="folder of pretrained models")
    add("--out", default="out/finetuning.csv", help="replaced if it exists")
    options = parser.parse_args()
    if not options.data and not options.tables:
        parser.error("--data: name the files, or --tables a finished run")
    return options


def main():
    options = parse_arguments()
    if options.tables:
        print_tables(options.tables, options.seeds)
        return
    options.seeds = options.seeds or [0]
    print_environment()
    if options.without_field:
        leave_out_the_field()
    options.models = options.models and options.models.resolve()
    out = new_output(argparse.Namespace(**{**vars(options), "models": None}))
    others = list(data_sets(options.pretrain, options.max_windows))
    for data in data_sets(options.data, options.max_windows):
        data = cut(data, options.length) if options.length else data
        for seed in options.seeds:
            run(data, seed, options, others)
    if not out.exists():
        sys.exit("nothing was run: no data file found")
    print_tables(out, options.seeds)


if __name__ == "__main__":
    main()
