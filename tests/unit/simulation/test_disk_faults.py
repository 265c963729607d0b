"""Each fault of the virtual disk does what it says, and nothing else."""

from __future__ import annotations

import random

import pytest

from quorate.errors import DiskFailed
from quorate.simulation.disk import VirtualDisk

LOG = "wal-1.q"


def durable_file(disk: VirtualDisk, name: str, content: bytes):
    file = disk.open(name, create=True)
    file.write(0, content)
    file.sync()
    disk.sync_directory()
    return file


def content(disk: VirtualDisk, name: str) -> bytes:
    file = disk.open(name)
    return file.read(0, file.size())


def drawn(seed: int):
    return random.Random(seed).randrange


def changed_bits(one: bytes, two: bytes) -> int:
    assert len(one) == len(two)
    return sum((a ^ b).bit_count() for a, b in zip(one, two, strict=True))


# ---- power loss: what the model promised before --------------------------------------------------


def test_files_lose_their_unsynced_writes_independently():
    """Reordering across files: the later write of one may survive where the earlier is lost."""
    seen = set()
    for seed in range(60):
        disk = VirtualDisk()
        one, two = durable_file(disk, "a", b"-"), durable_file(disk, "b", b"-")
        one.write(0, b"1")
        two.write(0, b"2")
        disk.crash(drawn(seed))
        seen.add((content(disk, "a"), content(disk, "b")))
    assert seen == {(b"-", b"-"), (b"1", b"-"), (b"-", b"2"), (b"1", b"2")}


def test_a_new_name_and_the_bytes_of_an_old_file_are_lost_independently():
    """The directory is one more thing whose un-synced changes come in any order."""
    seen = set()
    for seed in range(60):
        disk = VirtualDisk()
        old = durable_file(disk, "a", b"-")
        old.write(0, b"1")
        disk.open("b", create=True)
        disk.crash(drawn(seed))
        seen.add((content(disk, "a"), "b" in disk.names()))
    assert seen == {(b"-", False), (b"1", False), (b"-", True), (b"1", True)}


# ---- rot -----------------------------------------------------------------------------------------


def test_the_end_of_a_log_rots_with_what_is_before_it():
    """The newest write and the one before lose their last bytes; a lone write is spared."""
    disk = VirtualDisk()
    file = durable_file(disk, LOG, b"one")
    assert not disk.rot_end_of_log()
    file.write(3, b"twoo")
    file.sync()
    assert disk.rot_end_of_log()
    disk.crash(drawn(1))
    assert content(disk, LOG) == b"on" + b"\x9a" + b"two" + b"\x90"


def test_rot_changes_bits_of_one_durable_byte_for_good():
    """It is seen at once, and after a power failure."""
    disk = VirtualDisk()
    durable_file(disk, "a", b"\0" * 100)
    assert disk.rot(drawn(1)) == "a"
    found = content(disk, "a")
    assert 1 <= changed_bits(found, b"\0" * 100) <= 8
    assert sum(byte != 0 for byte in found) == 1
    disk.crash(drawn(2))
    assert content(disk, "a") == found
    assert disk.fault_counts().rotten == 1


def test_rot_reaches_every_byte_of_a_plain_file_and_spares_the_newest_write_of_a_log():
    """What a log's newest write holds could pass for torn; everything else is fair game."""
    hit = {"a": set(), LOG: set()}
    for seed in range(400):
        disk = VirtualDisk()
        durable_file(disk, "a", bytes(10))
        file = durable_file(disk, LOG, bytes(10))
        file.write(4, bytes(3))
        file.sync()
        name = disk.rot(drawn(seed))
        (at,) = (at for at, byte in enumerate(content(disk, name)) if byte)
        hit[name].add(at)
    assert hit == {"a": set(range(10)), LOG: {0, 1, 2, 3, 7, 8, 9}}


def test_rot_spares_the_newest_durable_write_even_when_a_later_one_was_torn():
    """After a power failure the last synced write may be the log's end again."""
    for seed in range(100):
        disk = VirtualDisk(sector_bytes=4)
        file = durable_file(disk, LOG, bytes(8))
        file.write(8, bytes(8))
        file.sync()
        file.write(16, b"x" * 8)
        disk.crash(drawn(seed))
        disk.rot(drawn(seed))
        assert content(disk, LOG)[8:16] == bytes(8)


def test_rot_hits_only_the_chosen_kind():
    """A kind, or a test of the name; and nothing when there is no such file."""
    names = ("wal-1.q", "snapshot-1-1.q", "identity.q")
    disk = VirtualDisk()
    for name in names:
        file = durable_file(disk, name, bytes(20))
        file.write(10, bytes(10))
        file.sync()
    for seed in range(20):
        for kind, name in zip(("wal", "snapshot", "identity"), names, strict=True):
            assert disk.rot(drawn(seed), kind) == name
        assert disk.rot(drawn(seed), lambda name: name.endswith("1-1.q")) == names[1]
    assert disk.rot(drawn(0), lambda name: name == "elsewhere") is None
    assert VirtualDisk().rot(drawn(0)) is None


