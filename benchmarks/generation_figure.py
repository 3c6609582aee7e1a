"""Real beside synthetic windows of each class, and their mean spectra."""

import numpy as np


def draw_figure(path, data, split, name, X, y):
    """Save, per class, a real and a synthetic window, and both mean spectra."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    labels = list(split.counts)
    size = (11, 1.7 * len(labels) + 0.8)
    figure, axes = plt.subplots(len(labels), 3, figsize=size, squeeze=False)
    rng = np.random.default_rng(0)
    seconds = np.arange(X.shape[-1]) / data.sampling_rate
    for row, label in zip(axes, labels, strict=True):
        pair = split.X[split.y == label], X[y == label]
        windows = [rows[rng.integers(len(rows))] for rows in pair]
        low, high = np.min(windows), np.max(windows)
        for axis, window in zip(row, windows, strict=False):
            axis.plot(seconds, window.T, linewidth=0.8)
            axis.set_ylim(low - 0.1 * (high - low) - 0.01, high + 0.1 * (high - low))
        for rows, style in zip(pair, ("k-", "r-"), strict=True):
            frequency, power = mean_log_power(rows, data.sampling_rate)
            row[2].plot(frequency, power, style, linewidth=1)
        row[0].set_ylabel(str(data.classes[label]).replace("_", "\n"), fontsize=8)
    titles = ("real", name, "mean log10 power: real black, synthetic red")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    for axis, unit in zip(axes[-1], ("s", "s", "Hz"), strict=True):
        axis.set_xlabel(unit)
    figure.suptitle(data.name, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def mean_log_power(X, sampling_rate):
    """Frequencies and log10 power, averaged over windows and channels."""
    centred = (X - X.mean(axis=-1, keepdims=True)) * np.hanning(X.shape[-1])
    power = np.abs(np.fft.rfft(centred, axis=-1)[..., 1:]) ** 2 + 1e-12
    frequency = np.fft.rfftfreq(X.shape[-1], 1 / sampling_rate)[1:]
    return frequency, np.log10(power).mean(axis=(0, 1))
