"""How large are saved models, and how soon does one predict in a new process?

A default `FlowFMTransformer` is fitted on simulated windows and on a table, then saved
by `save`, joblib and skops (extra `dev`; left out without it). Sizes are shares of the
weights and buffers as plain float32. With ``half_precision`` the representation is a
little different: the table has the root mean square of that, as a share of the
components' deviation. Each load runs in a process of its own: CPU seconds from where
torch is imported to the first row's representation, and beside them, in turn, what
importing scikit-learn alone takes.

    python benchmarks/persistence.py
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from _common import new_output, print_environment, write_rows

from skflowfm import FlowFMTransformer, load
from skflowfm.datasets import make_wearable

N_TIMESTEPS, N_FEATURES = 300, 20
CHILD = """
import json, sys, time
import torch
start = time.process_time()
import numpy as np
import skflowfm
imported = time.process_time()
model = skflowfm.load(sys.argv[1])
loaded = time.process_time()
model.transform(np.zeros((1, *model.row_shape_in_), np.float32))
end = time.process_time()
print(json.dumps([imported - start, loaded - imported, end - loaded, end - start]))
"""
FLOOR = """
import time
import torch
start = time.process_time()
import sklearn.linear_model, sklearn.model_selection
print(time.process_time() - start)
"""


def data_of(kind, n):
    """Simulated windows of 3 x 300, or rows of 20 correlated normal features."""
    if kind == "windows":
        return make_wearable(n, n_timesteps=N_TIMESTEPS, random_state=0).X
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, N_FEATURES)) @ rng.normal(size=(N_FEATURES, N_FEATURES))


def size_of_joblib(model):
    """Bytes of a dump without compression."""
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    return buffer.tell()


def size_of_skops(model):
    """Bytes of a dump, NaN where skops is not installed."""
    try:
        import skops.io
    except ModuleNotFoundError:
        return np.nan
    return len(skops.io.dumps(model))


def printed_by(code, *arguments):
    """What a new process prints."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def measure(kind, n, max_steps, repeats):
    """Sizes and seconds of one model, as a dict."""
    X = data_of(kind, n)
    model = FlowFMTransformer(max_steps=max_steps, random_state=0).fit(X)
    weights = sum(tensor.nbytes for tensor in model.module_.state_dict().values())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        start = time.process_time()
        model.save(path)
        save = time.process_time() - start
        size = path.stat().st_size
        printed = [
            (printed_by(CHILD, str(path)), printed_by(FLOOR)) for _ in range(repeats)
        ]
        model.save(path, half_precision=True)
        half, halved = path.stat().st_size, load(path)
    Z = model.transform(X)
    error = np.sqrt(((halved.transform(X) - Z) ** 2).mean() / Z.var(axis=0).mean())
    seconds = np.median([[*json.loads(a), float(b)] for a, b in printed], axis=0)
    parts = "import", "load", "predict", "total", "floor"
    return {
        "model": kind,
        "weights_mb": round(weights / 1e6, 3),
        "file_ratio": round(size / weights, 4),
        "half_ratio": round(half / weights, 4),
        "half_error": float(f"{error:.2g}"),
        "joblib_ratio": round(size_of_joblib(model) / weights, 4),
        "skops_ratio": round(size_of_skops(model) / weights, 4),
        "save_cpu_s": round(save, 3),
        **{
            f"{p}_cpu_s": s
            for p, s in zip(parts, seconds.round(3).tolist(), strict=True)
        },
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-rows", type=int, default=500)
    parser.add_argument("--max-steps", type=int, default=20, help="sizes do not change")
    parser.add_argument("--repeats", type=int, default=5, help="processes that load")
    parser.add_argument("--out", default="out/persistence.csv", help="is replaced")
    arguments = parser.parse_args()
    print_environment()
    out = new_output(arguments)
    given = arguments.n_rows, arguments.max_steps, arguments.repeats
    rows = [measure(kind, *given) for kind in ("windows", "table")]
    write_rows(out, rows)
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
