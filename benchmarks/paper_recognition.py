"""Recognition for `paper.py`: FlowFM beside SSL-Wearables' three pretext tasks."""

import time

import numpy as np
from _pretext import PretextClassifier, PretextTransformer
from _protocol import subject_folds, subject_scores
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from skflowfm import FlowFMClassifier, FlowFMTransformer

N_FOLDS = 3
PROTOCOLS = ("subject-wise", "fixed split")
ONE_OUT = "leave one person out"  # as the published numbers of ADL
FLOW = ("flowfm frozen", "flowfm fine-tuned")
PRETEXT = ("pretext frozen", "pretext fine-tuned")
TRANSDUCTIVE = "flowfm frozen, transductive"
PRETEXT_STEPS = 3  # times those of FlowFM: its steps are cheaper


def split_of(data, protocol, seed):
    """Return (train, test) rows that share no person.

    "subject-wise": seed s tests fold s of three, so three seeds test everybody once.
    "fixed split": every seed has the first of these folds, and pools its windows.
    """
    folds = subject_folds(data, N_FOLDS, 0)
    train, test = folds[seed % len(folds) if protocol == "subject-wise" else 0]
    assert not set(data.groups[train]) & set(data.groups[test])
    return train, test


def frozen(transformer, data, train, test):
    """Predict with a logistic regression on the representation as it is."""
    classifier = LogisticRegression(max_iter=1000)
    classifier.fit(transformer.transform(data.X[train]), data.y[train])
    return classifier.predict(transformer.transform(data.X[test]))


def flow(data, train, test, seed, options, seen=None):
    """Yield (method, predictions, seconds) of FlowFM; pretrained on rows ``seen``."""
    seen = train if seen is None else seen
    start = time.perf_counter()
    model = FlowFMTransformer(max_steps=options.max_steps, random_state=seed)
    model.fit(data.X[seen], groups=data.groups[seen])
    pretraining = time.perf_counter() - start
    name = FLOW[0] if len(seen) == len(train) else TRANSDUCTIVE
    yield name, frozen(model, data, train, test), pretraining
    if name == TRANSDUCTIVE:
        return
    start = time.perf_counter()
    frozen_model = FrozenEstimator(model)
    tuned = FlowFMClassifier(frozen_model, strategy="full", random_state=seed)
    tuned.fit(data.X[train], data.y[train], groups=data.groups[train])
    seconds = pretraining + time.perf_counter() - start
    yield FLOW[1], tuned.predict(data.X[test]), seconds


def pretext(data, train, test, seed, options):
    """Yield (method, predictions, seconds) of the counterpart."""
    steps = PRETEXT_STEPS * (options.max_steps or 1000)
    start = time.perf_counter()
    model = PretextTransformer(
        max_steps=steps, rotation=options.rotation, random_state=seed
    )
    model.fit(data.X[train], groups=data.groups[train])
    pretraining = time.perf_counter() - start
    yield PRETEXT[0], frozen(model, data, train, test), pretraining
    start = time.perf_counter()
    tuned = PretextClassifier(model, random_state=seed)
    tuned.fit(data.X[train], data.y[train], groups=data.groups[train])
    seconds = pretraining + time.perf_counter() - start
    yield PRETEXT[1], tuned.predict(data.X[test]), seconds


def scores(data, test, predicted):
    """Return {metric: value}: of all windows, of the mean person, of each person."""
    y, groups = data.y[test], data.groups[test]
    by_person = subject_scores(y, predicted, groups)
    pooled = f1_score(
        y, predicted, labels=np.unique(y), average="macro", zero_division=0
    )
    values = list(by_person.values())
    return {
        "pooled_macro_f1": pooled,
        "subject_macro_f1": float(np.mean(values)),
        "subject_macro_f1_std": float(np.std(values)),
        **{f"macro_f1[person {name}]": f1 for name, f1 in by_person.items()},
    }


def jobs(data, seed, options):
    """Yield (methods, protocol, function) of one data set and seed.

    ``function()`` yields (method, {metric: value}, seconds).
    """
    protocols = [p for p in PROTOCOLS if p in options.protocols]
    for protocol in protocols:
        train, test = split_of(data, protocol, seed)
        for methods, fit in ((FLOW, flow), (PRETEXT, pretext)):
            yield methods, protocol, scored(data, test, fit, train, seed, options)
    if ONE_OUT in options.protocols:
        for methods, fit in ((FLOW, flow), (PRETEXT, pretext)):
            yield methods, ONE_OUT, one_out(data, fit, methods, seed, options)
    if seed == 0 and "subject-wise" in protocols and options.transductive:
        train, test = split_of(data, "subject-wise", seed)
        everything = np.arange(len(data.y))

        def on_all(data, train, test, seed, options):
            return flow(data, train, test, seed, options, everything)

        function = scored(data, test, on_all, train, seed, options)
        yield (TRANSDUCTIVE,), "subject-wise", function


def one_out(data, fit, methods, seed, options):
    """Return a function that leaves out each person in turn and pools the answers."""

    def function():
        predicted = {method: data.y.copy() for method in methods}
        seconds = dict.fromkeys(methods, 0.0)
        for train, test in subject_folds(data, 0, 0):
            for method, found, spent in fit(data, train, test, seed, options):
                predicted[method][test] = found
                seconds[method] += spent
        everybody = np.arange(len(data.y))
        for method in methods:
            found = scores(data, everybody, predicted[method])
            yield method, found, seconds[method]

    return function


def scored(data, test, fit, train, seed, options):
    """Return a function that fits and scores."""

    def function():
        for method, predicted, seconds in fit(data, train, test, seed, options):
            yield method, scores(data, test, predicted), seconds

    return function
