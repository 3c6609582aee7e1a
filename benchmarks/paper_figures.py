"""The figures of `docs/paper.md`, from the rows of `paper.py`.

python benchmarks/paper_figures.py benchmarks/results/paper.csv --out docs/figures
"""

import argparse
from pathlib import Path

import pandas as pd
from paper_claims import CHANCE, curves, speeds
from paper_recognition import FLOW, PRETEXT, PROTOCOLS

COLOURS = {"flow": "tab:blue", "diffusion": "tab:red"}
JUDGED = (
    ("c2st_auc", "AUC of telling windows from real\n(lower is better, down to .5)"),
    ("tstr_forest", "F1 of a forest trained on them\n(higher is better)"),
    ("probe_f1_all", "F1 of a linear probe\n(higher is better)"),
)


def draw_chance(ax, metric):
    """Mark where drawn windows cannot be told from real ones."""
    if metric == "c2st_auc":
        ax.axhline(CHANCE, color="grey", linestyle="--", linewidth=1, zorder=0)


def draw_training(rows, path):
    """Quality over CPU seconds of training, a line per generator."""
    from matplotlib.figure import Figure

    table = curves(rows)
    names = list(table.dataset.unique())
    figure = Figure(figsize=(11, 3.2 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(JUDGED), squeeze=False)
    for row, name in zip(axes, names, strict=True):
        for ax, (metric, title) in zip(row, JUDGED, strict=True):
            draw_chance(ax, metric)
            for kind, part in table[table.dataset == name].groupby("kind"):
                seconds = part.train_cpu_seconds
                ax.plot(seconds, part[metric], "o-", color=COLOURS[kind], label=kind)
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter("{x:.0f}")
            ax.set_xlabel("CPU seconds of training")
            ax.set_ylabel(title)
        row[0].set_title(name)
        row[0].legend()
    figure.savefig(path, dpi=110)


def draw_speed(rows, path):
    """Quality over windows per second, a point per number of evaluations."""
    from matplotlib.figure import Figure

    table = speeds(rows)
    names = list(table.dataset.unique())
    figure = Figure(figsize=(9, 3.4 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 2, squeeze=False)
    for row, name in zip(axes, names, strict=True):
        for ax, (metric, title) in zip(row, JUDGED[:2], strict=True):
            draw_chance(ax, metric)
            for kind, part in table[table.dataset == name].groupby(
                table.method.str.split(",").str[0]
            ):
                part = part.sort_values("evaluations")
                ax.plot(
                    part.windows_per_second,
                    part[metric],
                    "o-",
                    color=COLOURS[kind],
                    label=kind,
                )
                for _, point in part.iterrows():
                    at = point.windows_per_second, point[metric]
                    ax.annotate(
                        point.evaluations,
                        at,
                        (3, 4),
                        fontsize=8,
                        textcoords="offset points",
                    )
            ax.set_xscale("log")
            ax.set_xlabel("windows per second; numbers: evaluations")
            ax.set_ylabel(title)
        row[0].set_title(name)
        row[0].legend()
    figure.savefig(path, dpi=110)


def draw_recognition(rows, path):
    """One pair of bars for each data set and way of reading."""
    from matplotlib.figure import Figure

    of_a_person = rows.metric.str.startswith("macro_f1[")
    found = rows[of_a_person & (rows.protocol == PROTOCOLS[0])]
    table = found.pivot_table("value", "dataset", "method", sort=False)
    methods = [m for m in (*PRETEXT, *FLOW) if m in table]
    table.index = table.index.str.replace("[", "\n[").str.replace("_", " ")
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    ax = figure.subplots()
    table[methods].plot.bar(
        ax=ax, rot=0, color=["#f4b6a6", "#c8553d", "#a6c8f4", "#2a6fbb"]
    )
    ax.set_ylabel("macro-F1 per person")
    ax.set_xlabel("")
    ax.set_ylim(0.4, 1)
    ax.legend(ncols=4, loc="upper center", fontsize=8)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    rows = pd.read_csv(options.rows)
    options.out.mkdir(parents=True, exist_ok=True)
    draw_training(rows, options.out / "paper_training.png")
    draw_speed(rows, options.out / "paper_speed.png")
    draw_recognition(rows, options.out / "paper_recognition.png")


if __name__ == "__main__":
    main()
