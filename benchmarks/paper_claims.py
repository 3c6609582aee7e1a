"""From the rows of `paper.py` to its tables and to the three claims."""

import numpy as np
import pandas as pd
from _diffusion import N_TIMES
from _protocol import interval
from paper_fidelity import PROTOCOL as FIDELITY
from paper_generation import PROTOCOL
from paper_recognition import FLOW, PRETEXT

TOLERANCE = {"c2st_auc": 0.02, "tstr_forest": 0.01, "probe_f1_all": 0.01}
FALLING = {"c2st_auc", "log_psd_distance"}  # less is better
CHANCE = 0.5  # of an AUC; below it drawn windows repeat real ones, which is no better
JUDGED = tuple(TOLERANCE)
N_POINTS = 101


def no_better_than_chance(table):
    """Return the table with AUCs below .5 counted as .5."""
    return table.assign(c2st_auc=table.c2st_auc.clip(lower=CHANCE))


def best_of(table):
    """Return the row of the lowest C2ST; of equals, that most useful to a forest."""
    order = table.sort_values(["c2st_auc", "tstr_forest"], ascending=[True, False])
    return order.iloc[0]


def is_as_good(found, reference, measures=JUDGED):
    """Return whether measures reach those of a reference, within `TOLERANCE`."""
    return all(
        found[m] <= reference[m] + TOLERANCE[m]
        if m in FALLING
        else found[m] >= reference[m] - TOLERANCE[m]
        for m in measures
    )


# -------------------------------------------------------------------- training time
def curves(rows):
    """Return the mean over seeds of every budget: one line per (dataset, method)."""
    found = rows[
        (rows.protocol == PROTOCOL) & rows.method.str.fullmatch(r"\w+, \d+ steps")
    ]
    if found.empty:
        return found
    table = found.pivot_table("value", ["dataset", "method", "seed"], "metric")
    table["train_seconds"] = found.groupby(
        ["dataset", "method", "seed"]
    ).seconds.first()
    table = table.groupby(level=["dataset", "method"]).mean().reset_index()
    parts = table.method.str.extract(r"(\w+), (\d+)")
    return table.assign(kind=parts[0], steps=parts[1].astype(int)).sort_values(
        ["dataset", "kind", "steps"]
    )


def training_claim(rows):
    """Return one text per data set: the time to reach the diffusion model's best.

    Its best is the budget whose C2ST is lowest (see :func:`best_of`). Either model's
    time is when its curve first is as good, within the tolerances; between two budgets
    quality is taken to be linear in the logarithm of time.
    """
    texts = []
    every = curves(rows)
    if every.empty:
        return texts
    for name, table in no_better_than_chance(every).groupby("dataset"):
        flow, diffusion = (table[table.kind == kind] for kind in ("flow", "diffusion"))
        if flow.empty or diffusion.empty:
            continue
        best = best_of(diffusion)
        theirs = first_as_good(diffusion, best)
        ours = first_as_good(flow, best)
        if ours is None:
            texts.append(f"{name} {by_measure(flow, diffusion, best)}")
            continue
        wall, cpu, steps = (
            (ours[column], theirs[column])
            for column in ("train_seconds", "train_cpu_seconds", "steps")
        )
        texts.append(
            f"{name} {cpu[0] / cpu[1] - 1:+.0%} (wall {wall[0] / wall[1] - 1:+.0%}; "
            f"{steps[0]:.0f} against {steps[1]:.0f} steps, to C2ST {best.c2st_auc:.3f})"
        )
    return texts


def by_measure(flow, diffusion, best):
    """Say which measures are never reached, and the CPU time to equal C2ST alone."""
    missed = [m for m in JUDGED if first_as_good(flow, best, [m]) is None]
    ends = {m: flow[m].min() if m in FALLING else flow[m].max() for m in missed}
    texts = [f"{m} {end:.3f} for {best[m]:.3f}" for m, end in ends.items()]
    times = [
        found["train_cpu_seconds"]
        for table in (flow, diffusion)
        if (found := first_as_good(table, best, ["c2st_auc"]))
    ]
    if len(times) == 2:
        texts.append(f"{times[0] / times[1] - 1:+.0%} to equal c2st_auc alone")
    return ", ".join(["not reached", *texts])


def first_as_good(table, reference, measures=JUDGED):
    """Return where a curve first reaches the reference, or None.

    Parameters
    ----------
    table : DataFrame
        A row per budget, by rising budget.
    reference : Series
        The measures to reach, within `TOLERANCE`.
    measures : sequence of str
        Which of them.

    Returns
    -------
    dict or None
        ``steps``, ``train_seconds`` and ``train_cpu_seconds``.
    """
    spent = ["steps", "train_seconds", "train_cpu_seconds"]
    columns = [*spent, *JUDGED]
    points = table[columns].to_numpy(float)
    points[:, : len(spent)] = np.log(points[:, : len(spent)])
    for i in range(len(points)):
        before = points[max(i - 1, 0)]
        for share in np.linspace(0, 1, N_POINTS):
            point = dict(
                zip(columns, (1 - share) * before + share * points[i], strict=True)
            )
            if is_as_good(point, reference, measures):
                return {column: float(np.exp(point[column])) for column in spent}
    return None


# ---------------------------------------------------------------------------- speed
def speeds(rows):
    """Return the mean over seeds of every way of drawing."""
    pattern = r"flow, \d+ evaluations|diffusion, (ancestral|DDIM) \d+"
    found = rows[(rows.protocol == PROTOCOL) & rows.method.str.fullmatch(pattern)]
    if found.empty:
        return found
    table = found.pivot_table("value", ["dataset", "method"], "metric").reset_index()
    evaluations = table.method.str.extract(r"(\d+)")[0].astype(int)
    return table.assign(evaluations=evaluations)


