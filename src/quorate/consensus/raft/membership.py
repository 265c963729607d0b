"""Changing who belongs, by joint consensus (Raft §6, dissertation ch. 4).

What may be asked for and which configuration follows which is in ``consensus/change.py``.
"""

from __future__ import annotations

from quorate.consensus.engine import ChangeMembership, ChangeOutcome, MembershipAnswer
from quorate.consensus.raft.state import RaftState


def on_change(state: RaftState, event: ChangeMembership) -> None:
    """Somebody wants other members."""
    state.ignore("membership is fixed")
    answer = MembershipAnswer(event.token, ChangeOutcome.REFUSED, reason="not built yet")
    state.out.membership.append(answer)
