"""Shared by the benchmark scripts: windows in, rows out, the machine on record."""

import csv
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from sklearn.utils import Bunch

PACKAGES = (
    "skflowfm",
    "numpy",
    "pandas",
    "scikit-learn",
    "skorch",
    "torch",
    "aeon",
    "numba",
)
N_BANDS = 10
PERCENTILES = (5, 10, 25, 50, 75, 90, 95)
CHUNK = 1024  # windows per block, so that float64 copies stay small

PER_SIGNAL = (
    "mean",
    "std",
    "min",
    "max",
    *(f"p{p:02d}" for p in PERCENTILES),
    "mean_abs_diff",
    "zero_crossings",
    "energy",
    "dominant_frequency",
    "spectral_entropy",
    *(f"log_band_{k}" for k in range(N_BANDS)),
)


# ------------------------------------------------------------------------ windows
def load_windows(path):
    """Read one `.npz` file of labelled windows.

    Parameters
    ----------
    path : str or Path
        File with at least `X` (n_windows, n_channels, n_timesteps), `y`, `groups`
        and `classes`.

    Returns
    -------
    Bunch
        `X` float32, `y` int64 codes into `classes`, `groups`, `classes`, `channels`,
        `sampling_rate` (Hz, NaN if the file has none) and `name` (the file's stem).

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is absent, lacks a key, or its arrays do not fit together.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a data file, found nothing at {path}")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except (ValueError, OSError, EOFError, AttributeError, BadZipFile) as error:
        raise ValueError(f"{path.name} is no npz file of plain arrays") from error
    if missing := {"X", "y", "groups", "classes"} - set(arrays):
        raise ValueError(f"{path.name} lacks the arrays {sorted(missing)}")
    X = arrays["X"].astype(np.float32)
    y, groups = arrays["y"].astype(np.int64), arrays["groups"]
    if X.ndim != 3 or not len(X) == len(y) == len(groups):
        raise ValueError(
            f"{path.name}: expected X (n, channels, time) with n labels and n groups, "
            f"got X {X.shape}, y {y.shape}, groups {groups.shape}"
        )
    if not np.isfinite(X).all():
        raise ValueError(f"{path.name}: X holds NaN or infinite values; clean it first")
    return Bunch(
        X=X,
        y=y,
        groups=groups,
        classes=arrays["classes"],
        channels=arrays.get("channels"),
        sampling_rate=float(arrays.get("sampling_rate", np.nan)),
        name=path.stem,
    )


def subsample(data, max_windows, random_state=0):
    """At most `max_windows` windows of `data`, drawn without replacement.

    The name of the result says so, lest its scores be taken for those of the whole.
    """
    if max_windows is None or len(data.X) <= max_windows:
        return data
    rng = np.random.default_rng(random_state)
    rows = np.sort(rng.choice(len(data.X), size=max_windows, replace=False))
    kept = {key: data[key][rows] for key in ("X", "y", "groups")}
    name = f"{data.name}[{max_windows} windows]"
    return Bunch(**{**data, **kept, "name": name})


# ------------------------------------------------------------------ the experiment
def leave_out_the_field():
    """Skip the part of `fit` in which only the velocity field goes on learning.

    The encoder is fixed by then: what depends on it alone is the same to the bit
    (tests/test_benchmarks_common.py), in half the time or less. Do not measure time so.
    """
    from skflowfm import _training

    _training.train_jointly = _training.train


def environment():
    """What a number depends on besides the code: versions, processor, threads."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "python": platform.python_version(),
        **packages,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": _available_cores(),
        "torch_threads": torch.get_num_threads(),
        "accelerator": _accelerator(),
        "commit": _commit(),
    }


def print_environment():
    """Print `environment()` on one line, to stand above every table."""
    known = {key: value for key, value in environment().items() if value is not None}
    print(" | ".join(f"{key} {value}" for key, value in known.items()), flush=True)