def quickest(table, reference):
    """Return the row of most windows per second that is as good, or None."""
    good = [row for _, row in table.iterrows() if is_drawn_as_well(row, reference)]
    return max(good, key=lambda row: row.windows_per_second, default=None)


def is_drawn_as_well(found, reference):
    slack = {m: TOLERANCE[m] for m in ("c2st_auc", "tstr_forest")}
    return (
        found.c2st_auc <= reference.c2st_auc + slack["c2st_auc"]
        and found.tstr_forest >= reference.tstr_forest - slack["tstr_forest"]
    )


def speed_claim(rows):
    """Return one text per data set: the quickest flow that draws as well."""
    texts = []
    every = speeds(rows)
    if every.empty:
        return texts
    for name, table in no_better_than_chance(every).groupby("dataset"):
        flow = table[table.method.str.startswith("flow")]
        ddim = table[table.method.str.contains("DDIM")]
        ancestral = table[table.method == f"diffusion, ancestral {N_TIMES}"]
        parts = []
        for title, reference in (
            (f"ancestral {N_TIMES}", None if ancestral.empty else ancestral.iloc[0]),
            ("DDIM", None if ddim.empty else best_ddim(ddim)),
        ):
            if reference is None:
                continue
            ours = quickest(flow, reference)
            if ours is None:
                parts.append(f"not as good as {title} with {reference.evaluations}")
                continue
            ratio = ours.windows_per_second / reference.windows_per_second
            parts.append(
                f"{ratio:.1f}x {title} ({ours.evaluations} against "
                f"{reference.evaluations} evaluations)"
            )
        texts.append(f"{name} " + ", ".join(parts))
    return texts


def best_ddim(table):
    """Return DDIM's best point: the quickest that is as good as its lowest C2ST."""
    return quickest(table, best_of(table))


# ---------------------------------------------------------------------- recognition
def differences(rows, ours, theirs, protocol="subject-wise"):
    """Return {dataset: array of FlowFM - counterpart, one number per person}."""
    found = rows[
        (rows.protocol == protocol) & rows.metric.str.startswith("macro_f1[person")
    ]
    table = found.pivot_table("value", ["dataset", "metric"], "method")
    if ours not in table or theirs not in table:
        return {}
    gap = (table[ours] - table[theirs]).dropna()
    return {name: part.to_numpy() for name, part in gap.groupby("dataset")}


def recognition_claim(rows):
    """Return one text per way of reading: mean over sets, and how many are ahead."""
    texts = []
    for title, ours, theirs in zip(
        ("frozen", "fine-tuned"), FLOW, PRETEXT, strict=True
    ):
        gaps = differences(rows, ours, theirs)
        if not gaps:
            continue
        means = {name: 100 * values.mean() for name, values in gaps.items()}
        ahead = sum(mean > 0 for mean in means.values())
        each = ", ".join(f"{name} {mean:+.1f}" for name, mean in means.items())
        texts.append(
            f"{title} {np.mean(list(means.values())):+.1f} points, ahead on {ahead} of "
            f"{len(means)} ({each})"
        )
    return texts


# ------------------------------------------------------------------------- fidelity
def fidelity(rows):
    """Return the mean over seeds of every variant of the method, and C2ST's spread."""
    found = rows[rows.protocol == FIDELITY]
    if found.empty:
        return found
    keys = ["dataset", "method"]
    table = found.pivot_table("value", keys, "metric", sort=False)
    c2st = found[found.metric == "c2st_auc"]
    return table.assign(c2st_spread=c2st.groupby(keys).value.std()).reset_index()


# --------------------------------------------------------------------------- output
def print_tables(path):
    """Print all means over seeds."""
    rows = pd.read_csv(path)
    whole = rows[~rows.metric.str.startswith("macro_f1[")]
    recognised = whole[~whole.protocol.isin([PROTOCOL, FIDELITY])]
    if len(recognised):
        table = recognised.pivot_table(
            "value", ["dataset", "protocol", "method"], "metric"
        )
        print("\nRecognition, macro-F1, mean over seeds\n")
        print(table.round(3).to_string())
        print("\nFlowFM - counterpart, points per person, 95 % interval over people\n")
        for ours, theirs in zip(FLOW, PRETEXT, strict=True):
            for name, gap in differences(rows, ours, theirs).items():
                low, high = 100 * interval(gap)
                print(
                    f"{ours.removeprefix('flowfm '):11s} {name:20s} "
                    f"{100 * gap.mean():+5.1f} [{low:+.1f}, {high:+.1f}]"
                )
    for title, table in (
        ("Quality over training budget", curves(rows)),
        ("Quality over evaluations", speeds(rows)),
        ("From the paper's loss to the default", fidelity(rows)),
    ):
        if len(table):
            print(f"\n{title}, mean over seeds\n")
            print(table.round(3).to_string(index=False))


def print_claims(path):
    """Print the three claims, one line each."""
    rows = pd.read_csv(path)
    print()
    for title, texts in (
        ("training time vs diffusion", training_claim(rows)),
        ("generation speed vs diffusion", speed_claim(rows)),
        ("recognition vs SSL-Wearables", recognition_claim(rows)),
    ):
        print(f"{title}: {'; '.join(texts) or 'not measured'}", flush=True)
