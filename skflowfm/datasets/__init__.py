"""Windows to learn from: simulated ones, and ones cut from your own recordings.

:func:`make_wearable` simulates labelled accelerometer windows of several people, so
that examples and tests need no download. :func:`sliding_windows` cuts a long
multichannel recording into windows. Both return windows in the layout that the
estimators take, ``(n_windows, n_channels, n_timesteps)`` in float32.
"""

from ._wearable import make_wearable
from ._windows import sliding_windows

__all__ = ["make_wearable", "sliding_windows"]
