"""ADL: activities of daily living, wrist-worn accelerometer (UCI, 2014)."""

import hashlib
import re

import numpy as np

from ._fetch import Options, Selection, Source, check_subset, fetch
from ._recordings import Recording
from ._tables import GET_AGAIN, read_numbers

_RATE = 32.0
_VOLUNTEERS = [f"f{i}" for i in range(1, 6)] + [f"m{i}" for i in range(1, 12)]
_ACTIVITIES = (
    "brush_teeth climb_stairs comb_hair descend_stairs drink_glass eat_meat eat_soup "
    "getup_bed liedown_bed pour_water sitdown_chair standup_chair use_telephone walk"
).split()
_BENCHMARK_ACTIVITIES = "climb_stairs drink_glass getup_bed pour_water walk".split()
_BENCHMARK_VOLUNTEERS = "f1 f2 f3 m1 m2 m3 m4".split()

SOURCE = Source(
    name="adl",
    title="ADL Recognition with Wrist-worn Accelerometer (HMP data set)",
    about="Right wrist, 32 Hz, recorded as 6-bit counts of -1.5 to 1.5 g.",
    page="https://archive.ics.uci.edu/dataset/283",
    licence="the README in the archive allows use and modification for one's own "
    "research; commercial use and redistribution have to be arranged with the authors.",
    reference="B. Bruno, F. Mastrogiovanni, A. Sgorbissa, T. Vernazza, R. Zaccaria, "
    "'Analysis of human behavior recognition algorithms based on acceleration data', "
    "ICRA 2013, 1602-1607.",
    url="https://archive.ics.uci.edu/static/public/283/"
    "dataset+for+adl+recognition+with+wrist+worn+accelerometer.zip",
    archive="HMP_Dataset.zip",
    unpacked="HMP_Dataset",
    pattern=re.compile(
        r"([A-Za-z_]+/Accelerometer-[\d-]+-([a-z_]+)-([fm]\d+)(?:_\d+)?\.txt)$"
    ),
    example="Walk/Accelerometer-2011-03-24-09-51-07-walk-f1.txt",
    rate=_RATE,
)


def fetch_adl(
    *,
    data_home=None,
    subset="benchmark",
    step=150,
    download_if_missing=True,
    verbose=True,
    return_X_y=False,
):
    """Load the ADL data set: short everyday activities, accelerometer on the wrist.

    16 volunteers, 14 activities; the benchmark of [2]_ keeps the five activities and
    seven volunteers of which there are enough: 635 windows at the default ``step``. The
    archive (about 1 MB) is downloaded once and kept in ``data_home``.

    Each recording is one activity from its beginning to its end, often short: of
    those under 10 s there is no window. Exact copies of a recording (in the ``*_MODEL``
    folders) are left out; copies that were altered are kept, as in the benchmark, under
    the same name in ``recording``. ``f1_1`` is taken for volunteer ``f1``.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder of the data sets. This one is looked for in its folder ``adl``, as
        ``HMP_Dataset.zip`` or unpacked. None: see :func:`get_data_home`.
    subset : {"benchmark", "all"}, default="benchmark"
        The activities and volunteers: those of the benchmark, or all.
    step : int, default=150
        From one window's start to the next, in samples at 30 Hz, at least 1. 150 is
        half a window, as in the benchmark; 300 puts windows side by side.
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
            Acceleration with gravity, in g, from -1.5 to 1.5; 10 s at 30 Hz.
        y : int64 array of shape (n_windows,)
            Index into ``classes``.
        groups : int64 array of shape (n_windows,)
            The volunteer, as an index into ``group_names``.
        recording : array of str of shape (n_windows,)
            The file. Windows of one file may overlap.
        start : float64 array of shape (n_windows,)
            Time of the first sample in its recording, in s.
        classes, target_names : arrays of str
            The activities.
        group_names : array of str
            The volunteers' codes, "f" for women and "m" for men.
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
    .. [1] B. Bruno, F. Mastrogiovanni, A. Sgorbissa, T. Vernazza, R. Zaccaria,
       "Analysis of human behavior recognition algorithms based on acceleration data",
       ICRA 2013, 1602-1607. https://archive.ics.uci.edu/dataset/283
    .. [2] H. Yuan et al., "Self-supervised learning for human activity recognition
       using 700,000 person-days of wearable data", npj Digital Medicine 7, 91 (2024).

    Examples
    --------
    >>> from skflowfm.datasets import fetch_adl
    >>> data = fetch_adl()  # doctest: +SKIP
    >>> data.X.shape  # doctest: +SKIP
    (635, 3, 300)
    """
    check_subset(subset)
    names, people = _ACTIVITIES, _VOLUNTEERS
    if subset == "benchmark":
        names, people = _BENCHMARK_ACTIVITIES, _BENCHMARK_VOLUNTEERS
    selection = Selection(
        {_ACTIVITIES.index(name): name for name in names},
        {_VOLUNTEERS.index(person): person for person in people},
    )
    options = Options(step, 0.5, data_home, download_if_missing, verbose, return_X_y)
    data = fetch(SOURCE, _parser(), selection, options)
    if not return_X_y:
        data.group_names = np.array(_VOLUNTEERS)
    return data


def _parser():
    """A function from a member to its recording, once for every content."""
    seen = set()

    def parse(member):
        digest = hashlib.sha256(member.read()).digest()
        if digest not in seen:
            seen.add(digest)
            yield _recording(member)

    return parse


def _recording(member):
    path, activity, volunteer = member.key
    if activity not in _ACTIVITIES or volunteer not in _VOLUNTEERS:
        raise ValueError(
            f"{member.path} must be of one of the activities {_ACTIVITIES} and of one "
            f"of the volunteers {_VOLUNTEERS}, got {activity!r} and {volunteer!r}. "
            + GET_AGAIN
        )
    counts = read_numbers(member, 3, [0, 1, 2])
    wrong = np.flatnonzero(~((counts >= 0) & (counts <= 63)).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"{member.path} must hold three counts from 0 to 63 a line, got "
            f"{counts[wrong[0]]} in line {wrong[0] + 1}. {GET_AGAIN}"
        )
    return Recording(
        _VOLUNTEERS.index(volunteer),
        path.split("/")[-1],
        np.arange(len(counts)) / _RATE,
        counts / 63 * 3 - 1.5,
        float(_ACTIVITIES.index(activity)),
    )
