"""How good are synthetic rows? Measures that need numpy and scikit-learn only.

Each measure returns its value beside what real data score against real data, because
a value alone says little: two groups of people differ too.

* :func:`c2st_auc`: can a classifier tell real from synthetic?
* :func:`train_on_synthetic`: does a classifier trained on synthetic rows work?
* :func:`log_psd_distance`: do the spectra agree?
* :func:`autocorrelation_distance`, :func:`cross_correlation_distance`: does a window
  depend on its past, and channel on channel, as real ones do?
* :func:`precision_recall`: do synthetic rows lie where real ones do, and everywhere
  they do (density and coverage as well)?
* :func:`frechet_distance`, :func:`mmd`: how far apart are the two clouds in a space of
  features, and is that more than chance?
* :func:`nearest_neighbour_copy`: are training rows being repeated?
* :func:`quality_report`: all of it, as a table.

Windows are 3-D ``(n_windows, n_channels, n_timesteps)``, tables 2-D
``(n_samples, n_features)``. A univariate series is ``X[:, np.newaxis, :]``.
"""

from skflowfm.metrics._copy import nearest_neighbour_copy
from skflowfm.metrics._dependence import (
    autocorrelation_distance,
    cross_correlation_distance,
)
from skflowfm.metrics._distribution import frechet_distance, mmd, precision_recall
from skflowfm.metrics._report import QualityReport, ReportLine, quality_report
from skflowfm.metrics._result import (
    CoverageResult,
    MetricResult,
    PermutationResult,
    TransferResult,
    TransferScore,
)
from skflowfm.metrics._spectrum import log_psd_distance
from skflowfm.metrics._transfer import train_on_synthetic
from skflowfm.metrics._two_sample import c2st_auc

__all__ = [
    "CoverageResult",
    "MetricResult",
    "PermutationResult",
    "QualityReport",
    "ReportLine",
    "TransferResult",
    "TransferScore",
    "autocorrelation_distance",
    "c2st_auc",
    "cross_correlation_distance",
    "frechet_distance",
    "log_psd_distance",
    "mmd",
    "nearest_neighbour_copy",
    "precision_recall",
    "quality_report",
    "train_on_synthetic",
]
