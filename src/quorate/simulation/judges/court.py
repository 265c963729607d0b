"""All judges of one simulated cluster, and the judge of how nodes conduct themselves."""

from __future__ import annotations

from quorate.consensus.entry import Damage
from quorate.simulation.judges.application import ApplicationJudge
from quorate.simulation.judges.durability import DurabilityJudge
from quorate.simulation.judges.engine import EngineJudge
from quorate.simulation.judges.membership import MembershipJudge
from quorate.simulation.properties import liveness, safety


class ConductJudge:
    """Judge of what a node does about faults, and of what it may blame."""

    @safety("Pillai et al. 2014; Rebello et al. 2020")
    def nodes_stop_only_for_a_fault(self, node_id: int, reason: str, is_harmed: bool) -> str | None:
        """A node stops by itself only when its disk really failed."""
        return None if is_harmed else f"node {node_id} stopped: {reason}"

    @safety("protocol-aware recovery, FAST '18")
    def directories_are_refused_only_if_damaged(
        self, node_id: int, reason: str, is_harmed: bool
    ) -> str | None:
        """After a crash a node recovers by itself; it refuses only what no crash explains."""
        return None if is_harmed else f"node {node_id} refuses its directory: {reason}"

    @safety("protocol-aware recovery, FAST '18")
    def damage_is_reported_only_if_there_is_some(
        self, node_id: int, damage: Damage | None, is_harmed: bool
    ) -> str | None:
        """A node lets itself be repaired only after its disk was damaged."""
        if damage is None or is_harmed:
            return None
        return f"node {node_id} says of a disk that nobody damaged: {damage.words}"

    @liveness("protocol-aware recovery, FAST '18")
    def damaged_nodes_are_repaired(self, node_id: int, *, is_repaired: bool) -> str | None:
        """A node whose log was damaged gets back from the others what it lost."""
        return None if is_repaired else f"node {node_id} is still being repaired"

    @safety("Schneider 1990")
    def replicas_agree_with_themselves(self, node_id: int, reason: str) -> str | None:
        """Replicas compare digests of their state and never differ."""
        return f"node {node_id} stops: {reason}"

    @safety("peer protocol")
    def peers_speak_properly(self, node_id: int, sender: int, reason: str) -> str | None:
        """What a node sends is what its peers understand; damage is caught by the frame."""
        return f"node {node_id} does not understand node {sender}: {reason}"

    @safety("assertions stay on")
    def nothing_unexpected_happens(self, what: str) -> str | None:
        """No assertion of the code under test fails, and nothing raises what nobody expects."""
        return what


class Court:
    """The judges that sit over one cluster, whatever it is used for."""

    def __init__(self) -> None:
        self.durability = DurabilityJudge()
        self.membership = MembershipJudge(self.durability)
        self.engine = EngineJudge(self.membership)
        self.application = ApplicationJudge()
        self.conduct = ConductJudge()
