"""Who may take part: the checks on a hello, and the words in which a refusal is told.

Both sides of a link send a hello; the side that was dialled then answers, on the control channel,
``welcome`` or a refusal with a reason. A node that is told that its data directory is the wrong
one stops with that reason: going on could make it vote twice, or forget what it acknowledged.

    welcome                   | 1
    refused                   | 2 | reason, utf-8      the dialler logs it and tries again later
    wrong directory           | 3 | reason, utf-8      the dialler stops

A node that is no member of the configuration known here may still link, if it is of this cluster
and says where it can be dialled: members change, and whoever was away meanwhile hears of it from
nodes it does not know yet (Raft dissertation §4.2.2: requests are answered whoever sends them).

Refuses to know: sockets, and who is a member. The memory of incarnations is this process's own;
the memory of directory ids is on disk (``Store.check_peer``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from quorate.errors import DiskFull, RemoteProtocolError, WrongDirectory
from quorate.protocol.peer import Hello, common_version

CONTROL_CHANNEL = 255
_WELCOME, _REFUSED, _WRONG_DIRECTORY = 1, 2, 3
_REASON_BYTES_MAX = 1000
_DIRECTORY_ID_BYTES = 16


class Refusal(NamedTuple):
    """Why a link must not stand.

    ``is_final``: the refused node's data directory is the wrong one; it must stop.
    """

    reason: str
    is_final: bool


def encode_verdict(refusal: Refusal | None) -> bytes:
    """The payload of a control frame: welcome, or why not."""
    if refusal is None:
        return bytes((_WELCOME,))
    kind = _WRONG_DIRECTORY if refusal.is_final else _REFUSED
    return bytes((kind,)) + refusal.reason.encode()[:_REASON_BYTES_MAX]


def decode_verdict(payload: bytes) -> Refusal | None:
    """Inverse of ``encode_verdict``.

    Raises:
        RemoteProtocolError: these bytes are no verdict.
    """
    kind = payload[0] if payload else 0
    if kind == _WELCOME:
        return None
    if kind not in (_REFUSED, _WRONG_DIRECTORY) or len(payload) > 1 + _REASON_BYTES_MAX:
        raise RemoteProtocolError("a malformed answer to a hello")
    return Refusal(payload[1:].decode("utf-8", "replace"), kind == _WRONG_DIRECTORY)


class PeerChecks:
    """Judges hellos by cluster, node id, data directory, incarnation and process.

    Args:
        own: what this node says about itself.
        check_directory: remembers a peer's directory id durably; raises WrongDirectory when
            another one was remembered for that node.
    """

    def __init__(
        self,
        own: Hello,
        check_directory: Callable[[int, bytes], None],
    ) -> None:
        self.own = own
        self._check_directory = check_directory
        self._newest: dict[int, tuple[int, int]] = {}  # node -> (incarnation, boot nonce)

    def judge(self, hello: Hello, linked: Hello | None) -> Refusal | None:
        """Whether a link with whoever said this may stand; remembers it if so.

        Args:
            hello: what was said.
            linked: the hello on the link that stands from the same node, if any. While it stands
                its process lives, and a later start of the same directory must be a copy of it
                (or its end has not been noticed yet, which a retry a moment later finds out).

        Raises:
            RemoteProtocolError: the hello is malformed.
        """
        own = self.own
        if common_version(own, hello) is None:
            older, newer = sorted((own, hello), key=lambda one: one.version)
            return Refusal(
                f"node {hello.node_id} speaks {hello.versions} of the protocol between nodes, node "
                f"{own.node_id} {own.versions}, and none is common: bring node {older.node_id} to "
                f"a release that speaks {newer.versions}, by way of a release that speaks both if "
                "it must not stop (docs/compatibility.md)",
                is_final=False,
            )
        if hello.cluster_id != own.cluster_id:
            return Refusal(
                f"node {own.node_id} belongs to cluster {own.cluster_id[:8]}, node "
                f"{hello.node_id} to {hello.cluster_id[:8]}: start all nodes of a new cluster "
                "with the same --cluster, and let later ones --join",
                is_final=False,
            )
        if hello.node_id == own.node_id:
            return Refusal(
                f"node id {hello.node_id} is this node's own id: check --id and --cluster; two "
                "nodes may have been given one id",
                is_final=False,
            )
        return self._judge_directory(hello) or self._judge_start(hello, linked)

    def _judge_directory(self, hello: Hello) -> Refusal | None:
        try:
            directory_id = bytes.fromhex(hello.directory_id)
        except ValueError:
            directory_id = b""
        if len(directory_id) != _DIRECTORY_ID_BYTES:
            raise RemoteProtocolError("a hello with a malformed directory id")
        try:
            self._check_directory(hello.node_id, directory_id)
        except WrongDirectory as error:
            return Refusal(str(error), is_final=True)
        except DiskFull as error:
            words = f"node {self.own.node_id} cannot remember whose directory this is now: {error}"
            return Refusal(words, is_final=False)
        return None

    def _judge_start(self, hello: Hello, linked: Hello | None) -> Refusal | None:
        known_incarnation, known_nonce = self._newest.get(hello.node_id, (0, hello.boot_nonce))
        if hello.incarnation < known_incarnation:
            return Refusal(
                f"node {hello.node_id} says this is start {hello.incarnation} of its data "
                f"directory, but start {known_incarnation} was seen: the directory is an old copy "
                "or a restored backup; use the newest one, or replace the node",
                is_final=True,
            )
        if hello.incarnation == known_incarnation and hello.boot_nonce != known_nonce:
            return Refusal(
                f"two processes say they are start {hello.incarnation} of node {hello.node_id}: "
                "the data directory was copied; stop one of them for ever",
                is_final=True,
            )
        if linked is not None and linked.incarnation != hello.incarnation:
            return Refusal(
                f"start {linked.incarnation} of node {hello.node_id} is still linked, start "
                f"{hello.incarnation} must wait until it is gone: if this lasts, the data "
                "directory was copied and both are running; stop one of them for ever",
                is_final=False,
            )
        self._newest[hello.node_id] = (hello.incarnation, hello.boot_nonce)
        return None
