"""Pretrain one model on several wearable data sets, and say how good it is elsewhere.

    python examples/pretrain_wearable.py --quick       simulated data, a minute or so
    python examples/pretrain_wearable.py --data A.npz B.npz --evaluate C.npz

Trains one FlowFMTransformer, without labels, on the windows of all people in the files
of --data, whatever their rates and wherever the sensors were worn. Writes it to one
file, and beside it a model card: what it has learned from, under which licences, at
what cost, and how well people are recognised in data sets that it never saw
(--evaluate), with a few labels of each class:

1. the encoder frozen, with a linear head, or fine-tuned;
2. pretrained on --data, on the data set itself alone, or on the one and then on the
   other, which ``FlowFMTransformer.from_pretrained`` is for.

Scores are macro-F1 of each person over the classes that this person did, on people
whose windows no training has seen.

A file needs the arrays X (n_windows, 3, n_timesteps) in g and sampling_rate in Hz.
groups (the person of each window) is used if it is there; --evaluate needs it, of at
least four people, and y.
Windows are brought to 30 Hz and 10 s; files with shorter ones are left out.
"""

import argparse
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils import Bunch

from skflowfm import FlowFMClassifier, FlowFMTransformer
from skflowfm.datasets import make_wearable, resample_windows
from skflowfm.persistence import describe

RATE, SECONDS, N_CHANNELS = 30, 10, 3
QUICK_STEPS, QUICK_WINDOWS = 25, 96
ELSEWHERE = "other data"
PRETRAININGS = (ELSEWHERE, "this data set", "other data, then this one")
STRATEGIES = {"head": "frozen + head", "full": "fine-tuned"}


# ------------------------------------------------------------------------- the data
def simulated(name, rate, seconds, seed, n_windows=QUICK_WINDOWS):
    """Windows of simulated people, as a sensor of this rate would give them."""
    data = make_wearable(
        n_windows,
        n_timesteps=round(rate * seconds),
        sampling_rate=rate,
        n_subjects=6,
        random_state=seed,
    )
    return {
        "name": name,
        "X": data.X,
        "y": data.y,
        "groups": data.groups,
        "sampling_rate": rate,
        "licence": "simulated, none",
    }


def stored(path):
    """The arrays of a file, with its name and licence."""
    if not path.is_file():
        raise SystemExit(f"there is no file {path}")
    try:
        with np.load(path) as arrays:
            found = {"name": path.stem, "licence": licence_of(path), **arrays}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise SystemExit(f"{path} is no npz file of plain arrays ({error})") from None
    missing = {"X", "sampling_rate"} - set(found)
    if missing:
        raise SystemExit(f"{path} must hold X and sampling_rate, missing: {missing}")
    return found


def licence_of(path):
    """What a README beside the file says in its section on it, or "unknown"."""
    readme = path.parent / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    sections = re.split(r"^##\s+", text, flags=re.MULTILINE)
    for section in sections:
        line = re.search(r"^\W*Licen[cs]e:\s*(.+)$", section, flags=re.MULTILINE)
        if section.split("\n", 1)[0].strip() == path.name and line:
            return line.group(1)
    return "unknown"


def prepared(found, max_windows, rng):
    """Windows of three channels at 30 Hz and 10 s, or None and a word on why."""
    X, rate = found["X"], float(found["sampling_rate"])
    if X.ndim != 3 or X.shape[1] != N_CHANNELS or X.shape[2] < SECONDS * rate:
        print(
            f"   {found['name']}: left out, X must be (n_windows, {N_CHANNELS}, at "
            f"least {SECONDS} s at {rate:g} Hz = {SECONDS * rate:g} steps), got "
            f"{X.shape}"
        )
        return None
    rows = np.sort(rng.permutation(len(X))[:max_windows])
    groups = found.get("groups")
    groups = np.zeros(len(X), dtype=int) if groups is None else groups
    X = resample_windows(X[rows], rate, RATE, n_timesteps=RATE * SECONDS)
    data = Bunch(
        name=found["name"],
        X=X,
        y=found["y"][rows] if "y" in found else None,
        groups=np.array([f"{found['name']}/{group}" for group in groups[rows]]),
        rate=rate,
        licence=found["licence"],
    )
    n_people = len(np.unique(data.groups))
    print(f"   {data.name}: {len(X)} windows of {n_people} people, {rate:g} Hz")
    return data


