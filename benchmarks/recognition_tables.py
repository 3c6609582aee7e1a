"""Tables from the rows that `recognition.py` wrote.

    python benchmarks/recognition_tables.py out/recognition.csv [more.csv]

Several files are joined: baselines need to run once only. Subjects are the unit: scores
of a subject are averaged over the seeds that both methods have, then compared. The
interval of a difference is a percentile bootstrap over subjects; with fewer than about
15 subjects it is too narrow. `--markdown` prints the tables of README.md, with the sets
side by side.
"""

import argparse
import sys

import numpy as np
import pandas as pd

N_BOOTSTRAP = 10_000
RIVALS = "minirocket", "statistics-forest"


def read_rows(paths):
    """The rows of all files, `subject` and `fold` as text."""
    text = {"subject": str, "fold": str}
    return pd.concat([pd.read_csv(path, dtype=text) for path in paths])


def by_subject(rows):
    """Mean score over seeds: one line per subject, one column per method."""
    rows = rows[rows["metric"] == "subject_macro_f1"]
    table = rows.pivot_table(index="subject", columns="method", values="value")
    return table[rows["method"].unique()]


def paired(rows, reference, method):
    """`reference` minus `method`: one number per subject, over seeds that both have."""
    rows = rows[rows["metric"] == "subject_macro_f1"]
    table = rows.pivot_table("value", ["subject", "seed"], "method")
    if not {reference, method} <= set(table):
        return np.array([])
    differences = (table[reference] - table[method]).dropna()
    return differences.groupby("subject").mean().to_numpy()


def bootstrap_interval(differences, level=0.95, n_draws=N_BOOTSTRAP, seed=0):
    """Percentile interval of the mean, resampling the entries of `differences`."""
    differences = np.asarray(differences)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(differences), size=(n_draws, len(differences)))
    tail = (1 - level) / 2
    return np.quantile(differences[drawn].mean(axis=1), [tail, 1 - tail])


def score_table(rows):
    """One line per method: scores at each share of labels, then costs per fold."""
    lines = {}
    fractions = sorted(rows["label_fraction"].unique(), reverse=True)
    for method, of_method in rows.groupby("method", sort=False):
        line = lines[method] = {}
        folds = of_method[of_method["fold"] != "all"]
        line["dim"] = f"{folds['dim'].median():.0f}"
        for fraction in fractions:
            shown = folds[folds["label_fraction"] == fraction]
            line[f"subject F1 {fraction:.0%}"] = "-"
            if len(shown):
                subjects = by_subject(shown)[method]
                spread = f"{subjects.mean():.3f}±{subjects.std():.3f}"
                line[f"subject F1 {fraction:.0%}"] = spread
        pooled = of_method[of_method["metric"] == "pooled_macro_f1"]
        for fraction in fractions:
            value = pooled.loc[pooled["label_fraction"] == fraction, "value"].mean()
            line[f"pooled F1 {fraction:.0%}"] = (
                "-" if np.isnan(value) else f"{value:.3f}"
            )
        once = folds[folds["label_fraction"] == fractions[0]]
        once = once.drop_duplicates(["seed", "fold"])
        fit = (once["fit_seconds"] + once["classifier_seconds"]).mean()
        rate = once["n_test"].sum() / max(once["transform_seconds"].sum(), 1e-9)
        steps = pd.to_numeric(once["steps"], errors="coerce").mean()
        line["steps"] = "" if np.isnan(steps) else f"{steps:.0f}"
        line["fit s"] = f"{fit:.1f}"
        line["transform s"] = f"{once['transform_seconds'].mean():.2f} ({rate:.0f}/s)"
    return pd.DataFrame(lines).T


def difference_table(rows, reference):
    """`reference` minus every other method, paired by subject, with its interval."""
    lines = {}
    for fraction in sorted(rows["label_fraction"].unique(), reverse=True):
        shown = rows[rows["label_fraction"] == fraction]
        for method in shown["method"].unique():
            differences = paired(shown, reference, method)
            if method == reference or not len(differences):
                continue
            low, high = bootstrap_interval(differences)
            better = f"{(differences > 0).sum()}/{len(differences)}"
            text = f"{differences.mean():+.3f} [{low:+.3f}, {high:+.3f}] {better}"
            lines.setdefault(method, {})[f"{fraction:.0%} of labels"] = text
    return pd.DataFrame(lines).T


def over_sets(rows, reference):
    """`reference` minus the others and the better rival, mean over the data sets.

    Sets count alike; each comparison takes the sets on which both were run.
    """
    rows = rows[rows["metric"] == "subject_macro_f1"]
    keys = ["label_fraction", "dataset"]
    scores = rows.pivot_table("value", keys, "method", aggfunc="mean")
    rivals = [name for name in RIVALS if name in scores]
    if rivals:
        scores["the better rival"] = scores[rivals].max(axis=1, skipna=False)
    differences = (-scores.drop(columns=reference)).add(scores[reference], axis=0)
    by_fraction = differences.groupby("label_fraction", sort=False).agg(
        ["mean", "count"]
    )
    return by_fraction.sort_index(ascending=False).T.unstack().round(3)


