"""TH-12, PL-11: every declared property is safety or liveness, and each has been seen to fail."""

import pytest

from quorate.consensus.engine import Leadership
from quorate.consensus.entry import (
    Damage,
    Entry,
    EntryKind,
    Persist,
    Recovered,
    SnapshotChunk,
    SnapshotMeta,
)
from quorate.replication.state_machine import ApplyContext
from quorate.simulation.judges.court import Court
from quorate.simulation.judges.engine import EngineJudge
from quorate.simulation.judges.logs import ShadowLog
from quorate.simulation.properties import Kind, Violation, catalogue

BATCH, NOOP = EntryKind.BATCH, EntryKind.NOOP


def entry(index, epoch, payload=b"x", kind=NOOP):
    return Entry(index, epoch, kind, payload)


def broken(name):
    """Expect the property of this name to be violated."""
    return pytest.raises(Violation, match=f"^{name}: ")


def judge(*nodes):
    """An engine judge that knows these nodes with empty logs."""
    found = EngineJudge()
    for node in nodes or (1, 2, 3):
        found.logs[node] = ShadowLog(Recovered())
    return found


def persist(found, node, *entries, truncate=None, epoch=1, leads=False):
    step = Persist(1, truncate_from=truncate, entries=list(entries))
    found.on_persist(node, step, epoch, leads=leads)


def test_th_12_every_property_is_declared_with_claim_and_source():
    """Properties are safety or liveness, with a claim and a source, under names of their own."""
    declared = catalogue()
    assert {known.kind for known in declared} == {Kind.SAFETY, Kind.LIVENESS}
    assert all(known.claim and known.source for known in declared)
    assert len({known.name for known in declared}) == len(declared)


def test_two_leaders_in_an_epoch_break_election_safety():
    """The second leader of an epoch is reported."""
    found = judge()
    found.on_leadership(1, Leadership(3, 1, established=True))
    found.on_leadership(2, Leadership(4, 2, established=True))
    with broken("election safety"):
        found.on_leadership(2, Leadership(3, 2, established=True))


def test_a_leader_that_truncates_breaks_append_only():
    """Truncation is fine for a follower and not for a leader."""
    found = judge()
    persist(found, 1, entry(1, 1), entry(2, 1))
    persist(found, 2, entry(1, 1), entry(2, 1))
    persist(found, 1, entry(2, 2), truncate=2)
    with broken("leader append only"):
        persist(found, 2, truncate=2, leads=True)


@pytest.mark.parametrize(
    ("node", "bad"),
    [
        (2, [entry(1, 1, b"other")]),
        (2, [entry(2, 1)]),
        (2, [entry(1, 2), entry(2, 3)]),
    ],
    ids=["content", "gap", "predecessor"],
)
def test_logs_that_do_not_match_are_reported(node, bad):
    """Equal index and epoch with another content, a gap, or another predecessor."""
    found = judge()
    persist(found, 1, entry(1, 1), entry(2, 3))
    with broken("log matching"):
        persist(found, node, *bad)


def test_a_leader_without_a_committed_entry_breaks_completeness():
    """An entry of an earlier epoch must be there; one of a later epoch need not."""
    found = judge()
    persist(found, 1, entry(1, 1))
    found.on_committed(1, [entry(1, 1)], 0, 4)
    found.on_leadership(2, Leadership(3, 2, established=False))  # an old election, won late
    with broken("leader completeness"):
        found.on_leadership(2, Leadership(5, 2, established=False))


def test_an_entry_committed_late_must_have_been_given_to_later_leaders():
    """An old leader that goes on after another was elected without the entry is reported."""
    found = judge()
    persist(found, 1, entry(1, 1))
    persist(found, 2, entry(1, 1), entry(2, 5))  # its own first entry is no part of what it got
    found.on_leadership(2, Leadership(5, 2, established=False))
    found.on_committed(1, [entry(1, 1)], 0, 4)
    with broken("later leaders have it"):
        found.on_committed(1, [entry(2, 1)], 1, 4)


