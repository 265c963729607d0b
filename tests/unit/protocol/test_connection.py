"""Splitting a client's bytes into pieces."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.protocol.connection import ClientConnection, Piece
from quorate.protocol.zookeeper import encode_request

HANDSHAKE = pack(">iiqiqi", 45, 0, 0, 0, 0, 16) + bytes(17)
SET = encode_request(1, 5, b"abc")
GET = encode_request(2, 4, b"abc")


def connected(frame_bytes_max=1000):
    connection = ClientConnection(frame_bytes_max)
    assert [kind for kind, _ in connection.receive(HANDSHAKE)] == [Piece.CONNECT]
    return connection


def test_neighbouring_writes_stay_one_slice():
    """A chunk of writes is given back as the very bytes that came."""
    connection = connected()
    chunk = SET * 16
    ((kind, piece),) = connection.receive(chunk)
    assert kind is Piece.WRITES
    assert piece is chunk


def test_a_read_splits_a_run():
    """Order is kept, and every read is a piece."""
    pieces = connected().receive(SET + SET + GET + GET + SET)
    assert [kind for kind, _ in pieces] == [Piece.WRITES, Piece.READ, Piece.READ, Piece.WRITES]
    assert pieces[0][1] == SET + SET


@pytest.mark.parametrize(
    ("opcode", "kind"),
    [
        (-11, Piece.CLOSE),
        (9, Piece.SYNC),
        (11, Piece.PING),
        (100, Piece.AUTH),
        (101, Piece.WATCH),
        (102, Piece.UNKNOWN),
        (20, Piece.UNKNOWN),
        (-1, Piece.UNKNOWN),
        (13, Piece.BROKEN),
    ],
)
def test_requests_are_sorted_by_what_has_to_happen(opcode, kind):
    """Each kind of request has its piece; what clients may not send is unknown."""
    assert [k for k, _ in connected().receive(encode_request(1, opcode))] == [kind]


@given(
    requests=st.lists(st.tuples(st.sampled_from([1, 4, 5, 9, 11, 102]), st.binary(max_size=30))),
    cuts=st.lists(st.integers(1, 50), max_size=60),
)
def test_where_chunks_are_cut_does_not_matter(requests, cuts):
    """The bytes of all pieces, joined, are the bytes sent, in order, whatever the chunks."""
    stream = b"".join(encode_request(i, opcode, body) for i, (opcode, body) in enumerate(requests))
    whole = connected().receive(stream)
    connection = connected()
    rest, pieces = stream, []
    for cut in cuts:
        pieces += connection.receive(rest[:cut])
        rest = rest[cut:]
    pieces += connection.receive(rest)
    assert b"".join(piece for _, piece in pieces) == stream
    reads = [piece for piece in pieces if piece[0] is not Piece.WRITES]
    assert reads == [piece for piece in whole if piece[0] is not Piece.WRITES]
    assert connection.held_bytes == 0


@given(chunks=st.lists(st.binary(max_size=300), max_size=20))
def test_never_more_is_held_than_one_frame(chunks):
    """Whatever comes, what waits is shorter than the longest frame; nothing raises."""
    connection = ClientConnection(frame_bytes_max=100)
    for chunk in chunks:
        connection.receive(chunk)
        assert connection.held_bytes < 104


@pytest.mark.parametrize("length", [-1, 0, 7, 1001])
def test_a_bad_length_is_found_before_its_frame_has_come(length):
    """Four bytes are enough to say no; frames before are delivered, nothing after."""
    connection = connected()
    pieces = connection.receive(SET + pack(">i", length))
    assert [kind for kind, _ in pieces] == [Piece.WRITES, Piece.BROKEN]
    assert connection.held_bytes == 0
    assert connection.receive(SET) == []


def test_the_longest_frame_is_accepted_and_one_byte_more_is_not():
    """The bound is exact."""
    assert connected().receive(encode_request(1, 5, bytes(992)))[0][0] is Piece.WRITES
    assert connected().receive(encode_request(1, 5, bytes(993)))[0][0] is Piece.BROKEN


def test_a_slow_sender_of_a_long_frame_costs_linear_time():
    """The scanner looks at a frame when it is whole, not at every byte of it."""
    connection = connected(frame_bytes_max=200_000)
    frame = encode_request(1, 5, bytes(150_000))
    for position in range(len(frame) - 1):
        assert connection.receive(frame[position : position + 1]) == []
    assert connection.receive(frame[-1:]) == [(Piece.WRITES, frame)]


def test_words_are_told_from_handshakes():
    """Four letters that are a word end the conversation; other letters are garbage."""
    assert ClientConnection().receive(b"ruok\n") == [(Piece.WORD, b"ruok")]
    assert ClientConnection().receive(b"wchs") == [(Piece.WORD, b"wchs")]
    assert ClientConnection().receive(b"abcd")[0][0] is Piece.BROKEN


def test_nothing_follows_close_session():
    """Bytes behind closeSession are not looked at."""
    connection = connected()
    pieces = connection.receive(encode_request(1, -11) + SET)
    assert [kind for kind, _ in pieces] == [Piece.CLOSE]
    assert connection.receive(SET) == []
