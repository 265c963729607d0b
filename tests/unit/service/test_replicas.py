"""Several nodes over one log: replicas agree whatever their own clients do (acceptance TH-10)."""

from hypothesis import given, settings
from hypothesis import strategies as st

ACTION = st.tuples(
    st.sampled_from(["write", "ephemeral", "delete", "auth", "move", "hang up", "close"]),
    st.integers(0, 5),
    st.sampled_from(["gather", "commit one", "run", "none"]),
)


def act(cluster, frames, clients, kind, which, xid):
    client = clients[which % len(clients)]
    path = b"/n%d" % (which % 3)
    if kind == "write":
        client.send(frames.create(xid, path) + frames.set(xid, path, b"%d" % xid))
    elif kind == "ephemeral":
        client.send(frames.create(xid, path + b"-e", flags=3) + frames.get(xid, path, watch=True))
    elif kind == "delete":
        client.send(frames.sync(xid) + frames.delete(xid, path))
    elif kind == "auth":
        client.send(frames.auth(auth=b"user%d:x" % which))
    elif kind == "close":
        client.send(frames.close(xid))
    elif kind == "hang up" and not client.closed:
        client.hang_up()
    elif kind == "move":
        again = cluster.client(node=1 + (client.node + which) % 3)
        again.send(frames.connect(client.session_id, client.password))
        clients.append(again)


@settings(max_examples=60, deadline=None)
@given(actions=st.lists(ACTION, max_size=25))
def test_replicas_agree_whatever_clients_do_th_10(make_cluster, frames, actions):
    """Any clients' doings, cut into any batches, give every node the same digest."""
    cluster = make_cluster(nodes=3)
    clients = [cluster.connected(node=node) for node in (1, 2, 3)]
    for xid, (kind, which, step) in enumerate(actions, start=1):
        act(cluster, frames, clients, kind, which, xid)
        if step == "gather":
            cluster.gather()
        elif step == "commit one" and cluster.log:
            cluster.commit(1)
            cluster.flush()
        elif step == "run":
            cluster.run(1)
    cluster.run(10)
    assert len({service.digest() for service in cluster.services.values()}) == 1
    for service in cluster.services.values():
        held = {client.number for client in service._clients.values()}
        for session in service.tree.sessions.values():
            if session.owner.node == service.node_id and session.owner.connection in held:
                assert service._clients[session.owner.connection].session is session
        for client in service._clients.values():
            assert client.session is None or client.session.owner.connection == client.number
        assert service.statistics().outstanding_bytes == 0


def test_a_local_batch_that_changed_state_differently_would_be_seen_th_10(make_cluster, frames):
    """Negative: a node that skips what others apply has another digest."""
    cluster = make_cluster(nodes=2)
    client = cluster.connected(node=1)
    client.send(frames.create(1, b"/a"))
    cluster.gather()
    skipped = cluster.services.pop(2)
    cluster.commit()
    assert skipped.digest() != cluster.service(1).digest()
