"""How a new node becomes a member: it asks, and asks again until it is one.

Twice, because a directory must exist before its node is a member, and must not exist if it cannot
become one:

1. ``ask_permission``, with an empty directory and nothing else running: which cluster is it, is
   this id free? Only then the directory is made.
2. ``Joiner``, once the node listens: to be added. From then on the leader does the work: it sends
   what the node misses and promotes it. If the change is given up (the node was too slow, or cut
   off), the node asks again.

After a restart a directory that says "joined" and holds no configuration yet goes on with step 2.

What may be answered is in ``cluster_desk.py``. Busy is waited for, with words; a refusal ends the
node, with words.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from quorate.errors import NoQuorum, QuorateError, SettingsError, WrongDirectory
from quorate.node.beginning import check_joiner
from quorate.node.events import CATCHING_UP, JOIN_WAITS, JOINED, JOINING
from quorate.node.peer_requests import Request, Secured, ask, in_the_clear
from quorate.node.settings import NodeSettings
from quorate.protocol.peer import Hello

_ASK_SECONDS = 25.0
_PAUSE_SECONDS = 1.0
_LOOK_SECONDS = 0.2
_ATTEMPTS_MAX = 10  # in vain: nobody answers at all
_PERCENT_STEP = 10


async def ask_permission(
    settings: NodeSettings, directory_id: bytes, secured: Secured = in_the_clear
) -> bytes:
    """Find out which cluster listens at ``--join`` and whether this node may enter; its id.

    Raises:
        SettingsError: it may not, or nobody could dial it; nothing happened.
        NoQuorum: nobody answers; nothing happened, trying later may help.
    """
    address = check_joiner(settings)
    own = Hello("", settings.node_id, directory_id.hex(), 0, secrets.randbits(63), str(address))
    hello = await _ask_until_answered(settings, own, secured, dry_run=True)
    try:
        cluster_id = bytes.fromhex(hello.cluster_id)
    except ValueError:
        cluster_id = b""
    if len(cluster_id) != 16:
        raise SettingsError("--join: whoever answers there names no cluster")
    return cluster_id


async def _ask_until_answered(
    settings: NodeSettings, own: Hello, secured: Secured, *, dry_run: bool
) -> Hello:
    """Ask one member after the other until one has said yes; gives what it says about itself.

    Raises:
        SettingsError: the answer was no.
        NoQuorum: there was none, again and again.
    """
    request = {
        "ask": "join",
        "node_id": settings.node_id,
        "address": own.address,
        "directory_id": own.directory_id,
        "cluster_id": own.cluster_id,  # to find it out is what a dry run is for
        "role": settings.join_as,
        "dry_run": dry_run,
    }
    said, attempts = "", 0
    while attempts < _ATTEMPTS_MAX:
        found = await _ask_somebody(settings, own, request, secured)
        attempts = attempts + 1 if found[0] is None else 0
        hello, answer = found
        code, words = answer.get("code"), str(answer.get("words"))
        if hello is not None and code in (200, 202):
            return hello
        if hello is not None and code not in (503, 504) and not answer.get("retry"):
            raise SettingsError(f"--join: node {hello.node_id} refuses: {words}")
        if words != said:
            said = words
            JOIN_WAITS.say(words=words)
        await asyncio.sleep(_PAUSE_SECONDS)
    raise NoQuorum(f"--join: {said}; nothing happened")


async def _ask_somebody(
    settings: NodeSettings, own: Hello, request: Request, secured: Secured
) -> tuple[Hello | None, Request]:
    """The first answer that decides something; else the last one, or why there is none."""
    last: tuple[Hello | None, Request] = (None, {"words": "nobody answers"})
    for address in settings.join:
        try:
            hello, answer = await ask(address, own, request, _ASK_SECONDS, secured)
        except QuorateError as error:
            if last[0] is None:
                last = (None, {"words": str(error)})
            continue
        last = (hello, answer)
        if answer.get("code") != 503:
            break
    return last


class Joiner:
    """Asks to be added until this node is a member.

    Args:
        settings: with ``join``.
        own: what this node says about itself.
        status: the node's picture.
        failed: called with the error that ends the node.
        secured: what speaks TLS to other nodes, if anything does.
    """

    def __init__(
        self,
        settings: NodeSettings,
        own: Hello,
        status: Callable[[], dict[str, Any]],
        failed: Callable[[QuorateError], None],
        secured: Secured = in_the_clear,
    ) -> None:
        self._settings = settings
        self._own = own
        self._status = status
        self._failed = failed
        self._secured = secured
        self._task: asyncio.Task[None] | None = None

    @property
    def can_ask(self) -> bool:
        """Whether it was said whom to ask."""
        return bool(self._settings.join)

    def start(self) -> None:
        """Begin, on the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def is_busy(self) -> bool:
        """Whether this node is not yet what it wants to be."""
        return self._task is not None and not self._task.done()

    def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while not self._is_settled():
                if self._role() == "none":
                    await self._ask()
                await self._watch()
            JOINED.say(node_id=self._settings.node_id, role=self._role())
        except QuorateError as error:
            self._failed(error)

    async def _ask(self) -> None:
        JOINING.say(cluster=self._own.cluster_id[:8])
        hello = await _ask_until_answered(self._settings, self._own, self._secured, dry_run=True)
        if hello.cluster_id != self._own.cluster_id:
            raise WrongDirectory(
                f"this data directory belongs to cluster {self._own.cluster_id[:8]}, but --join "
                f"leads to cluster {hello.cluster_id[:8]}: check --data and --join"
            )
        await _ask_until_answered(self._settings, self._own, self._secured, dry_run=False)

    async def _watch(self) -> None:
        """Say how far it is, until it is done or taken back."""
        loop = asyncio.get_running_loop()
        begun, said = loop.time(), -_PERCENT_STEP
        while not self._is_settled():
            page = self._status()
            percent = 100 * page["applied_index"] // max(1, page["commit_index"])
            if page["leader"] and percent >= said + _PERCENT_STEP and self._role() != "none":
                said = percent
                CATCHING_UP.say(percent=percent)
            if self._role() == "none" and loop.time() > begun + 10 * _PAUSE_SECONDS:
                return  # given up, or never begun: ask again
            await asyncio.sleep(_LOOK_SECONDS)

    def _is_settled(self) -> bool:
        """Whether this node is a member, and no change is about to make something else of it."""
        page = self._status()
        return self._role() != "none" and not page["next_voters"] and not page["outgoing"]

    def _role(self) -> str:
        """What this node is in the configuration in force."""
        page = self._status()
        node = self._settings.node_id
        if node in page["witnesses"]:
            return "witness"
        if node in page["voters"]:
            return "voter"
        return "learner" if node in page["learners"] else "none"
