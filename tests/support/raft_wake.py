"""When a Raft engine's next tick matters: lets a simulation skip the ticks before it."""

from quorate.consensus.raft.state import Role


def raft_wake(engine):
    """The first tick, in the engine's milliseconds, at which this engine may do something."""
    state = engine.state
    if state.role is not Role.LEADER:
        return state.election_deadline_ms
    actives = {**state.actives, state.node_id: state.now_ms}
    heard_ms = state.quorum.committed(actives)
    return min(state.heartbeat_deadline_ms, heard_ms + state.settings.election_timeout_ms)
