"""What the measures return."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricResult:
    """One measure of synthetic data beside its real-against-real floor.

    Attributes
    ----------
    value : float
        The measure between real and synthetic rows.
    floor : float or None
        The same measure when real rows stand in for the synthetic ones. A perfect
        generator reaches the floor, not zero.
    interval : tuple of (float, float) or None
        95 % interval of `value`; the measure's documentation says how it is made.
    """

    value: float
    floor: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class PermutationResult(MetricResult):
    """A measure with a test of "both samples have one law".

    Attributes
    ----------
    p_value : float
        Share of random relabellings whose measure is at least as large, in (0, 1].
        Small: the laws differ. Large: this many rows could not show that they do.
    """

    p_value: float = 1.0


@dataclass(frozen=True)
class CoverageResult:
    """How synthetic rows lie among the real ones; each field is a MetricResult.

    Attributes
    ----------
    precision : MetricResult
        Share of synthetic rows that lie where real ones do.
    recall : MetricResult
        Share of real rows that lie where synthetic ones do.
    density : MetricResult
        As precision, weighted by how many real neighbourhoods hold the row; may exceed
        1. A real outlier raises it less.
    coverage : MetricResult
        Share of real rows with a synthetic one in their neighbourhood. Synthetic
        outliers raise it less than recall.
    """

    precision: MetricResult
    recall: MetricResult
    density: MetricResult
    coverage: MetricResult


@dataclass(frozen=True)
class TransferScore:
    """Macro-F1 on real test rows of one classifier trained on synthetic rows.

    Attributes
    ----------
    synthetic : float
        Macro-F1 after training on synthetic rows (TSTR).
    real : float or None
        Macro-F1 after training on real rows (TRTR), None without real rows.
    ratio : float or None
        ``synthetic / real``; 1 means that synthetic rows replace real ones. None where
        `real` is None or 0.
    interval : tuple of (float, float)
        95 % bootstrap interval of `synthetic` over the test rows.
    recall_synthetic : dict
        {class: share of its test rows that are recognised} after synthetic rows.
    recall_real : dict or None
        The same after real rows, None without them.
    """

    synthetic: float
    real: float | None
    ratio: float | None
    interval: tuple[float, float]
    recall_synthetic: dict
    recall_real: dict | None


@dataclass(frozen=True)
class TransferResult:
    """Scores of both classifiers of :func:`train_on_synthetic`.

    Attributes
    ----------
    logistic : TransferScore
        Logistic regression on standardised features.
    forest : TransferScore
        Random forest on the same features.
    """

    logistic: TransferScore
    forest: TransferScore
