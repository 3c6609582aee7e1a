"""What the fetchers share: the files, found or downloaded, and the Bunch at the end."""

import re
import warnings
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from sklearn.utils import Bunch, check_scalar

from ._archive import archives, files_below, members
from ._checksum import verify
from ._download import download_zip, get_data_home
from ._recordings import SAMPLING_RATE, cut

LEAST_GAP = 1.5  # in samples; neighbours are never a gap
SUBSETS = ("benchmark", "all")

_DESCR = """{title}
{line}
{n_windows} windows of 10 s at 30 Hz, three axes in g, {n_subjects} people.
Activities: {classes}.

{about}

Source: {page}
Licence: {licence}
Reference: {reference}
"""


class Source(NamedTuple):
    """A published data set: where it is, how its files are called, what to cite.

    Attributes
    ----------
    name : str
        The folder below ``data_home``.
    title, about, page, licence, reference : str
        For the description.
    url : str
        Of the archive.
    archive : str
        The file name under which it is kept.
    unpacked : str
        The folder that it unpacks to.
    pattern : re.Pattern
        Of the paths of the files with data.
    example : str
        One such path, for messages.
    rate : float
        Nominal sampling rate in Hz.
    sha256 : str, default=None
        The checksum of the archive, where its publisher states one.
    inner : re.Pattern, default=re.compile(".zip$")
        Of the paths of archives inside that hold files with data.
    """

    name: str
    title: str
    about: str
    page: str
    licence: str
    reference: str
    url: str
    archive: str
    unpacked: str
    pattern: re.Pattern
    example: str
    rate: float
    sha256: str | None = None
    inner: re.Pattern = re.compile(r"\.zip$")


class Selection(NamedTuple):
    """What to keep: codes of activities and numbers of people, each with their name."""

    activities: dict
    subjects: dict


class Options(NamedTuple):
    """The parameters that all fetchers have."""

    step: int
    max_gap: float
    data_home: object
    download_if_missing: bool
    verbose: bool
    return_X_y: bool


def fetch(source, parse, selection, options):
    """Find the files, cut their recordings into windows and describe the result.

    Parameters
    ----------
    source : Source
        The data set.
    parse : callable
        From a member of the data set to recordings; those of people who are not
        selected may be left out.
    selection : Selection
        What to keep.
    options : Options
        As the user gave them.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch` or tuple
        As the fetchers return it.
    """
    check_scalar(options.step, "step", Integral, min_val=1)
    check_scalar(options.max_gap, "max_gap", Real, min_val=0)
    if not np.isfinite(options.max_gap):
        raise ValueError(f"max_gap must be finite, got {options.max_gap!r}.")
    max_gap = max(options.max_gap, LEAST_GAP / source.rate)
    folder = _find(source, options)
    parts, n_files = [], 0
    for member in members(folder, source.pattern, source.inner):
        n_files += 1
        for recording in parse(member):
            if recording.subject in selection.subjects:
                windows = cut(recording, source.rate, options.step, max_gap)
                parts.append(_select(recording, windows, selection))
    if n_files == 0:
        raise FileNotFoundError(
            f"No file like {source.example} in {folder} or in an archive there. "
            + _advice(source, folder)
        )
    data = _assemble(parts, source, selection)
    return (data.X, data.y, data.groups) if options.return_X_y else data


def check_subset(subset):
    """Raise ValueError unless ``subset`` is one of the names for it."""
    if subset not in SUBSETS:
        raise ValueError(f"subset must be one of {SUBSETS}, got {subset!r}.")


# ------------------------------------------------------------------ files
def _find(source, options):
    """The folder with the data set, which is downloaded if there is none."""
    home = get_data_home(options.data_home)
    folder = home / source.name
    archive = folder / source.archive
    for place in (folder, home / source.unpacked):
        if place.is_dir() and (archives(place) or any(_plain(place, source))):
            if archive.exists():
                verify(archive, source.sha256)
            return place
    if not options.download_if_missing:
        raise FileNotFoundError(
            f"{source.title} is not in {folder}, and download_if_missing is False. "
            + _advice(source, folder)
        )
    try:
        download_zip(source.url, archive, sha256=source.sha256, verbose=options.verbose)
    except OSError as error:
        raise OSError(f"{error}\n{_advice(source, folder)}") from error
    return folder


def _plain(folder, source):
    for path in files_below(folder):
        name = path.as_posix()
        yield bool(source.pattern.search(name) or source.inner.search(name))


def _advice(source, folder):
    return (
        f"Get {source.archive} from {source.url} (described at {source.page}) and put "
        f"it into {folder}, zipped or unpacked to {source.unpacked}."
    )


# ------------------------------------------------------------------ result
class _Part(NamedTuple):
    """The windows of one recording, and of each its class, person, file and time."""

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    recording: np.ndarray
    start: np.ndarray


def _select(recording, windows, selection):
    """Keep the windows of the selected activities."""
    codes = list(selection.activities)
    keep = np.isin(windows.labels, codes)
    y = [codes.index(label) for label in windows.labels[keep]]
    return _Part(
        windows.X[keep],
        np.array(y, dtype=np.int64),
        np.full(len(y), recording.subject, dtype=np.int64),
        np.full(len(y), recording.name),
        windows.start[keep],
    )


def _assemble(parts, source, selection):
    """The Bunch of all windows, in the order of person, recording and time."""
    parts = [part for part in parts if len(part.y)]
    if not parts:
        raise ValueError(
            f"No window of 10 s in the files of {source.title}. The recordings may be "
            "cut short or have long gaps: get the files again, or raise max_gap if "
            "there is one."
        )
    joined = _Part(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    order = np.lexsort([joined.start, joined.recording, joined.groups])
    joined = _Part(*(values[order] for values in joined))
    there = set(joined.groups.tolist())
    absent = [str(name) for i, name in selection.subjects.items() if i not in there]
    if absent:
        warnings.warn(
            f"{source.title}: no window of {', '.join(absent)}. Either their files are "
            "missing, or hold no 10 s of a selected activity without a long gap.",
            stacklevel=4,
        )
    classes = np.array(list(selection.activities.values()))
    descr = _DESCR.format(
        line="-" * len(source.title),
        n_windows=len(joined.y),
        n_subjects=len(np.unique(joined.groups)),
        classes=", ".join(classes),
        **source._asdict(),
    )
    return Bunch(
        **joined._asdict(),
        classes=classes,
        target_names=classes,
        channels=np.array(["acc_x_g", "acc_y_g", "acc_z_g"]),
        sampling_rate=float(SAMPLING_RATE),
        DESCR=descr,
    )
