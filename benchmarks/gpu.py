"""What does a GPU change: throughput, and quality against minutes?

First, on simulated windows, rows a second of training (after preparation), preparing,
transforming and drawing, on CPUs and on CUDA, with the batch that is the default there.
Then, for each file, what larger batches, more steps, a wider velocity field, bfloat16
and more components buy: macro-F1 of a linear model on the frozen representation, on
people not trained on, and C2ST AUC of drawn windows against those of the people trained
on, beside the minutes of `fit`. The runs share the device, `--jobs` at a time.

    python benchmarks/gpu.py --data FILE.npz ... --out out/gpu.csv
"""

import argparse
import time
from unittest.mock import patch

import pandas as pd
import torch
from _common import data_sets, new_output, print_environment, write_rows
from generation import mean_c2st, split_subjects
from joblib import Parallel, delayed
from paper_generation import probe, smaller
from sklearn.frozen import FrozenEstimator
from torch import nn

from skflowfm import FlowFMSampler, FlowFMTransformer
from skflowfm._budget import BATCH_SIZE, batch_size
from skflowfm._training import Schedule
from skflowfm.datasets import make_wearable
from skflowfm.metrics import log_psd_distance
from skflowfm.nets import WindowVelocityField

N_ROWS = 10_000
N_ON_CPU = 500
N_DRAWN = 8192
STEPS = {"cpu": 12, "cuda": 60}
N_COMPONENTS = 256
N_JUDGED = 768
LARGE_BATCH = 2048
WIDE = {"width": 512, "n_blocks": 8}


class InBfloat16(nn.Module):
    """A velocity field whose products are of 16 bits; it takes and gives float32."""

    def __init__(self, field):
        super().__init__()
        self.field = field

    def forward(self, x_t, t, z):
        with torch.autocast(x_t.device.type, torch.bfloat16):
            return self.field(x_t, t, z).float()


class Clock(Schedule):
    """The schedule, noting the time of each step; so it knows what comes before."""

    times = ()

    def on_batch_end(self, net, training=False, **kwargs):
        super().on_batch_end(net, training=training, **kwargs)
        Clock.times.append(time.perf_counter())


def rate(function, n):
    """Return rows a second of a call that treats ``n`` of them."""
    start = time.perf_counter()
    function()
    return n / (time.perf_counter() - start)


def throughput(device, X, y):
    """Return rows a second of each job; a third of the steps is to warm up."""
    n, steps = (len(X) if device == "cuda" else N_ON_CPU), STEPS[device]
    batch = batch_size(len(X), device)
    model = FlowFMTransformer(
        max_steps=steps, validation_fraction=0, device=device, random_state=0
    )
    Clock.times = []
    start = time.perf_counter()
    with (
        patch("skflowfm._training.Schedule", Clock),
        patch("skflowfm._transformer.batch_size", lambda *_: batch),
    ):
        model.fit(X[:n])
    warm = steps // 3
    timed = Clock.times[-1] - Clock.times[warm]
    sampler = FlowFMSampler(FrozenEstimator(model), random_state=0)
    sampler.fit(X[:N_ON_CPU], y[:N_ON_CPU])
    sampler.sample(64)
    n_drawn = N_DRAWN if device == "cuda" else N_ON_CPU
    return {
        "batch": batch,
        "train": (steps - 1 - warm) * batch / timed,
        "prepare": n / (Clock.times[0] - start),
        "transform": rate(lambda: model.transform(X[:n]), n),
        "sample": rate(lambda: sampler.sample(n_drawn), n_drawn),
    }


def compare_throughput(out):
    """Print and store rows a second by device, and as a multiple of the first's."""
    X, y, _ = make_wearable(N_ROWS, n_timesteps=300, random_state=0, return_X_y=True)
    all_threads = torch.get_num_threads()
    wanted = [("cpu", min(2, all_threads)), ("cpu", all_threads)]
    if torch.cuda.is_available():
        wanted.append(("cuda", all_threads))
    first = None
    for device, threads in dict.fromkeys(wanted):
        torch.set_num_threads(threads)
        found = throughput(device, X, y)
        first = first or found
        named = {"part": "throughput", "data": "simulated", "seed": 0}
        named |= {"device": device, "setting": f"{threads} threads"}
        for metric, value in found.items():
            multiple = round(value / first[metric], 2)
            row = {"metric": metric, "value": round(value, 1), "multiple": multiple}
            write_rows(out, [named | row])
        short = {k: round(v) for k, v in found.items()}
        print(device, f"{threads} threads", short, flush=True)
    torch.set_num_threads(all_threads)


