"""The account that answers are held against: a model of the tree, and what nodes heard."""

from quorate.protocol.zookeeper import EventType
from quorate.simulation.judges.model_tree import ModelTree, place_after
from quorate.simulation.judges.tree_log import Ears
from quorate.simulation.workloads.tree_words import parse_step


def perform(tree, session, text):
    """Carry out requests; the outcomes."""
    return [tree.perform(session, ask) for ask in parse_step(tuple(text.split()))]


def test_model_remembers_what_held_at_every_zxid():
    """Facts are those of the asked zxid, not of now."""
    tree = ModelTree()
    session = tree.open_session()
    perform(tree, session, "create /a 1 ; set /a 2 ; delete /a")
    assert tree.facts_at(b"/a", 1) is None
    assert [tree.facts_at(b"/a", zxid).data for zxid in (2, 3)] == [b"1", b"2"]
    assert tree.facts_at(b"/a", 4) is None
    assert tree.facts_at(b"/", 3).names == (b"zookeeper", b"a")
    assert tree.facts_at(b"/", 4).cversion == 1


def test_refusals_take_no_zxid():
    """Errors carry the zxid of what was applied last; a refused multi leaves no trace."""
    tree = ModelTree()
    session = tree.open_session()
    outcomes = perform(
        tree,
        session,
        "create /a/b 1 ; create /a 1 ; create /a 1 ; set /a 2 7 ; create /a/b 1 ; delete /a ; "
        "multi set /a 9 + create /a/c 1 + check /a 0",
    )
    assert [(each.error, each.zxid) for each in outcomes] == [
        (-101, 1),
        (0, 2),
        (-110, 2),
        (-103, 2),
        (0, 3),
        (-111, 3),
        (0, 3),
    ]
    assert outcomes[-1].result == [0, 0, -103]
    assert not outcomes[-1].happened
    assert tree.facts_at(b"/a", tree.zxid).data == b"1"
    assert tree.facts_at(b"/a", tree.zxid).names == (b"b",)
    assert tree.changes_of(b"/a", of_children=True) == [(3, EventType.CHILDREN_CHANGED)]


def test_session_takes_its_ephemerals_in_one_transaction():
    """Names count on, and watches hear of each znode at the same zxid."""
    tree = ModelTree()
    session, other = tree.open_session(), tree.open_session()
    perform(tree, other, "create /q 1")
    outcomes = perform(
        tree, session, "create /q/n- 1 ephemeral sequential ; create /q/n- 2 sequential ephemeral"
    )
    assert [each.result for each in outcomes] == [b"/q/n-0000000000", b"/q/n-0000000001"]
    (refused,) = perform(tree, other, "create /q/n-0000000000/x 1")
    assert refused.error == -108
    assert tree.end_session(session) == 6
    assert tree.facts_at(b"/q", 6).names == ()
    assert tree.changes_of(b"/q/n-0000000001", of_children=False)[-1] == (6, EventType.DELETED)
    (third,) = perform(tree, other, "create /q/n- 3 sequential")
    assert third.result == b"/q/n-0000000002"


def test_watch_waits_for_what_comes_after_its_read():
    """What was there when the watch was left is not told."""
    changes = [(3, 1), (5, 3), (5, 2), (9, 1)]
    assert [place_after(changes, zxid) for zxid in (0, 3, 4, 5, 9)] == [0, 1, 1, 3, 4]


def test_silence_is_counted_while_a_node_leads_and_listens():
    """Not before its reign, not after it, not before the session, and not by any clock."""
    ears = Ears()
    assert ears.silence_ms(1, 4) == -1
    ears.ticks = 100
    ears.lead(4)
    ears.ticks = 150
    ears.attach(1)
    ears.ticks = 180
    ears.hear(1)
    ears.ticks = 240
    assert ears.silence_ms(1, 4) == 600
    ears.lead(0)
    ears.ticks = 900
    assert ears.silence_ms(1, 4) == 600
    assert ears.silence_ms(1, 5) == -1
