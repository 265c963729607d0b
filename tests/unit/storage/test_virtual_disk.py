"""What the virtual disk loses, and what it never loses."""

from __future__ import annotations

import random

import pytest

from quorate.errors import DiskFailed
from quorate.simulation.disk import VirtualDisk


def durable_file(disk: VirtualDisk, name: str, content: bytes):
    file = disk.open(name, create=True)
    file.write(0, content)
    file.sync()
    disk.sync_directory()
    return file


def outcomes(prepare, look, tries: int = 200) -> set:
    """What ``look`` sees after crashes with different draws."""
    seen = set()
    for seed in range(tries):
        disk = VirtualDisk(sector_bytes=4)
        prepare(disk)
        disk.crash(random.Random(seed).randrange)
        seen.add(look(disk))
    return seen


def content(disk: VirtualDisk, name: str = "a") -> bytes | None:
    if name not in disk.names():
        return None
    file = disk.open(name)
    return file.read(0, file.size())


def test_what_was_synced_stays_exactly():
    """A crash never touches synced bytes under synced names."""
    assert outcomes(lambda disk: durable_file(disk, "a", b"12345678"), content) == {b"12345678"}


def test_an_unsynced_write_is_kept_lost_or_torn_in_whole_sectors():
    """Each sector is old or new, in every combination of runs."""

    def prepare(disk):
        durable_file(disk, "a", b"aaaabbbbcccc").write(0, b"AAAABBBBCCCC")

    seen = outcomes(prepare, content)
    assert {b"aaaabbbbcccc", b"AAAABBBBCCCC", b"aaaaBBBBcccc", b"AAAAbbbbCCCC"} <= seen
    for found in seen:
        for offset, old in ((0, b"aaaa"), (4, b"bbbb"), (8, b"cccc")):
            assert found[offset : offset + 4] in (old, old.upper())


def test_unsynced_writes_are_reordered():
    """A later write may survive where an earlier one does not."""

    def prepare(disk):
        file = durable_file(disk, "a", b"........")
        file.write(0, b"1111")
        file.write(4, b"2222")

    seen = outcomes(prepare, content)
    assert {b"....2222", b"1111....", b"11112222", b"........"} == seen


def test_a_lost_write_before_a_kept_one_leaves_zeros():
    """A grown file may have holes."""

    def prepare(disk):
        file = durable_file(disk, "a", b"")
        file.write(0, b"1111")
        file.write(4, b"2222")

    assert b"\0\0\0\x002222" in outcomes(prepare, content)


def test_an_unsynced_truncation_may_be_lost():
    """A change of size is a write like any other."""

    def prepare(disk):
        durable_file(disk, "a", b"12345678").truncate(2)

    assert outcomes(prepare, content) == {b"12345678", b"12"}


def test_a_created_file_may_vanish_although_its_bytes_were_synced():
    """Only the directory's sync makes a name durable."""

    def prepare(disk):
        file = disk.open("a", create=True)
        file.write(0, b"synced")
        file.sync()

    assert outcomes(prepare, content) == {None, b"synced"}


def test_an_unsynced_rename_may_be_lost_or_half_ordered():
    """After the crash the file has its old or its new name, never both and never none."""

    def prepare(disk):
        durable_file(disk, "a", b"A")
        durable_file(disk, "b", b"B")
        disk.rename("a", "b")

    seen = outcomes(prepare, lambda disk: (content(disk, "a"), content(disk, "b")))
    assert seen == {(b"A", b"B"), (None, b"A")}


def test_an_unsynced_removal_may_come_back():
    """A removed file returns with its synced bytes."""

    def prepare(disk):
        durable_file(disk, "a", b"A")
        disk.remove("a")

    assert outcomes(prepare, content) == {None, b"A"}


def test_unsynced_directory_changes_survive_in_any_subset():
    """Of two renames the later one alone may survive."""

    def prepare(disk):
        durable_file(disk, "a", b"A")
        durable_file(disk, "b", b"B")
        disk.rename("a", "c")
        disk.rename("b", "d")

    assert ("a", "d") in outcomes(prepare, lambda disk: tuple(disk.names()))


