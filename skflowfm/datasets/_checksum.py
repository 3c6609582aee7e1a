"""Is a file whole, and the one that was published or was here before?

The checksum of an archive is kept beside it, as ``<file>.sha256``, in the format of the
command ``sha256sum``.
"""

import hashlib
import lzma
import os
import re
import tempfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # a flipped bit may say that there is a password
    UnicodeError,
)


class Unusable(OSError):
    """What has arrived is of no use."""


def verify(path, sha256=None):
    """Compare a file with its checksum, or record the checksum where none is known.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    sha256 : str, default=None
        The checksum, in hexadecimal digits. None: that of ``<path>.sha256``.

    Raises
    ------
    OSError
        If the checksums differ, or none is known and the archive is damaged.
    """
    if sha256 is None and recorded_digest(path) is None:
        damaged = damage_of(path)
        if damaged is not None:
            raise Unusable(
                f"{path} is not a whole zip archive ({damaged}). Remove it and fetch "
                "again."
            )
    record_digest(path, check_digest(path, path, sha256))


def check_zip(part, url):
    """Raise Unusable unless ``part``, from ``url``, is a zip archive without damage."""
    damaged = damage_of(part)
    if damaged is not None:
        raise Unusable(
            f"What was downloaded from {url} is not a whole zip archive ({damaged}), "
            "and was removed. Try again; if that does not help, look at the address in "
            "a browser."
        )


def damage_of(file):
    """Return what is wrong with a zip archive, None if nothing is."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip()
    except DAMAGE as error:
        return error
    except OSError as error:
        if error.errno is not None:
            raise
        return error  # bz2 has no error of its own


def recorded_digest(path):
    """Return the checksum that is kept beside the file, None if there is none."""
    try:
        text = _record_of(path).read_text("ascii", errors="replace")
    except FileNotFoundError:
        return None
    digest = text.partition(" ")[0].strip().lower()
    return digest if re.fullmatch("[0-9a-f]{64}", digest) else None


def check_digest(file, path, sha256):
    """Return the checksum of ``file``: that given, or else recorded, for ``path``."""
    record = _record_of(path)
    expected, where = sha256, "published"
    if expected is None:
        expected, where = recorded_digest(path), "recorded"
    with open(file, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if expected is not None and digest != expected:
        trust = f"; if you trust it, remove {record}" if sha256 is None else ""
        if file == path:
            what, advice = "this file", f"Remove the file and fetch again{trust}."
        else:
            what, advice = "the download", f"It was removed: fetch again{trust}."
        raise Unusable(
            f"{path} should have the {where} SHA-256 checksum {expected}, but {what} "
            f"has {digest}: it is damaged, or another version. {advice}"
        )
    return digest


def record_digest(path, digest):
    """Write the checksum beside the file, unless the folder cannot be written."""
    if recorded_digest(path) is not None:
        return
    record = _record_of(path)
    with suppress(OSError):
        handle, name = tempfile.mkstemp(".tmp", record.name, record.parent)
        try:
            with os.fdopen(handle, "w") as stream:
                stream.write(f"{digest}  {path.name}\n")
            os.replace(name, record)
        finally:
            Path(name).unlink(missing_ok=True)


def _record_of(path):
    return path.with_name(path.name + ".sha256")
