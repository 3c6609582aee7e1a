"""One page that shows how synthetic rows differ from real ones."""

from textwrap import fill

import numpy as np

from ._pictures import (
    REAL,
    ROW_NAME_WIDTH,
    SYNTHETIC,
    _color,
    _name,
    _new_figure,
    _pick,
    check_rate,
)

REAL_COLOR, SYNTHETIC_COLOR = "#33658a", "#d1603d"
MAX_POINTS = 1000


def plot_quality(report, *, classes=None, sampling_rate=None):
    """Draw a quality report: rows side by side, spectra, clouds, recall.

    Parameters
    ----------
    report : QualityReport
        Of :func:`skflowfm.metrics.quality_report`.
    classes : sequence or dict of str, default=None
        Names: label k is shown as ``classes[k]``. None shows the labels themselves.
    sampling_rate : float, default=None
        In Hz, for axes in seconds and Hz. None counts steps.

    Returns
    -------
    figure : matplotlib.figure.Figure
        For windows: one real and one synthetic window of at most four classes; mean
        log power spectra; the first two principal axes of fixed features, those of the
        real rows; recall of each class after training on synthetic and on real rows,
        where the report has it. A table has the last two panels.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If ``report`` is not a report.

    Examples
    --------
    >>> import numpy as np
    >>> from skflowfm.metrics import quality_report
    >>> from skflowfm.plotting import plot_quality
    >>> X, X_new = np.random.default_rng(0).normal(size=(2, 40, 3, 50))
    >>> figure = plot_quality(quality_report(X, X_new, random_state=0))
    >>> [axis.get_title() for axis in figure.axes][-2:]
    ['Mean spectra', 'Fixed features']
    """
    check_rate(sampling_rate)
    if not all(hasattr(report, name) for name in ("lines", "recall", "X_real")):
        raise TypeError(
            "report must be the result of skflowfm.metrics.quality_report, got "
            f"{report!r}."
        )
    is_windows = report.X_real.ndim == 3
    n_panels = is_windows + 1 + bool(report.recall)
    labels = [None]
    if report.y_real is not None:
        labels = np.unique(report.y_real)[:4].tolist()
    n_rows = len(labels) if is_windows else 0
    figure = _new_figure((9.5, 3.6 + 1.2 * n_rows))
    parts = figure.subfigures(2, 1, height_ratios=[max(1.2 * n_rows, 0.01), 3.6])
    if is_windows:
        _draw_windows(parts[0], report, labels, classes, sampling_rate)
    panels = parts[1].subplots(1, n_panels, squeeze=False)[0]
    if is_windows:
        _draw_spectra(panels[0], report, sampling_rate)
    _draw_clouds(panels[int(is_windows)], report)
    if report.recall:
        _draw_recall(panels[-1], report, classes)
    return figure


def _draw_windows(part, report, labels, classes, sampling_rate):
    """One real and one synthetic window of each class, on shared axes."""
    n_channels, n_timesteps = report.X_real.shape[1:]
    time = np.arange(n_timesteps) / (sampling_rate or 1.0)
    grid = part.subplots(len(labels), 2, squeeze=False, sharex=True, sharey="row")
    sides = (report.X_real, report.y_real), (report.X_synthetic, report.y_synthetic)
    for label, row in zip(labels, grid, strict=True):
        name = _name(label, classes).replace("_", " ")
        row[0].set_ylabel(fill(name, ROW_NAME_WIDTH))
        for axis, (X, y) in zip(row, sides, strict=True):
            for window in _pick(X, y, label, 1):
                for c, values in enumerate(window):
                    axis.plot(time, values, color=_color(c, n_channels), linewidth=0.9)
    for axis, title in zip(grid[0], (REAL, SYNTHETIC), strict=True):
        axis.set_title(title)
    for axis in grid[-1]:
        axis.set_xlabel("time [s]" if sampling_rate else "time step")


def _draw_spectra(axis, report, sampling_rate):
    """Mean over windows and channels of the log power."""
    from ..metrics._features import power_floor, spectral_power

    n_timesteps = report.X_real.shape[-1]
    frequency = np.fft.rfftfreq(n_timesteps, 1 / (sampling_rate or 1.0))[1:]
    floor = power_floor(report.X_real, axis=(0, 2))[:, None]
    for X, name, color in _two_sides(report):
        power = np.log10(np.maximum(spectral_power(X), floor)).mean(axis=(0, 1))
        axis.plot(frequency, power, color=color, label=name)
    axis.set_title("Mean spectra")
    axis.set_xlabel("frequency [Hz]" if sampling_rate else "cycles a step")
    axis.set_ylabel("power, decades")
    axis.legend(frameon=False)


def _draw_clouds(axis, report):
    """Principal axes of the real rows' features, with both sides on them."""
    from ..metrics._features import representation_features, standardised

    rows = report.X_real, report.X_synthetic
    sides = standardised(*map(representation_features, rows))
    axes = np.linalg.svd(sides[0], full_matrices=False)[2][:2]
    for points, (_, name, color) in zip(sides, _two_sides(report), strict=True):
        shown = points[:: -(-len(points) // MAX_POINTS)] @ axes.T
        second = shown[:, 1] if shown.shape[1] > 1 else np.zeros(len(shown))
        axis.scatter(
            shown[:, 0], second, s=9, alpha=0.5, linewidths=0, color=color, label=name
        )
    axis.set_title("Fixed features")
    axis.set_xlabel("first principal axis")
    axis.set_ylabel("second")
    axis.legend(frameon=False, markerscale=2)


def _draw_recall(axis, report, classes):
    names = [_name(label, classes).replace("_", " ") for label in report.recall]
    at = np.arange(len(names))
    synthetic, real = np.array(list(report.recall.values())).T
    axis.barh(
        at - 0.2, real, 0.38, color=REAL_COLOR, label=f"trained on {REAL.lower()}"
    )
    said = f"on {SYNTHETIC.lower()}"
    axis.barh(at + 0.2, synthetic, 0.38, color=SYNTHETIC_COLOR, label=said)
    axis.set_yticks(at, names)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_title("Recall of each class")
    axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1))


def _two_sides(report):
    yield report.X_real, REAL, REAL_COLOR
    yield report.X_synthetic, SYNTHETIC, SYNTHETIC_COLOR
