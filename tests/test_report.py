"""The report holds what its measures say, and the page shows what the report holds."""

import io

import numpy as np
import pytest

from skflowfm.metrics import (
    c2st_auc,
    frechet_distance,
    log_psd_distance,
    nearest_neighbour_copy,
    quality_report,
    train_on_synthetic,
)
from skflowfm.plotting import plot_quality


def labelled(seed, n_per_class=20, factor=1.0):
    """Windows of two channels whose frequency tells the class."""
    rng = np.random.default_rng(seed)
    y = np.repeat(["fast", "slow"], n_per_class)
    frequency = np.where(y == "slow", 2, 6)[:, None, None]
    phase = rng.uniform(0, 2 * np.pi, size=(len(y), 2, 1))
    X = np.sin(2 * np.pi * frequency * np.arange(32) / 32 + phase)
    return factor * (X + 0.3 * rng.normal(size=X.shape)), y


@pytest.fixture(scope="module")
def data():
    (X, y), (X_new, y_new), (X_test, y_test) = map(labelled, range(3))
    y_new = np.where(np.arange(40) < 10, "slow", y_new)  # half of "fast" is mislabelled
    return X, X_new, y, y_new, X_test, y_test


@pytest.fixture(scope="module")
def report(data):
    X, X_new, y, y_new, X_test, y_test = data
    return quality_report(
        X, X_new, y, y_new, X_test=X_test, y_test=y_test, random_state=0
    )


def test_lines_are_what_the_measures_say(data, report):
    X, X_new, y, y_new, X_test, y_test = data
    seed = int(np.random.default_rng(0).integers(2**31))
    expected = {
        "told from real: AUC": c2st_auc(X, X_new, random_state=seed),
        "spectra: decades apart": log_psd_distance(X, X_new, random_state=seed),
        "Fréchet distance": frechet_distance(X, X_new, random_state=seed),
        "nearer to training than to test rows": nearest_neighbour_copy(
            X, X_new, X_test, random_state=seed
        ),
    }
    for name, result in expected.items():
        line = report[name]
        assert (line.value, line.reference) == (result.value, result.floor)
        assert line.interval == result.interval
    score = train_on_synthetic(
        X_new, y_new, X_test, y_test, X_train=X, y_train=y, random_state=seed
    ).forest
    line = report["trained on synthetic, forest: F1"]
    assert (line.value, line.reference) == (score.synthetic, score.real)


def test_recall_shows_which_class_was_spoilt(report):
    assert list(report.recall) == ["fast", "slow"]
    assert report.recall["fast"][1] == report.recall["slow"][0] == 1.0
    assert report.recall["fast"][0] < 0.9


def test_the_table_has_every_line_and_says_what_it_is_not(report):
    text = str(report)
    for line in report.lines:
        (row,) = [r for r in text.splitlines() if r.startswith(line.name + "  ")]
        assert f"{line.value:.3f}" in row
        assert row.endswith(line.better)
    assert "recall of class fast" in text
    assert "privacy" in text.splitlines()[-1]
    assert len({len(r) for r in text.splitlines()[1:5]}) <= 2


def test_without_test_rows_the_report_says_what_is_missing(data):
    X, X_new, *_ = data
    report = quality_report(X, X_new, random_state=0)
    assert "Without X_test" in str(report)
    assert not report.recall
    with pytest.raises(KeyError, match=r"no line 'nearer.*there are"):
        report["nearer to training than to test rows"]


def test_people_leave_no_p_value():
    """Rows of one person are not exchangeable: a test of rows rejects too often."""
    X, X_new = np.random.default_rng(0).normal(size=(2, 60, 3))
    groups = np.repeat(np.arange(12), 5)
    report = quality_report(X, X_new, groups_real=groups, random_state=0)
    assert not any("p-value" in line.name for line in report.lines)
    assert any("no p-value" in note for note in report.notes)
    report = quality_report(X, X_new, random_state=0)
    assert 0 < report["p-value of equal laws"].value <= 1


