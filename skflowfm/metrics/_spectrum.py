"""Do the spectra of real and synthetic windows agree?"""

import numpy as np

from skflowfm._checks import check_number
from skflowfm.metrics._checks import check_rows, private_generator
from skflowfm.metrics._features import (
    RELATIVE_POWER_FLOOR,
    power_floor,
    spectral_power,
)
from skflowfm.metrics._profile import profile_distance


def log_psd_distance(
    X_real, X_synthetic, *, min_power=RELATIVE_POWER_FLOOR, random_state=None
):
    """Distance between mean log power spectra, in decades.

    The mean over windows of log10 power (Hann window, each window's mean removed,
    zero frequency left out) is compared channel by channel and frequency by frequency;
    the result is the mean absolute difference. It sees what generators get wrong first,
    the noise floor at high frequencies, and what classifiers of activities ignore.

    Parameters
    ----------
    X_real, X_synthetic : array-like of shape (n_windows, n_channels, n_timesteps)
        In the same unit and at the same sampling rate. At least 4 real windows.
    min_power : float, default=1e-14
        Powers below this fraction of the mean square of the real channel count as this
        fraction, so that a window at rest (power 0) has a logarithm. The default is
        the squared resolution of float32. A larger value ignores more of the noise of
        windows at rest; 0 is not allowed.
    random_state : None, int, Generator or RandomState, default=None
        For the splits of the floor and for the bootstrap; `value` does not depend on
        it.

    Returns
    -------
    result : MetricResult
        `value` in decades: 0.3 is a factor of 2 in power on average. `floor` is the
        mean distance of 20 random splits of the real windows in halves, multiplied by
        ``sqrt((1 / n_real + 1 / n_synthetic) / (2 / n_half))``, which carries the
        sampling noise over to the sizes compared. `interval` is the spread of `value`
        over 200 bootstraps of the rows of both sides, moved so that its mean is
        `value` (resampling inflates an absolute difference); near the floor read the
        floor, not the interval.

    Raises
    ------
    ValueError
        If an input is not 3-D, not finite, or the rows differ in shape; if
        `min_power` is not positive.

    References
    ----------
    .. [1] P. Welch, "The use of fast Fourier transform for the estimation of power
       spectra", IEEE Trans. Audio Electroacoustics 15, 1967.

    Examples
    --------
    Ten times the amplitude is a hundred times the power, two decades:

    >>> import numpy as np
    >>> from skflowfm.metrics import log_psd_distance
    >>> X = np.random.default_rng(0).normal(size=(50, 3, 64))
    >>> round(log_psd_distance(X, 10 * X, random_state=0).value, 6)
    2.0
    """
    X_real = check_rows(X_real, "X_real", min_rows=4, windows=True)
    X_synthetic = check_rows(
        X_synthetic, "X_synthetic", like=("X_real", X_real), windows=True
    )
    if X_real.shape[-1] < 4:
        raise ValueError(
            f"A spectrum needs windows of at least 4 steps, got {X_real.shape[-1]}."
        )
    check_number("min_power", min_power, 0, above=True)
    rng = private_generator(random_state)
    floor_power = power_floor(X_real, axis=(0, 2), relative=min_power)[:, None]
    real, synthetic = (
        np.log10(np.maximum(spectral_power(X), floor_power)).reshape(len(X), -1)
        for X in (X_real, X_synthetic)
    )
    return profile_distance(real, synthetic, rng)
