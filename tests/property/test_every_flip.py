"""PL-4: every single flipped byte of a small directory is detected, or it is harmless.

The directory has everything that there is: several segments, a spare, two snapshots, an identity.
For each byte of each file ``quorate log`` is asked, and a node starts with it; the two must agree,
and what is believed must be true.
"""

from __future__ import annotations

from collections import Counter

import pytest
from small_log import open_store, payload

from quorate.consensus.entry import Entry, Persist, Recovered, SnapshotMeta
from quorate.errors import CorruptData, WrongDirectory
from quorate.simulation.disk import VirtualDisk
from quorate.storage.inspection import Verdict, inspect_directory

LAST = 24


def small_directory(*, is_closed: bool) -> VirtualDisk:
    """Entries 1 to 24 in epoch 1; snapshots at 6 and 12, compacted to 12."""
    disk = VirtualDisk()
    store, _ = open_store(disk, may_repair=False)
    for index in range(1, LAST + 1):
        vote = b"%d" % index if index % 5 == 0 else None
        entry = Entry(index, 1, 1, payload(index))
        store.persist([Persist(index, hard_state=vote, entries=[entry])])
        if index in (6, 12):
            writer = store.begin_snapshot(SnapshotMeta(index, 1, b"members"))
            writer.write(b"state at %d" % index)
            writer.finish()
    store.persist([Persist(LAST + 1, compact_to=12)])
    assert store.statistics().segments >= 2
    assert store.statistics().spare_segments == 1
    if is_closed:
        store.close()
    return disk


def is_true(recovered: Recovered) -> bool:
    """Everything in it was once persisted, and nothing in between is missing."""
    first = recovered.entries[0].index if recovered.entries else 0
    return all(
        (entry.index, entry.payload) == (first + offset, payload(first + offset))
        for offset, entry in enumerate(recovered.entries)
    )


def last_index(recovered: Recovered) -> int:
    if recovered.entries:
        return recovered.entries[-1].index
    return recovered.snapshot.index if recovered.snapshot is not None else 0


def outcome(pristine: VirtualDisk, name: str, at: int, mask: int) -> str:
    """Flip, look, start; returns in a word what became of it."""
    disk = pristine.clone()
    disk.flip(name, at, mask)
    before = disk.counts().operations
    verdict = inspect_directory(disk).verdict
    assert disk.counts().operations == before, "looking writes nothing"
    alone = disk.clone()
    if verdict is Verdict.GOOD:
        _, recovered = open_store(alone, may_repair=False)
        assert is_true(recovered)
        assert recovered.damage is None
        if last_index(recovered) == LAST:
            return "harmless"
        assert last_index(recovered) == LAST - 1
        return "taken for torn"
    with pytest.raises((CorruptData, WrongDirectory)):
        open_store(alone, may_repair=False)
    if verdict is Verdict.UNUSABLE:
        with pytest.raises((CorruptData, WrongDirectory)):
            open_store(disk, may_repair=True)
        return "refused"
    _, recovered = open_store(disk, may_repair=True)
    assert is_true(recovered)
    assert recovered.damage is not None
    assert not recovered.damage.is_hard_state_known or recovered.hard_state == b"20"
    return "repaired"


@pytest.mark.parametrize(
    ("mask", "is_closed"), [(0x01, True), (0xFF, False)], ids=["stopped", "crashed"]
)
def test_pl_4_every_flip_is_detected_or_harmless(mask: int, *, is_closed: bool) -> None:
    """Only the very last group before a crash can be taken for a torn write; see the format."""
    pristine = small_directory(is_closed=is_closed)
    found: dict[str, Counter[str]] = {}
    for name in pristine.names():
        for at in range(pristine.open(name).size()):
            kind = name.partition("-")[0]
            found.setdefault(kind, Counter())[outcome(pristine, name, at, mask)] += 1
    assert set(found) == {"identity.q", "snapshot", "wal"}
    assert set(found["identity.q"]) == {"refused"}
    assert set(found["snapshot"]) <= {"harmless", "repaired"}
    assert found["wal"]["repaired"] > found["wal"]["taken for torn"]
    assert found["wal"]["refused"] == 0
    if is_closed:
        assert found["wal"]["taken for torn"] == 0


def test_looking_without_the_look_out_for_later_groups_would_be_noticed(monkeypatch) -> None:
    """The counterpart: a start that cuts at any bad record disagrees with what looking finds."""
    monkeypatch.setattr("quorate.storage.recovery.find_later_group", lambda *a, **k: -1)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test_pl_4_every_flip_is_detected_or_harmless(0xFF, is_closed=True)
