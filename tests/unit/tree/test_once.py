"""Exactly once: a command sent again is done once, and answered as the first time (RA-7)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.errors import CorruptData
from quorate.protocol import zookeeper_client as wire
from quorate.protocol.jute import LONG
from quorate.protocol.zookeeper import ErrorCode, OpCode, encode_request
from quorate.tree import once as once_module
from quorate.tree import results as results_module
from quorate.tree import snapshot as snapshot_module
from quorate.tree.results import RESULT_BYTES_MAX, RESULTS_MAX, Results
from quorate.tree.sessions import Owner
from quorate.tree.tree import Tree

SEQUENTIAL = 2


def ask(client, serial, part, first=1):
    return client.write(wire.once(part, serial, first))


def raw(client, serial, part, first=1, xid=77):
    """The very bytes of the answer."""
    out = []
    frame = wire.once(part, serial, first).frame(xid)
    client.tree.apply_frames(client.id, client.owner, frame, client.time_ms, out)
    return out[0]


def restored(tree):
    copy = Tree()
    copy.restore(list(tree.snapshot()))
    return copy


def test_ra_7_a_retry_changes_nothing_and_is_answered_byte_for_byte(client):
    """RA-7: whatever happened in between, the answer is the first one, zxid included."""
    client.create(b"/q")
    first = raw(client, 1, wire.create(b"/q/n-", b"x", SEQUENTIAL))
    client.create(b"/q/other")
    before = (client.tree.zxid, client.names(b"/q"))
    for _ in range(3):
        assert raw(client, 1, wire.create(b"/q/n-", b"x", SEQUENTIAL)) == first
    assert (client.tree.zxid, client.names(b"/q")) == before


@pytest.mark.parametrize(
    "part",
    [
        wire.create(b"/n", b"1"),
        wire.create(b"/n", b"1", opcode=OpCode.CREATE2),
        wire.create(b"/c", flags=4, opcode=OpCode.CREATE_CONTAINER),
        wire.create(b"/t", flags=5, ttl_ms=5_000),
        wire.set_data(b"/a", b"new", 0),
        wire.set_acl(b"/a", wire.encode_acl((1, "world", "anyone"))),
        wire.delete(b"/a"),
        wire.multi([wire.check(b"/a", 0), wire.set_data(b"/a", b"m"), wire.create(b"/a/b")]),
        wire.multi([wire.set_data(b"/a", b"m"), wire.delete(b"/none")]),
        wire.set_data(b"/a", b"new", 7),
        wire.delete(b"/none"),
        wire.create(b"bad path"),
    ],
    ids=lambda part: f"{OpCode(part.opcode).name} {len(part.body)}",
)
def test_ra_7_every_write_is_answered_as_without_the_wrapping_and_once(part, new_client):
    """All kinds of writes, those that are refused too; a refusal is an answer like any other."""
    plain, wrapped = (type(new_client())(Tree()) for _ in range(2))
    for each in (plain, wrapped):
        each.create(b"/a", b"old")
    expected = plain.write(part)
    answers = [ask(wrapped, 1, part) for _ in range(2)]
    assert [answer[1:] for answer in answers] == [expected[1:]] * 2
    assert wrapped.tree.zxid == plain.tree.zxid


def test_a_refusal_stays_the_answer_when_it_would_be_none_any_more(client):
    """The client was told BAD_VERSION once; the retry must not succeed behind its back."""
    client.create(b"/a")
    assert ask(client, 1, wire.set_data(b"/a", b"x", 1)).error == ErrorCode.BAD_VERSION
    client.write(wire.set_data(b"/a", b"y"))
    assert ask(client, 1, wire.set_data(b"/a", b"x", 1)).error == ErrorCode.BAD_VERSION
    assert client.data(b"/a") == b"y"


def test_what_is_answered_is_forgotten_and_refused_as_such(client):
    """The watermark drops results below it, no others, and never falls."""
    client.create(b"/q")
    for serial in range(1, 6):
        ask(client, serial, wire.create(b"/q/n-", b"", SEQUENTIAL))
    first = raw(client, 4, wire.create(b"/q/n-", b"", SEQUENTIAL))
    ask(client, 6, wire.create(b"/q/n-", b"", SEQUENTIAL), first=4)
    results = client.session.results
    assert sorted(results.by_serial) == [4, 5, 6]
    assert raw(client, 4, wire.create(b"/q/n-", b"", SEQUENTIAL), first=2) == first
    assert results.first_unanswered == 4
    before = (client.tree.zxid, client.tree.digest())
    answer = ask(client, 3, wire.create(b"/q/n-", b"", SEQUENTIAL))
    assert answer.error == ErrorCode.SERIAL_SETTLED
    assert (client.tree.zxid, client.tree.digest()) == before
    assert len(client.names(b"/q")) == 6


def test_serials_may_come_in_any_order(client):
    """Concurrent commands of one client: nothing asks for gaplessness."""
    client.create(b"/q")
    answers = {
        serial: raw(client, serial, wire.create(b"/q/n-", b"", SEQUENTIAL))
        for serial in (9, 3, 700, 1)
    }
    for serial, answer in answers.items():
        assert raw(client, serial, wire.create(b"/q/n-", b"", SEQUENTIAL)) == answer


def test_a_serial_that_was_another_command_is_refused(client):
    """A client that counts wrongly hears of it; both answers would be lies."""
    client.create(b"/a")
    ask(client, 1, wire.set_data(b"/a", b"1"))
    before = client.tree.zxid
    assert ask(client, 1, wire.set_data(b"/a", b"2")).error == ErrorCode.SERIAL_REUSED
    assert ask(client, 1, wire.delete(b"/a")).error == ErrorCode.SERIAL_REUSED
    assert (client.tree.zxid, client.data(b"/a")) == (before, b"1")


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (wire.once(wire.get(OpCode.GET_DATA, b"/"), 1, 1).frame(1), ErrorCode.UNIMPLEMENTED),
        (wire.once(wire.CLOSE_SESSION, 1, 1).frame(1), ErrorCode.UNIMPLEMENTED),
        (wire.once(wire.once(wire.delete(b"/a"), 1, 1), 1, 1).frame(1), ErrorCode.UNIMPLEMENTED),
        (wire.once(wire.check(b"/", 0), 1, 1).frame(1), ErrorCode.UNIMPLEMENTED),
        (wire.once(wire.delete(b"/a"), 0, 0).frame(1), ErrorCode.BAD_ARGUMENTS),
        (wire.once(wire.delete(b"/a"), 3, 4).frame(1), ErrorCode.BAD_ARGUMENTS),
        (wire.once(wire.delete(b"/a"), -1, -1).frame(1), ErrorCode.BAD_ARGUMENTS),
        (encode_request(1, OpCode.ONCE, LONG.pack(1)), ErrorCode.MARSHALLING_ERROR),
        (encode_request(1, OpCode.ONCE), ErrorCode.MARSHALLING_ERROR),
    ],
)
def test_a_malformed_wrapping_is_refused_and_leaves_nothing(client, frame, code):
    """It did not happen and is not kept: a correct command may use the serial."""
    before = client.tree.digest()
    out = []
    client.tree.apply_frames(client.id, client.owner, frame, 1, out)
    assert wire.decode_reply(out[0]).error == code
    assert client.tree.digest() == before
    assert client.session.results is None


def test_an_inner_body_that_cannot_be_read_is_an_answer(client):
    """Cut short within the wrapped write: refused as such a write is, again and again."""
    frame = wire.once(wire.Part(OpCode.SET_DATA, b"\0\0"), 1, 1).frame(1)
    for _ in range(2):
        out = []
        client.tree.apply_frames(client.id, client.owner, frame, 1, out)
        assert wire.decode_reply(out[0]).error == ErrorCode.MARSHALLING_ERROR


def test_results_are_bounded_by_number(client):
    """Beyond the bound a command is refused and not done; once answers are settled it goes on."""
    client.create(b"/a")
    part = wire.set_data(b"/a", b"")
    for serial in range(1, RESULTS_MAX + 1):
        assert ask(client, serial, part).error == 0
    version = client.stat(b"/a").version
    assert ask(client, RESULTS_MAX + 1, part).error == ErrorCode.RESULTS_FULL
    assert client.stat(b"/a").version == version
    assert ask(client, 5, part).error == 0, "what is kept is still answered"
    assert ask(client, RESULTS_MAX + 1, part, first=2).error == 0
    assert client.stat(b"/a").version == version + 1


def test_results_are_bounded_by_bytes(client, monkeypatch):
    """A few long answers count as many short ones."""
    assert RESULT_BYTES_MAX < 1 << 20
    monkeypatch.setattr(results_module, "RESULT_BYTES_MAX", 300)
    client.create(b"/a")
    part = wire.set_data(b"/a", b"")
    errors = [ask(client, serial, part).error for serial in range(1, 7)]
    assert errors == [0, 0, 0, 0, ErrorCode.RESULTS_FULL, ErrorCode.RESULTS_FULL]


def test_a_command_of_an_expired_session_is_refused_and_no_session_comes_back(client):
    """Its results are gone with it, so it can never be told from a new one."""
    client.create(b"/q")
    ask(client, 1, wire.create(b"/q/n-", b"", SEQUENTIAL))
    client.tree.expire_session(client.id, 1)
    answer = ask(client, 1, wire.create(b"/q/n-", b"", SEQUENTIAL))
    assert answer.error == ErrorCode.SESSION_EXPIRED
    assert client.id not in client.tree.sessions
    assert len(client.tree.znodes[b"/q"].children) == 1


def test_a_retry_through_another_connection_finds_the_answer(client):
    """The session moves with its results; the former connection is refused as such."""
    client.create(b"/q")
    first = raw(client, 1, wire.create(b"/q/n-", b"", SEQUENTIAL))
    former, client.owner = client.owner, Owner(2, 1, 9)
    client.tree.attach_session(client.id, client.session.password, 10_000, client.owner, ())
    assert raw(client, 1, wire.create(b"/q/n-", b"", SEQUENTIAL)) == first
    client.owner = former
    answer = ask(client, 2, wire.create(b"/q/n-", b"", SEQUENTIAL))
    assert answer.error == ErrorCode.SESSION_MOVED


def test_ra_7_results_survive_a_snapshot(client):
    """RA-7: a replica that was restored answers retries as the one that did the command."""
    client.create(b"/q")
    first = raw(client, 1, wire.create(b"/q/n-", b"", SEQUENTIAL))
    ask(client, 2, wire.delete(b"/none"))
    copy = restored(client.tree)
    assert copy.digest() == client.tree.digest()
    client.tree = copy
    assert raw(client, 1, wire.create(b"/q/n-", b"", SEQUENTIAL)) == first
    assert ask(client, 2, wire.delete(b"/none")).error == ErrorCode.NO_NODE


def test_a_snapshot_shows_results_as_they_were_when_it_began(client):
    """Commands, settling and new sessions while it is written do not show in it."""
    client.create(b"/a")
    ask(client, 1, wire.set_data(b"/a", b"1"))
    late = type(client)(client.tree)
    digest, chunks = client.tree.digest(), client.tree.snapshot()
    ask(client, 2, wire.set_data(b"/a", b"2"), first=2)
    ask(late, 1, wire.set_data(b"/a", b"3"))
    copy = Tree()
    copy.restore(list(chunks))
    assert copy.digest() == digest
    assert sorted(copy.sessions[client.id].results.by_serial) == [1]
    assert copy.sessions[late.id].results is None


def test_a_snapshot_of_before_there_were_results_is_read(client):
    """Without such sessions a snapshot is what it always was, byte for byte."""
    client.create(b"/a")
    chunks = list(client.tree.snapshot())
    kinds = [chunk[snapshot_module.BLOCK.size] for chunk in chunks]
    assert kinds == [1, 2, 3, 4]
    assert restored(client.tree).digest() == client.tree.digest()


def test_a_snapshot_without_the_results_that_it_announces_is_refused(client):
    """A block of several that is missing is noticed: a forgotten result would be done again."""
    others = [type(client)(client.tree, connection=n) for n in range(2, 4)]
    client.create(b"/a")
    for each in (client, *others):
        ask(each, 1, wire.set_data(b"/a", b"1"))
    chunks = list(client.tree.snapshot())
    (place,) = [i for i, chunk in enumerate(chunks) if chunk[snapshot_module.BLOCK.size] == 5]
    tree = client.tree
    records = [snapshot_module._encode_results(each.id, tree.sessions[each.id]) for each in others]
    head = snapshot_module.RESULTS_COUNT.pack(3)
    chunks[place] = snapshot_module._block(5, [head, *records])
    with pytest.raises(CorruptData, match="results of 2 sessions of 3"):
        Tree().restore(chunks)


OPERATIONS = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(0, 3)), max_size=60
)


@given(OPERATIONS, st.integers(0, 60))
@settings(max_examples=100, deadline=None)
def test_ra_7_any_schedule_agrees_with_a_table_of_first_answers(
    client_class, operations, snapshot_at
):
    """RA-7: against the simplest model there is, with a restart from a snapshot in the middle."""
    client = client_class(Tree())
    client.create(b"/q")
    answers, settled, done = {}, 1, 0
    for number, (serial, first, kind) in enumerate(operations):
        if number == snapshot_at:
            client.tree = restored(client.tree)
        first = min(first, serial)
        part = wire.create(b"/q/n-", b"%d" % serial, SEQUENTIAL)
        if serial % 4 == kind:
            client.write(wire.create(b"/q/other-", b"", SEQUENTIAL))
            done += 1
        answer = raw(client, serial, part, first)
        error = wire.decode_reply(answer).error
        if serial < settled:
            assert error == ErrorCode.SERIAL_SETTLED
            continue
        settled = max(settled, first)
        done += serial not in answers
        assert answer == answers.setdefault(serial, answer)
        assert error == 0
        answers = {each: kept for each, kept in answers.items() if each >= settled}
        assert len(client.tree.znodes[b"/q"].children) == done


def test_a_tree_that_does_it_again_is_noticed(client, monkeypatch):
    """Mutant: nothing is remembered."""
    monkeypatch.setattr(once_module, "find_answer", lambda *_: None)
    monkeypatch.setattr(Results, "keep", lambda *_: None)
    client.session.results = Results()
    client.create(b"/q")
    one, other = (raw(client, 1, wire.create(b"/q/n-", b"", SEQUENTIAL)) for _ in range(2))
    assert one != other
