"""Getting a published file once, whole, and without harm to what is there already.

The file grows under the name ``<file>.part``, is checked there, and takes its own name
in one step. So under its own name a file is always complete. A download that was cut
off goes on where it stopped; a lock on the partial file lets one process download while
others wait. The checksum is kept beside the file, as ``<file>.sha256``.
"""

import errno
import http.client
import os
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from ._checksum import Unusable, check_digest, check_zip, record_digest

try:
    import fcntl
except ImportError:  # not on Windows: then without resuming, see _partial_file
    fcntl = None

_BLOCK = 2**20
_ATTEMPTS = 5
_TIMEOUT = 60.0
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def get_data_home(data_home=None):
    """Return the folder in which the fetchers look for data sets and keep them.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The folder. None means the environment variable ``SKFLOWFM_DATA`` or, where
        that is not set, ``~/skflowfm_data``. A leading ``~`` is the home directory.

    Returns
    -------
    data_home : pathlib.Path
        The folder. It need not exist: a fetcher creates it when it downloads.

    Raises
    ------
    TypeError, ValueError
        If it is no path, or begins with the ``~`` of an unknown user.

    Examples
    --------
    >>> from skflowfm.datasets import get_data_home
    >>> get_data_home("recordings").as_posix()
    'recordings'
    """
    if data_home is None:
        data_home = os.environ.get("SKFLOWFM_DATA") or "~/skflowfm_data"
    if not isinstance(data_home, (str, os.PathLike)):
        raise TypeError(f"data_home must be a path or None, got {data_home!r}.")
    try:
        return Path(data_home).expanduser()
    except RuntimeError as error:  # ~ of somebody who is not here
        raise ValueError(
            f"data_home must be a folder, got {str(data_home)!r} ({error}). Give the "
            "whole path."
        ) from None