def test_rot_below_an_unsynced_write_is_hidden_and_then_healed_by_it():
    """The platter rots, not the page cache that will overwrite it."""
    disk = VirtualDisk()
    file = durable_file(disk, "a", b"x")
    file.write(0, b"y")
    assert disk.rot(drawn(3)) == "a"
    assert content(disk, "a") == b"y"
    file.sync()
    disk.crash(drawn(0))
    assert content(disk, "a") == b"y"


# ---- lies ----------------------------------------------------------------------------------------


def test_a_lost_write_is_readable_and_synced_until_the_power_fails():
    """Exactly one write is lost, of the chosen file; its size is kept, its bytes are not."""
    disk = VirtualDisk()
    file, other = durable_file(disk, "a", b"12"), durable_file(disk, "b", b"12")
    disk.lose_next_write(lambda name: name == "a")
    other.write(0, b"AB")
    file.write(0, b"ABCD")
    file.write(4, b"EF")
    for each in (file, other):
        each.sync()
    assert content(disk, "a") == b"ABCDEF"
    disk.restart()
    assert content(disk, "a") == b"ABCDEF"
    disk.crash(drawn(0))
    assert content(disk, "a") == b"12\0\0EF"
    assert content(disk, "b") == b"AB"
    assert disk.fault_counts().lost == 1


def test_a_misdirected_write_lands_elsewhere_and_not_where_it_should():
    """Both the hole and the damage are durable; the writer reads what it wrote."""
    landings = set()
    for seed in range(60):
        disk = VirtualDisk()
        file, _ = durable_file(disk, "a", b"-" * 20), durable_file(disk, "b", b"-" * 20)
        disk.misdirect_next_write(drawn(seed))
        file.write(8, b"XYZ")
        file.sync()
        assert content(disk, "a")[8:11] == b"XYZ"
        disk.crash(drawn(seed))
        one, two = content(disk, "a"), content(disk, "b")
        assert one[8:11] == b"---"
        assert b"X" in one + two
        assert len(one) == len(two) == 20
        landings.add("a" if b"X" in one else "b")
    assert landings == {"a", "b"}
    assert disk.fault_counts().misdirected == 1


def test_a_misdirected_write_spares_the_newest_write_of_a_log():
    """Damage there could pass for torn: the lie would be two faults."""
    for seed in range(200):
        disk = VirtualDisk()
        file = durable_file(disk, LOG, b"old" * 10)
        file.write(30, b"newest")
        file.sync()
        other = durable_file(disk, "b", b"-" * 8)
        disk.misdirect_next_write(drawn(seed))
        other.write(0, b"XXXX")
        other.sync()
        disk.crash(drawn(seed))
        assert content(disk, LOG)[30:] == b"newest"


def log_with_a_lie(disk: VirtualDisk, *, sync: bool = True):
    file = durable_file(disk, LOG, b"one.")
    disk.lose_next_write("wal")
    file.write(4, b"two.")
    if sync:
        file.sync()
    return file


def test_silent_damage_is_a_lie_in_the_newest_write_of_the_log():
    """Nothing vouches for it any more, so only the disk itself can tell."""
    disk = VirtualDisk()
    log_with_a_lie(disk)
    assert not disk.silent_damage
    disk.restart()
    assert not disk.silent_damage, "the page cache still tells the truth"
    disk.crash(drawn(0))
    assert disk.silent_damage
    assert disk.clone().silent_damage
    disk.crash(drawn(0))
    assert disk.silent_damage, "it does not go away by itself"
    disk.wipe()
    assert not disk.silent_damage


def test_a_lie_is_not_silent_when_a_later_write_of_the_log_is_durable():
    """Then the next start can see the hole."""
    disk = VirtualDisk()
    file = log_with_a_lie(disk)
    file.write(8, b"end.")
    file.sync()
    disk.crash(drawn(0))
    assert content(disk, LOG) == b"one.\0\0\0\0end."
    assert not disk.silent_damage


def test_a_lie_healed_by_writing_again_is_not_silent():
    """As a start does with the newest group."""
    disk = VirtualDisk()
    file = log_with_a_lie(disk)
    file.write(4, b"two.")
    file.sync()
    disk.crash(drawn(0))
    assert content(disk, LOG) == b"one.two."
    assert not disk.silent_damage


