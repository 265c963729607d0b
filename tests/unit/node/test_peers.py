"""Links between nodes: they stand, carry, break, and refuse whoever must not take part."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from quorate.errors import NoQuorum, RemoteProtocolError, WrongDirectory
from quorate.node.peer_identity import (
    PeerChecks,
    Refusal,
    decode_verdict,
    encode_verdict,
)
from quorate.node.peer_network import PeerNetwork
from quorate.node.peer_requests import REQUEST_CHANNEL, Request, ask
from quorate.node.units import Address
from quorate.protocol.peer import HELLO_CHANNEL, PEER_PROTOCOL_VERSION, Hello, encode_frame

from .fakes import FakeServer, dialled, eventually, run, settle


def hello(node_id: int, **changes: object) -> Hello:
    plain = Hello("c1u5te2", node_id, f"{node_id:032x}", incarnation=3, boot_nonce=node_id)
    return plain._replace(**changes)


@dataclass
class Host:
    """One node's network and what it heard."""

    network: PeerNetwork
    server: FakeServer
    port: int
    listener: asyncio.Server
    wrong: list[str] = field(default_factory=list)


def remembering(known: dict[int, bytes]) -> Callable[[int, bytes], None]:
    def check(node_id: int, directory_id: bytes) -> None:
        if known.setdefault(node_id, directory_id) != directory_id:
            raise WrongDirectory(f"node {node_id} lost its disk")

    return check


