"""The TLS of one node: contexts for its doors, renewed while it runs, and refusals in the log.

    PeerSecurity    links between nodes: both sides show a certificate, for the node that they say
                    they are (``tls_identity.py``)
    DoorSecurity    one address for clients or for the admin pages
    Security        all of it: loads the files, watches them, loads them again

Files are looked at every few seconds and when told to (SIGHUP). New ones are loaded when they have
stopped changing, tried out, and used for new connections; connections that stand go on with what
they began with. Files that cannot be used change nothing: the node goes on with the old ones and
says so, once.

Refuses to know: what is said over the connections.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from quorate.errors import SettingsError
from quorate.node import events
from quorate.node.complaints import Complaints
from quorate.node.tls_identity import names_nodes, objection_to
from quorate.node.tls_material import (
    Material,
    Signature,
    load_peer_material,
    load_server_material,
    signatures,
)
from quorate.node.tls_settings import Files, TlsSettings
from quorate.node.tls_transport import Manner, Pacer, TlsProtocol
from quorate.node.units import Address

_LOOK_SECONDS = 2.0
_PEER_HANDSHAKE_SECONDS = 1.9  # just less than ``peer_link`` gives the whole greeting
_DOOR_HANDSHAKE_SECONDS = 5.0
_EXPIRY_WARNING_SECONDS = 14 * 86_400
_REMIND_SECONDS = 86_400.0


class PeerSecurity:
    """How links between nodes are secured. Made without material it secures nothing.

    Args:
        mode: ``off``, ``accept``, ``dial`` or ``require``, as ``--peer-tls``.
        material: certificates; None exactly with ``off``.
    """

    def __init__(self, mode: str = "off", material: Material | None = None) -> None:
        assert (mode == "off") == (material is None)
        self.mode = mode
        self.material = material
        self.complaints = Complaints("the port for nodes")

    def accepted(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        """Secure a connection that came in; what the loop is to talk to."""
        if self.material is None:
            return protocol
        return TlsProtocol(
            protocol,
            Manner(
                self.material.server,
                is_serving=True,
                handshake_seconds=_PEER_HANDSHAKE_SECONDS,
                complain=self.complaints.say,
                takes_plaintext=self.mode != "require",
            ),
        )

    def dialled(
        self,
        protocol: asyncio.Protocol,
        node_id: int,
        address: Address,
        log: Callable[[str], None],
    ) -> asyncio.Protocol:
        """Secure a connection that we dial; what the loop is to talk to.

        Args:
            protocol: speaks over it once the other side has shown that it is the node meant.
            node_id: which node is meant; 0 for whichever listens there.
            address: where it is dialled.
            log: told why the other side was refused.
        """
        if self.material is None or self.mode == "accept":
            return protocol
        assert self.material.client is not None
        return TlsProtocol(
            protocol,
            Manner(
                self.material.client,
                is_serving=False,
                handshake_seconds=_PEER_HANDSHAKE_SECONDS,
                complain=lambda _, reason: log(reason),
                judge=lambda shaken: objection_to(shaken.getpeercert(), node_id, address.host),
            ),
        )

    def asking(self, protocol: asyncio.Protocol, address: Address) -> asyncio.Protocol:
        """Secure a connection to whichever node of ours listens at an address, to ask it."""
        return self.dialled(
            protocol,
            0,
            address,
            lambda reason: events.ASKED_REFUSED.say(address=address, reason=reason),
        )

    def objection(
        self, transport: asyncio.BaseTransport, node_id: int, address: Address | None
    ) -> str | None:
        """Why whoever came in on this connection is not the node that it says it is.

        Args:
            transport: a connection made by ``accepted``.
            node_id: which node it says it is.
            address: where that node is dialled, as far as we know.
        """
        if self.material is None:
            return None
        certificate = transport.get_extra_info("peercert")
        if certificate is None and self.mode != "require":
            return None  # plaintext, which is taken while a cluster moves to TLS
        return objection_to(certificate, node_id, address.host if address is not None else "")


class DoorSecurity:
    """How one address for clients or admin pages is secured.

    Args:
        door: its name, for people.
        material: certificates.
    """

    def __init__(self, door: str, material: Material) -> None:
        self.material = material
        self.complaints = Complaints(door)
        self._pacer = Pacer()

    def secure(self, connect: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """Turn a protocol factory into one that speaks TLS."""

        def connect_secured() -> asyncio.Protocol:
            manner = Manner(
                self.material.server,
                is_serving=True,
                handshake_seconds=_DOOR_HANDSHAKE_SECONDS,
                complain=self.complaints.say,
                pacer=self._pacer,
            )
            return TlsProtocol(connect(), manner)

        return connect_secured


class Security:
    """A node's TLS.

    Args:
        settings: which files, which doors.
        node_id: this node.
        own_address: where other nodes dial it; None: not known here, so that a certificate for a
            host cannot be checked before they see it.

    Raises:
        SettingsError: a file cannot be used; the message says which and why.
    """

    def __init__(self, settings: TlsSettings, node_id: int, own_address: Address | None) -> None:
        self._settings = settings
        self._node_id = node_id
        self._own_address = own_address
        self._seen = self._look()
        self._used = self._seen
        self._timer: asyncio.TimerHandle | None = None
        self._reminded_at = 0.0
        self.peers = PeerSecurity(settings.peer_tls, self._load_peers())
        clients, admin = self._load_doors()
        self.clients = DoorSecurity("--client-tls-listen", clients) if clients else None
        self.admin = DoorSecurity("--admin-listen", admin) if admin else None

    @property
    def is_used(self) -> bool:
        """Whether any door speaks TLS."""
        return self._settings.is_used

    def start(self) -> None:
        """Begin to look after the files."""
        if self.is_used:
            if self._settings.peer_tls in ("accept", "dial"):
                events.PLAINTEXT_TAKEN.say(mode=self._settings.peer_tls)
            self._watch()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def status(self) -> dict[str, Any]:
        """A picture for the status page."""
        peers = self.peers.material
        doors = [door for door in (self.clients, self.admin) if door is not None]
        return {
            "peers": self._settings.peer_tls,
            "clients": self._settings.client_tls if self.clients else "off",
            "admin": self._settings.admin_tls,
            "peer_certificate_not_after": _date(peers),
            "client_certificate_not_after": _date(doors[0].material if doors else None),
            "certificates_not_after_seconds": {
                "peers" if material is peers else "clients": material.not_after_seconds
                for material, _ in self._in_use()
            },
            "refused": self.peers.complaints.refused
            + sum(door.complaints.refused for door in doors),
        }

    def reload(self) -> bool:
        """Load all files again; False (and a word in the log) when they cannot be used."""
        self._seen = self._used = self._look()
        try:
            peers = self._load_peers()
            clients, admin = self._load_doors()
        # Whatever is wrong with a file must not stop a node that serves. (SSLError is an OSError.)
        except (SettingsError, OSError, ValueError) as error:
            events.CERTIFICATES_UNUSABLE.say(error=error)
            return False
        self.peers.material = peers
        for door, material in ((self.clients, clients), (self.admin, admin)):
            if door is not None:
                assert material is not None
                door.material = material
        events.CERTIFICATES_LOADED.say(until=self._dates())
        self._reminded_at = 0.0
        return True

    # ---- inside --------------------------------------------------------------------------------

    def _files(self) -> list[Files]:
        return [f for f in (self._settings.peer_files, self._settings.client_files) if f]

    def _look(self) -> list[tuple[Signature | None, ...]]:
        return [signatures(files) for files in self._files()]

    def _load_peers(self) -> Material | None:
        files = self._settings.peer_files
        if files is None:
            return None
        material = load_peer_material(files)
        own = self._own_address
        if own is None and not names_nodes(material.certificate):
            return material
        host = own.host if own is not None else ""
        objection = objection_to(material.certificate, self._node_id, host)
        if objection is not None:
            raise SettingsError(
                f"{files.names[0]} {files.cert}: other nodes would refuse this node: {objection}"
            )
        return material

    def _load_doors(self) -> tuple[Material | None, Material | None]:
        settings, files = self._settings, self._settings.client_files
        if files is None:
            return None, None
        clients = admin = None
        if settings.client_tls_listen is not None:
            clients = load_server_material(files, mutual=settings.client_tls == "mutual")
        if settings.admin_tls != "off":
            admin = load_server_material(files, mutual=settings.admin_tls == "mutual")
        return clients, admin

    def _watch(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._watch)
        seen = self._look()
        # Twice the same: whoever writes certificate and key, one after the other, is done.
        if seen == self._seen and seen != self._used:
            self.reload()
        self._seen = seen
        self._remind()

    def _remind(self) -> None:
        now = time.monotonic()
        if self._reminded_at and now - self._reminded_at < _REMIND_SECONDS:
            return
        self._reminded_at = now
        for material, files in self._in_use():
            left = material.not_after_seconds - time.time()
            if left < _EXPIRY_WARNING_SECONDS:
                when = "has expired" if left < 0 else f"expires in {left / 86_400:.1f} days"
                events.CERTIFICATE_EXPIRES.say(file=files.cert, when=when)

    def _in_use(self) -> list[tuple[Material, Files]]:
        used = []
        if self.peers.material is not None and self._settings.peer_files is not None:
            used.append((self.peers.material, self._settings.peer_files))
        door = self.clients or self.admin
        if door is not None and self._settings.client_files is not None:
            used.append((door.material, self._settings.client_files))
        return used

    def _dates(self) -> str:
        return ", ".join(sorted({_date(material) or "" for material, _ in self._in_use()}))


def _date(material: Material | None) -> str | None:
    if material is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(material.not_after_seconds))
