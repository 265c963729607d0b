"""Links between nodes over mutual TLS: the right nodes link, and nobody can be another."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from certificates import BOTH, files, node_files, stranger

from quorate.cli.dev_authority import DevAuthority
from quorate.node.peer_identity import PeerChecks
from quorate.node.peer_network import PeerNetwork
from quorate.node.security import PeerSecurity
from quorate.node.tls_material import load_peer_material
from quorate.node.tls_settings import Files
from quorate.node.units import Address
from quorate.protocol.peer import HELLO_CHANNEL, encode_frame

from .fakes import FakeServer, eventually, run, settle
from .test_peers import Host, hello, remembering


@pytest.fixture
def authority(tmp_path: Path) -> DevAuthority:
    return DevAuthority(tmp_path / "certs")


@pytest.fixture(autouse=True)
def words(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "quorate")
    return caplog


def secured(own: Files, mode: str = "require") -> PeerSecurity:
    return PeerSecurity(mode, load_peer_material(own))


@contextlib.asynccontextmanager
async def pair(
    one: PeerSecurity, two: PeerSecurity, known: dict[int, bytes] | None = None
) -> AsyncIterator[tuple[Host, Host]]:
    """Nodes 1 and 2, started, each with its own TLS."""
    loop = asyncio.get_running_loop()
    networks: list[PeerNetwork] = []
    hosts: list[Host] = []
    listeners = [
        await loop.create_server(lambda i=i: networks[i].connect(), "127.0.0.1", 0) for i in (0, 1)
    ]
    ports = [listener.sockets[0].getsockname()[1] for listener in listeners]
    for i, security in enumerate((one, two)):
        server, wrong = FakeServer(), []
        other = 2 - i
        memory = known if known is not None and i == 0 else {}
        networks.append(
            PeerNetwork(
                server=server,
                wake=lambda: None,
                checks=PeerChecks(hello(i + 1), remembering(memory)),
                addresses={other: Address("127.0.0.1", ports[1 - i])},
                buffer_bytes_max=1 << 26,
                wrong_directory=wrong.append,
                security=security,
            )
        )
        hosts.append(Host(networks[i], server, ports[i], listeners[i], wrong))
    for network in networks:
        network.start()
    try:
        yield hosts[0], hosts[1]
    finally:
        for host in hosts:
            host.listener.close()
            host.network.close()
        await settle()


def test_links_stand_and_carry_messages_over_mutual_tls(authority: DevAuthority) -> None:
    """Two nodes with certificates of one authority link; turns arrive whole and in order."""
    one, two = secured(node_files(authority, 1)), secured(node_files(authority, 2))

    async def story() -> None:
        async with pair(one, two) as (first, second):
            await eventually(lambda: first.network.linked() and second.network.linked())
            big = bytes(300_000)
            first.network.send([(2, 1, b"a"), (2, 2, big), (2, 1, b"")])
            await eventually(lambda: len(second.server.named("peer_received")) == 3)
            assert second.server.named("peer_received") == [
                ("peer_received", 1, 1, b"a"),
                ("peer_received", 1, 2, big),
                ("peer_received", 1, 1, b""),
            ]

    run(story)


def test_hosts_certificates_are_enough_when_hosts_differ(authority: DevAuthority) -> None:
    """Certificates that name only the host link nodes, as any authority can make them."""
    host = files(authority, authority.issue("host", [], ["127.0.0.1"], BOTH, 1))

    async def story() -> None:
        async with pair(secured(host), secured(host)) as (first, second):
            await eventually(lambda: first.network.linked() and second.network.linked())

    run(story)


def test_a_node_with_another_nodes_certificate_is_refused_by_both_sides(
    authority: DevAuthority, words: pytest.LogCaptureFixture
) -> None:
    """Node 3's certificate does not make its holder node 2, whoever dials whom."""
    one, impostor = secured(node_files(authority, 1)), secured(node_files(authority, 3))
    known: dict[int, bytes] = {}

    async def story() -> None:
        async with pair(one, impostor, known) as (first, second):
            await eventually(lambda: "refused node 2 at 127.0.0.1" in words.text)
            await eventually(lambda: words.text.count("for quorate:node:3, not for") >= 2)
            assert "its certificate is for quorate:node:3, not for quorate:node:2" in words.text
            assert first.server.events == second.server.events == []
            assert known == {}  # what it said about its directory was not remembered
            words.clear()

    run(story)