def test_different_deliveries_break_state_machine_safety():
    """Another entry at an index, or a gap."""
    found = judge()
    found.on_committed(1, [entry(1, 1)], 0, 1)
    with broken("state machine safety"):
        found.on_committed(2, [entry(1, 2)], 0, 2)
    with broken("state machine safety"):
        found.on_committed(2, [entry(2, 2)], 0, 2)


def test_truncating_what_was_delivered_is_reported():
    """Deleting a delivered entry is wrong on any node that has come to the epoch of its commit."""
    found = judge()
    for node in (1, 2, 3):
        persist(found, node, entry(1, 1))
    found.on_committed(1, [entry(1, 1)], 0, 4)
    persist(found, 3, truncate=1, epoch=3)
    with broken("delivered entries stay"):
        persist(found, 2, truncate=1, epoch=4)


def leading(epoch=1):
    """A judge with node 1 leading and asked to broadcast ``a`` and ``b``."""
    found = judge()
    found.on_leadership(1, Leadership(epoch, 1, established=True))
    found.on_propose(1, epoch, b"a", 0)
    found.on_propose(1, epoch, b"b", 0)
    return found


def test_zb_1_integrity_reports_what_nobody_broadcast():
    """Entries from nobody, from who does not lead, never asked for, or asked for later."""
    with broken("integrity"):
        persist(judge(), 1, entry(1, 1, b"a", BATCH))
    with broken("integrity"):
        persist(leading(), 2, entry(1, 1, b"a", BATCH))
    with broken("integrity"):
        persist(leading(), 1, entry(1, 1, b"c", BATCH))
    with broken("integrity"):
        persist(leading(), 1, entry(1, 1, b"b", BATCH), entry(2, 1, b"a", BATCH))


def test_zb_1_local_primary_order_reports_a_missing_predecessor():
    """Of two broadcasts of one primary the second is never delivered without the first."""
    found = leading()
    persist(found, 1, entry(1, 1, b"a", BATCH), entry(2, 1, b"b", BATCH))
    with broken("local primary order"):
        found.on_committed(1, [entry(1, 1, b"b", BATCH)], 0, 1)


def test_zb_1_global_primary_order_reports_an_old_epoch_after_a_new_one():
    """Epochs never fall along the delivered order."""
    found = judge()
    found.on_committed(1, [entry(1, 2)], 0, 2)
    with broken("global primary order"):
        found.on_committed(1, [entry(2, 1)], 1, 2)


def test_zb_1_primary_integrity_reports_a_primary_that_is_behind():
    """A primary that has not delivered what was delivered before must not broadcast."""
    found = judge()
    found.on_committed(2, [entry(1, 1)], 0, 1)
    with broken("primary integrity"):
        found.on_propose(1, 2, b"a", 0)


def test_zb_1_an_old_delivery_that_a_later_primary_missed_is_reported():
    """What an earlier epoch delivers late, a broadcasting later primary should have had."""
    found = judge()
    found.on_propose(1, 2, b"a", 0)
    with broken("deliveries precede later primaries"):
        found.on_committed(2, [entry(1, 1)], 0, 1)


# ---- disks ---------------------------------------------------------------------------------------


def started(*entries, hard_state=b"old"):
    court = Court()
    court.durability.on_start(1, Recovered(hard_state, None, list(entries)))
    return court.durability


def test_a_lost_vote_is_reported():
    """After a crash the confirmed vote, or a newer one on its way, must be back."""
    found = started()
    found.on_asked(1, [Persist(1, hard_state=b"new"), Persist(2, hard_state=b"newer")])
    found.on_confirmed(1, 1)
    found.on_start(1, Recovered(b"newer"))
    found.on_asked(1, [Persist(1, hard_state=b"newest")])
    found.on_confirmed(1, 1)
    with broken("votes survive"):
        found.on_start(1, Recovered(b"newer"))