def test_a_lie_that_was_never_acknowledged_is_not_silent_damage():
    """Without a sync nothing was promised."""
    disk = VirtualDisk()
    log_with_a_lie(disk, sync=False)
    disk.crash(lambda n: n - 1)
    assert not disk.silent_damage


def test_a_lost_write_of_anything_but_a_log_is_not_silent():
    """Snapshots and the identity carry checksums of the whole."""
    disk = VirtualDisk()
    disk.lose_next_write()
    durable_file(disk, "identity.q", b"me")
    disk.crash(drawn(0))
    assert content(disk, "identity.q") == b"\0\0"
    assert not disk.silent_damage


# ---- errors --------------------------------------------------------------------------------------


def test_a_failed_sync_drops_the_pages_and_the_next_one_lies():
    """EIO once; afterwards everything looks well and the bytes are on no platter."""
    disk = VirtualDisk()
    file = durable_file(disk, "a", b"old")
    file.write(0, b"new")
    disk.fail_next_sync()
    with pytest.raises(DiskFailed, match=r"cannot sync a: .*EIO"):
        file.sync()
    file.sync()
    assert content(disk, "a") == b"new"
    disk.crash(drawn(0))
    assert content(disk, "a") == b"old"


def test_a_failed_sync_of_the_directory_leaves_its_changes_at_risk():
    """The kind ``directory`` leaves files alone."""
    disk = VirtualDisk()
    disk.fail_next_sync("directory")
    file = disk.open("a", create=True)
    file.sync()
    with pytest.raises(DiskFailed, match="cannot sync the directory"):
        disk.sync_directory()
    disk.crash(lambda n: 0)
    assert disk.names() == []


def test_reads_of_chosen_files_fail_until_told_otherwise():
    """Other files are read, and writes work."""
    disk = VirtualDisk()
    file, other = durable_file(disk, "a", b"1"), durable_file(disk, "b", b"2")
    disk.fail_reads(lambda name: name == "a")
    with pytest.raises(DiskFailed, match=r"cannot read a at byte 0: .*EIO"):
        file.read(0, 1)
    assert other.read(0, 1) == b"2"
    file.write(0, b"3")
    disk.fail_reads(None)
    assert file.read(0, 1) == b"3"


def test_a_lost_sector_gives_eio_until_it_is_written():
    """Latent sector errors outlive power failures, and spare the sectors beside them."""
    disk = VirtualDisk(sector_bytes=4)
    durable_file(disk, "a", b"aaaabbbbcccc")
    disk.lose_sectors("a", 5, 1)
    disk.crash(drawn(0))
    file = disk.open("a")
    assert file.read(0, 4) + file.read(8, 4) == b"aaaacccc"
    with pytest.raises(DiskFailed, match="EIO"):
        file.read(3, 2)
    file.write(4, b"BBBB")
    assert file.read(0, 12) == b"aaaaBBBBcccc"


def test_decay_draws_a_place_and_calm_ends_it():
    """The drawn variant names its victim."""
    disk = VirtualDisk(sector_bytes=4)
    durable_file(disk, "a", bytes(100))
    assert disk.decay(drawn(1), "wal") is None
    assert disk.decay(drawn(1)) == "a"
    with pytest.raises(DiskFailed):
        content(disk, "a")
    disk.calm()
    assert content(disk, "a") == bytes(100)


def test_a_full_disk_takes_what_fits_and_says_so():
    """Growth and new files fail with ENOSPC; overwriting and removing work; space comes back."""
    disk = VirtualDisk()
    file, _ = durable_file(disk, "a", b"1234"), durable_file(disk, "b", b"5678")
    disk.fill(2)
    with pytest.raises(DiskFailed, match=r"cannot write a: No space left on device \(ENOSPC\)"):
        file.write(2, b"ABCDEF")
    assert content(disk, "a") == b"12ABCD"
    file.write(0, b"ab")
    with pytest.raises(DiskFailed, match=r"cannot create c: .*ENOSPC"):
        disk.open("c", create=True)
    disk.remove("b")
    file.write(6, b"EFGH")
    with pytest.raises(DiskFailed, match="ENOSPC"):
        file.write(10, b"!")
    disk.free()
    file.write(10, b"!")
    assert content(disk, "a") == b"abABCDEFGH!"
    assert disk.fault_counts().no_space == 3


def test_calm_disarms_everything():
    """The quiet half of a run has a disk that works."""
    disk = VirtualDisk()
    file = durable_file(disk, "a", b"1")
    disk.lose_next_write()
    disk.misdirect_next_write(drawn(0))
    disk.fail_next_sync()
    disk.fail_reads()
    disk.fill()
    disk.calm()
    file.write(1, b"2")
    file.sync()
    disk.crash(drawn(0))
    assert content(disk, "a") == b"12"
    assert not any(disk.fault_counts())