def settings(row_shape):
    """Return {name: (parameters, batch or None for the default one)}."""

    def field(**sizes):
        return WindowVelocityField(*row_shape, N_COMPONENTS, **sizes)

    wide = field(**WIDE)
    return {
        "batch of 64": ({}, BATCH_SIZE),
        "default": ({}, None),
        "default, 3,000 steps": ({"max_steps": 3000}, None),
        "batch of 2,048": ({}, LARGE_BATCH),
        "bfloat16": ({"velocity_field": InBfloat16(field())}, None),
        "wide field": ({"velocity_field": wide}, None),
        "wide field, bfloat16": ({"velocity_field": InBfloat16(wide)}, None),
        "wide field, bfloat16, batch of 2,048": (
            {"velocity_field": InBfloat16(wide)},
            LARGE_BATCH,
        ),
        "512 components": ({"n_components": 512}, None),
    }


def judged(name, data, seed, n_threads, device):
    """Return minutes of `fit`, F1 and AUC of one setting, as a dict."""
    torch.set_num_threads(n_threads)
    torch.manual_seed(seed)  # for the weights of a field that is given
    parameters, batch = settings(data.X.shape[1:])[name]
    split = split_subjects(data, seed)
    batch = batch or batch_size(len(split.y), device)
    model = FlowFMTransformer(**parameters, device=device, random_state=seed)
    start = time.perf_counter()
    with patch("skflowfm._transformer.batch_size", lambda *_: batch):
        model.fit(split.X, groups=split.groups)
    minutes = (time.perf_counter() - start) / 60
    sampler = FlowFMSampler(FrozenEstimator(model), random_state=seed)
    sampler.fit(split.X, split.y)
    X, _ = sampler.sample(class_counts=smaller(split, N_JUDGED))
    return {
        "batch": batch,
        "steps": model.n_steps_,
        "minutes": minutes,
        **probe(model, split, seed),
        "c2st_auc": float(mean_c2st(split, X, None, seed)[0]),
        "log_psd_distance": log_psd_distance(split.X, X, random_state=seed).value,
    }


def compare_settings(data, seed, options, out):
    """Print and store what each setting gives, as they end."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    n_threads = max(1, torch.get_num_threads() // options.jobs)
    names = options.settings or list(settings(data.X.shape[1:]))

    def one(name):
        return name, judged(name, data, seed, n_threads, device)

    jobs = Parallel(n_jobs=options.jobs, return_as="generator_unordered")
    for name, found in jobs(delayed(one)(name) for name in names):
        named = {"part": "settings", "data": data.name, "seed": seed}
        named |= {"device": device, "setting": name}
        for metric, value in found.items():
            row = {"metric": metric, "value": round(value, 4), "multiple": ""}
            write_rows(out, [named | row])
        short = {k: round(v, 3) for k, v in found.items()}
        print(data.name, seed, name, short, flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", nargs="*", default=[], metavar="FILE.npz")
    add("--settings", nargs="+", help="names of some; all by default")
    add("--max-windows", type=int)
    add("--seeds", nargs="+", type=int, default=[0])
    add("--jobs", type=int, default=1, help="runs that share the device")
    add("--no-throughput", action="store_true")
    add("--out", default="out/gpu.csv", help="replaced if it exists")
    options = parser.parse_args()
    print_environment()
    out = new_output(options)
    if not options.no_throughput:
        compare_throughput(out)
    for data in data_sets(options.data, options.max_windows):
        for seed in options.seeds:
            compare_settings(data, seed, options, out)
    rows = pd.read_csv(out, keep_default_na=False)
    print(rows.pivot_table("value", ["data", "device", "setting"], "metric", "mean"))


if __name__ == "__main__":
    main()