def test_a_rename_takes_the_file_it_was_given_and_no_namesake():
    """A name used twice before the crash never brings back the first file under the new name."""

    def prepare(disk):
        disk.open("tmp", create=True).write(0, b"old")
        disk.remove("tmp")
        file = disk.open("tmp", create=True)
        file.write(0, b"new")
        file.sync()
        disk.rename("tmp", "final")

    assert outcomes(prepare, lambda disk: content(disk, "final")) == {None, b"new"}


def test_handles_die_with_the_crash():
    """A restarted machine has no open files."""
    disk = VirtualDisk()
    file = durable_file(disk, "a", b"x")
    disk.crash(lambda n: 0)
    with pytest.raises(DiskFailed):
        file.read(0, 1)
    assert content(disk) == b"x"


def test_the_same_draws_give_the_same_bytes():
    """Determinism: the base of every reproduction line."""

    def run(seed: int) -> list:
        disk = VirtualDisk(sector_bytes=4)
        for name in "abc":
            disk.open(name, create=True).write(0, name.encode() * 40)
        disk.crash(random.Random(seed).randrange)
        return [(name, content(disk, name)) for name in disk.names()]

    assert [run(seed) for seed in range(20)] == [run(seed) for seed in range(20)]


def test_fail_after_lets_exactly_that_many_operations_through():
    """Reads are free; everything after the budget fails, reads included: the disk is dead."""
    disk = VirtualDisk()
    disk.fail_after(2)
    file = disk.open("a", create=True)
    file.read(0, 1)
    file.write(0, b"x")
    with pytest.raises(DiskFailed, match="EIO"):
        file.sync()
    with pytest.raises(DiskFailed):
        disk.names()
    disk.crash(lambda n: 0)
    assert disk.names() == []


def test_the_hook_can_refuse_one_operation():
    """A failing fsync, and nothing else."""

    def refuse(operation: str, name: str) -> None:
        if operation == "sync":
            raise DiskFailed(f"cannot sync {name}: No space left (ENOSPC)")

    disk = VirtualDisk()
    disk.hook = refuse
    file = disk.open("a", create=True)
    file.write(0, b"x")
    with pytest.raises(DiskFailed, match="ENOSPC"):
        file.sync()
    assert file.read(0, 1) == b"x"


def test_operations_are_counted():
    """Tests assert how many syncs something costs."""
    disk = VirtualDisk()
    durable_file(disk, "a", b"12345")
    counts = disk.counts()
    assert counts == (4, 1, 5, 1, 1)


def test_a_clone_is_independent_and_keeps_what_is_pending():
    """One state, many fates."""
    disk = VirtualDisk()
    file = durable_file(disk, "a", b"old")
    file.write(0, b"new")
    disk.rename("a", "b")
    twin = disk.clone()
    file.write(0, b"xxx")
    assert content(twin, "b") == b"new"
    twin.crash(lambda n: 0)
    assert content(twin, "a") == b"old"
    assert content(disk, "b") == b"xxx"


def test_rot_and_loss_are_durable():
    """``flip`` and ``wipe`` survive any crash."""
    disk = VirtualDisk()
    durable_file(disk, "a", b"\x00")
    disk.flip("a", 0, 0x80)
    disk.crash(lambda n: 0)
    assert content(disk) == b"\x80"
    disk.wipe()
    disk.crash(lambda n: n - 1)
    assert disk.names() == []


def test_a_restart_loses_nothing_and_syncs_nothing():
    """A killed process leaves its bytes readable, and still at risk."""
    disk = VirtualDisk()
    file = durable_file(disk, "a", b"old")
    file.write(0, b"new")
    disk.restart()
    with pytest.raises(DiskFailed):
        file.size()
    assert content(disk) == b"new"
    disk.crash(lambda n: 0)
    assert content(disk) == b"old"


def test_bytes_of_a_refused_sync_are_readable_but_never_durable_unless_written_again():
    """What Linux does after EIO: a repeated sync succeeds and means nothing."""

    def refuse(operation: str, name: str) -> None:
        if operation == "sync":
            raise DiskFailed("EIO")

    disk = VirtualDisk()
    file = durable_file(disk, "a", b"old")
    file.write(0, b"new")
    disk.hook = refuse
    with pytest.raises(DiskFailed):
        file.sync()
    disk.hook = None
    file.sync()
    assert content(disk) == b"new"
    disk.crash(lambda n: n - 1)
    assert content(disk) == b"old"
