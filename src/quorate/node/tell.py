"""Puts what a turn tells about leadership and connections into the log.

The pure server only says what happened; here it becomes lines. Called for turns that have
something to tell, which most have not.
"""

from __future__ import annotations

from quorate.consensus.engine import NO_LEADER, Leadership
from quorate.node import events
from quorate.node.ports import Turn

_BY_CLIENT = frozenset({"hung up", "the client closed its session", "four-letter word"})
_BY_ROLE = {
    "candidate": events.CAMPAIGNING,
    "leader": events.ELECTED,
    "follower": events.STEPPED_DOWN,
}


class Teller:
    """Tells what turns say.

    Args:
        node_id: this node.
    """

    def __init__(self, node_id: int) -> None:
        self._node_id = node_id
        self._leader = NO_LEADER

    def tell(self, turn: Turn) -> None:
        """Write what this turn has to say."""
        for change in turn.role_changes:
            _BY_ROLE[change.role].say(epoch=change.epoch, cause=change.cause)
        if turn.leadership is not None:
            self._tell_leadership(turn.leadership)
        for goodbye in turn.goodbyes:
            ended = goodbye.reason in _BY_CLIENT
            event = events.CONNECTION_ENDED if ended else events.CONNECTION_CLOSED
            event.say(
                address=goodbye.address,
                reason=goodbye.reason,
                session=f"0x{goodbye.session_id:x}" if goodbye.session_id else "none",
            )

    def _tell_leadership(self, leadership: Leadership) -> None:
        epoch, leader, established = leadership
        if leader == NO_LEADER:
            if self._leader != NO_LEADER:
                events.LEADER_LOST.say(epoch=epoch)
        elif leader != self._node_id:
            events.LEADER_KNOWN.say(leader=leader, epoch=epoch)
        elif established:
            events.SERVING.say(epoch=epoch)
        self._leader = leader