def test_a_client_of_ours_is_no_node(
    authority: DevAuthority, words: pytest.LogCaptureFixture
) -> None:
    """A certificate of the same authority for a client cannot speak for a node."""
    one = secured(node_files(authority, 1))
    client = authority.client()
    known: dict[int, bytes] = {}

    async def story() -> None:
        async with pair(one, secured(node_files(authority, 2)), known) as (first, _):
            await eventually(first.network.linked)
            context = load_peer_material(node_files(authority, 2)).client
            assert context is not None
            context.load_cert_chain(client.cert, client.key)
            reader, writer = await asyncio.open_connection("127.0.0.1", first.port, ssl=context)
            claim = hello(2, directory_id="ab" * 16)
            writer.write(b"".join(encode_frame(HELLO_CHANNEL, claim.encode())))
            assert b"its certificate is for no host" in await reader.read()
            writer.close()
            assert known == {2: bytes.fromhex(f"{2:032x}")}
            assert first.network.linked() == [2]

    run(story)


def test_a_stranger_authority_links_to_nobody(
    authority: DevAuthority, tmp_path: Path, words: pytest.LogCaptureFixture
) -> None:
    """Another authority's node is refused on both sides, and both logs say why."""
    one = secured(node_files(authority, 1))
    other = secured(node_files(stranger(tmp_path), 2))

    async def story() -> None:
        async with pair(one, other) as (first, second):
            await eventually(lambda: "refused 127.0.0.1 on the port for nodes" in words.text)
            await eventually(lambda: "is not one of ours (--tls-ca)" in words.text)
            assert first.server.events == second.server.events == []
            words.clear()

    run(story)


def test_a_plain_node_does_not_link_to_one_that_requires_tls(
    authority: DevAuthority, words: pytest.LogCaptureFixture
) -> None:
    """require means require; each side's log names the mismatch in its own words."""
    one = secured(node_files(authority, 1))

    async def story() -> None:
        async with pair(one, PeerSecurity()) as (first, second):
            await eventually(lambda: "it speaks plaintext, and this address" in words.text)
            await eventually(lambda: "it speaks TLS, and --peer-tls is off here" in words.text)
            await eventually(lambda: "in the middle of the TLS handshake" in words.text)
            assert first.server.events == second.server.events == []
            words.clear()

    run(story)


@pytest.mark.parametrize(
    ("mode_one", "mode_two"),
    [
        ("accept", "off"),
        ("accept", "accept"),
        ("dial", "accept"),
        ("dial", "dial"),
        ("require", "dial"),
    ],
)
def test_a_cluster_moves_to_tls_node_by_node(
    mode_one: str, mode_two: str, authority: DevAuthority
) -> None:
    """Each step of off -> accept -> dial -> require links to the step before it."""

    def make(mode: str, node_id: int) -> PeerSecurity:
        return PeerSecurity() if mode == "off" else secured(node_files(authority, node_id), mode)

    async def story() -> None:
        async with pair(make(mode_one, 1), make(mode_two, 2)) as (first, second):
            await eventually(lambda: first.network.linked() and second.network.linked())
            first.network.send([(2, 1, b"through")])
            await eventually(lambda: second.server.named("peer_received"))
            second.network.send([(1, 1, b"back")])
            await eventually(lambda: first.server.named("peer_received"))

    run(story)


def test_a_certificate_is_checked_while_moving_too(
    authority: DevAuthority, words: pytest.LogCaptureFixture
) -> None:
    """With accept and dial plaintext is taken, but a wrong certificate is not."""
    one = secured(node_files(authority, 1), "accept")
    impostor = secured(node_files(authority, 3), "dial")

    async def story() -> None:
        async with pair(one, impostor) as (_, second):
            await eventually(lambda: "refused node 2 at 127.0.0.1" in words.text)
            assert second.server.named("peer_opened") == []
            words.clear()

    run(story)


def test_a_node_that_only_asks_speaks_to_any_node_of_ours_and_to_no_stranger(
    authority: DevAuthority, tmp_path: Path, words: pytest.LogCaptureFixture
) -> None:
    """A joining node knows addresses, not numbers: every node's certificate will do, no other."""
    four = secured(node_files(authority, 4))
    other = secured(node_files(stranger(tmp_path), 4))

    class Asker(asyncio.Protocol):
        def __init__(self) -> None:
            self.heard = b""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            claim = hello(1, cluster_id="another")
            transport.writelines(encode_frame(HELLO_CHANNEL, claim.encode()))

        def data_received(self, data: bytes) -> None:
            self.heard += data

    async def story() -> None:
        loop = asyncio.get_running_loop()
        async with pair(secured(node_files(authority, 1)), secured(node_files(authority, 2))) as (
            first,
            _,
        ):
            address = Address("127.0.0.1", first.port)
            for security, answered in ((four, True), (other, False)):
                asker = Asker()
                transport, _ = await loop.create_connection(
                    lambda a=asker, s=security: s.asking(a, address), *address
                )
                if answered:
                    await eventually(lambda a=asker: b"for quorate:node:4" in a.heard)
                else:
                    await eventually(lambda: f"node at {address}: the authority" in words.text)
                    assert asker.heard == b""
                transport.abort()
            words.clear()

    run(story)
