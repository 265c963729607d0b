"""The tables of watches by themselves."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from quorate.protocol.zookeeper import EventType
from quorate.tree.acl import OPEN_ACL
from quorate.tree.watches import ClientWatches, Kind

PATHS = [b"/", b"/a", b"/a/b"]
WHO = st.integers(0, 2)
STEP = (
    st.tuples(st.just("arm"), st.sampled_from(list(Kind)), st.sampled_from(PATHS), WHO)
    | st.tuples(st.just("remove"), st.sampled_from(list(Kind)), st.sampled_from(PATHS), WHO)
    | st.tuples(st.just("fire"), st.sampled_from(list(EventType)), st.sampled_from(PATHS), WHO)
    | st.tuples(st.just("drop"), st.just(None), st.just(b""), WHO)
)


class Holder:
    def __init__(self):
        self.session = SimpleNamespace(identities=())
        self.events = []

    def notify(self, frame):
        self.events.append(frame)

    def refuse_watch(self):
        raise AssertionError("no bound was reached")


def fire_as_the_tree_does(watches, event, path, zxid):
    """The order and conditions in which the tree reports one change."""
    if event == EventType.CHILDREN_CHANGED:
        if path in watches.children:
            watches.fire(watches.children, event, path, zxid, OPEN_ACL)
        return
    if path in watches.data or watches.recursive:
        watches.fire(watches.data, event, path, zxid, OPEN_ACL)
    if event == EventType.DELETED and path in watches.children:
        watches.fire(watches.children, event, path, zxid, OPEN_ACL)


def is_told(model, who, event, path):
    """Whether the rules say that this holder hears of the event."""
    kinds = {kind for holder, kind, where in model if holder == who and where == path}
    if event == EventType.CHILDREN_CHANGED:
        return bool(kinds & {Kind.CHILDREN, Kind.PERSISTENT})
    above = {b"/", path, path[: path.rfind(b"/")] or b"/"}
    if any((who, Kind.RECURSIVE, where) in model for where in above):
        return True
    wanted = {Kind.DATA, Kind.PERSISTENT}
    if event == EventType.DELETED:
        wanted.add(Kind.CHILDREN)
    return bool(kinds & wanted)


@given(st.lists(STEP, max_size=40))
def test_the_tables_follow_the_rules_and_leave_nothing_behind(steps):
    """Against a model that is a set: who is told, once each, what is left, and how many."""
    watches, holders, model = ClientWatches(), [Holder() for _ in range(3)], set()
    for zxid, (action, what, path, who) in enumerate(steps, start=1):
        holder = holders[who]
        if action == "arm":
            watches.arm(what, path, holder)
            other = {Kind.PERSISTENT: Kind.RECURSIVE, Kind.RECURSIVE: Kind.PERSISTENT}.get(what)
            model.discard((who, other, path))
            model.add((who, what, path))
        elif action == "remove":
            assert watches.remove(what, path, holder) == ((who, what, path) in model)
            model.discard((who, what, path))
        elif action == "drop":
            watches.drop(holder)
            model = {entry for entry in model if entry[0] != who}
        else:
            expected = [is_told(model, index, what, path) for index in range(3)]
            before = [len(h.events) for h in holders]
            fire_as_the_tree_does(watches, what, path, zxid)
            told = [len(h.events) - count for h, count in zip(holders, before, strict=True)]
            assert told == [int(yes) for yes in expected]
            gone = {Kind.DATA} if what != EventType.CHILDREN_CHANGED else {Kind.CHILDREN}
            if what == EventType.DELETED:
                gone.add(Kind.CHILDREN)
            model = {e for e in model if not (e[1] in gone and e[2] == path)}
        assert len(watches) == len(model)
        assert all(watches.holds(kind, where, holders[w]) for w, kind, where in model)
    for holder in holders:
        watches.drop(holder)
    assert not (watches.data or watches.children or watches.recursive or watches._held)