def new_output(options):
    """Return the path ``options.out``, emptied; arguments and versions stand beside."""
    out = Path(options.out)
    if out.suffix == ".json":
        sys.exit(
            f"--out: {out} is where the settings go; give a file that ends in .csv"
        )
    out.unlink(missing_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    about = {"arguments": vars(options), "environment": environment()}
    out.with_suffix(".json").write_text(json.dumps(about, indent=1))
    return out


def data_sets(paths, max_windows):
    """Yield the data of these files; say which are not there."""
    for path in paths:
        try:
            yield subsample(load_windows(path), max_windows)
        except FileNotFoundError as error:
            print(f"{Path(path).stem} skipped: {error}", flush=True)


def write_rows(path, rows):
    """Append `rows`, a list of dicts with the same keys, to a CSV file.

    The header is written when the file is new or empty. A file whose header names
    other columns is refused.
    """
    rows = list(rows)
    if not rows:
        return
    path, columns = Path(path), list(rows[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists() or path.stat().st_size == 0
    if not is_new:
        with path.open(newline="") as file:
            header = next(csv.reader(file))
        if header != columns:
            raise ValueError(f"{path.name} has columns {header}, the rows {columns}")
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def _available_cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _cpu_model():
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _accelerator():
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _commit():
    here = Path(__file__).parent

    def git(*arguments):
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        commit = git("rev-parse", "--short", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
        return commit + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


# -------------------------------------------------------------- hand-made features
def statistics_feature_names(n_channels):
    """Names of the columns of `statistics_features` for `n_channels` channels."""
    signals = [f"ch{c}" for c in range(n_channels)] + ["norm"]
    names = [f"{signal}_{feature}" for signal in signals for feature in PER_SIGNAL]
    pairs = list(zip(*np.triu_indices(n_channels, k=1), strict=True))
    for kind in ("covariance", "correlation"):
        names += [f"{kind}_ch{i}_ch{j}" for i, j in pairs]
    return names


def statistics_features(X):
    """Hand-made features of each window, the classical baseline.

    Parameters
    ----------
    X : array of shape (n_windows, n_channels, n_timesteps)
        Finite windows of at least 8 time steps.

    Returns
    -------
    ndarray of shape (n_windows, 26 (n_channels + 1) + n_channels (n_channels - 1))
        Float64, finite. For each channel and for the Euclidean norm over channels:
        moments, extremes and percentiles, mean absolute difference, zero crossings of
        the centred signal per step, energy, dominant frequency (cycles per step),
        spectral entropy in [0, 1] and the base-10 logarithm of the power in
        `N_BANDS` bands of equal width on a logarithmic frequency axis; then the
        covariance and correlation of each pair of channels.
    """
    X = np.asarray(X)
    if X.ndim != 3 or X.shape[2] < 8:
        raise ValueError(
            "expected windows (n_windows, n_channels, n_timesteps >= 8), "
            f"got shape {X.shape}"
        )
    if not np.isfinite(X).all():
        raise ValueError("expected finite windows, got NaN or infinity; clean X first")
    blocks = [_statistics(X[i : i + CHUNK]) for i in range(0, len(X), CHUNK)]
    width = len(statistics_feature_names(X.shape[1]))
    return np.concatenate(blocks) if blocks else np.empty((0, width))


def _statistics(X):
    X = X.astype(np.float64)
    norm = np.linalg.norm(X, axis=1, keepdims=True)
    signals = np.concatenate([X, norm], axis=1)
    per_signal = np.concatenate([_amplitude(signals), _spectrum(signals)], axis=2)
    return np.concatenate([per_signal.reshape(len(X), -1), _pairs(X)], axis=1)


def _centred(signals):
    """Signals minus their mean; exactly 0 where only rounding noise is left."""
    centred = signals - signals.mean(axis=2, keepdims=True)
    scale = np.abs(signals).max(axis=2, keepdims=True)
    flat = centred.std(axis=2, keepdims=True) <= 1e-9 * scale
    return np.where(flat, 0.0, centred)


def _amplitude(signals):
    centred = _centred(signals)
    crossings = np.diff(np.signbit(centred), axis=2).mean(axis=2)
    columns = [
        signals.mean(axis=2),
        centred.std(axis=2),
        signals.min(axis=2),
        signals.max(axis=2),
        *np.percentile(signals, PERCENTILES, axis=2),
        np.abs(np.diff(signals, axis=2)).mean(axis=2),
        crossings,
        (signals**2).mean(axis=2),
    ]
    return np.stack(columns, axis=2)


def _spectrum(signals):
    n_timesteps = signals.shape[2]
    amplitude = np.fft.rfft(_centred(signals), axis=2)[:, :, 1:] / n_timesteps
    power = np.abs(amplitude) ** 2
    n_bins = power.shape[2]
    total = power.sum(axis=2, keepdims=True)
    share = np.divide(power, total, out=np.zeros_like(power), where=total > 0)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    entropy = -(share * logs).sum(axis=2) / np.log(n_bins)
    dominant = (power.argmax(axis=2) + 1) / n_timesteps
    dominant = np.where(total[:, :, 0] > 0, dominant, 0.0)
    bins = np.arange(1, n_bins + 1)
    band = (N_BANDS * np.log(bins) / np.log(n_bins + 1)).astype(int)
    in_band = np.eye(N_BANDS)[band]
    bands = np.log10(power @ in_band + 1e-12)
    return np.concatenate([np.stack([dominant, entropy], axis=2), bands], axis=2)


def _pairs(X):
    centred = _centred(X)
    covariance = centred @ centred.transpose(0, 2, 1) / X.shape[2]
    std = centred.std(axis=2)
    scale = std[:, :, None] * std[:, None, :]
    correlation = np.divide(
        covariance, scale, out=np.zeros_like(covariance), where=scale > 0
    )
    i, j = np.triu_indices(X.shape[1], k=1)
    return np.concatenate([covariance[:, i, j], correlation[:, i, j]], axis=1)
