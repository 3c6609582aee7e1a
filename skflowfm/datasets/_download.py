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
from contextlib import contextmanager
from pathlib import Path

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

    Examples
    --------
    >>> from skflowfm.datasets import get_data_home
    >>> get_data_home("recordings").as_posix()
    'recordings'
    """
    if data_home is None:
        data_home = os.environ.get("SKFLOWFM_DATA") or "~/skflowfm_data"
    return Path(data_home).expanduser()


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
    with _partial_file(path, verbose) as (file, part):
        if path.exists():  # another process was faster
            part.unlink()
            return
        try:
            _transfer(url, file, verbose)
            file.flush()
            check_zip(part, url)
            digest = check_digest(part, path, sha256)
        except BaseException as error:
            _clean_up(file, part, error)
            raise
        if fcntl is None:  # Windows does not rename an open file
            file.close()
        os.replace(part, path)
    record_digest(path, digest)


# ------------------------------------------------------------------ the partial file
@contextmanager
def _partial_file(path, verbose):
    """Open, for this process alone, what there is of a file; yield (file, its path)."""
    part = path.with_name(path.name + ".part")
    file = _locked(part, verbose) if fcntl else None
    if file is None:
        # Without locks, a name of its own keeps processes apart; nothing is resumed.
        handle, name = tempfile.mkstemp(".part", path.name + ".", path.parent)
        file, part = os.fdopen(handle, "w+b"), Path(name)
    with file:
        yield file, part


def _locked(part, verbose):
    """The partial file, opened and locked; None if the file system has no locks."""
    while True:
        file = open(part, "a+b")
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _say(f"Waiting for another process that downloads {part}.\n", verbose)
                fcntl.flock(file, fcntl.LOCK_EX)
            # While we waited, the file may have been given its name, or removed.
            if part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat()):
                return file
            file.close()
        except OSError as error:
            file.close()
            if error.errno not in _NO_LOCKS:
                raise
            part.unlink(missing_ok=True)
            return None
        except BaseException:
            file.close()
            raise


def _clean_up(file, part, error):
    """Keep the part of a download that was cut off; remove all else."""
    resumable = fcntl is not None and not isinstance(error, Unusable)
    full = isinstance(error, OSError) and error.errno in _DISK_FULL
    if full or not resumable or part.stat().st_size == 0:
        if fcntl is None:
            file.close()
        part.unlink(missing_ok=True)


# ------------------------------------------------------------------ the transfer
def _transfer(url, file, verbose):
    """Append to the file what is missing, in a few attempts if need be."""
    for _ in range(_ATTEMPTS):
        before = file.seek(0, os.SEEK_END)
        try:
            if _request(url, file, before, verbose):
                return
            failure = "the connection was closed before the end"
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in _DISK_FULL:
                raise OSError(
                    error.errno,
                    f"No space left for {url}. Free some space, or pass a data_home on "
                    "another disk. The partial file was removed",
                    file.name,
                ) from error
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            failure = error
        if file.seek(0, os.SEEK_END) <= before:
            break  # nothing more arrives
    raise ConnectionError(f"Could not download {url}: {failure}.")


def _request(url, file, offset, verbose):
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
        file.truncate(0)  # longer than what is published now
        return _request(url, file, 0, verbose)
    with response:
        sent = response.headers.get("Content-Range", f"bytes {offset}-")
        if response.status != http.client.PARTIAL_CONTENT:
            file.truncate(0)  # everything from the beginning
            offset = 0
        elif not sent.startswith(f"bytes {offset}-"):
            raise ConnectionError(f"asked for bytes {offset}-, the server sent {sent}")
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length else None
        return _append(response, file, offset, total, verbose)


def _append(response, file, offset, total, verbose):
    """Copy the body to the end of the file; return whether all of it came."""
    free = shutil.disk_usage(Path(file.name).parent).free
    if total and total - offset > free:
        raise OSError(errno.ENOSPC, f"{total - offset} bytes needed, {free} free")
    shown = time.monotonic()
    while block := response.read1(_BLOCK):
        _write(file, block)
        offset += len(block)
        if time.monotonic() - shown > 1:
            shown = time.monotonic()
            _say(_progress(file, offset, total), verbose)
    _say(_progress(file, offset, total) + "\n", verbose)
    return total is None or offset >= total


def _write(file, block):
    file.write(block)


def _progress(file, offset, total):
    of = f" of {total / 1e6:.1f} MB, {offset / total:.0%}" if total else " MB"
    return f"\rDownloading {Path(file.name).name}: {offset / 1e6:.1f}{of}"


def _say(text, verbose):
    if verbose:
        sys.stderr.write(text)
        sys.stderr.flush()
