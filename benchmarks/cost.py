"""What do fit and transform cost as the windows get more?

For each number of windows a process of its own writes a float16 file of random windows,
opens it as a memmap, fits `FlowFMTransformer` at its default budget and transforms some
of the windows; MiniRocket (extra `bench`), where installed, transforms the same ones
on as many threads. Times are CPU seconds of the process, memory is its peak.

    python benchmarks/cost.py --n-windows 1000 10000 100000
    python benchmarks/cost.py --n-windows 1000 --shape 60 1000
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _common import print_environment, write_rows

from skflowfm import FlowFMTransformer
from skflowfm._sizes import fewer
from skflowfm.datasets import make_wearable

N_TRANSFORMED = 1000


def write_windows(path, n, shape):
    """Store ``n`` simulated windows as float16: shifted copies of 2,000.

    Channels beyond three are the first three again, shifted too.
    """
    n_channels, n_timesteps = shape
    base = make_wearable(min(n, 2000), n_timesteps=n_timesteps, random_state=0).X
    stored = np.lib.format.open_memmap(path, "w+", np.float16, (n, *shape))
    rng, channel = np.random.default_rng(0), np.arange(n_channels) % 3
    for start in range(0, n, len(base)):
        part = stored[start : start + len(base)]
        shifts = rng.normal(0, 0.02, (len(part), n_channels, 1))
        part[:] = base[: len(part), channel] + shifts
    stored.flush()


def peak_gigabytes():
    """Peak resident memory of this process, the file's mapped pages included.

    On Linux the usage of resources counts what the parent had when it forked, too.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def seconds_of(function, *arguments):
    """CPU seconds and wall seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    function(*arguments)
    return time.process_time() - cpu, time.perf_counter() - wall


def measure(path, max_steps):
    """Costs of one fit on the windows of a file, as a dict."""
    X = np.load(path, mmap_mode="r")
    model = FlowFMTransformer(max_steps=max_steps, random_state=0)
    imported = peak_gigabytes()
    fit_cpu, fit_wall = seconds_of(model.fit, X)
    peak = peak_gigabytes()
    n_transformed = fewer(N_TRANSFORMED, X.shape[1:], 50)
    some = np.asarray(X[:n_transformed], dtype=np.float32)
    ours, _ = seconds_of(model.transform, some)
    try:
        from aeon.transformations.collection.convolution_based import MiniRocket

        rocket = MiniRocket(n_jobs=torch.get_num_threads(), random_state=0)
        rocket.fit(some).transform(some[:8])  # compiles, so that the timing does not
        rival, _ = seconds_of(rocket.transform, some)
    except ModuleNotFoundError:
        rival = float("nan")
    return {
        "n_windows": len(X),
        "n_channels": X.shape[1],
        "n_timesteps": X.shape[2],
        "steps": model.n_steps_,
        "fit_cpu_s": round(fit_cpu, 1),
        "fit_wall_s": round(fit_wall, 1),
        "peak_gb": round(peak, 2),
        "of_imports_gb": round(imported, 2),
        "transform_ms": round(1e3 * ours / len(some), 3),
        "minirocket_ms": round(1e3 * rival / len(some), 3),
        "throughput_ratio": round(rival / ours, 3),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-windows", nargs="+", type=int, default=[1000, 10_000])
    parser.add_argument(
        "--shape", nargs=2, type=int, default=[3, 300], metavar=("CHANNELS", "STEPS")
    )
    parser.add_argument("--max-steps", type=int, help="the default depends on n")
    parser.add_argument("--out", default="out/cost.csv", help="replaced if it exists")
    parser.add_argument("--file", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.file:
        print(json.dumps(measure(arguments.file, arguments.max_steps)))
        return
    print_environment()
    out = Path(arguments.out)
    out.unlink(missing_ok=True)
    rows = []
    for n in arguments.n_windows:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "windows.npy"
            write_windows(path, n, arguments.shape)
            command = [sys.executable, __file__, "--file", str(path)]
            if arguments.max_steps is not None:
                command += ["--max-steps", str(arguments.max_steps)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        write_rows(out, rows[-1:])
        print(pd.DataFrame(rows[-1:]).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
