"""Pictures: what is drawn is the data, named and placed as asked."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from skflowfm.plotting import plot_representation, plot_windows


@pytest.fixture
def windows():
    """Real and synthetic windows of three classes; every value is different."""
    rng = np.random.default_rng(0)
    y_real = np.array([2, 0, 1, 2, 0, 2, 1, 0, 2])
    y_synthetic = np.array([1, 1, 0, 2, 2])
    X_real = rng.normal(size=(9, 3, 20)) * (1 + 10 * y_real)[:, None, None]
    X_synthetic = rng.normal(size=(5, 3, 20)) * (1 + 10 * y_synthetic)[:, None, None]
    return X_real, X_synthetic, y_real, y_synthetic


def rows_of(figure, n_columns):
    """Axes by row, in the order in which they stand from left to right."""
    axes = figure.axes
    assert len(axes) % n_columns == 0
    return [axes[i : i + n_columns] for i in range(0, len(axes), n_columns)]


def drawn(axis):
    """The window on an axis, an array (n_channels, n_timesteps)."""
    return np.array([line.get_ydata() for line in axis.lines])


def texts_of_legend(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def rendered(figure):
    figure.savefig(io.BytesIO(), format="png")
    return figure


def test_each_axis_shows_a_window_of_its_class_and_side(windows):
    X_real, X_synthetic, y_real, y_synthetic = windows
    figure = rendered(plot_windows(*windows, n_per_class=2))
    for label, row in enumerate(rows_of(figure, 4)):
        sides = [(X_real, y_real)] * 2 + [(X_synthetic, y_synthetic)] * 2
        for axis, (X, y) in zip(row, sides, strict=True):
            if axis.lines:
                here = [np.array_equal(drawn(axis), x) for x in X[y == label]]
                assert sum(here) == 1


def test_windows_are_spread_over_the_class_and_start_with_its_first(windows):
    X_real, _, y_real, _ = windows
    row = rows_of(plot_windows(*windows, n_per_class=2), 4)[2]
    of_class = X_real[y_real == 2]  # four windows
    np.testing.assert_array_equal(drawn(row[0]), of_class[0])
    np.testing.assert_array_equal(drawn(row[1]), of_class[2])


def test_sides_are_titled_and_left_is_real(windows):
    rows = rows_of(plot_windows(*windows, n_per_class=2), 4)
    titles = [axis.get_title() for axis in rows[0]]
    assert titles == ["Real", "Real", "Synthetic", "Synthetic"]
    np.testing.assert_array_equal(drawn(rows[0][2]), windows[1][2])


def test_an_axis_without_a_window_says_so_and_keeps_the_class_name(windows):
    X_real, X_synthetic, y_real, y_synthetic = windows
    keep = y_real != 1
    figure = plot_windows(X_real[keep], X_synthetic, y_real[keep], y_synthetic)
    row = rows_of(figure, 4)[1]
    assert row[0].get_ylabel() == "1"
    for axis in row[:2]:
        assert not axis.lines
        assert [text.get_text() for text in axis.texts] == ["none"]
    assert all(axis.lines for axis in row[2:])


def test_y_axis_is_shared_within_a_class_and_holds_all_of_its_windows(windows):
    rows = rows_of(rendered(plot_windows(*windows, n_per_class=2)), 4)
    for row in rows:
        (limits,) = {axis.get_ylim() for axis in row}
        values = np.concatenate([drawn(axis).ravel() for axis in row if axis.lines])
        assert limits[0] <= values.min() < values.max() <= limits[1]
    # Class 2 is wider by a factor of 21: one scale for all would hide class 0.
    assert np.ptp(rows[2][0].get_ylim()) > 5 * np.ptp(rows[0][0].get_ylim())


def test_time_is_in_seconds_where_the_rate_is_known(windows):
    with_rate = plot_windows(*windows, sampling_rate=5.0).axes
    np.testing.assert_allclose(with_rate[0].lines[0].get_xdata(), np.arange(20) / 5)
    assert with_rate[-1].get_xlabel() == "time [s]"
    assert {axis.get_xlim() for axis in with_rate} == {(0, 3.8)}
    without = plot_windows(*windows).axes
    np.testing.assert_array_equal(without[0].lines[0].get_xdata(), np.arange(20))
    assert without[-1].get_xlabel() == "time step"


@pytest.mark.parametrize("rate", [0, -5, "a", float("nan")])
def test_a_sampling_rate_is_above_zero(rate):
    X = np.zeros((4, 1, 8))
    with pytest.raises(ValueError, match="sampling_rate must be a number in"):
        plot_windows(X, X, sampling_rate=rate)


@pytest.mark.parametrize("classes", [["rest", "walk", "run"], None])
def test_rows_are_named_by_class(windows, classes):
    rows = rows_of(plot_windows(*windows, classes=classes, n_per_class=1), 2)
    expected = ["0", "1", "2"] if classes is None else classes
    assert [row[0].get_ylabel() for row in rows] == expected


def test_long_names_are_wrapped(windows):
    names = {0: "walking_upstairs", 1: "rest", 2: "cycling on an ergometer"}
    rows = rows_of(plot_windows(*windows, classes=names, n_per_class=1), 2)
    shown = [row[0].get_ylabel() for row in rows]
    assert shown == ["walking\nupstairs", "rest", "cycling on\nan ergometer"]


def test_text_labels_need_no_names(windows):
    X_real, X_synthetic, y_real, y_synthetic = windows
    names = np.array(["walk", "rest", "run"])
    figure = plot_windows(
        X_real, X_synthetic, names[y_real], names[y_synthetic], n_per_class=1
    )
    rows = rows_of(figure, 2)
    assert [row[0].get_ylabel() for row in rows] == ["rest", "run", "walk"]
    np.testing.assert_array_equal(drawn(rows[1][0]), X_real[y_real == 2][0])


def test_legend_colours_are_those_of_the_channels(windows):
    figure = plot_windows(*windows, channels=["x", "y", "z"])
    assert texts_of_legend(figure) == ["x", "y", "z"]
    handles = figure.legends[0].get_lines()
    for axis in figure.axes:
        for line, handle in zip(axis.lines, handles, strict=bool(axis.lines)):
            assert line.get_color() == handle.get_color()
    assert len({handle.get_color() for handle in handles}) == 3
    assert texts_of_legend(plot_windows(*windows))[0] == "channel 0"


def test_windows_without_labels_are_one_row(windows):
    X_real, X_synthetic, *_ = windows
    figure = rendered(plot_windows(X_real, X_synthetic, n_per_class=3))
    (row,) = rows_of(figure, 6)
    for axis, window in zip(
        row, [*X_real[[0, 3, 6]], *X_synthetic[[0, 1, 3]]], strict=True
    ):
        np.testing.assert_array_equal(drawn(axis), window)
    assert row[0].get_ylabel() == ""


def test_the_arrays_are_not_written_to(windows):
    before = [array.copy() for array in windows]
    for array in windows:
        array.setflags(write=False)
    rendered(plot_windows(*windows))
    for array, copy in zip(windows, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X_real": np.zeros((4, 20))}, r"X_real must be 3-D windows .*\(4, 20\)"),
        ({"X_synthetic": np.zeros((5, 3, 21))}, r"shape \(3, 20\).*got \(3, 21\)"),
        ({"X_synthetic": np.zeros((0, 3, 20))}, "at least one"),
        ({"y_real": None}, "got y_synthetic without y_real"),
        ({"y_synthetic": None}, "got y_real without y_synthetic"),
        ({"y_real": np.zeros(3)}, r"y_real must have one entry per row"),
        ({"classes": ["a", "b"]}, "no name for label 2"),
        ({"channels": ["x"]}, "name the 3 channels"),
        ({"n_per_class": 0}, "n_per_class == 0, must be >= 1"),
    ],
)
def test_windows_that_do_not_fit_are_rejected(windows, change, message):
    names = ("X_real", "X_synthetic", "y_real", "y_synthetic")
    arguments = dict(zip(names, windows, strict=True)) | change
    with pytest.raises(ValueError, match=message):
        plot_windows(**arguments)


# ------------------------------------------------------------------ representation
@pytest.fixture
def points():
    rng = np.random.default_rng(1)
    return rng.normal(size=(30, 4)) * [4, 3, 2, 1], np.repeat([0, 1, 2], 10)


def offsets(axis):
    """The points of an axis, class by class, as {legend label: (n, 2) array}."""
    return {part.get_label(): part.get_offsets().data for part in axis.collections}


def test_points_are_the_first_two_components_of_their_class(points):
    Z, y = points
    figure = rendered(plot_representation(Z, y, classes=["rest", "walk", "run"]))
    (axis,) = figure.axes
    by_class = offsets(axis)
    assert texts_of_legend(figure) == list(by_class) == ["rest", "walk", "run"]
    for label, name in enumerate(by_class):
        np.testing.assert_array_equal(by_class[name], Z[y == label, :2])


def test_other_components_can_be_asked_for(points):
    Z, _ = points
    figure = plot_representation(Z, components=(3, 1))
    (axis,) = figure.axes
    np.testing.assert_array_equal(axis.collections[0].get_offsets(), Z[:, [3, 1]])
    assert axis.get_xlabel().startswith("component 3 ")
    assert axis.get_ylabel().startswith("component 1 ")
    assert not figure.legends


def test_axes_say_what_share_of_the_variance_they_hold():
    Z = np.array([[4, 0, 0], [-4, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 0]], float)
    axis = plot_representation(Z).axes[0]
    assert axis.get_xlabel() == "component 0 (80 % of the variance)"
    assert axis.get_ylabel() == "component 1 (20 % of the variance)"
    shifted = plot_representation(Z + 100).axes[0]
    assert shifted.get_xlabel() == axis.get_xlabel()


def test_synthetic_points_stand_beside_in_the_same_colours_and_limits(points):
    Z, y = points
    Z_new, y_new = 3 * Z[:15] + 1, y[:15]  # the last class is absent
    figure = rendered(plot_representation(Z, y, Z_synthetic=Z_new, y_synthetic=y_new))
    real, synthetic = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["Real", "Synthetic"]
    assert real.get_xlim() == synthetic.get_xlim()
    assert real.get_ylim() == synthetic.get_ylim()
    np.testing.assert_array_equal(offsets(synthetic)["1"], Z_new[y_new == 1, :2])
    assert len(offsets(synthetic)["2"]) == 0
    for one, other in zip(real.collections, synthetic.collections, strict=True):
        np.testing.assert_array_equal(one.get_facecolor(), other.get_facecolor())


@pytest.mark.parametrize("n_classes", [3, 15])
def test_classes_have_colours_of_their_own(n_classes):
    Z = np.arange(2.0 * n_classes).reshape(n_classes, 2)
    axis = plot_representation(Z, np.arange(n_classes)).axes[0]
    colours = {tuple(part.get_facecolor()[0]) for part in axis.collections}
    assert len(colours) == n_classes


def test_a_constant_representation_can_be_drawn():
    figure = rendered(plot_representation(np.zeros((5, 3))))
    assert "(0 % of the variance)" in figure.axes[0].get_xlabel()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Z": np.zeros((30, 4, 2))}, r"Z must be representations .*\(30, 4, 2\)"),
        ({"Z": np.zeros((30, 1))}, "two components"),
        ({"y": np.zeros(4)}, "y must have one entry per row"),
        ({"Z_synthetic": np.zeros((5, 3))}, "the 4 components of Z"),
        ({"Z_synthetic": np.zeros((5, 4))}, "got y without y_synthetic"),
        ({"components": (0, 4)}, "from 0 to 3"),
        ({"components": (0, 1, 2)}, "two column numbers"),
    ],
)
def test_representations_that_do_not_fit_are_rejected(points, change, message):
    Z, y = points
    with pytest.raises(ValueError, match=message):
        plot_representation(**({"Z": Z, "y": y} | change))


# ---------------------------------------------------------------------- matplotlib
ISOLATION = """
import sys
import skflowfm.plotting as plotting
assert not [name for name in sys.modules if name.startswith("matplotlib")]
import numpy as np
import matplotlib
def settings():  # reading the backend would choose one
    return {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != "backend"}