def beside_each_other(rows, cell, methods):
    """Markdown: a line for each method, a column for each set; `cell` fills them."""
    sets = list(rows["dataset"].unique())
    lines = ["| | " + " | ".join(sets) + " |", "|---" * (len(sets) + 1) + "|"]
    for method in methods:
        cells = [cell(rows[rows["dataset"] == name], method) for name in sets]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def score_cell(part, method):
    """Mean over subjects at each share of the labels, all first."""
    part = part[(part["method"] == method) & (part["metric"] == "subject_macro_f1")]
    subjects = part.groupby(["label_fraction", "subject"])["value"].mean()
    means = subjects.groupby("label_fraction").mean().sort_index(ascending=False)
    texts = [without_zero(f"{value:.3f}") for value in means]
    if len(means) and means.index[0] < 1:
        texts.insert(0, "-")
    return " / ".join(texts)


def difference_cell(part, reference, method):
    """`reference` minus `method` with its interval; bold where that excludes 0."""
    texts = []
    for fraction in sorted(part["label_fraction"].unique(), reverse=True):
        shown = part[part["label_fraction"] == fraction]
        differences = paired(shown, reference, method)
        if not len(differences):
            continue
        low, high = bootstrap_interval(differences)
        mean = without_zero(f"{differences.mean():+.3f}")
        mean = f"**{mean}**" if low > 0 or high < 0 else mean
        interval = f"[{low:.3f}, {high:.3f}]"
        texts.append(f"{mean} {without_zero(interval)}")
    return " / ".join(texts)


def mean_difference_cell(rows, reference, method, n_draws=N_BOOTSTRAP, seed=0):
    """`reference` minus `method`, mean over sets; people are drawn within each set."""
    texts = []
    for fraction in sorted(rows["label_fraction"].unique(), reverse=True):
        means, draws = [], []
        for _, part in rows[rows["label_fraction"] == fraction].groupby("dataset"):
            differences = paired(part, reference, method)
            if not len(differences):
                continue
            rng = np.random.default_rng(seed)
            drawn = rng.integers(len(differences), size=(n_draws, len(differences)))
            means.append(differences.mean())
            draws.append(differences[drawn].mean(axis=1))
        if not means:
            continue
        low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975])
        mean = without_zero(f"{np.mean(means):+.3f}")
        mean = f"**{mean}**" if low > 0 or high < 0 else mean
        texts.append(f"{mean} {without_zero(f'[{low:.3f}, {high:.3f}]')}")
    return " / ".join(texts)


def without_zero(text):
    """0.123 as .123."""
    return text.replace("0.", ".")


def print_markdown(rows, reference):
    """Print scores, and differences to `reference`, with the sets side by side."""
    methods = rows["method"].unique()
    print(beside_each_other(rows, score_cell, methods))
    print(f"\n{reference} minus:\n")
    others = [method for method in methods if method != reference]
    print(
        beside_each_other(
            rows, lambda part, method: difference_cell(part, reference, method), others
        )
    )
    if rows["dataset"].nunique() > 1:
        print(f"\n{reference} minus, mean over sets:\n")
        for method in others:
            print(f"| {method} | {mean_difference_cell(rows, reference, method)} |")


def print_tables(paths, reference="flowfm", seeds=None, markdown=False):
    """Print the scores, and the differences to `reference`, for each data set."""
    rows = read_rows(paths)
    if seeds is not None:
        rows = rows[rows["seed"].isin(seeds)]
    if markdown:
        return print_markdown(rows, reference)
    for (dataset, protocol), part in rows.groupby(["dataset", "protocol"], sort=False):
        n_subjects = part.loc[part["fold"] != "all", "subject"].nunique()
        n_seeds = part["seed"].nunique()
        print(f"\n{dataset}, {protocol}, {n_subjects} subjects, {n_seeds} seed(s)")
        print("fit s: features and classifier, training fold; transform s: test fold")
        print(score_table(part).to_string())
        methods = part["method"].unique()
        if reference in methods and len(methods) > 1:
            print(
                f"\n{reference} minus the others: mean over subjects of the paired "
                "difference in F1 [95 % interval] subjects where it is better"
            )
            print(difference_table(part, reference).to_string())
    several = rows["dataset"].nunique() > 1 and rows["method"].nunique() > 1
    if several and reference in set(rows["method"]):
        print(f"\n{reference} minus the others, mean over data sets, and how many")
        print(over_sets(rows, reference).to_string())
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE.csv")
    parser.add_argument("--reference", default="flowfm")
    parser.add_argument("--seeds", nargs="+", type=int, help="all by default")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    print_tables(
        arguments.files, arguments.reference, arguments.seeds, arguments.markdown
    )
