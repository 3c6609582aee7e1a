"""All measures of synthetic rows at once, as a table."""

from dataclasses import dataclass

import numpy as np

from skflowfm.metrics._checks import (
    check_classes,
    check_rows,
    check_same_classes,
    check_same_columns,
    check_several,
    private_generator,
)
from skflowfm.metrics._copy import note_on_shared, share_of_copies
from skflowfm.metrics._dependence import (
    autocorrelation_distance,
    cross_correlation_distance,
)
from skflowfm.metrics._distribution import frechet_distance, mmd, precision_recall
from skflowfm.metrics._spectrum import log_psd_distance
from skflowfm.metrics._transfer import REMEDY, train_on_synthetic
from skflowfm.metrics._two_sample import c2st_auc

NOTE = "None of this is a privacy guarantee: rows that pass may still reveal people."
NO_TEST_LABELS = "Without y_test: usefulness is not measured."
NO_TEST = "Without X_test: usefulness and copies are not measured."
NO_P_VALUE = (
    "Rows of one person are not independent: there is no p-value, and of the intervals "
    "only the AUC's allows for it."
)
WIDTH = 38


@dataclass(frozen=True)
class ReportLine:
    """One measure of a report.

    Attributes
    ----------
    name : str
        What is measured.
    value : float
        Of the synthetic rows.
    interval : tuple of (float, float) or None
        95 % interval of `value`.
    reference : float or None
        What real rows reach in the place of the synthetic ones.
    better : str
        Where good values lie.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    reference: float | None
    better: str


@dataclass(frozen=True, repr=False)
class QualityReport:
    """What :func:`quality_report` found.

    Shows as a table; draw it with :func:`skflowfm.plotting.plot_quality`.

    Attributes
    ----------
    lines : list of ReportLine
        The measures, in the order of the table.
    recall : dict
        Class to its recall on the test rows, of forests trained on synthetic and on
        real rows; empty without labels or test rows.
    notes : list of str
        What was not measured, and what the table does not say.
    X_real, X_synthetic, y_real, y_synthetic : ndarray or None
        The rows compared, for the picture.
    """

    lines: list[ReportLine]
    recall: dict
    notes: list[str]
    X_real: np.ndarray
    X_synthetic: np.ndarray
    y_real: np.ndarray | None
    y_synthetic: np.ndarray | None

    def __getitem__(self, name) -> ReportLine:
        """Return the line of that name."""
        for line in self.lines:
            if line.name == name:
                return line
        names = [line.name for line in self.lines]
        raise KeyError(f"no line {name!r}; there are {names}")

    def __str__(self) -> str:
        head = (
            f"{'':{WIDTH}} {'synthetic':>9} {'95 % interval':>17} {'real':>7}  better"
        )
        rows = [head]
        for line in self.lines:
            interval, reference = "", ""
            if line.interval is not None:
                interval = "[{:.3f}, {:.3f}]".format(*line.interval)
            if line.reference is not None:
                reference = f"{line.reference:.3f}"
            rows.append(
                f"{line.name:{WIDTH}} {line.value:9.3f} {interval:>17} "
                f"{reference:>7}  {line.better}"
            )
        for label, (synthetic, real) in self.recall.items():
            name = f"recall of class {label}"
            rows.append(f"{name:{WIDTH}} {synthetic:9.3f} {'':17} {real:7.3f}  higher")
        return "\n".join(rows + self.notes)

    __repr__ = __str__  # a notebook shows the table


def quality_report(
    X_real,
    X_synthetic,
    y_real=None,
    y_synthetic=None,
    *,
    X_test=None,
    y_test=None,
    groups_real=None,
    random_state=None,
):
    """Measure synthetic rows in all the ways of this module.

    Every measure stands beside what real rows reach in the same place. Which of them
    matters depends on the use: a set for training classifiers needs usefulness, a set
    that people look at needs spectra.

    Parameters
    ----------
    X_real : array-like of shape (n, n_channels, n_timesteps) or (n, n_features)
        Real rows, those that the generator was fitted on. At least 20.
    X_synthetic : array-like with rows of the same shape
        At least 10 rows.
    y_real, y_synthetic : array-like of shape (n,), default=None
        Labels, both or none.
    X_test : array-like with rows of the same shape, default=None
        Real rows that the generator has not seen, of other people where there are
        people. Usefulness and copying are measured with these only.
    y_test : array-like of shape (n_test,), default=None
        Their labels, for the usefulness.
    groups_real : array-like of shape (n_real,), default=None
        Subject of each real row, for :func:`c2st_auc`. The other measures take rows for
        independent, which those of a person are not: there is no p-value then.
    random_state : None, int, Generator or RandomState, default=None
        Seeds every measure.

    Returns
    -------
    report : QualityReport
        ``print(report)`` shows the table.

    Raises
    ------
    ValueError
        If rows differ in shape, are too few or not finite; if labels are given for one
        side only, or test labels without test rows or labels to train on.

    Examples
    --------
    >>> import numpy as np
    >>> from skflowfm.metrics import quality_report
    >>> X, X_new = np.random.default_rng(0).normal(size=(2, 200, 3))
    >>> report = quality_report(X, 2 * X_new, random_state=0)
    >>> report["told from real: AUC"].value > 0.65
    True
    """
    check_same_columns(X_real=X_real, X_synthetic=X_synthetic, X_test=X_test)
    X_real = check_rows(X_real, "X_real", min_rows=20)
    like = ("X_real", X_real)
    X_synthetic = check_rows(X_synthetic, "X_synthetic", like=like, min_rows=10)
    if (y_real is None) != (y_synthetic is None):
        raise ValueError("Give both y_real and y_synthetic, or none of them.")
    if y_test is not None and X_test is None:
        raise ValueError("y_test needs the rows it labels: give X_test as well.")
    if y_test is not None and y_real is None:
        raise ValueError("y_test needs labels to train on: y_real and y_synthetic.")
    if y_real is not None:
        y_real = check_classes(y_real, "y_real", X_real, "X_real")
        y_synthetic = check_classes(
            y_synthetic, "y_synthetic", X_synthetic, "X_synthetic"
        )
        check_same_classes(y_real=y_real, y_synthetic=y_synthetic)
    seed = int(private_generator(random_state).integers(2**31))
    lines = _likeness(X_real, X_synthetic, groups_real, seed)
    notes, recall = [NOTE], {}
    if groups_real is not None:
        notes.insert(0, NO_P_VALUE)
    if X_test is None:
        notes.insert(0, NO_TEST)
    else:
        X_test = check_rows(X_test, "X_test", like=like)
        lines.append(_copies(X_real, X_synthetic, X_test, seed))
        if y_test is None:
            notes.insert(0, NO_TEST_LABELS)
        if note := note_on_shared(X_real, X_test, "X_real", "X_test"):
            notes.insert(0, note)
        if y_real is not None and y_test is not None:
            y_test = check_classes(y_test, "y_test", X_test, "X_test")
            check_same_classes(y_test=y_test, y_real=y_real, y_synthetic=y_synthetic)
            check_several(y_real, "y_real", REMEDY["train"])
            real, synthetic = (X_real, y_real), (X_synthetic, y_synthetic)
            useful, recall = _usefulness(real, synthetic, (X_test, y_test), seed)
            lines += useful
    return QualityReport(lines, recall, notes, X_real, X_synthetic, y_real, y_synthetic)


def _line(name, result, better):
    return ReportLine(name, result.value, result.interval, result.floor, better)


def _likeness(X_real, X_synthetic, groups_real, seed):
    """Measures that need no labels and no test rows."""
    pair = X_real, X_synthetic
    auc = c2st_auc(*pair, groups_real=groups_real, random_state=seed)
    lines = [_line("told from real: AUC", auc, "0.5")]
    if X_real.ndim == 3 and X_real.shape[-1] >= 4:
        spectra = log_psd_distance(*pair, random_state=seed)
        past = autocorrelation_distance(*pair, random_state=seed)
        lines.append(_line("spectra: decades apart", spectra, "lower"))
        lines.append(_line("autocorrelation: apart", past, "lower"))
    if X_real.ndim == 3 and X_real.shape[1] > 1:
        channels = cross_correlation_distance(*pair, random_state=seed)
        lines.append(_line("correlation of channels: apart", channels, "lower"))
    lines.append(
        _line("Fréchet distance", frechet_distance(*pair, random_state=seed), "lower")
    )
    test = mmd(*pair, random_state=seed)
    lines.append(_line("squared MMD", test, "lower"))
    if groups_real is None:
        lines.append(
            ReportLine("p-value of equal laws", test.p_value, None, None, "higher")
        )
    shares = precision_recall(*pair, random_state=seed)
    for name in ("precision", "recall", "density", "coverage"):
        lines.append(_line(name, getattr(shares, name), "higher"))
    return lines


def _copies(X_real, X_synthetic, X_test, seed):
    result = share_of_copies(X_real, X_synthetic, X_test, seed)
    return _line("nearer to training than to test rows", result, "0.5")


def _usefulness(real, synthetic, test, seed):
    """Return lines of F1, and {class: (recall after synthetic rows, after real rows)}.

    Classifiers are trained on one side and tested on the other; recall is the forest's.
    """
    there = train_on_synthetic(
        *synthetic, *test, X_train=real[0], y_train=real[1], random_state=seed
    )
    back = train_on_synthetic(*real, *synthetic, random_state=seed)
    lines = []
    for name in ("logistic", "forest"):
        score = getattr(there, name)
        said = f"trained on synthetic, {name}: F1"
        lines.append(
            ReportLine(said, score.synthetic, score.interval, score.real, "higher")
        )
    score = back.forest
    said = "trained on real, on synthetic: F1"
    lines.append(
        ReportLine(said, score.synthetic, score.interval, there.forest.real, "real's")
    )
    after_synthetic, after_real = (
        there.forest.recall_synthetic,
        there.forest.recall_real,
    )
    return lines, {c: (after_synthetic[c], after_real[c]) for c in after_real}