before = settings()
X, out = np.zeros((2, 1, 5)), sys.stdout.buffer
plotting.plot_windows(X, X + 1).savefig(out)
plotting.plot_representation(np.eye(3)).savefig(out)
assert settings() == before
assert not isinstance(matplotlib.rcParams._get("backend"), str)
assert "matplotlib.pyplot" not in sys.modules
"""


def test_matplotlib_is_imported_late_and_its_global_state_is_left_alone():
    command = [sys.executable, "-W", "error", "-c", ISOLATION]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "plot",
    [
        lambda: plot_windows(np.zeros((2, 1, 5)), np.zeros((2, 1, 5))),
        lambda: plot_representation(np.eye(3)),
    ],
)
def test_without_matplotlib_the_error_names_the_extra(monkeypatch, plot):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "skflowfm\[plot\]"'):
        plot()


def test_names_are_counted_from_zero():
    X, y = np.zeros((4, 1, 9)), np.array([-1, -1, 1, 1])
    with pytest.raises(ValueError, match="no name for label -1"):
        plot_windows(X, X, y, y, classes=["rest", "fall"])
    figure = plot_windows(X, X, y, y, classes={-1: "rest", 1: "fall"})
    assert [a.get_ylabel() for a in figure.axes if a.get_ylabel()] == ["rest", "fall"]


@pytest.mark.parametrize("n", [9, 20, 31])
def test_every_class_has_a_colour_of_its_own(n):
    figure = plot_representation(np.eye(n + 2)[:n], np.arange(n))
    colours = [tuple(c.get_facecolor()[0]) for c in figure.axes[0].collections]
    assert len(set(colours)) == n


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((["a", None], ["a", "b"]), "y_real must have no missing value"),
        (([0.0, np.nan], [0.0, 1.0]), "y_real must have no missing value"),
        (([0, 1], ["0", "1"]), "Labels must be of one kind"),
    ],
)
def test_labels_must_be_there_and_of_one_kind(labels, message):
    X = np.zeros((2, 1, 9))
    with pytest.raises(ValueError, match=message):
        plot_windows(X, X, *labels)


def test_labels_in_other_containers_are_the_same():
    X, y = np.zeros((4, 1, 9)), np.array(list("aabb"))
    for other in (y.astype(object), list(y), pd.Series(y)):
        figure = plot_windows(X, X, y, other)
        assert [a.get_ylabel() for a in figure.axes if a.get_ylabel()] == ["a", "b"]


def test_what_a_picture_cannot_show_is_refused():
    with pytest.raises(ValueError, match="components must be two column numbers"):
        plot_representation(np.eye(4), components=1)
    with pytest.raises(ValueError, match="y_synthetic needs the rows it labels"):
        plot_representation(np.eye(4), y_synthetic=[0, 0, 1, 1])


@pytest.mark.parametrize("n", [48, 100])
def test_many_channels_leave_room_for_the_windows(n):
    X = np.random.default_rng(0).normal(size=(4, n, 20))
    figure = plot_windows(X, X)  # a warning is an error here
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    panels = [axis.get_window_extent() for axis in figure.axes]
    assert min(panel.height for panel in panels) > 0.5 * figure.dpi
    assert legend.y1 < min(panel.y0 for panel in panels)


def test_all_of_many_classes_are_named_within_the_picture():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(50), 2)
    figure = plot_representation(
        rng.normal(size=(100, 2)), y, classes=[f"_class {k}" for k in range(50)]
    )
    figure.draw_without_rendering()
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [
        f"_class {k}" for k in range(50)
    ]
    frame, whole = legend.get_window_extent(), figure.bbox
    assert frame.y0 >= 0
    assert frame.x1 <= whole.width
    assert figure.axes[0].get_window_extent().x1 < frame.x0
    colours = [handle.get_facecolor() for handle in legend.legend_handles]
    drawn = [points.get_facecolor() for points in figure.axes[0].collections]
    np.testing.assert_allclose(np.concatenate(colours), np.concatenate(drawn))
