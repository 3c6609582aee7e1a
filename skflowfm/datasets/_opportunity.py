"""Opportunity: a morning's activities in a room full of sensors (UCI, 2012)."""

import re

import numpy as np

from ._fetch import Options, Selection, Source, fetch
from ._recordings import Recording
from ._tables import read_numbers

_N_COLUMNS = 250
_TIME, _ACCELERATION, _LOCOMOTION = 0, [22, 23, 24], 243  # from 0; RWR, milli g
_ACTIVITIES = {1: "stand", 2: "walk", 4: "sit", 5: "lie"}

SOURCE = Source(
    name="opportunity",
    title="OPPORTUNITY Activity Recognition",
    about="Right wrist (RWR), 30 Hz, all runs (ADL and Drill), modes of locomotion.",
    page="https://archive.ics.uci.edu/dataset/226",
    licence="CC BY 4.0, as far as known; the page has the last word. The README asks "
    "to cite the reference in publications.",
    reference="R. Chavarriaga et al., 'The Opportunity challenge: A benchmark database "
    "for on-body sensor-based activity recognition', Pattern Recognition Letters 34 "
    "(2013) 2033-2042.",
    url="https://archive.ics.uci.edu/static/public/226/"
    "opportunity+activity+recognition.zip",
    archive="OpportunityUCIDataset.zip",
    unpacked="OpportunityUCIDataset",
    pattern=re.compile(r"(?:^|/)(S([1-4])-(?:ADL\d|Drill)\.dat)$"),
    example="dataset/S1-ADL1.dat",
    rate=30.0,
)


def fetch_opportunity(
    *,
    data_home=None,
    step=150,
    max_gap=0.5,
    download_if_missing=True,
    verbose=True,
    return_X_y=False,
):
    """Load the Opportunity data set: four modes of locomotion, sensor on the wrist.

    Four people, each in five runs of a morning's routine and one drill, in which they
    stand, walk, sit and lie. All of them and all runs are in the benchmark of [2]_, so
    there is no choice of a subset. The archive (about 300 MB) is downloaded once and
    kept in ``data_home``.

    A window takes the activity that fills at least half of it; of others there is no
    window. The accelerometer sends by radio and loses samples. The benchmark joins
    what is left, here a window never holds a longer gap than ``max_gap``.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder of the data sets. This one is looked for in its folder ``opportunity``,
        as ``OpportunityUCIDataset.zip`` or unpacked. None: see :func:`get_data_home`.
    step : int, default=150
        From one window's start to the next, in samples at 30 Hz, at least 1. 150 is
        half a window, as in the benchmark; 300 puts windows side by side.
    max_gap : float, default=0.5
        Missing samples are interpolated up to this time, in s, at least 0. Larger
        values give more windows, with longer straight lines in them; 0 bridges none.
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
            The person, from 1 to 4.
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
    .. [1] R. Chavarriaga et al., "The Opportunity challenge: A benchmark database for
       on-body sensor-based activity recognition", Pattern Recognition Letters 34
       (2013) 2033-2042. https://archive.ics.uci.edu/dataset/226
    .. [2] H. Yuan et al., "Self-supervised learning for human activity recognition
       using 700,000 person-days of wearable data", npj Digital Medicine 7, 91 (2024).

    Examples
    --------
    >>> from skflowfm.datasets import fetch_opportunity
    >>> data = fetch_opportunity()  # doctest: +SKIP
    >>> data.classes.tolist()  # doctest: +SKIP
    ['stand', 'walk', 'sit', 'lie']
    """
    selection = Selection(_ACTIVITIES, {person: f"S{person}" for person in range(1, 5)})
    options = Options(
        step, max_gap, data_home, download_if_missing, verbose, return_X_y
    )
    return fetch(SOURCE, _parse, selection, options)


def _parse(member):
    name, person = member.key
    table = read_numbers(member, _N_COLUMNS, [_TIME, *_ACCELERATION, _LOCOMOTION])
    labels = table[:, -1]
    yield Recording(
        int(person),
        name,
        table[:, 0] / 1000,
        table[:, 1:4] / 1000,
        np.where(labels == 0, np.nan, labels),
    )
