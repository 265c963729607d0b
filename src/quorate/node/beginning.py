"""How a node begins: as one of a new cluster, as one that joins, or with what it was before.

Settings say what an operator wrote, the data directory what is so. A new directory believes the
settings; after that the directory counts, because members change and settings are edited by hand:
a node that took today's ``--cluster`` for the first configuration could found a second cluster in
the middle of the first. Nothing here touches files or sockets.

Invariants:
    * the cluster id is chosen once, by the digest of the first members, and never changes
    * a node that joined founds nothing: its first configuration has no members
    * settings that name only strangers are refused: the directory is mounted in the wrong place
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from quorate.consensus.membership import Configuration
from quorate.errors import SettingsError, WrongDirectory
from quorate.node.settings import NodeSettings, cluster_digest, cluster_text
from quorate.node.units import Address, parse_address, parse_cluster
from quorate.storage.identity import Identity

JOINED = "joined"
"""Founding text of a node that was added to a running cluster."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a node starts from.

    Attributes:
        cluster_id: 16 bytes, the same on all nodes for ever.
        founding: what the data directory remembers of this.
        founders: the first configuration's members and addresses; empty for one that joined.
        peer_listen: where to listen for other nodes; None: nowhere (a lone node that was not told).
        peer_address: what other nodes dial; None likewise.
    """

    cluster_id: bytes
    founding: str
    founders: Mapping[int, Address] = field(default_factory=dict)
    peer_listen: Address | None = None
    peer_address: Address | None = None

    def first_configuration(self) -> Configuration:
        """The configuration in force until the log or a snapshot says more."""
        addresses = {node: str(address) for node, address in self.founders.items()}
        return Configuration.of(self.founders, addresses=addresses)


def begin_new(settings: NodeSettings) -> Beginning:
    """Begin as one of the first members of a cluster, in an empty directory."""
    founders = dict(settings.cluster)
    return _located(settings, cluster_digest(founders), cluster_text(founders), founders)


def begin_joined(settings: NodeSettings, cluster_id: bytes) -> Beginning:
    """Begin as a node that joins the cluster with this id, in an empty directory.

    Raises:
        SettingsError: nobody could dial this node.
    """
    check_joiner(settings)
    return _located(settings, cluster_id, JOINED, {})


def check_joiner(settings: NodeSettings) -> Address:
    """Where other nodes will reach a node that is to join.

    Raises:
        SettingsError: nowhere.
    """
    if not settings.is_peer_listen_given:
        raise SettingsError("--join needs --peer-listen HOST:PORT: where others reach this node")
    address = settings.peer_address or settings.peer_listen
    if address.is_wildcard:
        raise SettingsError(
            f"--peer-listen {settings.peer_listen} is every interface of this machine: give "
            "--peer-address HOST:PORT, the address that other nodes are to dial"
        )
    return address


def begin_again(settings: NodeSettings, identity: Identity) -> Beginning:
    """Begin with what the directory remembers.

    Raises:
        WrongDirectory: it is another node's, or of a release that did not remember its first
            members, and ``--cluster`` is not the first list.
    """
    identity.check_owner(identity.cluster_id, settings.node_id)
    if identity.founding == JOINED:
        return _located(settings, identity.cluster_id, JOINED, {})
    if identity.founding:
        founders = parse_cluster(identity.founding)
        return _located(settings, identity.cluster_id, identity.founding, founders)
    identity.check_owner(cluster_digest(settings.cluster), settings.node_id)
    return begin_new(settings)


def located_by(beginning: Beginning, node_id: int, now: Configuration) -> Beginning:
    """Let the members of now say where this node listens, if neither settings nor founding do.

    A node that was alone has no need to listen; once it has company, it must after every start.
    """
    own = addresses_of(now).get(node_id)
    if beginning.peer_listen is not None or own is None or now.members == (node_id,):
        return beginning
    return replace(beginning, peer_listen=own, peer_address=own)


def check_listed(settings: NodeSettings, beginning: Beginning, now: Configuration) -> str:
    """Compare ``--cluster`` with the members of now; gives words if it is out of date.

    Raises:
        WrongDirectory: it has nobody in common with the cluster this directory belongs to.
    """
    listed = settings.cluster
    if not settings.is_cluster_given or cluster_digest(listed) == beginning.cluster_id:
        return ""
    members = {**beginning.founders, **addresses_of(now)}
    if not any(members.get(node) == address for node, address in listed.items()):
        raise WrongDirectory(
            f"this data directory belongs to cluster {beginning.cluster_id.hex()} with the members "
            f"{cluster_text(members) or 'unknown so far'}, but --cluster names "
            f"{cluster_text(listed)}: check --data and --cluster; to join another cluster start "
            "with an empty directory and --join"
        )
    return (
        f"--cluster ({cluster_text(listed)}) is not what the members are now "
        f"({cluster_text(members)}); it is not used any more and may be left out"
    )


def addresses_of(configuration: Configuration) -> dict[int, Address]:
    """The addresses that a configuration names; those nobody can read are left out."""
    found: dict[int, Address] = {}
    for node, text in configuration.addresses:
        try:
            found[node] = parse_address(text)
        except SettingsError:
            continue
    return found


def _located(
    settings: NodeSettings, cluster_id: bytes, founding: str, founders: Mapping[int, Address]
) -> Beginning:
    """Add where this node listens and is dialled."""
    own = founders.get(settings.node_id) if len(founders) > 1 else None
    listen = settings.peer_listen if settings.is_peer_listen_given else own
    address = settings.peer_address
    if address is None and settings.is_cluster_given:
        address = settings.cluster[settings.node_id]
    if address is None:
        address = own if listen is None or listen.is_wildcard else listen
    if listen is None or (address is not None and address.is_wildcard):
        address = None
    return Beginning(cluster_id, founding, dict(founders), listen, address)
