"""Who a connection is."""

from base64 import b64encode
from hashlib import sha1

import pytest

SECRET = b"boss:opensesame"
DIGEST = "boss:" + b64encode(sha1(SECRET).digest()).decode()
ALL_FOR_AUTH = b"\0\0\0\1\0\0\0\x1f\0\0\0\4auth\0\0\0\0"


def test_an_identity_goes_through_the_log_as_a_digest(cluster, frames):
    """The clear password is in no batch, and a digest opens what it closed."""
    client, other = cluster.connected(), cluster.connected()
    client.send(frames.auth(auth=SECRET))
    payload = cluster.service().take_batch()
    assert b"opensesame" not in payload
    assert DIGEST.encode() in payload
    cluster.log.append((1, payload))
    cluster.run()
    assert [(r.xid, r.error) for r in client.replies()] == [(-4, 0)]
    client.ask(frames.create(1, b"/mine", acl=ALL_FOR_AUTH))
    assert [r.error for r in other.ask(frames.get(1, b"/mine"))] == [-102]
    other.ask(frames.auth(auth=SECRET))
    assert [r.error for r in other.ask(frames.get(2, b"/mine"))] == [0]


def test_auth_keeps_its_place_in_the_order_of_requests(cluster, frames):
    """A write pipelined behind auth has the identity; the reply to auth comes first."""
    client = cluster.connected()
    replies = client.ask(
        frames.create(1, b"/a")
        + frames.auth()
        + frames.create(2, b"/mine", acl=ALL_FOR_AUTH)
        + frames.get(3, b"/mine")
    )
    assert [(r.xid, r.error) for r in replies] == [(1, 0), (-4, 0), (2, 0), (3, 0)]


@pytest.mark.parametrize("scheme", [b"kerberos", b"", b"super", b"world"])
def test_an_unknown_scheme_fails_in_order_and_ends_the_connection(cluster, frames, scheme):
    """-115, behind the replies of what was sent before, and then the end."""
    client, other = cluster.connected(), cluster.connected()
    replies = client.ask(frames.create(1, b"/a") + frames.auth(scheme) + frames.create(2, b"/b"))
    assert [(r.xid, r.error) for r in replies] == [(1, 0), (-4, -115)]
    assert client.closed
    assert not other.closed


def test_the_superuser_passes_every_check(make_cluster, frames):
    """The configured digest gives the identity that passes everything."""
    cluster = make_cluster(super_digest=DIGEST)
    client, boss = cluster.connected(), cluster.connected()
    client.ask(frames.auth())
    client.ask(frames.create(1, b"/mine", acl=ALL_FOR_AUTH))
    assert [r.error for r in boss.ask(frames.get(1, b"/mine"))] == [-102]
    boss.ask(frames.auth(auth=SECRET))
    assert [r.error for r in boss.ask(frames.get(2, b"/mine"))] == [0]


def test_identities_belong_to_the_connection(cluster, frames):
    """A resumed session starts with its address only."""
    client = cluster.connected()
    client.ask(frames.auth())
    client.ask(frames.create(1, b"/mine", acl=ALL_FOR_AUTH))
    client.hang_up()
    again = cluster.client()
    again.connect(session_id=client.session_id, password=client.password)
    assert [r.error for r in again.ask(frames.get(1, b"/mine"))] == [-102]


def test_malformed_credentials_end_only_their_connection(cluster, frames):
    """A user name that is no text, and an auth request without a body."""
    for request in (frames.auth(auth=b"\xff\xfe:x"), frames.request(-4, 100)):
        client = cluster.connected()
        client.ask(request)
        assert client.closed
