"""How quick is a model as an ONNX file, against torch, on one thread?

Default models are fitted on simulated windows and on a table and written by `to_onnx`.
For each batch size three ways to the same numbers take turns: `transform`, the network
alone in torch (no checks of arrays), and onnxruntime. A ratio is that of torch to
onnxruntime in one turn; the table has the median over turns. Above 1 onnxruntime is
quicker. Milliseconds depend on the machine and its load, ratios much less. Needs the
extra `onnx`.

    OMP_NUM_THREADS=1 python benchmarks/latency.py
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import torch
from _common import new_output, print_environment, write_rows

from skflowfm import FlowFMTransformer
from skflowfm.datasets import make_wearable
from skflowfm.nets.portable import Encoder, GeneratorStep

N_TIMESTEPS, N_FEATURES = 300, 20
PARTS = {"encoder": Encoder, "generator_step": GeneratorStep}


def data_of(kind, n):
    """Simulated windows of 3 x 300, or rows of 20 correlated normal features."""
    if kind == "windows":
        X = make_wearable(n, n_timesteps=N_TIMESTEPS, random_state=0).X
    else:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(n, N_FEATURES)) @ rng.normal(size=(N_FEATURES, N_FEATURES))
    return X.astype(np.float32)


def session_of(path):
    """An onnxruntime session of one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )


def inputs_of(model, part, X):
    """Arrays to put in, in order."""
    if part == "encoder":
        return {"X": X}
    rng = np.random.default_rng(0)
    z = model.transform(X)
    shape = (*X.shape[:2], X.shape[2] + 2) if X.ndim == 3 else X.shape
    x_t = rng.standard_normal(shape, np.float32)
    return {"x_t": x_t, "t": np.full(len(X), 0.5, np.float32), "z": z}


def seconds(functions, turns, warm_up=3):
    """Wall seconds of each function in each turn, (turns, n_functions)."""
    out = []
    for _ in range(warm_up + turns):
        row = []
        for function in functions:
            start = time.perf_counter()
            function()
            row.append(time.perf_counter() - start)
        out.append(row)
    return np.array(out[warm_up:])


def measure(model, kind, part, n, turns, session, size):
    """One row of the table."""
    X = data_of(kind, n)
    given = inputs_of(model, part, X)
    piece = PARTS[part](model.module_).eval()
    tensors = [torch.from_numpy(value) for value in given.values()]

    def onnx():
        return session.run(None, given)

    def network():
        with torch.inference_mode():
            return piece(*tensors)

    def transform():
        return model.transform(X)

    ways = [onnx, network] + [transform] * (part == "encoder")
    spent = seconds(ways, turns)
    low, ratio, high = np.quantile(spent[:, 1] / spent[:, 0], [0.25, 0.5, 0.75])
    return {
        "data": kind,
        "part": part,
        "batch": n,
        "network_over_onnx": round(ratio, 2),
        "quartiles": f"{low:.2f}-{high:.2f}",
        "transform_over_onnx": round(float(np.median(spent[:, -1] / spent[:, 0])), 2)
        if part == "encoder"
        else np.nan,
        "onnx_ms": round(1e3 * float(np.median(spent[:, 0])), 3),
        "difference": float(
            max(
                np.abs(a - b.numpy()).max() / np.abs(b.numpy()).max()
                for a, b in zip(onnx(), network(), strict=True)
            )
        ),
        "file_mb": round(size / 1e6, 3),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-rows", type=int, default=500)
    parser.add_argument("--max-steps", type=int, default=20, help="speed is the same")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--turns", type=int, default=100, help="fewer at large batches")
    parser.add_argument("--out", default="out/latency.csv", help="is replaced")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_environment()
    print(f"onnxruntime {onnxruntime.__version__}")
    out, rows = new_output(options), []
    for kind in ("windows", "table"):
        model = FlowFMTransformer(max_steps=options.max_steps, random_state=0)
        model.fit(data_of(kind, options.n_rows))
        for part in PARTS:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                model.to_onnx(path, part=part)
                session, size = session_of(path), path.stat().st_size
            for n in options.batches:
                turns = max(10, options.turns // (1 + n // 8))
                row = measure(model, kind, part, n, turns, session, size)
                write_rows(out, [row])
                rows.append(row)
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
