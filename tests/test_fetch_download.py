"""Downloads: whole or not at all, resumed, checked, and one at a time."""

import errno
import hashlib
import io
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import skflowfm
from skflowfm.datasets import _download
from skflowfm.datasets._checksum import verify
from skflowfm.datasets._download import download_zip, get_data_home


def zipped(seed=0, n_bytes=20_000):
    """An archive that does not compress, so that it has about ``n_bytes``."""
    noise = np.random.default_rng(seed).bytes(n_bytes)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("noise.bin", noise)
    return buffer.getvalue()


CONTENT = zipped()
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Send ``server.content``, as far as the next of ``server.limits`` allows."""

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append(asked)
        first = int(asked[6:-1]) if asked and server.ranges else 0
        size = len(server.content)
        if first >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        if server.tell_length:
            self.send_header("Content-Length", str(size - first))
        self.end_headers()
        limit = server.limits.pop(0) if server.limits else size
        body = server.content[first : first + limit]
        for begin in range(0, len(body), 1000):
            try:
                self.wfile.write(body[begin : begin + 1000])
            except OSError:
                return  # the client was killed
            server.resume.wait()
            time.sleep(server.pause)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.content, http.requests, http.limits = CONTENT, [], []
        http.ranges = http.tell_length = True
        http.pause, http.resume = 0, threading.Event()
        http.resume.set()
        http.url = f"http://127.0.0.1:{http.server_port}/data.zip"
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield http
        http.resume.set()
        http.shutdown()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "folder" / "data.zip"


def left(path):
    return sorted(p.name for p in path.parent.iterdir())


DONE = ["data.zip", "data.zip.sha256"]


# ------------------------------------------------------------------ all is well
def test_the_file_arrives_with_its_checksum_and_nothing_else(server, path):
    download_zip(server.url, path)
    assert path.read_bytes() == CONTENT
    assert path.with_name("data.zip.sha256").read_text() == f"{DIGEST}  data.zip\n"
    assert left(path) == DONE
    assert server.requests == [None]


def test_a_length_that_is_not_told_does_not_matter(server, path):
    server.tell_length = False
    download_zip(server.url, path, sha256=DIGEST)
    assert path.read_bytes() == CONTENT


def test_progress_is_reported_only_if_asked_for(server, path, tmp_path, capsys):
    download_zip(server.url, path)
    assert capsys.readouterr() == ("", "")
    download_zip(server.url, tmp_path / "again.zip", verbose=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert "again.zip" in said.err
    assert "100%" in said.err


# ------------------------------------------------------------------ cut off
def test_a_cut_connection_is_taken_up_within_one_call(server, path):
    server.limits = [5000]
    download_zip(server.url, path)
    assert path.read_bytes() == CONTENT
    assert server.requests == [None, "bytes=5000-"]


def test_what_was_cut_off_is_kept_and_the_next_call_goes_on(server, path):
    server.limits = [5000, 0]
    with pytest.raises(ConnectionError, match="closed before the end"):
        download_zip(server.url, path)
    assert left(path) == ["data.zip.part"]
    assert path.with_name("data.zip.part").read_bytes() == CONTENT[:5000]
    download_zip(server.url, path)
    assert path.read_bytes() == CONTENT
    assert server.requests[-1] == "bytes=5000-"
    assert left(path) == DONE


def test_a_server_that_always_sends_everything_is_no_obstacle(server, path):
    server.limits, server.ranges = [5000, 0], False
    with pytest.raises(ConnectionError):
        download_zip(server.url, path)
    download_zip(server.url, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("there", "n_requests"), [(CONTENT, 1), (CONTENT + b"more", 2), (b"", 1)]
)
def test_a_partial_file_of_any_length_ends_well(server, path, there, n_requests):
    path.parent.mkdir(parents=True)
    path.with_name("data.zip.part").write_bytes(there)
    download_zip(server.url, path)
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == n_requests
    assert left(path) == DONE


def test_a_partial_file_of_something_else_is_found_out(server, path):
    path.parent.mkdir(parents=True)
    path.with_name("data.zip.part").write_bytes(zipped(seed=1)[:5000])
    with pytest.raises(OSError, match="not a whole zip archive"):
        download_zip(server.url, path)
    assert left(path) == []
    download_zip(server.url, path)
    assert path.read_bytes() == CONTENT


# ------------------------------------------------------------------ damaged
def flip(content, position):
    return (
        content[:position] + bytes([content[position] ^ 255]) + content[position + 1 :]
    )


def with_flag(content):
    """The same archive, but said to be encrypted."""
    return flip_bit(content, content.rindex(b"PK\1\2") + 8)


def with_method(content):
    """The same archive, but said to be packed in a way that nobody knows."""
    at = content.rindex(b"PK\1\2") + 10
    return content[:at] + b"\x63" + content[at + 1 :]


def flip_bit(content, position):
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize(
    "content",
    [
        b"<html>Not found</html>",
        CONTENT[:-100],
        flip(CONTENT, 9000),
        with_flag(CONTENT),
        with_method(CONTENT),
        b"",
    ],
    ids=["a page", "truncated", "one byte wrong", "password", "method", "empty"],
)
def test_what_is_no_whole_archive_is_not_kept(server, path, content):
    server.content, server.tell_length = content, False
    if not content:
        server.content, server.limits = CONTENT, [0]
    with pytest.raises(OSError, match=r"not a whole zip archive.*Try again"):
        download_zip(server.url, path)
    assert left(path) == []


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(server, path):
    with pytest.raises(OSError, match=f"published SHA-256 checksum {'0' * 64}"):
        download_zip(server.url, path, sha256="0" * 64)
    assert left(path) == []


def test_the_recorded_checksum_is_held_against_a_later_download(server, path):
    download_zip(server.url, path)
    path.unlink()
    server.content = zipped(seed=1)
    with pytest.raises(OSError, match=r"recorded.*another version.*remove"):
        download_zip(server.url, path)
    assert left(path) == ["data.zip.sha256"]


def test_a_file_that_changed_on_disk_is_noticed(server, path):
    download_zip(server.url, path)
    verify(path)
    path.write_bytes(flip(CONTENT, 9000))
    with pytest.raises(OSError, match=r"recorded.*damaged"):
        verify(path)


def test_the_checksum_of_a_file_put_there_by_hand_is_recorded(tmp_path):
    file = tmp_path / "data.zip"
    file.write_bytes(CONTENT)
    verify(file)
    assert (tmp_path / "data.zip.sha256").read_text().startswith(DIGEST)
    with pytest.raises(OSError, match="published"):
        verify(file, sha256="0" * 64)


# ------------------------------------------------------------------ no way, no space
def test_a_damaged_file_put_there_by_hand_is_not_taken_for_the_right_one(tmp_path):
    file = tmp_path / "data.zip"
    file.write_bytes(CONTENT[:-100])
    with pytest.raises(OSError, match=r"data\.zip is not a whole zip archive"):
        verify(file)
    file.write_bytes(CONTENT)
    verify(file)


@pytest.mark.parametrize(
    "record",
    ["", "Prüfsumme", DIGEST.upper() + "  data.zip"],
    ids=["empty", "words", "upper case"],
)
def test_what_is_no_checksum_is_no_record_and_case_does_not_matter(tmp_path, record):
    file = tmp_path / "data.zip"
    file.write_bytes(CONTENT)
    (tmp_path / "data.zip.sha256").write_text(record, "utf-8")
    verify(file)
    assert (tmp_path / "data.zip.sha256").read_text().lower().startswith(DIGEST)


def test_without_a_server_there_is_an_error_and_no_file(server, path):
    server.shutdown()
    server.server_close()
    with pytest.raises(
        ConnectionError, match=r"Could not download http://127\.0\.0\.1"
    ):
        download_zip(server.url, path)
    assert left(path) == []


def test_too_little_space_is_seen_before_the_download(server, path, monkeypatch):
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr(_download.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match=f"{len(CONTENT)} bytes needed") as info:
        download_zip(server.url, path)
    assert info.value.errno == errno.ENOSPC
    assert left(path) == []


def test_what_had_arrived_is_kept_if_the_rest_does_not_fit(server, path, monkeypatch):
    server.limits = [5000, 0]
    with pytest.raises(ConnectionError, match="5000 bytes are kept: call again"):
        download_zip(server.url, path)
    usage = SimpleNamespace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(_download.shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(OSError, match="5000 bytes that had arrived are kept"):
            download_zip(server.url, path)
    download_zip(server.url, path)
    assert path.read_bytes() == CONTENT
    assert server.requests[-1] == "bytes=5000-"


def test_a_disk_that_fills_up_keeps_nothing(server, path, monkeypatch):
    append = _download._Partial.append

    def full(part, block):
        append(part, block[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_download._Partial, "append", full)
    with pytest.raises(OSError, match=r"No space left.*another disk") as info:
        download_zip(server.url, path)
    assert info.value.errno == errno.ENOSPC
    assert left(path) == []


# ------------------------------------------------------------------ several processes
CODE = """
import pathlib, sys, types
for name, folder in [("skflowfm", ""), ("skflowfm.datasets", "/datasets")]:
    package = types.ModuleType(name)
    package.__path__ = [sys.argv[1] + folder]
    sys.modules[name] = package
