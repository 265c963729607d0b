"""One contract for the virtual and the real disk: a fake is only worth what it shares with it."""

from __future__ import annotations

import pytest

from quorate.errors import DiskFailed
from quorate.simulation.disk import VirtualDisk
from quorate.storage.real_disk import RealDisk


@pytest.fixture(params=["virtual", "real"])
def disk(request, tmp_path):
    if request.param == "virtual":
        yield VirtualDisk()
        return
    real = RealDisk(tmp_path / "data")
    yield real
    real.close()


def test_an_empty_disk_has_no_names(disk):
    """The lock file and the like are nobody's business."""
    assert disk.names() == []


def test_written_bytes_are_read_back(disk):
    """Reads see writes before any sync."""
    file = disk.open("a", create=True)
    file.write(0, b"hello")
    file.write(3, b"p!")
    assert file.read(0, 100) == b"help!"
    assert file.read(1, 2) == b"el"
    assert file.size() == 5


def test_reading_at_or_behind_the_end_gives_nothing(disk):
    """The end of a file is no error."""
    file = disk.open("a", create=True)
    file.write(0, b"xyz")
    assert file.read(3, 10) == b""
    assert file.read(300, 10) == b""
    assert file.read(2, 10) == b"z"


def test_a_write_behind_the_end_leaves_zeros(disk):
    """A gap reads as zeros."""
    file = disk.open("a", create=True)
    file.write(4, b"end")
    assert file.read(0, 10) == b"\0\0\0\0end"


def test_truncate_shortens_and_lengthens(disk):
    """Cut bytes do not come back when the file grows again."""
    file = disk.open("a", create=True)
    file.write(0, b"abcdef")
    file.truncate(2)
    file.truncate(4)
    assert file.read(0, 10) == b"ab\0\0"


def test_two_handles_share_one_file(disk):
    """Handles are views of the file, not copies."""
    one = disk.open("a", create=True)
    two = disk.open("a")
    one.write(0, b"x")
    assert two.read(0, 1) == b"x"


def test_create_refuses_an_existing_file(disk):
    """``create`` never overwrites."""
    disk.open("a", create=True).write(0, b"keep")
    with pytest.raises(DiskFailed, match=r"a: File exists \(EEXIST\)"):
        disk.open("a", create=True)
    assert disk.open("a").read(0, 9) == b"keep"


def test_a_missing_file_is_an_error_that_names_it(disk):
    """Opening, renaming and removing something that is not there fail alike."""
    for act in (lambda: disk.open("gone"), lambda: disk.remove("gone")):
        with pytest.raises(DiskFailed, match=r"gone.*ENOENT"):
            act()
    with pytest.raises(DiskFailed, match=r"gone.*ENOENT"):
        disk.rename("gone", "b")


def test_rename_replaces_the_target(disk):
    """The old target's bytes are gone, the moved file's bytes are there."""
    disk.open("a", create=True).write(0, b"new")
    disk.open("b", create=True).write(0, b"older")
    disk.rename("a", "b")
    assert disk.names() == ["b"]
    assert disk.open("b").read(0, 9) == b"new"


def test_an_open_handle_follows_a_rename_and_outlives_removal(disk):
    """A handle is the file, not its name."""
    file = disk.open("a", create=True)
    disk.rename("a", "b")
    file.write(0, b"x")
    assert disk.open("b").read(0, 1) == b"x"
    disk.remove("b")
    assert file.read(0, 1) == b"x"
    assert disk.names() == []


def test_names_are_sorted(disk):
    """Order never depends on the file system."""
    for name in ("b", "a", "c-1.q"):
        disk.open(name, create=True).close()
    assert disk.names() == ["a", "b", "c-1.q"]


def test_a_closed_handle_refuses(disk):
    """Closing twice is harmless; using a closed handle is not."""
    file = disk.open("a", create=True)
    file.close()
    file.close()
    for act in (lambda: file.read(0, 1), lambda: file.write(0, b"x"), file.sync, file.size):
        with pytest.raises(DiskFailed, match="EBADF"):
            act()


def test_syncs_return_nothing_and_may_be_repeated(disk):
    """A sync without anything to do is fine."""
    file = disk.open("a", create=True)
    file.write(0, b"x" * 10_000)
    assert file.sync() is None
    assert file.sync() is None
    assert disk.sync_directory() is None
    assert file.read(9_999, 5) == b"x"


def test_any_bytes_like_object_can_be_written(disk):
    """Writers may hand over views instead of copies."""
    file = disk.open("a", create=True)
    file.write(0, memoryview(b"abc"))
    file.write(3, bytearray(b"def"))
    assert file.read(0, 9) == b"abcdef"
