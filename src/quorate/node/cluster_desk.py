"""Requests about the cluster: who belongs, who leads, who wants to join. Any node takes them.

They come from people (``admin_cluster.py``), from new nodes and from other members
(``peer_requests.py``), all as one shape, and are answered in one shape::

    {"ask": "status"}
    {"ask": "change", "change": {...}}                 see ``parse_change``
    {"ask": "transfer", "to": 2}                       0: to the best
    {"ask": "join", "node_id": 4, "address": "HOST:PORT", "directory_id": "...",
     "cluster_id": "...", "role": "voter", "dry_run": false}
        -> {"code": 202, "words": "...", ...}

Only the leader can do anything about them; a node that does not lead passes them on to the one
that does, and passes its answer back. A change is answered as soon as it is in the leader's log
(202): it goes on by itself, whoever leads, and ``status`` shows how far it is. What it becomes is
decided by the engine alone; here is only the way there and back, and what no engine can know:
which data directories were met before.

Codes are those of HTTP: 200 done or shown, 202 begun, 400 malformed, 404 no such member, 409
refused (it did not happen; ``retry`` says whether it may work later), 503 nobody leads, 504 nobody
knows whether it happened.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from quorate.consensus.change import Change, ChangeRefused, requested
from quorate.consensus.engine import ChangeOutcome, MembershipAnswer
from quorate.consensus.membership import Configuration
from quorate.errors import OutcomeUnknown, QuorateError, SettingsError
from quorate.node.beginning import addresses_of
from quorate.node.change_words import parse_change
from quorate.node.events import CHANGE_ANSWERED
from quorate.node.peer_requests import Request, Secured, ask, in_the_clear
from quorate.node.units import Address, parse_address
from quorate.protocol.peer import Hello

_HOPS_MAX = 2
_FORWARD_SECONDS = 20.0
_CHANGE_SECONDS = 15.0
_TRANSFER_SECONDS_MIN = 2.0
_POLL_SECONDS = 0.002
_WAITING_MAX = 64


class Server(Protocol):
    """What is asked of the pure server."""

    def status(self) -> dict[str, Any]:
        """Its picture."""

    def configuration(self) -> Configuration:
        """Who belongs now."""

    def change_membership(self, token: int, change: Change) -> None:
        """Ask for other members; answered by a turn."""

    def transfer_leadership(self, to: int = 0) -> None:
        """Hand leadership over."""


class ClusterDesk:
    """Takes requests in and sees to their answers.

    Args:
        server: decides.
        wake: asks for a turn.
        own: what this node says about itself.
        founders: addresses of members that the configuration does not name, from before
            configurations carried addresses.
        directory_of: the data directory that a node id was met with, if any.
        status: the node's picture, for ``status``.
        election_timeout_ms: how long handing over may take.
        secured: what speaks TLS to other nodes, if anything does.
    """

    def __init__(
        self,
        *,
        server: Server,
        wake: Callable[[], None],
        own: Hello,
        founders: dict[int, Address],
        directory_of: Callable[[int], bytes | None],
        status: Callable[[], dict[str, Any]],
        election_timeout_ms: int,
        secured: Secured = in_the_clear,
    ) -> None:
        self._server = server
        self._wake = wake
        self._own = own
        self._founders = founders
        self._directory_of = directory_of
        self._status = status
        self._secured = secured
        self._transfer_seconds = max(_TRANSFER_SECONDS_MIN, election_timeout_ms * 4 / 1000)
        self._tokens = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[MembershipAnswer]] = {}

    # ---- from the driver -----------------------------------------------------------------------

    def answered(self, answer: MembershipAnswer) -> None:
        """The server answers a change."""
        assert isinstance(answer.token, int)
        words = f": {answer.reason}" if answer.reason else ""
        CHANGE_ANSWERED.say(outcome=answer.outcome.value, words=words)
        waiting = self._waiting.pop(answer.token, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    # ---- requests ------------------------------------------------------------------------------

    async def answer(self, request: Request) -> Request:
        """Work on one request, here or at the leader; never raises what people cause."""
        try:
            hops, deed = request.get("hops", 0), request.get("ask")
            if not isinstance(hops, int) or hops < 0:
                return _said(400, "a malformed request")
            if not isinstance(deed, str) or deed not in _DEEDS:
                return _said(400, "an unknown request")
            leader = int(self._server.status()["leader"])
            if leader == self._own.node_id:
                return await _DEEDS[deed](self, request)
            return await self._pass_on(leader, request, hops)
        except SettingsError as error:
            return _said(400, str(error))

    async def _pass_on(self, leader: int, request: Request, hops: int) -> Request:
        if not leader:
            return _said(503, "no leader is known here: no quorum, or an election is under way")
        address = self.addresses().get(leader)
        if address is None or hops >= _HOPS_MAX:
            return _said(503, f"node {leader} leads, but cannot be asked from here; ask it itself")
        try:
            _, answer = await ask(
                address,
                self._own,
                {**request, "hops": hops + 1},
                _FORWARD_SECONDS,
                self._secured,
            )
        except OutcomeUnknown as error:
            return _said(504, f"node {leader} leads, but {error}; look at the status first")
        except QuorateError as error:
            return _said(503, f"node {leader} leads, but {error}")
        if not isinstance(answer.get("code"), int):
            return _said(504, f"node {leader} leads, and gave an answer that nobody understands")
        return answer

    def addresses(self) -> dict[int, Address]:
        """Where members are dialled."""
        return {**self._founders, **addresses_of(self._server.configuration())}

    # ---- at the leader -------------------------------------------------------------------------

    async def _show(self, request: Request) -> Request:  # noqa: ARG002 - one shape for all deeds
        return {**_said(200, "the leader's picture"), "status": self._status()}

    async def _change(self, request: Request) -> Request:
        return await self._carry_out(parse_change(request.get("change")))

    async def _carry_out(self, change: Change) -> Request:
        """Have the engine make a change, unless it makes no sense at any time.

        What the engine refuses after that, it refuses for now: another change is under way,
        leadership is being handed over. (It takes one while another is under way: to remove a new
        member that still catches up takes that plan back.)
        """
        configuration = self._server.configuration()
        if not configuration.is_changing:
            try:
                requested(configuration, change)
            except ChangeRefused as refused:
                return _said(409, str(refused))
        if not self._server.status()["serving"]:
            return _said(503, "the leader is not established yet; ask again in a moment")
        if len(self._waiting) >= _WAITING_MAX:
            return {**_said(409, "too many changes are asked for at once"), "retry": True}
        if words := self._unreachable(change):
            return _said(409, words)
        token = next(self._tokens)
        waiting = self._waiting[token] = asyncio.get_running_loop().create_future()
        self._server.change_membership(token, self._with_addresses(change))
        self._wake()
        try:
            async with asyncio.timeout(_CHANGE_SECONDS):
                return _outcome(await waiting)
        except TimeoutError:
            return _said(504, "the change is asked for, but nothing is decided; look at the status")
        finally:
            self._waiting.pop(token, None)

    def _unreachable(self, change: Change) -> str:
        """Why a change would make a cluster whose nodes cannot dial each other, or nothing."""
        known = self.addresses()
        for new in change.add:
            for node, address in known.items():
                if str(address) == new.address and node not in change.remove:
                    return f"address {new.address} is that of node {node}"
                if parse_address(new.address).is_loopback and not address.is_loopback:
                    return (
                        f"{new.address} is reached from its own machine only, and node {node} is "
                        f"at {address}: give the address that others dial (--peer-address)"
                    )
        if change.add and not self._own.address:
            return (
                f"node {self._own.node_id} was started alone and listens for no other node: "
                "restart it with --peer-listen HOST:PORT first"
            )
        return ""

    def _with_addresses(self, change: Change) -> Change:
        """Add what a configuration from before the first change does not say yet."""
        configuration, own = self._server.configuration(), self._own.node_id
        if not change.add:
            return change
        known = {node: str(address) for node, address in self._founders.items()}
        known = {node: known[node] for node in known if configuration.address(node) is None}
        if configuration.members == (own,):
            known[own] = self._own.address  # it was alone: nobody else could say where it is
        known.update(change.addresses)
        staying = set(configuration.members) - set(change.remove)
        missing = [
            (node, text)
            for node, text in sorted(known.items())
            if node in staying and configuration.address(node) != text
        ]
        return replace(change, addresses=tuple(missing))

    async def _transfer(self, request: Request) -> Request:
        to, status = request.get("to", 0), self._server.status()
        own = self._own.node_id
        if not isinstance(to, int) or isinstance(to, bool) or to < 0:
            return _said(400, '"to" is a node id, or 0 for the best')
        if to == own:
            return {**_said(200, f"node {to} leads already"), "leader": to}
        configuration = self._server.configuration()
        if to and not configuration.may_lead(to):
            role = configuration.role(to)
            code = 404 if role == "none" else 409
            what = "no member" if role == "none" else f"a {role} and cannot lead"
            return _said(code, f"node {to} is {what}")
        active = {member["node_id"]: member["active"] for member in status["members"]}
        if to and not active.get(to):
            return {**_said(409, f"node {to} does not answer at present"), "retry": True}
        self._server.transfer_leadership(to)
        self._wake()
        leader = await self._wait_for_other_leader()
        if not leader:
            return {
                **_said(409, "it was not handed over: no other voter is up to date and answers"),
                "retry": True,
            }
        return {**_said(200, f"node {leader} leads now"), "leader": leader}

    async def _wait_for_other_leader(self) -> int:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._transfer_seconds
        while loop.time() < deadline:
            leader = int(self._server.status()["leader"])
            if leader not in (0, self._own.node_id):
                return leader
            await asyncio.sleep(_POLL_SECONDS)
        return 0

    async def _join(self, request: Request) -> Request:
        """Add a node at its own request; asking again is harmless."""
        is_asking_only = bool(request.get("dry_run"))
        if not is_asking_only and request.get("cluster_id") != self._own.cluster_id:
            return _said(409, f"this is cluster {self._own.cluster_id[:8]}, not the node's")
        node, directory = request.get("node_id"), _directory(request.get("directory_id"))
        member = {key: request.get(key) for key in ("node_id", "address", "role")}
        change = parse_change({"add": [member]})
        new, configuration = change.add[0], self._server.configuration()
        met = self._directory_of(new.node_id)
        if node == self._own.node_id:
            met = bytes.fromhex(self._own.directory_id)
        if node in configuration.members:
            known = configuration.address(new.node_id)
            if met not in (None, directory):
                return _said(409, _LOST.format(node=node))
            if known != new.address:
                return _said(409, f"node id {node} is that of the member at {known}: {_ANOTHER}")
            return _said(200, f"node {node} is a member ({configuration.role(new.node_id)})")
        if met not in (None, directory):
            return _said(409, _USED.format(node=node))
        if is_asking_only:
            words = self._unreachable(change)
            return _said(409, words) if words else _said(200, f"node {node} may join")
        return await self._carry_out(change)


_ANOTHER = "choose another --id"
_LOST = (
    "node id {node} is that of a member with another data directory. If this is that node and its "
    "disk was lost or wiped: it must not come back under its old id, because it has forgotten what "
    "it promised; run `quorate cluster remove {node}`, then let it join with a new --id. If it is "
    "another node: " + _ANOTHER
)
_USED = (
    "node id {node} was used before, with another data directory; ids are never used twice, "
    "because others may remember what the old node promised: " + _ANOTHER
)


def _directory(text: object) -> bytes:
    try:
        found = bytes.fromhex(str(text))
    except ValueError:
        found = b""
    if len(found) != 16:
        raise SettingsError("a malformed directory id")
    return found


def _outcome(answer: MembershipAnswer) -> Request:
    """What the engine said, as an answer to people."""
    match answer.outcome:
        case ChangeOutcome.ACCEPTED:
            return {**_said(202, "the change is under way"), "index": answer.index}
        case ChangeOutcome.DONE:
            return {**_said(200, "done"), "index": answer.index}
        case ChangeOutcome.UNKNOWN:
            return _said(504, f"it may or may not happen: {answer.reason}; look at the status")
        case ChangeOutcome.REFUSED:
            return {**_said(409, answer.reason), "retry": True}
        case ChangeOutcome.GIVEN_UP:
            return _said(409, answer.reason)


def _said(code: int, words: str) -> Request:
    return {"code": code, "words": words}


_DEEDS = {
    "status": ClusterDesk._show,  # noqa: SLF001 - this module's own
    "change": ClusterDesk._change,  # noqa: SLF001
    "transfer": ClusterDesk._transfer,  # noqa: SLF001
    "join": ClusterDesk._join,  # noqa: SLF001
}
