"""How good are synthetic rows? Measures that need numpy and scikit-learn only.

Each measure returns its value beside what real data score against real data, because
a value alone says little: two groups of people differ too.

* :func:`c2st_auc`: can a classifier tell real from synthetic?
* :func:`train_on_synthetic`: does a classifier trained on synthetic rows work?
* :func:`log_psd_distance`: do the spectra agree?
* :func:`nearest_neighbour_copy`: are training rows being repeated?

Windows are 3-D ``(n_windows, n_channels, n_timesteps)``, tables 2-D
``(n_samples, n_features)``. A univariate series is ``X[:, np.newaxis, :]``.
"""

from skflowfm.metrics._copy import nearest_neighbour_copy
from skflowfm.metrics._result import MetricResult, TransferResult, TransferScore
from skflowfm.metrics._spectrum import log_psd_distance
from skflowfm.metrics._transfer import train_on_synthetic
from skflowfm.metrics._two_sample import c2st_auc

__all__ = [
    "MetricResult",
    "TransferResult",
    "TransferScore",
    "c2st_auc",
    "log_psd_distance",
    "nearest_neighbour_copy",
    "train_on_synthetic",
]
