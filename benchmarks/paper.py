"""The paper's three claims, each measured beside an honest counterpart.

    python benchmarks/paper.py --data adl_wrist.npz hapt_waist.npz --out out/paper.csv

FlowFM's authors say that training takes 50.4 % less time than with a diffusion model,
that inference is up to 51.0 times faster at equal quality, and that recognition is
better than SSL-Wearables on five data sets (arXiv:2512.19729). Here the same is asked
of this package, against counterparts written for the purpose and run on the same
machine: `_diffusion.py`, the same encoder and network trained jointly as a DDPM, and
`_pretext.py`, the three pretext tasks of SSL-Wearables on a convolutional encoder.

* Recognition: frozen (a logistic regression on the representation) and fine-tuned, all
  labels; "subject-wise" (three groups of people, each tested once in three seeds; mean
  over people), "fixed split" (one split for all seeds, windows pooled) and, on demand,
  "leave one person out". The representation is learned from the training people alone,
  but for the row that says "transductive".
* Training time: both generators are trained with several budgets, and judged by a
  linear probe, C2ST, TSTR and spectra, means over several samples. How much time do
  they take to be as good as the diffusion model at its best?
* Generation speed: windows per second at every number of evaluations, with the same
  measures beside; flow at as few as one evaluation, DDIM, 1000 ancestral steps.
* Fidelity: from the paper's loss to this package's, one ingredient at a time, with a
  few-step term, an encoder that is trained first, and labels in place of
  representations; recognition and generation side by side.

One row per (dataset, method, protocol, seed, metric) with the seconds that training, or
drawing, took. Rows that the file has are not computed again, so a run that was cut off
goes on, with the same settings: others are refused. The last three lines state the
claims with the ratio measured.
"""

import argparse
import csv
import json
import sys
import time
from ast import literal_eval
from pathlib import Path

import paper_fidelity
import paper_generation
import paper_recognition
from _common import data_sets, environment, print_environment, write_rows
from paper_claims import print_claims, print_tables

SETTINGS = {  # what the rows of each part depend on, besides what they name
    "recognition": ("max_steps", "rotation"),
    "generation": ("max_steps", "draws", "repeats"),
    "fidelity": ("max_steps", "draws"),
}


def done_before(path):
    """Return {(dataset, method, protocol, seed)} of the rows in a file."""
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {
            (row["dataset"], row["method"], row["protocol"], int(row["seed"]))
            for row in csv.DictReader(file)
        }


def planned(options):
    """Return a list of (data, seed, methods, protocol, function), seed after seed."""
    plan = []
    sets = list(data_sets(options.data, options.max_windows))
    for seed in options.seeds:
        for data in sets:
            if "recognition" in options.parts:
                jobs = paper_recognition.jobs(data, seed, options)
                plan += [(data, seed, *job) for job in jobs]
            if "generation" in options.parts and data.name in generated(options):
                jobs = paper_generation.jobs(data, seed, options)
                plan += [(data, seed, *job) for job in jobs]
            if "fidelity" in options.parts and data.name in generated(options):
                jobs = paper_fidelity.jobs(data, seed, options)
                plan += [(data, seed, *job) for job in jobs]
    return plan


def generated(options):
    """Return the names of the data sets whose windows are generated."""
    names = options.generate or [Path(path).stem for path in options.data]
    cut = f"[{options.max_windows} windows]"
    return {*names, *(name + cut for name in names)}


def run(plan, options):
    """Run what has not been run, saying how far it is."""
    done, started = done_before(options.out), time.perf_counter()
    for i, (data, seed, methods, protocol, function) in enumerate(plan):
        if all((data.name, m, protocol, seed) in done for m in methods):
            continue
        for method, found, seconds in function():
            rows = [
                {
                    "dataset": data.name,
                    "method": method,
                    "protocol": protocol,
                    "seed": seed,
                    "metric": metric,
                    "value": round(float(value), 6),
                    "seconds": round(seconds, 3),
                }
                for metric, value in found.items()
            ]
            if (data.name, method, protocol, seed) not in done:
                write_rows(options.out, rows)
            report(i, plan, started, rows)


def report(i, plan, started, rows):
    """Print one line: how far, what was found."""
    minutes = (time.perf_counter() - started) / 60
    filled = round(20 * (i + 1) / len(plan))
    bar = "#" * filled + "." * (20 - filled)
    first = rows[0]
    said = ", ".join(
        f"{row['metric']} {row['value']:.3f}"
        for row in rows
        if not row["metric"].startswith("macro_f1[")
    )
    print(
        f"[{bar}] {minutes:5.1f} min  {first['dataset']} seed {first['seed']} "
        f"{first['method']} ({first['protocol']}): {said}",
        flush=True,
    )


# --------------------------------------------------------------------- command line
def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", nargs="+", required=True, metavar="FILE.npz")
    add("--out", type=Path, help="gone on with; out/paper.csv, paper_quick.csv")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--quick", action="store_true", help="one seed, few windows and steps")
    add("--parts", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    add("--generate", nargs="+", help="data sets to generate, by name; else all")
    protocols = (*paper_recognition.PROTOCOLS, paper_recognition.ONE_OUT)
    add("--protocols", nargs="+", default=list(protocols[:-1]), choices=protocols)
    add("--transductive", action="store_true", help="one more row, of seed 0")
    add("--rotation", action="store_true", help="pretext views turn the sensor")
    add("--max-windows", type=int, help="a random subset of each set")
    add("--max-steps", type=int, help="of FlowFM; in proportion for the others")
    add("--draws", type=int, default=256, help="windows to generate")
    add("--repeats", type=int, default=4, help="of that, for each training budget")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.draws = options.seeds[:1], min(options.draws, 128)
        options.max_windows = options.max_windows or 800
        options.max_steps = options.max_steps or 100
    name = "out/paper_quick.csv" if options.quick else "out/paper.csv"
    options.out = options.out or Path(name)
    return options


def record(options):
    """Add this run's arguments and versions to the list beside the rows.

    Where the rows of a part were computed with other settings, it ends instead.
    """
    path = options.out.with_suffix(".json")
    try:
        runs = json.loads(path.read_text()) if path.exists() else []
    except ValueError:
        sys.exit(f"{path} is cut off: it says with which settings rows were computed.")
    arguments = {name: str(value) for name, value in vars(options).items()}
    for before in (run["arguments"] for run in runs if options.out.exists()):
        for part in set(options.parts) & set(literal_eval(before["parts"])):
            for name in SETTINGS[part]:
                if name in before and before[name] != arguments[name]:
                    sys.exit(
                        f"{options.out} has rows of {part} with {name}={before[name]}, "
                        f"asked for is {arguments[name]}. Give another --out."
                    )
    runs.append({"arguments": arguments, "environment": environment()})
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(runs, indent=1))
    beside.replace(path)


def main():
    options = parse_arguments()
    print_environment()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    record(options)
    plan = planned(options)
    if not plan:
        sys.exit("nothing was run: no data file found")
    run(plan, options)
    print_tables(options.out)
    print_claims(options.out)


if __name__ == "__main__":
    main()
