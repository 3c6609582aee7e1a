"""The files of a data set, in a folder or in zip archives, whichever way it was kept.

Nothing is unpacked on disk: members are read straight from the archives, and archives
inside archives too, as some data sets are published like that.
"""

import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ._checksum import DAMAGE, Unusable

_IN_MEMORY = 2**26  # inner archives up to this size, in bytes
_ZIP = re.compile(r"\.zip$", re.IGNORECASE)


class Member(NamedTuple):
    """A file of a data set.

    Attributes
    ----------
    path : str
        Its path with forward slashes, through archives, for messages.
    key : tuple of (str or None)
        The groups of the pattern that the path matched.
    read : callable
        Returns the content as bytes. To be called before the next member is asked for.
    """

    path: str
    key: tuple
    read: Callable[[], bytes]


def members(folder, pattern, inner=_ZIP):
    """Find the files of a data set below a folder, through its zip archives.

    Parameters
    ----------
    folder : pathlib.Path
        Where to look. A file in a folder goes before its copy in an archive.
    pattern : re.Pattern
        Searched for in the path of each file. Of several files whose groups are equal
        the first is taken.
    inner : re.Pattern, default=re.compile(".zip$")
        Archives in which to look, but for those directly in ``folder``, which all are.

    Yields
    ------
    member : Member
        In the order of their paths, plain files first.

    Raises
    ------
    OSError
        If an archive is damaged.
    """
    seen = set()
    for member in _walk(folder, inner):
        match = pattern.search(member.path)
        if match and match.groups() not in seen:
            seen.add(match.groups())
            yield member._replace(key=match.groups())


def archives(folder):
    """Return the zip archives directly in a folder, sorted."""
    return sorted(p for p in folder.glob("*") if p.is_file() and _ZIP.search(p.name))


def files_below(folder):
    """Yield the files in a folder and below, each folder once, those of links last."""
    seen, starts = set(), [folder]
    for start in starts:  # which grows
        for place, folders, names in os.walk(start):
            real = os.path.realpath(place)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            starts += sorted(p for f in folders if (p := Path(place, f)).is_symlink())
            yield from (p for name in names if (p := Path(place, name)).is_file())


def _walk(folder, inner):
    files = [
        p
        for p in sorted(files_below(folder))
        if not _is_hidden(p.relative_to(folder).as_posix())
    ]
    for path in files:
        if not _ZIP.search(path.name):
            yield Member(path.as_posix(), (), path.read_bytes)
    outer = archives(folder)
    for path in files:
        if path in outer or (_ZIP.search(path.name) and inner.search(path.as_posix())):
            yield from _walk_zip(path, path.as_posix(), inner)


def _walk_zip(file, name, inner):
    with _readable(name), zipfile.ZipFile(file) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.filename)
        for entry in entries:
            path = f"{name}/{entry.filename}"
            if entry.is_dir() or _is_hidden(entry.filename):
                continue
            if not _ZIP.search(entry.filename):
                yield Member(path, (), _reader(archive, entry, path))
            elif inner.search(path):
                # An archive is read from its end, which a compressed one does not like.
                with tempfile.SpooledTemporaryFile(_IN_MEMORY) as copy:
                    with archive.open(entry) as stream:
                        shutil.copyfileobj(stream, copy)
                    yield from _walk_zip(copy, path, inner)


def _reader(archive, entry, path):
    def read():
        with _readable(path):
            return archive.read(entry)

    return read


@contextmanager
def _readable(name):
    try:
        yield
    except Unusable:  # an archive in the archive
        raise
    except (*DAMAGE, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise Unusable(
            f"{name} cannot be unpacked ({error}): the archive is damaged or was not "
            "copied to its end. Remove it and fetch again."
        ) from error


def _is_hidden(path):
    """Such as what other systems leave behind in archives."""
    return any(part.startswith((".", "__MACOSX")) for part in Path(path).parts)
