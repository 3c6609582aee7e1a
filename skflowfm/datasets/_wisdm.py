"""WISDM: 18 activities of daily living, phone and watch (UCI, 2019)."""

import re
from functools import partial
from io import BytesIO

import numpy as np
import pandas as pd

from ._fetch import Options, Selection, Source, check_subset, fetch
from ._recordings import Recording
from ._tables import GET_AGAIN, read_table

_G = 9.81  # m/s^2, as in the benchmark
_ACTIVITIES = dict(
    A="walking",
    B="jogging",
    C="stairs",
    D="sitting",
    E="standing",
    F="typing",
    G="teeth",
    H="soup",
    I="chips",
    J="pasta",
    K="drinking",
    L="sandwich",
    M="kicking",
    O="catch",
    P="dribbling",
    Q="writing",
    R="clapping",
    S="folding",
)
_CODES = list(_ACTIVITIES)
_PEOPLE = range(1600, 1651)
_NOT_IN_BENCHMARK = {1616, 1618, 1637, 1639, 1642}

SOURCE = Source(
    name="wisdm",
    title="WISDM Smartphone and Smartwatch Activity and Biometrics",
    about="Watch accelerometer, 20 Hz.",
    page="https://archive.ics.uci.edu/dataset/507",
    licence="CC BY 4.0, as far as known; the page has the last word.",
    reference="G. M. Weiss, K. Yoneda, T. Hayajneh, 'Smartphone and Smartwatch-Based "
    "Biometrics Using Activities of Daily Living', IEEE Access 7 (2019) 133190-133202.",
    url="https://archive.ics.uci.edu/static/public/507/"
    "wisdm+smartphone+and+smartwatch+activity+and+biometrics+dataset.zip",
    archive="wisdm-dataset.zip",
    unpacked="wisdm-dataset",
    pattern=re.compile(r"(?:^|/)watch/accel/(data_(16\d\d)_accel_watch\.txt)$"),
    example="raw/watch/accel/data_1600_accel_watch.txt",
    rate=20.0,
)


def fetch_wisdm(
    *,
    data_home=None,
    subset="benchmark",
    step=150,
    max_gap=0.5,
    download_if_missing=True,
    verbose=True,
    return_X_y=False,
):
    """Load the WISDM data set of 2019: 18 daily activities, watch on the wrist.

    51 people, each with about three minutes of each activity; the benchmark of [2]_
    leaves out 1616, 1618, 1637, 1639 and 1642. The archive (about 300 MB, with the
    phone and features) is downloaded once and kept in ``data_home``.

    The samples of a person and activity are sorted by time. In the file of 1649, about
    a minute of "catch" stands a second time under "kicking", and is left out there.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder of the data sets. This one is looked for in its folder ``wisdm``, as
        ``wisdm-dataset.zip`` or unpacked. None: see :func:`get_data_home`.
    subset : {"benchmark", "all"}, default="benchmark"
        46 people, or all 51.
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
            The person, from 1600 to 1650.
        recording : array of str of shape (n_windows,)
            The file. Windows of one file may overlap.
        start : float64 array of shape (n_windows,)
            Time of the first sample since the first of its file, in s.
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
    .. [1] G. M. Weiss, K. Yoneda, T. Hayajneh, "Smartphone and Smartwatch-Based
       Biometrics Using Activities of Daily Living", IEEE Access 7 (2019)
       133190-133202. https://archive.ics.uci.edu/dataset/507
    .. [2] H. Yuan et al., "Self-supervised learning for human activity recognition
       using 700,000 person-days of wearable data", npj Digital Medicine 7, 91 (2024).

    Examples
    --------
    >>> from skflowfm.datasets import fetch_wisdm
    >>> data = fetch_wisdm()  # doctest: +SKIP
    >>> len(data.classes), len(set(data.groups.tolist()))  # doctest: +SKIP
    (18, 46)
    """
    check_subset(subset)
    left_out = _NOT_IN_BENCHMARK if subset == "benchmark" else ()
    selection = Selection(
        dict(enumerate(_ACTIVITIES.values())),
        {person: str(person) for person in _PEOPLE if person not in left_out},
    )
    options = Options(
        step, max_gap, data_home, download_if_missing, verbose, return_X_y
    )
    parse = partial(_parse, people=selection.subjects)
    return fetch(SOURCE, parse, selection, options)


def _parse(member, people):
    name, person = member.key[0], int(member.key[1])
    if person not in people:
        return
    table = _read(member)
    if person == 1649:
        # About a minute of catch is there again, with the same time stamps.
        catch = table["time"][table["code"] == "O"]
        table = table[~((table["code"] == "M") & table["time"].isin(catch))]
    time = (table["time"] - table["time"].min()).to_numpy() / 1e9
    values = table[["x", "y", "z"]].to_numpy() / _G
    for code in table["code"].unique():
        own = (table["code"] == code).to_numpy()
        yield Recording(person, name, time[own], values[own], float(_CODES.index(code)))


def _read(member):
    """A table of code, time in ns and x, y, z in m/s^2."""
    names = ["person", "code", "time", "x", "y", "z"]
    data = member.read().replace(b";", b"")
    if not data.strip():
        return pd.DataFrame({name: np.empty(0) for name in names})
    types = dict.fromkeys(range(2, 6), float)
    table = read_table(member, BytesIO(data), header=None, dtype=types)
    if table.shape[1] != len(names):
        raise ValueError(
            f"{member.path} must have {len(names)} fields a line, got "
            f"{table.shape[1]}. {GET_AGAIN}"
        )
    table.columns = names
    wrong = np.flatnonzero(table.isna().any(axis=1) | ~table["code"].isin(_CODES))
    if len(wrong):
        line = table.iloc[wrong[0]].tolist()
        raise ValueError(
            f"{member.path} must hold the person, an activity (one of {_CODES}), the "
            f"time, x, y and z in every line; line {wrong[0] + 1} holds {line}. "
            + GET_AGAIN
        )
    return table
