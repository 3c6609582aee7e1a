"""RealWorld: eight activities outdoors, phones and a watch on the body (2016)."""

import re
from functools import partial
from io import BytesIO

from ._fetch import Options, Selection, Source, check_subset, fetch
from ._recordings import Recording
from ._tables import GET_AGAIN, read_table

_G = 9.81  # m/s^2, as in the benchmark
_COLUMNS = ["attr_time", "attr_x", "attr_y", "attr_z"]
_ACTIVITIES = (
    "climbingdown climbingup jumping lying running sitting standing walking"
).split()
_PEOPLE = range(1, 16)
_NOT_IN_BENCHMARK = {2}

SOURCE = Source(
    name="realworld",
    title="RealWorld (HAR)",
    about="Forearm, 50 Hz.",
    page="https://sensor.informatik.uni-mannheim.de/#dataset_realworld",
    licence="see the page; the authors ask to cite the reference.",
    reference="T. Sztyler, H. Stuckenschmidt, 'On-body localization of wearable "
    "devices: An investigation of position-aware activity recognition', PerCom 2016, "
    "1-9.",
    url="http://wifo5-14.informatik.uni-mannheim.de/sensor/dataset/realworld2016/"
    "realworld2016_dataset.zip",
    archive="realworld2016_dataset.zip",
    unpacked="realworld2016_dataset",
    pattern=re.compile(
        r"(?:^|/)proband(\d+)/data/.*acc_([a-z]+)_(?:(\d+)_)?[Ff]orearm\.csv$"
    ),
    example="proband1/data/acc_walking_csv.zip/acc_walking_forearm.csv",
    rate=50.0,
    inner=re.compile(r"/acc_[a-z]+(_\d+)?_csv\.zip$"),
)


def fetch_realworld(
    *,
    data_home=None,
    subset="benchmark",
    step=150,
    max_gap=0.5,
    download_if_missing=True,
    verbose=True,
    return_X_y=False,
):
    """Load the RealWorld data set: eight activities, sensor on the forearm.

    15 people climb stairs up and down, jump, lie, run, sit, stand and walk; the
    benchmark of [2]_ leaves out person 2. The archive (about 3.5 GB, of all sensors
    and seven places on the body) is downloaded once and kept in ``data_home``, and read
    without being unpacked.

    Of the several parts of some recordings all are taken. The 50 Hz pass a low-pass
    filter before they become 30 Hz. The benchmark counts samples, here their time
    stamps are used.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder of the data sets. This one is looked for in its folder ``realworld``, as
        ``realworld2016_dataset.zip`` or unpacked. None: see :func:`get_data_home`.
    subset : {"benchmark", "all"}, default="benchmark"
        14 people, or all 15.
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
            The person, from 1 to 15.
        recording : array of str of shape (n_windows,)
            The file. Windows of one file may overlap.
        start : float64 array of shape (n_windows,)
            Time of the first sample since the first of its recording, in s.
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
    .. [1] T. Sztyler, H. Stuckenschmidt, "On-body localization of wearable devices: An
       investigation of position-aware activity recognition", PerCom 2016, 1-9.
       https://sensor.informatik.uni-mannheim.de/#dataset_realworld
    .. [2] H. Yuan et al., "Self-supervised learning for human activity recognition
       using 700,000 person-days of wearable data", npj Digital Medicine 7, 91 (2024).

    Examples
    --------
    >>> from skflowfm.datasets import fetch_realworld
    >>> X, y, groups = fetch_realworld(return_X_y=True)  # doctest: +SKIP
    """
    check_subset(subset)
    left_out = _NOT_IN_BENCHMARK if subset == "benchmark" else ()
    selection = Selection(
        dict(enumerate(_ACTIVITIES)),
        {person: f"proband{person}" for person in _PEOPLE if person not in left_out},
    )
    options = Options(
        step, max_gap, data_home, download_if_missing, verbose, return_X_y
    )
    parse = partial(_parse, people=selection.subjects)
    return fetch(SOURCE, parse, selection, options)


def _parse(member, people):
    person, activity, _ = member.key
    if int(person) not in people:
        return
    if activity not in _ACTIVITIES:
        raise ValueError(
            f"{member.path} must be of one of the activities {_ACTIVITIES}, got "
            f"{activity!r}. {GET_AGAIN}"
        )
    data = member.read()
    if not data.strip():
        return
    types = dict.fromkeys(_COLUMNS, float)
    table = read_table(member, BytesIO(data), dtype=types)
    missing = [column for column in _COLUMNS if column not in table]
    if missing:
        raise ValueError(
            f"{member.path} must have the columns {_COLUMNS}, got {list(table)}. "
            + GET_AGAIN
        )
    yield Recording(
        int(person),
        f"proband{person}/{member.path.split('/')[-1]}",
        (table["attr_time"] - table["attr_time"].min()).to_numpy() / 1000,
        table[_COLUMNS[1:]].to_numpy() / _G,
        float(_ACTIVITIES.index(activity)),
    )
