"""What only the real disk has: locks, modes, errno."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys

import pytest

from quorate.errors import DiskFailed, WrongDirectory
from quorate.storage.real_disk import RealDisk


def test_a_new_data_directory_is_private(tmp_path):
    """Nobody but the owner may look into a data directory, or into its files."""
    disk = RealDisk(tmp_path / "deep" / "data")
    disk.open("a", create=True).close()
    assert stat.S_IMODE((tmp_path / "deep" / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "deep" / "data" / "a").stat().st_mode) == 0o600
    disk.close()


def test_a_second_holder_is_refused_with_the_first_ones_pid(tmp_path):
    """Two processes never share a data directory."""
    disk = RealDisk(tmp_path)
    with pytest.raises(WrongDirectory, match=rf"in use by another process \(pid {os.getpid()}\)"):
        RealDisk(tmp_path)
    disk.close()
    RealDisk(tmp_path).close()


def test_another_process_is_refused(tmp_path):
    """The lock holds between processes and goes with its holder."""
    code = "import sys; from quorate.storage.real_disk import RealDisk; RealDisk(sys.argv[1])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def start() -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", code, str(tmp_path)]
        return subprocess.run(command, check=False, capture_output=True, env=environment, text=True)

    disk = RealDisk(tmp_path)
    refused = start()
    assert refused.returncode != 0
    assert "WrongDirectory" in refused.stderr
    disk.close()
    assert start().returncode == 0
    RealDisk(tmp_path).close()


@pytest.mark.parametrize("call", ["pread", "pwrite", "fdatasync", "ftruncate", "fstat"])
def test_every_os_error_becomes_disk_failed_and_names_the_file(tmp_path, monkeypatch, call):
    """Operation, file and errno are in the message; nothing is retried."""
    disk = RealDisk(tmp_path)
    file = disk.open("wal.q", create=True)
    calls = []

    def fail(*arguments, **keywords):
        calls.append(call)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    act = {
        "pread": lambda: file.read(0, 1),
        "pwrite": lambda: file.write(0, b"x"),
        "fdatasync": file.sync,
        "ftruncate": lambda: file.truncate(0),
        "fstat": file.size,
    }[call]
    with pytest.raises(DiskFailed, match=r"wal\.q( at byte 0)?: Input/output error \(EIO\)"):
        act()
    assert calls == [call]
    monkeypatch.undo()
    disk.close()


def test_a_full_disk_says_so(tmp_path, monkeypatch):
    """ENOSPC reaches people by name."""
    disk = RealDisk(tmp_path)
    file = disk.open("wal.q", create=True)

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DiskFailed, match="ENOSPC"):
        file.write(0, b"x")
    monkeypatch.undo()
    disk.close()


def test_short_reads_and_writes_are_continued(tmp_path, monkeypatch):
    """The operating system may do less than it was asked to."""
    disk = RealDisk(tmp_path)
    file = disk.open("a", create=True)
    pwrite, pread = os.pwrite, os.pread
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, bytes(data[:3]), at))
    file.write(0, b"0123456789")
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, 4), at))
    assert file.read(0, 100) == b"0123456789"
    assert file.read(2, 6) == b"234567"
    monkeypatch.undo()
    disk.close()


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "LOCK", "x" * 101, "ü"])
def test_names_are_flat_and_plain(tmp_path, name):
    """A name can never leave the directory."""
    disk = RealDisk(tmp_path)
    with pytest.raises(AssertionError):
        disk.open(name, create=True)
    disk.close()


def test_a_file_in_place_of_the_directory_is_an_error(tmp_path):
    """The message names the path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskFailed, match="file"):
        RealDisk(tmp_path / "file")


def test_symbolic_links_are_not_followed(tmp_path):
    """A planted link cannot redirect the log."""
    (tmp_path / "target").write_text("secret")
    disk = RealDisk(tmp_path / "data")
    (tmp_path / "data" / "wal.q").symlink_to(tmp_path / "target")
    with pytest.raises(DiskFailed, match="ELOOP"):
        disk.open("wal.q")
    disk.close()
