"""Clients come and go for years: what they leave must not wait for the garbage collector."""

from no_cycles import leaving_no_cycles

from .conftest import Cluster, Frames


def test_sessions_and_znodes_that_end_leave_no_cycle() -> None:
    """Whichever way a session ends, with watches, ephemerals and requests under way."""
    cluster, frames = Cluster(), Frames()
    keeper = cluster.connected()
    keeper.ask(frames.create(1, b"/k"))

    def come_and_go() -> None:
        closing, leaving, moving = (cluster.connected() for _ in range(3))
        for client in (closing, leaving, moving):
            client.ask(frames.create(1, b"/k/e%d" % client.number, flags=1))
            client.ask(frames.get(2, b"/k", watch=True) + frames.children(3, b"/k", watch=True))
            client.ask(frames.sync(4))
        closing.ask(frames.close(5))
        leaving.send(frames.create(5, b"/k/late") + frames.get(6, b"/k"))
        leaving.hang_up()
        cluster.client().connect(session_id=moving.session_id, password=moving.password)
        cluster.run()
        cluster.clients[:] = [keeper]

    come_and_go()
    with leaving_no_cycles():
        come_and_go()
