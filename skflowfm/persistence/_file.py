"""The bytes of a model file: a safetensors file with a checksum over all that counts.

A safetensors file is the length of a header, the header (JSON) and the numbers. The
header says name, type, shape and place of every tensor, and holds texts under
``__metadata__``; ours are each a piece of JSON. One of them is the SHA-256 of the rest
of the header, in canonical form, and of all numbers.
"""

import errno
import hashlib
import json
import operator
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

import safetensors.torch
import torch

FORMAT = "skflowfm"
# 2: learned components of z come first; 3: constants are kept; 4: other tables
FORMAT_VERSION = 5
LENGTH_BYTES = 8
MAX_HEADER = 100_000_000  # as in safetensors
METADATA = "__metadata__"
MANY_VALUES = 24_000
ROUNDING = 1e-3


class ModelFileError(ValueError):
    """A file is no model of skflowfm that can be loaded here, and why."""


def as_json(value, *, sort_keys: bool = False) -> str:
    """Return short JSON; with sorted keys it is the same text for equal values."""
    return json.dumps(
        value,
        sort_keys=sort_keys,
        separators=(",", ":"),
        allow_nan=False,
        default=operator.index,  # sizes that are numpy's integers
    )


def checksum(header: dict, numbers) -> str:
    """Return the SHA-256 of a header, but for the checksum in it, and the numbers."""
    texts = {key: text for key, text in header[METADATA].items() if key != "sha256"}
    canonical = as_json({**header, METADATA: texts}, sort_keys=True)
    digest = hashlib.sha256(canonical.encode())
    digest.update(numbers)
    return digest.hexdigest()


def pack(sections: dict, tensors: dict) -> bytes:
    """Return the content of a model file.

    Parameters
    ----------
    sections : dict
        Name to a value that JSON can hold.
    tensors : dict
        Name to a Tensor on the CPU.
    """
    plain = safetensors.torch.save(tensors)
    start = LENGTH_BYTES + int.from_bytes(plain[:LENGTH_BYTES], "little")
    entries, numbers = json.loads(plain[LENGTH_BYTES:start]), memoryview(plain)[start:]
    texts = {"format": FORMAT, "format_version": as_json(FORMAT_VERSION)}
    texts |= {name: as_json(value) for name, value in sections.items()}
    header = {METADATA: texts, **entries}
    texts["sha256"] = checksum(header, numbers)
    encoded = as_json(header).encode()
    encoded += b" " * (-len(encoded) % LENGTH_BYTES)  # the numbers stay aligned
    if len(encoded) > MAX_HEADER:
        raise ValueError(
            f"the model's labels and names must fit into {MAX_HEADER} bytes of JSON, "
            f"got {len(encoded)}. Fit on shorter names, or save it with joblib."
        )
    return b"".join([len(encoded).to_bytes(LENGTH_BYTES, "little"), encoded, numbers])


def halve(tensors: dict) -> tuple[dict, list]:
    """Return the tensors, large ones in half precision, and the names of these.

    Small ones stay, and so do the stem's random kernels, as which of two answers most
    would flip, and those whose values half precision hardly resolves or reaches.
    """
    largest = torch.finfo(torch.float16).max
    halved = [
        name
        for name, tensor in tensors.items()
        if tensor.dtype == torch.float32
        and tensor.numel() >= MANY_VALUES
        and ".stem.blocks." not in name
        and tensor.abs().max() < largest
        and (tensor - tensor.half().float()).norm() <= ROUNDING * tensor.norm()
    ]
    return {**tensors, **{name: tensors[name].half() for name in halved}}, halved


def unpack(path) -> tuple[dict, dict]:
    """Return the sections and tensors of a model file whose checksum is right."""
    content, sections = read(path)
    try:
        return sections, safetensors.torch.load(content)
    except Exception as error:  # of a kind that safetensors does not document
        message = f"{path} is damaged: its tensors cannot be read ({error})."
        raise ModelFileError(message) from error


