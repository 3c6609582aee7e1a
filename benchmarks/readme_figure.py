"""The figure of README.md: recognition on people never seen, and drawn windows.

    python benchmarks/readme_figure.py --out docs/figures/overview.png

Reads `results/recognition.csv` and `results/generation.csv`: macro-F1 per person, mean
over people, for three shares of the labels, and the AUC of telling synthetic windows of
HAPT from real ones with the default number of evaluations.
"""

import argparse
from pathlib import Path

import pandas as pd
from recognition_tables import read_rows

RESULTS = Path(__file__).parent / "results"
SETS = {
    "adl_wrist": "ADL",
    "adl_wrist_14class": "ADL-14",
    "hapt_waist": "HAPT",
    "spsw_har_watch": "GeoTec",
    "dsads_right_arm": "DSADS",
    "wisdm_watch": "WISDM",
}
METHODS = {
    "statistics-forest": ("statistics + forest", "^", {"color": "tab:gray"}),
    "minirocket": ("MiniRocket + ridge (9,996)", "s", {"color": "tab:orange"}),
    "flowfm": (
        "FlowFM + logistic regression (at most 256 features)",
        "o",
        {"color": "tab:blue", "mfc": "none", "ms": 9, "mew": 2},
    ),
}
SHARES = {1.0: "all labels", 0.1: "a tenth", 0.01: "a hundredth"}
DRAWN_BY = {
    "flowfm": "FlowFM",
    "smote": "SMOTE",
    "jitter": "jitter",
    "test people": "(real, other people)",
}
DEFAULT_EVALUATIONS = 8


def recognition(rows):
    """Return macro-F1, the mean over people, by share of labels, set and method."""
    rows = rows[(rows.metric == "subject_macro_f1") & rows.method.isin(list(METHODS))]
    people = rows.groupby(["label_fraction", "dataset", "method", "subject"]).value
    return people.mean().groupby(level=[0, 1, 2]).mean().unstack("method")


def told_from_real(rows):
    """Return the AUC by who drew the windows of HAPT, the mean over seeds."""
    rows = rows[(rows.dataset == "hapt_waist") & (rows.metric == "c2st_auc")]
    ours = (rows.solver == "auto") & (rows.nfe == DEFAULT_EVALUATIONS)
    rows = rows[(rows.method != "flowfm") | ours]
    return rows.groupby("method").value.mean()[list(DRAWN_BY)]


def draw(scores, auc, path):
    """Three panels of scores, a line for each set, and one of AUC."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.3), layout="constrained")
    axes = figure.subplots(1, len(SHARES) + 1)
    for ax, (share, title) in zip(axes, SHARES.items(), strict=False):
        table = scores.loc[share].reindex(list(SETS)[::-1])
        for y, (_, line) in enumerate(table.iterrows()):
            ax.plot([line.min(), line.max()], [y, y], color="0.8", zorder=0)
        for method, (name, marker, look) in METHODS.items():
            ax.plot(table[method], range(len(table)), marker, label=name, **look)
        names = list(SETS.values())[::-1] if ax is axes[0] else []
        ax.set_yticks(range(len(table)) if names else [], names)
        ax.set_title(f"recognition, {title}", fontsize="medium")
        ax.set_xlabel("macro-F1, people never seen")
    last = axes[-1]
    last.barh(range(len(auc))[::-1], auc - 0.5, left=0.5, color="tab:green")
    last.set_yticks(range(len(auc))[::-1], list(DRAWN_BY.values()))
    last.set_xlim(0.5, 1)
    last.set_title("HAPT windows drawn by ...", fontsize="medium")
    last.set_xlabel("AUC of telling them from real")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/figures/overview.png"))
    options = parser.parse_args()
    draw(
        recognition(read_rows([RESULTS / "recognition.csv"])),
        told_from_real(pd.read_csv(RESULTS / "generation.csv")),
        options.out,
    )


if __name__ == "__main__":
    main()