def test_a_table_is_measured_by_its_columns():
    X, X_new = np.random.default_rng(0).normal(size=(2, 60, 3))
    names = [line.name for line in quality_report(X, X_new, random_state=0).lines]
    assert "precision" in names
    assert not any("spectra" in n or "correlation" in n for n in names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_real": np.zeros(40)}, "both y_real and y_synthetic"),
        ({"y_test": np.zeros(40)}, "give X_test as well"),
        ({"X_test": np.ones((40, 2, 32)), "y_test": np.zeros(40)}, "labels to train"),
        ({"X_test": np.zeros((40, 2, 31))}, "rows of X_test must have the shape"),
        ({"X_synthetic": np.zeros((9, 2, 32))}, "X_synthetic must have at least 10"),
    ],
)
def test_errors_say_what_was_expected(data, change, message):
    arguments = {"X_real": data[0], "X_synthetic": data[1], **change}
    with pytest.raises(ValueError, match=message):
        quality_report(**arguments)


def test_labels_are_named_by_the_parameter_that_they_came_in(data):
    X_real, X_synthetic = data[:2]
    labels = np.arange(len(X_real)) % 2
    new = np.arange(len(X_synthetic)) % 2
    test = {"X_test": X_real, "y_test": labels}
    with pytest.raises(ValueError, match="y_real must hold at least two classes"):
        quality_report(X_real, X_synthetic, 0 * labels, new, **test)
    with pytest.raises(ValueError, match="y_synthetic must have classes of y_real"):
        quality_report(X_real, X_synthetic, labels, new.astype(str))
    with pytest.raises(ValueError, match="y_real must have classes of y_test"):
        quality_report(X_real, X_synthetic, labels + 7, new + 7, **test)


# --------------------------------------------------------------------- the page
def panels(figure):
    figure.savefig(io.BytesIO(), format="png")
    return {axis.get_title(): axis for axis in figure.axes if axis.get_title()}


def test_the_page_shows_recall_spectra_and_both_clouds(data, report):
    shown = panels(plot_quality(report, sampling_rate=16))
    real, synthetic = shown["Recall of each class"].containers
    assert [bar.get_width() for bar in synthetic] == [
        r[0] for r in report.recall.values()
    ]
    assert [bar.get_width() for bar in real] == [r[1] for r in report.recall.values()]
    for line in shown["Mean spectra"].lines:
        frequency, power = line.get_data()
        assert frequency[np.argsort(power)[-2:]].tolist() in ([1, 3], [3, 1])
        assert frequency[-1] == 8
    clouds = shown["Fixed features"].collections
    assert [len(c.get_offsets()) for c in clouds] == [40, 40]
    assert np.abs(clouds[0].get_offsets().mean(axis=0)).max() < 1e-6


def test_the_page_shows_a_window_of_each_class_and_side(data, report):
    X, X_new, y, y_new, *_ = data
    figure = plot_quality(report)
    windows = figure.axes[:4]
    sides = [(X, y), (X_new, y_new)] * 2
    for axis, (rows, labels), label in zip(
        windows, sides, ["fast", "fast", "slow", "slow"], strict=True
    ):
        drawn = np.array([line.get_ydata() for line in axis.lines])
        assert any(np.array_equal(drawn, row) for row in rows[labels == label])


def test_the_page_of_a_table_has_its_cloud_alone():
    X, X_new = np.random.default_rng(0).normal(size=(2, 60, 3))
    figure = plot_quality(quality_report(X, X_new, random_state=0))
    assert list(panels(figure)) == ["Fixed features"]


def test_what_is_no_report_is_refused():
    with pytest.raises(TypeError, match=r"result of skflowfm\.metrics\.quality_report"):
        plot_quality({"lines": []})


def test_what_labels_would_have_measured_is_noted():
    X = np.random.default_rng(0).normal(size=(120, 3))
    report = quality_report(X[:60], X[:60] + 0.1, X_test=X[60:], random_state=0)
    assert any("usefulness is not measured" in note for note in report.notes)