def test_a_lost_entry_is_reported():
    """Confirmed entries are back after a crash; those on their way need not be."""
    found = started(entry(1, 1))
    found.on_asked(1, [Persist(1, entries=[entry(2, 1)]), Persist(2, entries=[entry(3, 1)])])
    found.on_confirmed(1, 1)
    found.on_start(1, Recovered(b"old", None, [entry(1, 1), entry(2, 1)]))
    with broken("entries survive"):
        found.on_start(1, Recovered(b"old", None, [entry(1, 1)]))


def test_what_damage_took_counts_for_whoever_was_not_told():
    """An acknowledgement may be on its way while the disk that gave it is damaged."""
    found = started(entry(1, 1), entry(2, 1))
    found.on_start(1, Recovered(b"old", None, [entry(1, 1)], damage=Damage(True, "rot")))
    assert not found.has(1, entry(2, 1))
    assert found.may_count_on(1, entry(2, 1), by=3)
    assert not found.may_count_on(1, entry(2, 7), by=3)
    found.on_told(2, 1)
    assert not found.may_count_on(1, entry(2, 1), by=2)
    assert found.may_count_on(1, entry(1, 1), by=2), "which it still has"
    found.on_asked(1, [Persist(1, entries=[entry(2, 1)])])
    found.on_confirmed(1, 1)
    found.on_start(1, Recovered(b"old", None, [entry(1, 1)], damage=Damage(True, "rot again")))
    assert found.may_count_on(1, entry(2, 1), by=2), "which knows of the first loss only"
    found.on_start(1, Recovered(b"old", None, [entry(1, 1)]))
    assert not found.may_count_on(1, entry(2, 1), by=3), "it was repaired, and started again"


def test_truncations_and_snapshots_on_their_way_excuse_what_they_remove():
    """What was asked to go may be gone, or still be there."""
    meta = SnapshotMeta(5, 2, b"")
    for step in (
        Persist(1, truncate_from=2),
        Persist(1, chunk=SnapshotChunk(meta, 0, b"", True, True)),
    ):
        found = started(entry(1, 1), entry(2, 1))
        found.on_asked(1, [step])
        snapshot = meta if step.chunk else None
        kept = [] if step.chunk else [entry(1, 1)]
        found.on_start(1, Recovered(b"old", snapshot, kept))


# ---- replicas ------------------------------------------------------------------------------------


def apply(court, node, number, index):
    context = ApplyContext(index=index, node=7, incarnation=1, number=number)
    court.application.on_apply(node, b"x", context)


def test_a_batch_at_two_places_breaks_exactly_once():
    """The same batch may be applied by every node, at one index."""
    court = Court()
    apply(court, 1, 1, 10)
    apply(court, 2, 1, 10)
    with broken("exactly once"):
        apply(court, 1, 1, 11)


def test_a_batch_before_its_predecessor_is_reported():
    """Batches of one start of a node are applied in their order, none left out."""
    court = Court()
    apply(court, 1, 1, 10)
    with broken("batches in order"):
        apply(court, 1, 3, 11)


def test_nodes_that_give_up_without_a_reason_are_reported():
    """Only a fault of the disk excuses a node that stops or refuses its directory."""
    conduct = Court().conduct
    conduct.nodes_stop_only_for_a_fault(1, "EIO", True)
    conduct.directories_are_refused_only_if_damaged(1, "damaged", True)
    with broken("nodes stop only for a fault"):
        conduct.nodes_stop_only_for_a_fault(1, "EIO", False)
    with broken("directories are refused only if damaged"):
        conduct.directories_are_refused_only_if_damaged(1, "damaged", False)
    with broken("replicas agree with themselves"):
        conduct.replicas_agree_with_themselves(1, "digests differ")
    with broken("peers speak properly"):
        conduct.peers_speak_properly(1, 2, "no message")
    with broken("nothing unexpected happens"):
        conduct.nothing_unexpected_happens("KeyError: 3")
