"""Windows to learn from: simulated ones, published ones, ones cut from your recordings.

:func:`make_wearable` simulates labelled accelerometer windows of several people, so
that examples and tests need no download. The ``fetch_*`` functions download published
data sets of human activities, keep them in :func:`get_data_home` and cut them into
windows of 10 s at 30 Hz in g. :func:`sliding_windows` cuts a long multichannel
recording into windows, :func:`resample_windows` brings windows to another rate and
length. All return windows in the layout that the estimators take,
``(n_windows, n_channels, n_timesteps)`` in float32.
"""

from ._adl import fetch_adl
from ._download import get_data_home
from ._opportunity import fetch_opportunity
from ._pamap2 import fetch_pamap2
from ._realworld import fetch_realworld
from ._resampling import resample_windows
from ._wearable import make_wearable
from ._windows import sliding_windows
from ._wisdm import fetch_wisdm

__all__ = [
    "fetch_adl",
    "fetch_opportunity",
    "fetch_pamap2",
    "fetch_realworld",
    "fetch_wisdm",
    "get_data_home",
    "make_wearable",
    "resample_windows",
    "sliding_windows",
]
