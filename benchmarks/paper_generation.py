"""Generation for `paper.py`: FlowFM beside the same system with a diffusion model.

Two questions. How long must each be trained to be as good? (`curve`) And, trained as
long as by default, how long does each take to draw windows as good? (`speed`)
"""

import time

import numpy as np
from _diffusion import DiffusionSampler, DiffusionTransformer
from _protocol import draw_labels, subject_scores
from generation import APART, mean_c2st, split_subjects
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils import Bunch

from skflowfm import FlowFMSampler, FlowFMTransformer
from skflowfm.metrics import log_psd_distance, train_on_synthetic

PROTOCOL = "training people against test people"
FLOW_STEPS = (50, 100, 200, 400, 800, 1600)
DIFFUSION_STEPS = (100, 200, 400, 800, 1600)
FLOW_EVALUATIONS = (1, 2, 4, 8, 32)
DDIM_STEPS = (2, 5, 10, 20, 50, 250)
CURVE_DDIM = 20
N_TIMES = 1000
SPEED_STEPS = 800
FEW = 0.1


def smaller(split, n_windows):
    """Return the counts of about ``n_windows`` windows, in the proportions of all."""
    share = min(1.0, n_windows / len(split.y))
    return {c: max(2, round(share * n)) for c, n in split.counts.items()}


def fitted(kind, split, steps, seed):
    """Return a trained transformer, its seconds and its CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    model = kind(max_steps=steps, validation_fraction=0, random_state=seed)
    model.fit(split.X, groups=split.groups)
    return model, time.perf_counter() - wall, time.process_time() - cpu


def probe(model, split, seed):
    """Return per-person macro-F1 of a linear model, all labels and a tenth of them."""
    z, z_test = model.transform(split.X), model.transform(split.X_test)
    found = {}
    for name, rows in (
        ("probe_f1_all", np.arange(len(split.y))),
        ("probe_f1_tenth", draw_labels(split.y, FEW, seed)),
    ):
        classifier = LogisticRegression(max_iter=1000).fit(z[rows], split.y[rows])
        predicted = classifier.predict(z_test)
        people = subject_scores(split.y_test, predicted, split.groups_test)
        found[name] = float(np.mean(list(people.values())))
    return found


def quality(split, X, y, seed):
    """Return how good synthetic windows are: {metric: value}."""
    transfer = train_on_synthetic(
        X,
        y,
        split.X_test,
        split.y_test,
        X_train=split.X,
        y_train=split.y,
        random_state=seed,
    )
    return {
        "c2st_auc": float(mean_c2st(split, X, None, seed)[0]),
        "tstr_forest": transfer.forest.synthetic,
        "tstr_logistic": transfer.logistic.synthetic,
        "log_psd_distance": log_psd_distance(split.X, X, random_state=seed).value,
    }


def sampler_of(model, split, seed):
    """Return a sampler of a trained model that is fitted on the labels."""
    kind = FlowFMSampler
    if isinstance(model, DiffusionTransformer):
        kind = DiffusionSampler
    sampler = kind(FrozenEstimator(model), random_state=seed)
    return sampler.fit(split.X, split.y)


def prepared(sampler, split, evaluations):
    """Return the sampler, which will draw with so many evaluations.

    The gain that mends the spectra of its windows is found here, for both models.
    """
    if isinstance(sampler, DiffusionSampler):
        method = "ancestral" if evaluations == N_TIMES else "ddim"
        sampler.set_params(method=method, n_steps=evaluations).mend(split.X)
    else:
        sampler.set_params(quality=evaluations).fit(split.X, split.y)
    return sampler


def mean_quality(sampler, split, counts, seed, repeats):
    """Return the means of `quality` over samples that are drawn in turn."""
    found = []
    for i in range(repeats):
        X, y = sampler.sample(class_counts=counts, random_state=seed + APART * i)
        found.append(quality(split, X, y, seed))
    return {metric: np.mean([q[metric] for q in found]) for metric in found[0]}


def curve(kind, evaluations, steps, split, counts, seed, repeats):
    """Return a function that trains with ``steps`` and judges probe and windows."""

    def function():
        name = "flow" if kind is FlowFMTransformer else "diffusion"
        model, wall, cpu = fitted(kind, split, steps, seed)
        found = {"train_cpu_seconds": cpu, **probe(model, split, seed)}
        sampler = prepared(sampler_of(model, split, seed), split, evaluations)
        found |= mean_quality(sampler, split, counts, seed, repeats)
        yield f"{name}, {steps} steps", found, wall

    return function


def speed(split, counts, seed, options):
    """Return a function that draws from both at several numbers of evaluations."""

    def function():
        steps = options.max_steps or SPEED_STEPS
        models = {
            "flow": fitted(FlowFMTransformer, split, steps, seed)[0],
            "diffusion": fitted(DiffusionTransformer, split, steps, seed)[0],
        }
        samplers = {k: sampler_of(model, split, seed) for k, model in models.items()}
        for name, evaluations in ways_of_drawing(options):
            sampler = prepared(samplers[name], split, evaluations)
            start = time.perf_counter()
            X, y = sampler.sample(class_counts=counts)
            seconds = time.perf_counter() - start
            found = {"windows_per_second": len(y) / seconds}
            found |= quality(split, X, y, seed)
            yield way(name, evaluations), found, seconds
        for part, call in (
            ("encoder", models["flow"].transform),
            ("encoder of the counterpart", models["diffusion"].transform),
        ):
            start = time.perf_counter()
            call(split.X_test)
            seconds = time.perf_counter() - start
            rate = len(split.X_test) / seconds
            yield f"recognition: {part}", {"windows_per_second": rate}, seconds

    return function


def ways_of_drawing(options):
    """Return (model, evaluations) of every row of the table of speeds."""
    ddim, ancestral = DDIM_STEPS, (N_TIMES,)
    if options.quick:
        ddim = DDIM_STEPS[:4]
    return [
        *(("flow", n) for n in FLOW_EVALUATIONS),
        *(("diffusion", n) for n in (*ddim, *ancestral)),
    ]


def way(name, evaluations):
    """Return what a way of drawing is called in the table."""
    if name == "flow":
        return f"flow, {evaluations} evaluations"
    if evaluations == N_TIMES:
        return f"diffusion, ancestral {evaluations}"
    return f"diffusion, DDIM {evaluations}"


def jobs(data, seed, options):
    """Yield (methods, protocol, function) of one data set and seed."""
    try:
        split = split_subjects(data, seed)
    except ValueError as error:
        print(f"  no generation: {error}", flush=True)
        return
    split = Bunch(**split)
    counts = smaller(split, options.draws)
    flow_steps, diffusion_steps = FLOW_STEPS, DIFFUSION_STEPS
    repeats = 1 if options.quick else options.repeats
    if options.quick:
        flow_steps, diffusion_steps = (25, 50, 100), (50, 100, 200)
    for name, kind, n, budgets in (
        ("flow", FlowFMTransformer, 8, flow_steps),
        ("diffusion", DiffusionTransformer, CURVE_DDIM, diffusion_steps),
    ):
        for steps in budgets:
            function = curve(kind, n, steps, split, counts, seed, repeats)
            yield (f"{name}, {steps} steps",), PROTOCOL, function
    methods = [way(*row) for row in ways_of_drawing(options)]
    yield tuple(methods), PROTOCOL, speed(split, counts, seed, options)