def load_data(options):
    """The data sets to learn from and those to evaluate on."""
    rng = np.random.default_rng(options.seed)
    if options.data:
        sources = [[stored(path) for path in options.data]]
        sources.append([stored(path) for path in options.evaluate])
    else:
        learn = [("simulated 50 Hz", 50, 10), ("simulated 25 Hz", 25, 12)]
        learn.append(("simulated, too short", 30, 4))
        sources = [[simulated(*s, seed) for seed, s in enumerate(learn)]]
        sources.append([simulated("simulated, new people", 30, 10, 9)])
    out = []
    for title, files in zip(("learn from", "evaluate on"), sources, strict=True):
        print(f"Data to {title}")
        data = [prepared(found, options.max_windows, rng) for found in files]
        out.append([d for d in data if d is not None])
    if not out[0]:
        raise SystemExit("--data: no file is left to learn from")
    return out


# ------------------------------------------------------------------------- learning
def pretrain(datasets, options):
    """Train on all windows of all people; early stopping watches whole people."""
    X = np.concatenate([data.X for data in datasets])
    groups = np.concatenate([data.groups for data in datasets])
    transformer = FlowFMTransformer(
        max_steps=options.max_steps, random_state=options.seed, verbose=1
    )
    return transformer.fit(X, groups=groups, sampling_rate=RATE)


# ----------------------------------------------------------------------- evaluation
def few_labels(y, n, rng):
    """Positions of at most n random labels of each class."""
    by_class = [rng.permutation(np.flatnonzero(y == c)) for c in np.unique(y)]
    return np.concatenate([rows[:n] for rows in by_class])


def scores_by_person(y, predicted, groups):
    """Macro-F1 of each person over the classes that this person did."""
    scores = []
    for person in np.unique(groups):
        rows = groups == person
        present = np.unique(y[rows])
        scores.append(
            f1_score(y[rows], predicted[rows], labels=present, average="macro")
        )
    return np.array(scores)


def pretrainings(path, X, groups, options):
    """Yield where a model has learned, and the model."""
    steps = {"max_steps": options.max_steps}
    alone = FlowFMTransformer(random_state=options.seed, **steps)
    going_on = FlowFMTransformer.from_pretrained(path).set_params(verbose=0, **steps)
    yield PRETRAININGS[0], FlowFMTransformer.from_pretrained(path)
    yield PRETRAININGS[1], alone.fit(X, groups=groups)
    yield PRETRAININGS[2], going_on.fit(X, groups=groups, sampling_rate=RATE)


def evaluate(data, path, options):
    """Return a table of scores on people who are in no training."""
    if data.y is None or len(np.unique(data.groups)) < 4:
        print(f"   {data.name}: not evaluated, it needs y and groups of 4 people")
        return None
    splitter = GroupShuffleSplit(1, test_size=1 / 3, random_state=options.seed)
    train, test = next(splitter.split(data.X, data.y, data.groups))
    people = (len(np.unique(data.groups[rows])) for rows in (train, test))
    title = "{}: {} people to learn from, {} to test on".format(data.name, *people)
    rows = []
    models = pretrainings(path, data.X[train], data.groups[train], options)
    for learned, model in models:
        for strategy, how in STRATEGIES.items():
            scores = scores_with_few_labels(model, strategy, data, train, test, options)
            rows.append((learned, how, scores.mean(), scores.std(ddof=1)))
            print(f"   {data.name}: {learned}, {how}: {scores.mean():.3f}")
    columns = ["pretrained on", "used", "macro-F1", "sd over people"]
    return title, pd.DataFrame(rows, columns=columns)


def scores_with_few_labels(model, strategy, data, train, test, options):
    """Each test person's score, in the mean over draws of the labels."""
    rng = np.random.default_rng(options.seed)  # the same labels for all models
    scores = []
    for draw in range(options.draws):
        known = train[few_labels(data.y[train], options.n_labels, rng)]
        classifier = FlowFMClassifier(
            FrozenEstimator(model),
            strategy=strategy,
            max_steps=options.tuning_steps,
            random_state=options.seed + draw,
        ).fit(data.X[known], data.y[known])
        predicted = classifier.predict(data.X[test])
        scores.append(scores_by_person(data.y[test], predicted, data.groups[test]))
    return np.mean(scores, axis=0)