def download_zip(url, path, *, sha256=None, verbose=False):
    """Download a zip archive to ``path``, unless another process has just done so.

    Parameters
    ----------
    url : str
        Where the archive is published.
    path : pathlib.Path
        The file to write. Missing folders are created.
    sha256 : str, default=None
        The checksum, in hexadecimal digits. None: that of the first download, which is
        written to ``<path>.sha256``.
    verbose : bool, default=False
        Whether to report progress on the standard error stream.

    Raises
    ------
    OSError
        If the server or the disk fails, or if the file is no whole zip archive or has
        another checksum. What has arrived is kept only where a next call can go on
        from it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _partial_file(path, verbose) as part:
        if path.exists():  # another process was faster
            part.path.unlink()
            return
        try:
            _transfer(url, part, verbose)
            check_zip(part.path, url)
            digest = check_digest(part.path, path, sha256)
        except BaseException as error:
            _clean_up(part, error)
            raise
        if fcntl is None:  # Windows does not rename an open file
            part.file.close()
        os.replace(part.path, path)
    record_digest(path, digest)


# ------------------------------------------------------------------ the partial file
class _Partial(NamedTuple):
    """What there is of a file, open for reading and for appending; and where it is."""

    file: FileIO
    path: Path

    def size(self):
        return self.file.seek(0, os.SEEK_END)

    def clear(self):
        self.file.seek(0)
        self.file.truncate()

    def append(self, block):
        # Unbuffered, so that a full disk shows here, and not when the file is closed.
        rest = memoryview(block)
        while rest:
            rest = rest[self.file.write(rest) :]


@contextmanager
def _partial_file(path, verbose):
    """Open, for this process alone, what there is of a file."""
    part = path.with_name(path.name + ".part")
    file = _locked(part, verbose) if fcntl else None
    if file is None:
        # Without locks, a name of its own keeps processes apart; nothing is resumed.
        handle, name = tempfile.mkstemp(".part", path.name + ".", path.parent)
        file, part = os.fdopen(handle, "w+b", buffering=0), Path(name)
    with file:
        yield _Partial(file, part)


def _locked(part, verbose):
    """The partial file, opened and locked; None if the file system has no locks."""
    while True:
        file = open(part, "a+b", buffering=0)
        try:
            _lock(file, part, verbose)
            # While we waited, the file may have been given its name, or removed.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), part.stat()):
                    return file
            file.close()
        except BaseException as error:
            file.close()
            if getattr(error, "errno", None) not in _NO_LOCKS:
                raise
            part.unlink(missing_ok=True)
            return None


def _lock(file, part, verbose):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _say(f"Waiting for another process that downloads {part}.\n", verbose)
        fcntl.flock(file, fcntl.LOCK_EX)


class NoRoom(OSError):
    """The rest of a file is larger than what is free; nothing of it was written."""


def _clean_up(part, error):
    """Keep the part of a download that was cut off; remove all else."""
    full = getattr(error, "errno", None) in _DISK_FULL and not isinstance(error, NoRoom)
    resumable = fcntl is not None and not isinstance(error, Unusable)
    if full or not resumable or part.size() == 0:
        if fcntl is None:
            part.file.close()
        part.path.unlink(missing_ok=True)


# ------------------------------------------------------------------ the transfer
def _transfer(url, part, verbose):
    """Append to the file what is missing, in a few attempts if need be."""
    for _ in range(_ATTEMPTS):
        before = part.size()
        try:
            if _request(url, part, before, verbose):
                return
            failure = "the connection was closed before the end"
        except NoRoom:
            raise
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in _DISK_FULL:
                raise OSError(
                    error.errno,
                    f"{error.strerror} while downloading {url}. What had arrived was "
                    "removed. Free some space, or pass a data_home on another disk.",
                ) from error
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            failure = error
        if part.size() <= before:
            break  # nothing more arrives
    kept = ""
    if fcntl is not None and part.size():
        kept = f" {part.size()} bytes are kept: call again, and it goes on from there."
    raise ConnectionError(f"Could not download {url}: {failure}.{kept}")


def _request(url, part, offset, verbose):
    """Ask for the file from ``offset`` on; return whether it is complete."""
    headers = {"User-Agent": "skflowfm", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not offset:
            raise
        with error:
            whole = error.headers.get("Content-Range", "") == f"bytes */{offset}"
        if whole:
            return True
        # It is longer than what is published now.
        return _request(url, part, 0, verbose)
    with response:
        sent = response.headers.get("Content-Range", f"bytes {offset}-")
        if response.status != http.client.PARTIAL_CONTENT:
            part.clear()  # everything comes from the beginning
            offset = 0
        elif not sent.startswith(f"bytes {offset}-"):
            raise ConnectionError(f"asked for bytes {offset}-, the server sent {sent}")
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length else None
        return _append(response, part, offset, total, verbose)


def _append(response, part, offset, total, verbose):
    """Copy the body to the end of the file; return whether all of it came."""
    free = shutil.disk_usage(part.path.parent).free
    if total and total - offset > free:
        kept = f" The {offset} bytes that had arrived are kept." if offset else ""
        raise NoRoom(
            errno.ENOSPC,
            f"No space left on the disk for {part.path}: {total - offset} bytes "
            f"needed, {free} free.{kept} Free some space and call again, or pass a "
            "data_home on another disk.",
        )
    shown = time.monotonic()
    while block := response.read1(_BLOCK):
        part.append(block)
        offset += len(block)
        if time.monotonic() - shown > 1:
            shown = time.monotonic()
            _say(_progress(part, offset, total), verbose)
    _say(_progress(part, offset, total) + "\n", verbose)
    return total is None or offset >= total


def _progress(part, offset, total):
    of = f" of {total / 1e6:.1f} MB, {offset / total:.0%}" if total else " MB"
    return f"\rDownloading {part.path.name}: {offset / 1e6:.1f}{of}"


def _say(text, verbose):
    if verbose:
        sys.stderr.write(text)
        sys.stderr.flush()