from skflowfm.datasets._download import download_zip
download_zip(sys.argv[2], pathlib.Path(sys.argv[3]), verbose=True)
"""


@pytest.fixture
def start(server, path):
    """Return a function that starts a process which downloads, and does no more."""
    package = str(Path(skflowfm.__file__).parent)
    command = [sys.executable, "-c", CODE, package, server.url, str(path)]
    processes = []

    def start_one():
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_begun(path):
    part = path.with_name("data.zip.part")
    return part.exists() and part.stat().st_size > 0


def test_of_two_processes_one_downloads_and_both_have_the_file(server, path, start):
    pytest.importorskip("fcntl")
    server.resume.clear()
    first = start()
    wait_for(lambda: has_begun(path))
    second = start()
    assert second.stderr.readline().startswith("Waiting for another process")
    server.resume.set()
    _, said = second.communicate(timeout=20)
    first.communicate(timeout=20)
    assert (first.returncode, second.returncode) == (0, 0), said
    assert path.read_bytes() == CONTENT
    assert server.requests == [None]
    assert left(path) == DONE


def test_a_killed_process_leaves_a_part_from_which_the_next_goes_on(
    server, path, start
):
    pytest.importorskip("fcntl")
    server.resume.clear()
    process = start()
    wait_for(lambda: has_begun(path))
    process.kill()
    process.wait(timeout=20)
    server.resume.set()
    assert left(path) == ["data.zip.part"]
    there = path.with_name("data.zip.part").stat().st_size
    assert 0 < there < len(CONTENT)
    download_zip(server.url, path)
    assert path.read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={there}-"]


def no_locks(*args):
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.mark.parametrize("why", ["no such module", "no such file system"])
def test_without_locks_every_process_has_a_partial_file_of_its_own(
    server, path, monkeypatch, why
):
    if why == "no such module":
        monkeypatch.setattr(_download, "fcntl", None)
    else:
        pytest.importorskip("fcntl")
        monkeypatch.setattr(_download.fcntl, "flock", no_locks)
    download_zip(server.url, path)
    assert path.read_bytes() == CONTENT
    assert left(path) == DONE


def test_without_locks_nothing_is_kept_of_a_download_that_was_cut_off(
    server, path, monkeypatch
):
    monkeypatch.setattr(_download, "fcntl", None)
    server.limits = [5000, 0]
    with pytest.raises(ConnectionError):
        download_zip(server.url, path)
    assert left(path) == []


# ------------------------------------------------------------------ where
def test_the_folder_must_be_a_path_of_somebody_who_is_here():
    with pytest.raises(TypeError, match="data_home must be a path or None, got 3"):
        get_data_home(3)
    with pytest.raises(ValueError, match="data_home must be a folder, got '~nobody-i"):
        get_data_home("~nobody-is-called-that/data")


def test_the_folder_is_given_or_that_of_the_environment_or_at_home(monkeypatch):
    monkeypatch.setenv("SKFLOWFM_DATA", "/from/environment")
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("USERPROFILE", "/home/someone")
    assert get_data_home("here") == Path("here")
    assert get_data_home("~/there") == Path("/home/someone/there")
    assert get_data_home() == Path("/from/environment")
    monkeypatch.delenv("SKFLOWFM_DATA")
    assert get_data_home() == Path("/home/someone/skflowfm_data")