# ------------------------------------------------------------------------- the card
def table(frame):
    """A frame as a table in markdown."""
    rows = [frame.columns, ["---"] * len(frame.columns), *frame.to_numpy()]
    return "\n".join("| " + " | ".join(map(cell, row)) + " |" for row in rows)


def cell(value):
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def model_card(path, datasets, evaluations, options):
    """What a user has to know before using the file."""
    about = describe(path)
    training, versions = about["training"], about["libraries"]
    sources = pd.DataFrame(
        {
            "data": data.name,
            "windows": len(data.X),
            "people": len(np.unique(data.groups)),
            "Hz": f"{data.rate:g}",
            "licence": data.licence,
        }
        for data in datasets
    )
    lines = [
        f"# {path.name}",
        "",
        "A FlowFMTransformer: features of accelerometer windows for recognition, and a "
        "generator of such windows. Trained without labels.",
        "",
        "## Use",
        "",
        f"Windows of {N_CHANNELS} axes in g, gravity included, {SECONDS} s at {RATE} "
        f"Hz: X of shape (n, {N_CHANNELS}, {RATE * SECONDS}). Bring others there with "
        "`skflowfm.datasets.resample_windows`.",
        "",
        "```python",
        "from skflowfm import FlowFMClassifier, FlowFMTransformer",
        f'Z = FlowFMTransformer.from_pretrained("{path.name}").transform(X)',
        f'model = FlowFMClassifier("{path.name}").fit(X_few, y_few)',
        "```",
        "",
        "## Data it has learned from",
        "",
        table(sources),
        "",
        "Whoever passes the file on has to see to these licences. They are those that "
        "the files' README states, not legal advice.",
        "",
        "## Budget",
        "",
        f"{training['steps']} steps of 64 windows in {training['seconds']:.0f} s, "
        f"ended by {training['stopped_by']}; random_state={options.seed}. The file has "
        f"{path.stat().st_size / 1e6:.1f} MB.",
        "",
        "Written with " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".",
        "",
        "## Evaluation",
        "",
        f"Data sets that it has not learned from, with {options.n_labels} labels of "
        f"each class, mean of {options.draws} draws of the labels and one split of the "
        "people. Macro-F1 of each person over the classes that this person did, on "
        "people who are in no training.",
    ]
    for title, scores in evaluations:
        lines += ["", f"### {title}", "", table(scores)]
    if not evaluations:
        lines += ["", "None."]
    return "\n".join(lines) + "\n"


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, nargs="+", default=[], metavar="NPZ", help="to learn from")
    add("--evaluate", type=Path, nargs="+", default=[], metavar="NPZ")
    add("--quick", action="store_true", help="a small run that only shows the way")
    add("--max-windows", type=int, metavar="N", help="of each file, drawn at random")
    add("--max-steps", type=int, help="of each pretraining; see FlowFMTransformer")
    add("--tuning-steps", type=int, help="of fine-tuning; see FlowFMClassifier")
    add("--n-labels", type=int, default=10, help="labels of each class (default: 10)")
    add("--draws", type=int, default=3, help="of the labels (default: 3)")
    add("--out", type=Path, default=Path("out"), metavar="DIR", help="for the files")
    add("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.evaluate and not options.data:
        parser.error("--evaluate needs --data: files to learn from")
    if options.quick:
        options.max_steps = options.max_steps or QUICK_STEPS
        options.tuning_steps = options.tuning_steps or 2 * QUICK_STEPS
        options.max_windows = options.max_windows or QUICK_WINDOWS
        options.draws = 1
    return options


def main():
    options = parse_arguments()
    start = time.perf_counter()
    datasets, targets = load_data(options)
    if options.quick:
        print("A quick run only shows the way: its scores mean little.")
    print("\nPretraining, without labels")
    model = pretrain(datasets, options)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "wearable.safetensors"
    model.save(path, half_precision=True)  # half the size, scores are of this file
    print(f"\nmodel: {path}, {path.stat().st_size / 1e6:.1f} MB")
    print("\nEvaluation: macro-F1 of people who are in no training, few labels")
    evaluations = [evaluate(data, path, options) for data in targets]
    evaluations = [e for e in evaluations if e is not None]
    card = options.out / "wearable.md"
    card.write_text(model_card(path, datasets, evaluations, options), encoding="utf-8")
    print(f"model card: {card}")
    print(f"whole run: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