@contextlib.asynccontextmanager
async def pair(
    first: Hello | None = None,
    second: Hello | None = None,
    known: dict[int, bytes] | None = None,
    buffer_bytes_max: int = 1 << 20,
    second_knows_first: bool = True,
) -> AsyncIterator[tuple[Host, Host]]:
    """Nodes 1 and 2, started, each told where the other listens."""
    hosts: list[Host] = []
    loop = asyncio.get_running_loop()
    networks: list[PeerNetwork] = []
    listeners = [
        await loop.create_server(lambda i=i: networks[i].connect(), "127.0.0.1", 0) for i in (0, 1)
    ]
    ports = [listener.sockets[0].getsockname()[1] for listener in listeners]
    for i, own in enumerate((first or hello(1), second or hello(2))):
        server, wrong = FakeServer(), []
        other = 2 - i
        networks.append(
            PeerNetwork(
                server=server,
                wake=lambda: None,
                checks=PeerChecks(own, remembering(known or {})),
                addresses=(
                    {other: Address("127.0.0.1", ports[1 - i])}
                    if second_knows_first or i == 0
                    else {}
                ),
                buffer_bytes_max=buffer_bytes_max,
                wrong_directory=wrong.append,
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


def test_links_stand_and_carry_messages_in_order() -> None:
    """Both sides hear that the link stands; a turn's messages arrive in order, whole."""

    async def story() -> None:
        async with pair() as (one, two):
            await eventually(lambda: one.server.events and two.server.events)
            assert one.server.events == [("peer_opened", 2)]
            assert one.network.linked() == [2]
            big = bytes(300_000)
            one.network.send([(2, 1, b"a"), (2, 2, big), (2, 1, b"")])
            await eventually(lambda: len(two.server.named("peer_received")) == 3)
            assert two.server.named("peer_received") == [
                ("peer_received", 1, 1, b"a"),
                ("peer_received", 1, 2, big),
                ("peer_received", 1, 1, b""),
            ]

    run(story)


def test_a_lost_link_is_told_at_once_and_dialled_again() -> None:
    """When a peer's sockets close, the server hears it; when it is back, too."""

    async def story() -> None:
        async with pair() as (one, two):
            await eventually(lambda: one.network.linked() and two.network.linked())
            for incoming in list(two.network._incoming.values()):
                incoming.transport.abort()
            await eventually(lambda: len(one.server.events) == 3)
            assert one.server.events == [("peer_opened", 2), ("peer_closed", 2), ("peer_opened", 2)]

    run(story)


def test_without_a_link_messages_are_lost_and_nothing_breaks() -> None:
    """Sending to a node that is not linked is allowed: engines expect loss."""

    async def story() -> None:
        async with pair(second=hello(2, cluster_id="other")) as (one, _):
            one.network.send([(2, 1, b"into the void")])

    run(story)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (
            hello(2, cluster_id="another"),
            "start all nodes of a new cluster with the same --cluster",
        ),
        (hello(1), "two nodes may have been given one id"),
        (hello(7), "is no member and does not say where it listens"),
    ],
)
def test_strangers_are_refused_with_a_reason(
    second: Hello, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Another cluster, our own id, an unknown id: no link, and both sides' logs say why."""

    async def story() -> None:
        async with pair(second=second) as (one, two):
            await eventually(lambda: "refuses this node" in caplog.text)
            assert words in caplog.text
            for host in (one, two):
                assert host.server.events == []
                assert host.wrong == []

    run(story)


def test_a_node_with_another_directory_is_told_to_stop() -> None:
    """A wiped node is refused by whoever knew its old directory, and hears the reason."""

    async def story() -> None:
        async with pair(known={2: bytes(16)}) as (one, two):
            await eventually(lambda: two.wrong)
            assert two.wrong == ["node 1 refuses this node: node 2 lost its disk"]
            assert one.server.events == []
            assert one.wrong == []

    run(story)


def test_incarnations_and_boot_nonces_unmask_copies() -> None:
    """An older start, a second process of one start and a second live start are all refused."""
    checks = PeerChecks(hello(1), lambda *_: None)
    assert checks.judge(hello(2), None) is None
    assert checks.judge(hello(2), hello(2)) is None
    older = checks.judge(hello(2, incarnation=2), None)
    assert older is not None
    assert older.is_final
    assert "old copy" in older.reason
    twin = checks.judge(hello(2, boot_nonce=9), None)
    assert twin is not None
    assert twin.is_final
    assert "copied" in twin.reason
    second = checks.judge(hello(2, incarnation=4, boot_nonce=5), hello(2))
    assert second is not None
    assert not second.is_final
    assert "copied and both are running" in second.reason
    assert checks.judge(hello(2), None) is None  # the copy did not displace the original
    assert checks.judge(hello(2, incarnation=4, boot_nonce=5), None) is None
    assert checks.judge(hello(3), None) is None


def test_nodes_without_a_common_version_refuse_each_other_in_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Both ranges are named, and which node to bring to which release; nothing is remembered."""
    newer = hello(2, version_min=8, version=9, directory_id="ab" * 16)
    known: dict[int, bytes] = {}

    async def story() -> None:
        async with pair(second=newer, known=known) as (one, two):
            await eventually(lambda: "refuses this node" in caplog.text)
            assert "node 2 speaks versions 8 to 9" in caplog.text
            assert "bring node 1 to a release that speaks versions 8 to 9" in caplog.text
            assert one.server.events == two.server.events == []
            assert 2 not in known

    run(story)


def test_the_agreed_version_is_known_on_both_sides() -> None:
    """A node that also speaks a later version uses the one that both know."""

    async def story() -> None:
        async with pair(second=hello(2, version=PEER_PROTOCOL_VERSION + 1)) as (one, two):
            await eventually(lambda: one.network.linked() and two.network.linked())
            assert one.network.versions() == {"2": PEER_PROTOCOL_VERSION}
            assert two.network.versions() == {"1": PEER_PROTOCOL_VERSION}

    run(story)


@pytest.mark.parametrize("directory_id", ["", "zz" * 16, "ab"])
def test_a_malformed_directory_id_is_a_protocol_error(directory_id: str) -> None:
    """A hello with a bad directory id never reaches the disk's memory."""
    checks = PeerChecks(hello(1), lambda *_: pytest.fail("asked the disk"))
    with pytest.raises(RemoteProtocolError):
        checks.judge(hello(2, directory_id=directory_id), None)


def test_verdicts_survive_the_wire() -> None:
    """Welcome and both refusals decode to what was encoded; other bytes are refused."""
    for refusal in (None, Refusal("wörds", False), Refusal("stop", True)):
        assert decode_verdict(encode_verdict(refusal)) == refusal
    for payload in (b"", b"\x07", b"\x02" + bytes(5000)):
        with pytest.raises(RemoteProtocolError):
            decode_verdict(payload)


def test_garbage_on_the_peer_port_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """A stranger that sends garbage is dropped; the links that stand do not notice."""

    async def story() -> None:
        async with pair() as (one, two):
            await eventually(lambda: one.network.linked() and two.network.linked())
            async with dialled(one.port) as (reader, writer):
                writer.write(b"GET / HTTP/1.1\r\n\r\n" * 10)
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            await eventually(lambda: "a stranger at 127.0.0.1 dropped" in caplog.text)
            two.network.send([(1, 1, b"still here")])
            await eventually(lambda: one.server.named("peer_received"))
            assert not one.server.named("peer_closed")

    run(story)


def test_a_peer_that_does_not_read_loses_its_link() -> None:
    """Unread output above the bound drops the link instead of filling memory."""

    async def story() -> None:
        async with pair(buffer_bytes_max=1 << 20) as (one, two):
            await eventually(lambda: one.network.linked() and two.network.linked())
            for incoming in two.network._incoming.values():
                incoming.transport.pause_reading()
            for _ in range(100):
                one.network.send([(2, 1, bytes(1 << 20))])
                await asyncio.sleep(0)
                if one.server.named("peer_closed"):
                    break
            assert one.server.named("peer_closed") == [("peer_closed", 2)]

    run(story)


def test_links_follow_the_configuration_and_guests_are_dialled_back() -> None:
    """Members are linked, moved and let go; whoever is linked to us gets answers meanwhile."""

    async def story() -> None:
        async with pair(second_knows_first=False) as (one, two):
            host, there = "127.0.0.1", Address("127.0.0.1", two.port)
            one.network.checks.own = hello(1, address=f"{host}:{one.port}")
            one.network.set_members({2: Address(host, 1)})  # nobody listens there
            assert one.network.linked() == []
            one.network.set_members({2: there})
            await eventually(lambda: one.network.linked() == [2])
            await eventually(lambda: two.network.linked() == [1])  # its guest: it was never told
            two.network.send([(1, 1, b"answer")])
            await eventually(lambda: one.server.named("peer_received"))
            two.network.set_members({1: Address(host, one.port)})
            two.network.set_members({})  # a guest again, on the link that stands
            assert two.network.linked() == [1]
            two.network.send([(1, 1, b"you were removed")])
            await eventually(lambda: len(one.server.named("peer_received")) == 2)
            one.network._links[2].close()  # as when its process ends
            await eventually(lambda: not two.network._links)
            assert two.server.named("peer_closed") == [("peer_closed", 1)]
            two.network.send([(1, 1, b"to nobody")])

    run(story)


def test_guests_are_bounded() -> None:
    """Nodes that nobody knows, however many, cost a bounded number of links."""

    async def story() -> None:
        async with pair() as (one, _):
            for number in range(10, 60):
                guest = hello(number, address="127.0.0.1:1")
                if one.network.judge(guest) is not None:
                    break
                one.network._links[number] = one.network._links[2]  # as if it were admitted
            refusal = one.network.judge(hello(99, address="127.0.0.1:1"))
            assert refusal is not None
            assert "too many such" in refusal.reason
            assert not refusal.is_final
            for other in range(10, 60):
                one.network._links.pop(other, None)

    run(story)


def test_a_node_asks_and_is_answered() -> None:
    """No link comes of it, the server hears nothing, and the asker learns who answered."""

    async def story() -> None:
        async with pair() as (one, _):
            address = Address("127.0.0.1", one.port)
            asked: list[Request] = []

            async def answer(request: Request) -> Request:
                asked.append(request)
                return {"code": 200, "words": "ja"}

            one.network._answer = answer
            asker = hello(7, cluster_id="elsewhere")
            who, found = await ask(address, asker, {"ask": "status"}, 5)
            assert (who.node_id, who.cluster_id) == (1, "c1u5te2")
            assert (asked, found) == ([{"ask": "status"}], {"code": 200, "words": "ja"})
            assert 7 not in one.network._links
            await eventually(lambda: not one.network._strangers)
            with pytest.raises(NoQuorum, match="cannot be reached"):
                await ask(Address("127.0.0.1", 1), asker, {}, 5)

    run(story)


@pytest.mark.parametrize(
    "frames",
    [
        [(REQUEST_CHANNEL, b"no JSON")],
        [(REQUEST_CHANNEL, b"[]")],
        [(1, b"an engine's message")],
        [(REQUEST_CHANNEL, b"{}"), (REQUEST_CHANNEL, b"{}")],
    ],
)
def test_who_asks_nonsense_is_dropped(frames: list[tuple[int, bytes]]) -> None:
    """One JSON object, once; anything else closes the connection and reaches nobody."""

    async def story() -> None:
        async with pair() as (one, _):
            never = asyncio.Event()

            async def answer(_: Request) -> Request:
                await never.wait()
                return {}

            one.network._answer = answer
            async with dialled(one.port) as (reader, writer):
                frame = encode_frame(HELLO_CHANNEL, hello(7, cluster_id="").encode())
                writer.writelines(frame)
                for channel, payload in frames:
                    writer.writelines(encode_frame(channel, payload))
                with contextlib.suppress(ConnectionError):
                    await asyncio.wait_for(reader.read(), 5)
            assert not one.server.named("peer_received")
            never.set()
            await settle()

    run(story)


def test_who_leaves_before_its_answer_comes_hurts_nobody() -> None:
    """The answer is lost; no error is left behind, for one would stop the node."""

    async def story() -> None:
        async with pair() as (one, _):
            troubles: list[object] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, what: troubles.append(what))
            begun, gone = asyncio.Event(), asyncio.Event()

            async def answer(_: Request) -> Request:
                begun.set()
                await gone.wait()
                return {}

            one.network._answer = answer
            async with dialled(one.port) as (_, writer):
                writer.writelines(encode_frame(HELLO_CHANNEL, hello(7, cluster_id="").encode()))
                writer.writelines(encode_frame(REQUEST_CHANNEL, b"{}"))
                await eventually(begun.is_set)
            await eventually(lambda: not one.network._strangers)
            gone.set()
            await settle()
            gc.collect()
            assert troubles == []

    run(story)