def read(path) -> tuple[bytes, dict]:
    """Return the whole content and the sections of a file, or say what is wrong.

    Only a file that looks like one of ours is read beyond its header.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(LENGTH_BYTES)
        length = int.from_bytes(first, "little")
        if length > size - LENGTH_BYTES or length > MAX_HEADER:
            raise not_ours_or_cut_off(path, size, first + file.read(1))
        encoded = file.read(length)
        header = parse_header(path, encoded)
        texts = check_texts(path, header)
        check_version(path, texts)
        check_size(path, size - LENGTH_BYTES - length, header)
        numbers = file.read()
    if checksum(header, numbers) != texts.get("sha256"):
        raise ModelFileError(
            f"{path} is damaged or was changed: its checksum is not that of its "
            "content. Copy it again, or save the model again."
        )
    try:
        sections = {
            name: json.loads(text)
            for name, text in texts.items()
            if name not in ("format", "sha256")
        }
    except (ValueError, RecursionError) as error:
        message = f"{path} is damaged: its description is no JSON ({error})."
        raise ModelFileError(message) from error
    return b"".join([first, encoded, numbers]), sections


def not_ours_or_cut_off(path, size, beginning) -> ModelFileError:
    """Return the error for a file that is shorter than its first bytes say."""
    if size == 0:
        return ModelFileError(
            f"{path} is empty: expected a model that skflowfm saved. Save it again."
        )
    if len(beginning) > LENGTH_BYTES and beginning[LENGTH_BYTES:] == b"{":
        return ModelFileError(
            f"{path} is cut off or damaged: its header should have "
            f"{int.from_bytes(beginning[:LENGTH_BYTES], 'little')} bytes, the whole "
            f"file has {size}. Copy it again, or save the model again."
        )
    return foreign(path, f"a file of {size} bytes that starts with {beginning!r}")


def foreign(path, got) -> ModelFileError:
    """Return the error for a file that is something else."""
    return ModelFileError(
        f"{path} is no model of skflowfm: expected a file that its save method wrote, "
        f"got {got}. A pickle is loaded with the library that wrote it."
    )


def no_number(text):
    """Raise on NaN and infinities, which JSON does not have."""
    raise ValueError(f"{text} is no number of JSON")


def parse_header(path, encoded: bytes) -> dict:
    """Return the header, or raise if it is none."""
    try:
        header = json.loads(encoded.decode(), parse_constant=no_number)
    except (ValueError, RecursionError):
        if not encoded.startswith(b'{"' + METADATA.encode()):
            raise foreign(path, "a file without a header of JSON") from None
        raise ModelFileError(
            f"{path} is damaged: its header is no JSON. Copy it again, or save the "
            "model again."
        ) from None
    if not isinstance(header, dict):
        raise foreign(path, "a file without a header of safetensors")
    return header


def check_texts(path, header) -> dict:
    """Return the texts of a header, or raise if they are not of this format."""
    texts = header.get(METADATA)
    if not isinstance(texts, dict) or texts.get("format") != FORMAT:
        raise foreign(path, "a safetensors file of another kind")
    if not all(isinstance(text, str) for text in texts.values()):
        raise foreign(path, "a header whose entries are no texts")
    return texts


def check_version(path, texts) -> None:
    """Raise on a format that is newer or older than this code's, or none."""
    version = texts.get("format_version", "")
    if not (version.isascii() and version.isdigit() and len(version) < 9):
        raise ModelFileError(
            f"{path} is damaged: its format version should be a number, got "
            f"{version!r}. Copy it again, or save the model again."
        )
    if int(version) > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format version {version}, but this skflowfm reads "
            f"{FORMAT_VERSION}: a newer one wrote it, or the file is damaged. Update "
            "skflowfm."
        )
    if int(version) < FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format version {version}, but this skflowfm reads "
            f"{FORMAT_VERSION}: an older one wrote it, whose encoder was another. "
            "Train the model again, or load it with the skflowfm that wrote it."
        )


def check_size(path, got: int, header) -> None:
    """Raise unless the file has as many bytes of numbers as its header says."""
    try:
        entries = [entry for name, entry in header.items() if name != METADATA]
        expected = max([int(entry["data_offsets"][1]) for entry in entries], default=0)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        raise ModelFileError(
            f"{path} is damaged: its header does not say where the tensors are. Copy "
            "it again, or save the model again."
        ) from None
    if got != expected:
        raise ModelFileError(
            f"{path} is {'cut off' if got < expected else 'too long'}: expected "
            f"{expected} bytes of tensors, got {got}. Copy it again, or save the model "
            "again."
        )


def check_target(path) -> Path:
    """Return where the file at ``path`` is, or will be, or say why it cannot be."""
    target = Path(os.path.realpath(path))
    separators = tuple(filter(None, (os.sep, os.altsep)))
    if target.is_dir() or os.fsdecode(path).endswith(separators):
        raise IsADirectoryError(
            errno.EISDIR, "A model is one file, this is a folder", os.fsdecode(path)
        )
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, "The folder for the model does not exist", str(target.parent)
        )
    return target


def write(path, content: bytes) -> None:
    """Put ``content`` where ``path`` says, all of it or nothing.

    It is written to a file beside it, forced to the disk and renamed. Whoever opens
    ``path`` sees the old content or the new.
    """
    target = check_target(path)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with open(beside, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, beside)
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # a folder that cannot be read; the file is there
        sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Force the renaming to the disk, where folders can be opened."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
