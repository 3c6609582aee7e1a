"""PAMAP2: sports and household activities with three inertial units (UCI, 2012)."""

import re
from functools import partial

import numpy as np
from scipy.constants import g

from ._fetch import Options, Selection, Source, check_subset, fetch
from ._recordings import Recording
from ._tables import read_numbers

_N_COLUMNS = 54
_TIME, _ACTIVITY, _ACCELERATION = 0, 1, [4, 5, 6]  # hand, the +-16 g sensor
_ACTIVITIES = {
    1: "lying",
    2: "sitting",
    3: "standing",
    4: "walking",
    5: "running",
    6: "cycling",
    7: "nordic_walking",
    9: "watching_tv",
    10: "computer_work",
    11: "car_driving",
    12: "ascending_stairs",
    13: "descending_stairs",
    16: "vacuum_cleaning",
    17: "ironing",
    18: "folding_laundry",
    19: "house_cleaning",
    20: "playing_soccer",
    24: "rope_jumping",
}
_BENCHMARK_ACTIVITIES = (1, 2, 3, 4, 12, 13, 16, 17)
_BENCHMARK_PEOPLE = range(101, 109)

SOURCE = Source(
    name="pamap2",
    title="PAMAP2 Physical Activity Monitoring",
    about="Wrist of the dominant arm (hand IMU, +-16 g), 100 Hz, protocol and optional "
    "recordings.",
    page="https://archive.ics.uci.edu/dataset/231",
    licence="CC BY 4.0, as far as known; the page has the last word.",
    reference="A. Reiss, D. Stricker, 'Introducing a new benchmarked dataset for "
    "activity monitoring', ISWC 2012, 108-109.",
    url="https://archive.ics.uci.edu/static/public/231/"
    "pamap2+physical+activity+monitoring.zip",
    archive="PAMAP2_Dataset.zip",
    unpacked="PAMAP2_Dataset",
    pattern=re.compile(r"(?:^|/)((?:Protocol|Optional)/subject(10\d)\.dat)$"),
    example="Protocol/subject101.dat",
    rate=100.0,
)


def fetch_pamap2(
    *,
    data_home=None,
    subset="benchmark",
    step=150,
    max_gap=0.5,
    download_if_missing=True,
    verbose=True,
    return_X_y=False,
):
    """Load the PAMAP2 data set: daily and sports activities, sensor on the wrist.

    Nine people and 18 activities; the benchmark of [2]_ keeps the eight activities that
    eight of them did. The archive (about 650 MB) is downloaded once and kept in
    ``data_home``; it holds 1.6 GB of text, which takes a minute or so to read.

    A window takes the activity that fills at least half of it; time between activities
    (code 0) is no activity. The 100 Hz pass a low-pass filter before they become 30 Hz.
    The benchmark leaves lost samples out and joins what is left, here a window
    never holds a longer gap than ``max_gap``.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder of the data sets. This one is looked for in its folder ``pamap2``, as
        ``PAMAP2_Dataset.zip`` or unpacked. None: see :func:`get_data_home`.
    subset : {"benchmark", "all"}, default="benchmark"
        Eight activities of the people 101 to 108, or all 18 activities of all nine.
    step : int, default=150
        From one window's start to the next, in samples at 30 Hz, at least 1. 150 is
        half a window, as in the benchmark; 300 puts windows side by side.
    max_gap : float, default=0.5
        Missing samples are interpolated up to this time, in s, at least 0. At
        longer gaps the recording is cut; 0 bridges none.
    download_if_missing : bool, default=True
        If False, raise an error instead of downloading.
    verbose : bool, default=True
        Whether to report the progress of a download on the standard error stream.
    return_X_y : bool, default=False
        If True, return the tuple ``(X, y, groups)`` in place of a Bunch.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch` or tuple
        X : float32 array of shape (n_windows, 3, 300)
            Acceleration with gravity, in g, not clipped; 10 s at 30 Hz.
        y : int64 array of shape (n_windows,)
            Index into ``classes``.
        groups : int64 array of shape (n_windows,)
            The person, from 101 to 109.
        recording : array of str of shape (n_windows,)
            The file. Windows of one file may overlap.
        start : float64 array of shape (n_windows,)
            Time of the first sample in its recording, in s.
        classes, target_names : arrays of str
            The activities.
        channels : array of str
            Names of the axes.
        sampling_rate : float
            30, in Hz.
        DESCR : str
            Description, source, licence and reference.

    Raises
    ------
    OSError
        If the data are missing and cannot be downloaded, or an archive is damaged or
        has another checksum than before. The message says which file belongs where.
    TypeError, ValueError
        If a parameter is out of its range, or a file does not have the format.

    Warns
    -----
    UserWarning
        If there is no window of a selected person.

    References
    ----------
    .. [1] A. Reiss, D. Stricker, "Introducing a new benchmarked dataset for activity
       monitoring", ISWC 2012, 108-109. https://archive.ics.uci.edu/dataset/231
    .. [2] H. Yuan et al., "Self-supervised learning for human activity recognition
       using 700,000 person-days of wearable data", npj Digital Medicine 7, 91 (2024).

    Examples
    --------
    >>> from skflowfm.datasets import fetch_pamap2
    >>> data = fetch_pamap2()  # doctest: +SKIP
    >>> len(data.classes), data.X.shape[1:]  # doctest: +SKIP
    (8, (3, 300))
    """
    check_subset(subset)
    codes, people = _ACTIVITIES, range(101, 110)
    if subset == "benchmark":
        codes, people = _BENCHMARK_ACTIVITIES, _BENCHMARK_PEOPLE
    selection = Selection(
        {code: _ACTIVITIES[code] for code in codes},
        {person: f"subject{person}" for person in people},
    )
    options = Options(
        step, max_gap, data_home, download_if_missing, verbose, return_X_y
    )
    return fetch(SOURCE, partial(_parse, people=people), selection, options)


def _parse(member, people):
    name, person = member.key
    if int(person) not in people:
        return
    table = read_numbers(member, _N_COLUMNS, [_TIME, _ACTIVITY, *_ACCELERATION])
    labels = table[:, 1]
    yield Recording(
        int(person),
        name,
        table[:, 0],
        table[:, 2:] / g,
        np.where(labels == 0, np.nan, labels),
    )
