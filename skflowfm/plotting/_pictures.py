"""Pictures of windows and of representations."""

from collections.abc import Mapping
from numbers import Integral
from textwrap import fill

import numpy as np
from sklearn.utils import check_scalar

from skflowfm._checks import check_number, check_present, off_torch

REAL, SYNTHETIC = "Real", "Synthetic"
SYNTHETIC_BACKGROUND = "#f6f1e7"
MAX_COLORS = 10  # of the palette that is easier to tell apart
ROW_NAME_WIDTH = 12  # characters that fit beside one row of windows
NAMES_IN_A_ROW = 6  # of channels, below windows
NAMES_IN_A_COLUMN = 18  # of classes, beside points
LINE = 0.2  # inches that a line of a legend takes


def plot_windows(
    X_real,
    X_synthetic,
    y_real=None,
    y_synthetic=None,
    *,
    classes=None,
    channels=None,
    sampling_rate=None,
    n_per_class=2,
):
    """Draw real windows on the left and synthetic ones on the right, class by class.

    The windows shown are spread evenly over the rows of their class, the first one
    included, so nothing is picked by hand. All windows of a class share one y axis:
    a wrong level or amplitude shows at once. Classes have axes of their own, else
    running would flatten resting.

    Parameters
    ----------
    X_real, X_synthetic : array-like of shape (n_windows, n_channels, n_timesteps)
        Windows in the same unit, with equal numbers of channels and steps.
    y_real, y_synthetic : array-like of shape (n_windows,), default=None
        Labels, both or none. One row of the figure per label in either. Without
        labels there is one row.
    classes : sequence or dict of str, default=None
        Names: label k is shown as ``classes[k]``. None shows the labels themselves.
    channels : sequence of str, default=None
        Names of the channels for the legend. None counts them from 0.
    sampling_rate : float, default=None
        In Hz, for a time axis in seconds. None counts time steps.
    n_per_class : int, default=2
        Windows shown per class and side; fewer where a class has fewer.

    Returns
    -------
    figure : matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If the windows are not 3-D or differ in shape, or labels do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from skflowfm.plotting import plot_windows
    >>> X = np.random.default_rng(0).normal(size=(8, 3, 50))
    >>> y = np.repeat(["rest", "walk"], 4)
    >>> figure = plot_windows(X, X + 0.1, y, y, n_per_class=2)
    >>> [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    ['rest', 'walk']
    """
    check_scalar(n_per_class, "n_per_class", Integral, min_val=1)
    X_real, y_real = _windows(X_real, y_real, "real")
    X_synthetic, y_synthetic = _windows(X_synthetic, y_synthetic, "synthetic")
    _check_pair(X_real, X_synthetic, y_real, y_synthetic)
    n_channels, n_timesteps = X_real.shape[1:]
    names = _channel_names(channels, n_channels)
    time, unit = np.arange(n_timesteps), "time step"
    check_rate(sampling_rate)
    if sampling_rate is not None:
        time, unit = time / sampling_rate, "time [s]"
    labels = _labels(y_real, y_synthetic)
    columns = min(n_channels, NAMES_IN_A_ROW)
    figure, grid = _window_grid(len(labels), n_per_class, -(-n_channels // columns))
    for label, row in zip(labels, grid, strict=True):
        row[0].set_ylabel(fill(_name(label, classes).replace("_", " "), ROW_NAME_WIDTH))
        left = _pick(X_real, y_real, label, n_per_class)
        right = _pick(X_synthetic, y_synthetic, label, n_per_class)
        _draw_row(row, (left, right), time, n_per_class)
    grid[0][0].set_xlim(time[0], max(time[-1], time[0] + 1e-9))
    for axis in grid[-1]:
        axis.set_xlabel(unit)
    figure.legend(
        handles=_channel_handles(n_channels),
        labels=names,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )
    return figure


def plot_representation(
    Z,
    y=None,
    *,
    Z_synthetic=None,
    y_synthetic=None,
    classes=None,
    components=(0, 1),
):
    """Draw two components of a representation as points, one colour per class.

    :meth:`FlowFMTransformer.transform` returns components in the order of their
    variance, rotated to principal axes. So the first two are the flat picture that
    loses least variance, and no other method needs to be fitted. Classes that overlap
    here may still lie apart in the components that are not shown.

    Parameters
    ----------
    Z : array-like of shape (n, n_components)
        Representations, at least two rows.
    y : array-like of shape (n,), default=None
        Labels, for the colours.
    Z_synthetic : array-like of shape (n_synthetic, n_components), default=None
        Representations of synthetic rows, at least two, drawn in a second panel on the
        same axes.
    y_synthetic : array-like of shape (n_synthetic,), default=None
        Their labels; needed where both `y` and `Z_synthetic` are given.
    classes : sequence or dict of str, default=None
        Names: label k is shown as ``classes[k]``. None shows the labels themselves.
    components : tuple of two int, default=(0, 1)
        Columns of `Z` on the horizontal and the vertical axis.

    Returns
    -------
    figure : matplotlib.figure.Figure
        Each axis label says how much of the variance of `Z` its component holds.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If shapes, labels or `components` do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from skflowfm.plotting import plot_representation
    >>> Z = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> figure = plot_representation(Z, ["a", "a", "b", "b"])
    >>> figure.axes[0].get_xlabel()
    'component 0 (90 % of the variance)'
    """
    parts = [(REAL, *_points(Z, y, "Z", "y"))]
    n_components = parts[0][1].shape[1]
    components = _check_pair_of_components(components, n_components)
    if y_synthetic is not None and Z_synthetic is None:
        raise ValueError("y_synthetic needs the rows it labels: give Z_synthetic.")
    if Z_synthetic is not None:
        points = _points(Z_synthetic, y_synthetic, "Z_synthetic", "y_synthetic")
        if points[0].shape[1] != n_components:
            raise ValueError(
                f"Z_synthetic must have the {n_components} components of Z, got "
                f"Z_synthetic.shape={points[0].shape}."
            )
        parts.append((SYNTHETIC, *points))
    _check_labelled_alike([labels for _, _, labels in parts], "y", "y_synthetic")
    labels = _labels(*(labels for _, _, labels in parts))
    names = [_name(label, classes) for label in labels]
    columns = -(-len(names) // NAMES_IN_A_COLUMN)
    figure, panels = _panels(len(parts), columns * max(map(len, names)), columns)
    for axis, (title, points, codes) in zip(panels, parts, strict=True):
        if len(parts) > 1:
            axis.set_title(title)
        _draw_points(axis, points[:, components], codes, labels, names)
    _label_components(panels, parts[0][1], components)
    if labels[0] is not None:
        figure.legend(
            handles=panels[0].collections[:],  # names may begin with an underscore
            labels=names,
            loc="outside right upper",
            ncols=columns,
            frameon=False,
            markerscale=2,
        )
    return figure


def _new_figure(size):
    """Return an empty figure that pyplot does not know of."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Pictures need matplotlib, which is not installed. Install it with "
            'pip install "skflowfm[plot]".'
        ) from error
    return Figure(figsize=size, layout="constrained")


def _color(k, n):
    from matplotlib import colormaps

    if n > 2 * MAX_COLORS:  # else two would share one
        return colormaps["turbo"](k / (n - 1))
    return colormaps["tab10" if n <= MAX_COLORS else "tab20"](k)


def _windows(X, y, suffix):
    """Return windows and their labels (None without) as checked arrays."""
    X = np.asarray(off_torch(X))
    if X.ndim != 3 or not len(X):
        raise ValueError(
            f"X_{suffix} must be 3-D windows (n_windows, n_channels, n_timesteps), at "
            f"least one, got X_{suffix}.shape={X.shape}. A univariate series is "
            f"X_{suffix}[:, np.newaxis, :]."
        )
    return X, _labels_of(X, y, f"y_{suffix}")


def _labels_of(rows, y, name):
    """Return the labels of ``rows`` as a checked array, or None."""
    if y is None:
        return None
    y = np.asarray(off_torch(y))
    if y.shape != (len(rows),):
        raise ValueError(
            f"{name} must have one entry per row, shape ({len(rows)},), got shape "
            f"{y.shape}."
        )
    check_present(name, y)
    return y


def _check_pair(X_real, X_synthetic, y_real, y_synthetic):
    if X_real.shape[1:] != X_synthetic.shape[1:]:
        raise ValueError(
            f"X_synthetic must have windows of shape {X_real.shape[1:]} like X_real, "
            f"got {X_synthetic.shape[1:]}."
        )
    _check_labelled_alike([y_real, y_synthetic], "y_real", "y_synthetic")


def _check_labelled_alike(sides, *names):
    if len({side is None for side in sides}) > 1:
        given, absent = names if sides[1] is None else names[::-1]
        raise ValueError(
            f"Give labels for both sides or for none: got {given} without {absent}."
        )


def _check_pair_of_components(components, n_components):
    known = range(n_components)
    pair = np.ndim(components) == 1 and len(components) == 2
    if not pair or not all(k in known for k in components):
        raise ValueError(
            "components must be two column numbers of Z, from 0 to "
            f"{n_components - 1}, got components={components!r}."
        )
    return [int(k) for k in components]


def check_rate(sampling_rate):
    """Raise unless a sampling rate is a number above 0 or None."""
    if sampling_rate is not None:
        check_number("sampling_rate", sampling_rate, 0, above=True)


def _channel_names(channels, n_channels):
    if channels is None:
        return [f"channel {k}" for k in range(n_channels)]
    if len(channels) != n_channels:
        raise ValueError(
            f"channels must name the {n_channels} channels of the windows, got "
            f"{len(channels)}: {list(channels)}."
        )
    return [str(name) for name in channels]


def _labels(*sides):
    """Return the sorted labels of all sides; [None] where there are none."""
    if sides[0] is None:
        return [None]
    try:
        if len({isinstance(label, str) for side in sides for label in side}) > 1:
            raise TypeError("texts beside others")
        return np.unique(np.concatenate(sides)).tolist()
    except TypeError as error:
        raise ValueError(
            f"Labels must be of one kind, all numbers or all texts, got {error}."
        ) from None


def _name(label, classes):
    if label is None or classes is None:
        return "" if label is None else str(label)
    try:
        if not isinstance(classes, Mapping) and label < 0:
            raise IndexError("names are counted from 0")
        return str(classes[label])
    except (IndexError, KeyError, TypeError):
        raise ValueError(
            f"classes must name every label, got no name for label {label!r} in "
            f"{classes!r}. Leave it out to show the labels themselves."
        ) from None


def _window_grid(n_rows, n_per_class, n_lines):
    """Return a figure, with room for a legend, and its axes: real, a gap, synthetic."""
    n_columns = 2 * n_per_class
    size = (min(2.2 * n_columns + 1, 16), 1.25 * n_rows + 0.8 + LINE * n_lines)
    figure = _new_figure(size)
    ratios = [1] * n_per_class + [0.05] + [1] * n_per_class
    cells = figure.add_gridspec(n_rows, n_columns + 1, width_ratios=ratios)
    grid = []
    for r in range(n_rows):
        row = []
        for c in range(n_columns):
            axis = figure.add_subplot(
                cells[r, c + (c >= n_per_class)],
                sharex=figure.axes[0] if figure.axes else None,
                sharey=row[0] if row else None,
            )
            axis.tick_params(labelbottom=r == n_rows - 1, labelleft=c == 0)
            if c >= n_per_class:
                axis.set_facecolor(SYNTHETIC_BACKGROUND)
            if r == 0:
                axis.set_title(REAL if c < n_per_class else SYNTHETIC)
            row.append(axis)
        grid.append(row)
    return figure, grid


def _pick(X, y, label, n):
    """Return at most ``n`` windows of a class, spread evenly over its rows."""
    rows = np.arange(len(X)) if y is None else np.flatnonzero(y == label)
    if len(rows) > n:
        rows = rows[np.arange(n) * len(rows) // n]
    return X[rows]


def _draw_row(axes, sides, time, n_per_class):
    """Draw the windows of one class; an axis without a window says so."""
    shown = np.concatenate(sides)
    n_channels = shown.shape[1]
    for side, windows in enumerate(sides):
        for k in range(n_per_class):
            axis = axes[side * n_per_class + k]
            if k >= len(windows):
                axis.text(0.5, 0.5, "none", transform=axis.transAxes, ha="center")
                continue
            for c, values in enumerate(windows[k]):
                axis.plot(time, values, color=_color(c, n_channels), linewidth=0.9)


def _channel_handles(n_channels):
    from matplotlib.lines import Line2D

    return [Line2D([], [], color=_color(c, n_channels)) for c in range(n_channels)]


def _points(Z, y, name, y_name):
    """Return representations and their labels (None without) as checked arrays."""
    Z = np.asarray(off_torch(Z))
    if Z.ndim != 2 or len(Z) < 2 or Z.shape[1] < 2:
        raise ValueError(
            f"{name} must be representations (n, n_components), at least two rows and "
            f"two components, got {name}.shape={Z.shape}."
        )
    if not np.isfinite(Z).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity.")
    return Z, _labels_of(Z, y, y_name)


def _panels(n, n_letters, n_columns):
    """Return a figure, with room for a legend, and its ``n`` panels on shared axes."""
    legend_width = 0.4 + 0.4 * n_columns + 0.09 * n_letters
    figure = _new_figure((4.6 * n + legend_width, 4.4))
    first = figure.add_subplot(1, n, 1)
    panels = [first]
    for k in range(1, n):
        panel = figure.add_subplot(1, n, k + 1, sharex=first, sharey=first)
        panel.tick_params(labelleft=False)
        panel.set_facecolor(SYNTHETIC_BACKGROUND)
        panels.append(panel)
    return figure, panels


def _draw_points(axis, points, y, labels, names):
    for k, (label, name) in enumerate(zip(labels, names, strict=True)):
        chosen = points if label is None else points[y == label]
        axis.scatter(
            *chosen.T,
            s=9,
            alpha=0.6,
            linewidths=0,
            color=_color(k, len(labels)),
            label=name,
        )


def _label_components(panels, Z, components):
    """Name the components shown and say what share of the variance they hold."""
    variance = Z.astype(np.float64).var(axis=0)
    share = variance / (variance.sum() or 1.0)
    horizontal, vertical = (
        f"component {k} ({100 * share[k]:.0f} % of the variance)" for k in components
    )
    for panel in panels:
        panel.set_xlabel(horizontal)
    panels[0].set_ylabel(vertical)
