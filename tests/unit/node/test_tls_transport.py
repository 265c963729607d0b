"""TLS under a protocol: bytes pass whole, misconfigurations are refused in words, nobody waits."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from certificates import SERVER, client_context, expired, files, stranger

from quorate.cli.dev_authority import DevAuthority, Pair
from quorate.node import tls_transport
from quorate.node.admin import AdminPages
from quorate.node.client_listener import ClientBounds, ClientListener
from quorate.node.security import DoorSecurity
from quorate.node.tls_material import load_server_material
from quorate.node.tls_transport import Pacer
from quorate.node.tls_words import why

from .fakes import FakeServer, eventually, listening, run, settle

BOUNDS = ClientBounds(connections_max=100, connections_per_address_max=0, buffer_bytes_max=1 << 26)


@pytest.fixture
def authority(tmp_path: Path) -> DevAuthority:
    return DevAuthority(tmp_path / "certs")


@pytest.fixture(autouse=True)
def words(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "quorate")
    return caplog


class Door:
    """A client listener behind TLS, and what its server heard."""

    def __init__(self, authority: DevAuthority, *, mutual: bool = True) -> None:
        self.server = FakeServer()
        self.clients = ClientListener(self.server, self.wake, BOUNDS)
        material = load_server_material(files(authority, authority.node(1)), mutual=mutual)
        self.security = DoorSecurity("--client-tls-listen", material)
        self.connect = self.security.secure(self.clients.connect)

    def wake(self) -> None:
        asyncio.get_running_loop().call_soon(self.clients.end_turn)


@contextlib.asynccontextmanager
async def dialled(
    port: int, context: ssl.SSLContext, **how: object
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, **how)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def attempt(port: int, context: ssl.SSLContext) -> None:
    """Dial, speak, and hear nothing good."""
    with contextlib.suppress(OSError):
        async with dialled(port, context) as (reader, writer):
            writer.write(b"hello")
            assert await reader.read() == b""
    await settle()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bytes_pass_both_ways_whole_and_in_order(
    authority: DevAuthority, version: ssl.TLSVersion
) -> None:
    """Small and large pieces, more than a socket takes at once, arrive as they were sent."""
    context = client_context(authority, authority.client())
    context.maximum_version = version

    async def story() -> None:
        door = Door(authority)
        async with listening(door.connect) as port, dialled(port, context) as (reader, writer):
            big = bytes(range(256)) * 12_000
            writer.write(b"hello")
            await eventually(lambda: door.server.named("client_received"))
            writer.write(big)
            received = door.server.named("client_received")
            heard = lambda: b"".join(e[2] for e in door.server.named("client_received"))
            assert received[0] == ("client_received", 1, b"hello")
            await eventually(lambda: len(heard()) == 5 + len(big))
            assert heard() == b"hello" + big
            door.clients.write(1, b"first ")
            door.clients.write(1, big)
            door.clients.write(1, b" last")
            assert await reader.readexactly(len(big) + 11) == b"first " + big + b" last"
            writer.close()
            await eventually(lambda: door.server.named("client_closed"))

    run(story)


def test_a_chunk_stays_one_chunk(authority: DevAuthority) -> None:
    """What arrived together goes on together, however many TLS records it was."""

    async def story() -> None:
        door = Door(authority, mutual=False)
        context = client_context(authority, None)
        async with listening(door.connect) as port, dialled(port, context) as (_, writer):
            writer.write(bytes(100_000))
            await eventually(
                lambda: sum(len(e[2]) for e in door.server.named("client_received")) == 100_000
            )
            assert len(door.server.named("client_received")) < 5  # seven records at least

    run(story)


def test_close_sends_what_was_written_and_says_goodbye(authority: DevAuthority) -> None:
    """The last answer arrives before a clean end, not a broken connection."""

    async def story() -> None:
        door = Door(authority)
        context = client_context(authority, authority.client())
        async with listening(door.connect) as port, dialled(port, context) as (reader, writer):
            writer.write(b"x")
            await eventually(lambda: door.server.named("client_received"))
            door.clients.write(1, b"last words")
            door.clients.close(1)
            assert await reader.read() == b"last words"

    run(story)


def test_a_client_that_does_not_read_is_noticed(authority: DevAuthority) -> None:
    """Unread output counts behind TLS as it does without: the server hears of the congestion."""

    async def story() -> None:
        door = Door(authority)
        context = client_context(authority, authority.client())
        async with listening(door.connect) as port, dialled(port, context) as (reader, writer):
            writer.write(b"x")
            await eventually(lambda: door.server.named("client_received"))
            writer.transport.pause_reading()
            (connection,) = door.clients._connections.values()
            for _ in range(400):
                door.clients.write(1, bytes(100_000))
                if door.server.named("client_congested"):
                    break
            assert door.server.named("client_congested") == [("client_congested", 1, True)]
            assert connection.transport.get_write_buffer_size() > 0
            writer.transport.resume_reading()
            while len(door.server.named("client_congested")) < 2:
                await reader.read(1 << 20)

    run(story)


def bad_client(kind: str, authority: DevAuthority, tmp_path: Path) -> ssl.SSLContext:
    """A client with something wrong about it."""
    pairs: dict[str, Pair | None] = {"none": None, "expired": expired(authority)}
    if kind == "stranger":
        pairs[kind] = stranger(tmp_path).client()
    elif kind == "server only":
        pairs[kind] = authority.issue("server-only", [], [], [SERVER], 1)
    context = client_context(authority, pairs.get(kind))
    if kind == "old":
        context = client_context(authority, authority.client())
        with pytest.warns(DeprecationWarning):
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("none", "it showed no certificate, and this address wants one"),
        ("expired", "its certificate has expired"),
        ("stranger", "the authority that signed its certificate is not one of ours"),
        ("server only", "its extended key usage must allow client authentication"),
        ("old", "it speaks only versions of TLS that are too old"),
    ],
)
def test_a_bad_client_is_refused_in_words_and_others_are_served(
    kind: str,
    expected: str,
    authority: DevAuthority,
    tmp_path: Path,
    words: pytest.LogCaptureFixture,
) -> None:
    """Faults, row TLS: each misconfiguration has its sentence; a good client notices nothing."""
    good = client_context(authority, authority.client())
    bad = bad_client(kind, authority, tmp_path)

    async def story() -> None:
        door = Door(authority)
        async with listening(door.connect) as port, dialled(port, good) as (_, writer):
            writer.write(b"a")
            await eventually(lambda: door.server.named("client_received"))
            await attempt(port, bad)
            await eventually(lambda: "refused 127.0.0.1 on --client-tls-listen" in words.text)
            assert expected in words.text
            assert len(door.server.named("client_received")) == 1
            writer.write(b"b")
            await eventually(lambda: len(door.server.named("client_received")) == 2)
            assert door.security.complaints.refused == 1
            words.clear()

    run(story)


def test_a_refused_client_is_told_why(authority: DevAuthority) -> None:
    """Though it talks on: closed with bytes unread, it would see a reset and not the alert."""
    bad = client_context(authority, None)

    async def story() -> None:
        door = Door(authority)
        async with listening(door.connect) as port:
            for _ in range(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=bad)
                with pytest.raises(ssl.SSLError, match="ALERT_CERTIFICATE_REQUIRED"):
                    for _ in range(50):
                        writer.write(bytes(10_000))
                        await asyncio.sleep(0)
                    await reader.read()
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    run(story)


@pytest.mark.parametrize("sent", [b"\x00\x00\x00\x2d" + bytes(45), b"ruok", b"GET / HTTP/1.1\r\n"])
def test_plaintext_on_a_tls_port_is_refused_in_words(
    sent: bytes, authority: DevAuthority, words: pytest.LogCaptureFixture
) -> None:
    """A client without TLS is told nothing, the log everything; the server hears no byte of it."""

    async def story() -> None:
        door = Door(authority)
        async with listening(door.connect) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            await eventually(lambda: "it speaks plaintext" in words.text)
            await eventually(lambda: door.server.named("client_closed"))
            assert not door.server.named("client_received")
            words.clear()

    run(story)


def test_tls_on_a_plaintext_port_is_named_in_the_log(
    authority: DevAuthority, words: pytest.LogCaptureFixture
) -> None:
    """A client with TLS on the plain client port, or on the plain admin port, is named."""
    context = client_context(authority, None)

    async def story() -> None:
        clients = ClientListener(FakeServer(), lambda: None, BOUNDS)
        pages = AdminPages(dict, str, str)
        async with listening(clients.connect) as port, listening(pages.connect) as admin_port:
            for door, target in (("--listen", port), ("--admin-listen", admin_port)):
                knock = asyncio.ensure_future(attempt(target, context))
                await eventually(lambda d=door: f"on {d}: it speaks TLS" in words.text)
                clients.abort_all()
                await knock
            words.clear()

    run(story)


def test_a_slow_handshake_ends_and_blocks_nobody(
    authority: DevAuthority, words: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a handshake, then silence: others are served meanwhile, and the slow one is let go."""
    monkeypatch.setattr("quorate.node.security._DOOR_HANDSHAKE_SECONDS", 0.15)
    context = client_context(authority, authority.client())

    async def story() -> None:
        door = Door(authority)
        async with listening(door.connect) as port:
            slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
            for _, writer in slow:
                writer.write(b"\x16\x03\x01\x02\x00\x01")
            async with dialled(port, context) as (_, writer):
                writer.write(b"served")
                await eventually(lambda: door.server.named("client_received"))
                await eventually(lambda: len(door.clients) == 1)
            for reader, writer in slow:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
            assert "its TLS handshake took more than 0.15 s" in words.text
            words.clear()

    run(story)


def test_a_silent_or_leaving_stranger_costs_no_word(
    authority: DevAuthority, words: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probes that only connect are ended and not complained about: they come every second."""
    monkeypatch.setattr("quorate.node.security._DOOR_HANDSHAKE_SECONDS", 0.05)

    async def story() -> None:
        door = Door(authority)
        async with listening(door.connect) as port:
            _, leaving = await asyncio.open_connection("127.0.0.1", port)
            leaving.close()
            reader, silent = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            silent.close()
            await eventually(lambda: not len(door.clients))
            assert words.text == ""

    run(story)


def test_garbage_that_begins_like_tls_is_bounded_and_refused(
    authority: DevAuthority, words: pytest.LogCaptureFixture
) -> None:
    """Nonsense behind a first byte of TLS ends the connection, however long it is."""

    async def story() -> None:
        door = Door(authority)
        async with listening(door.connect) as port:
            for garbage in (b"\x16" * 1000, b"\x16\x03\x01\x40\x00" + bytes(1 << 18)):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(garbage)
                with contextlib.suppress(ConnectionError):
                    assert len(await reader.read()) < 100  # an alert
                writer.close()
            await eventually(lambda: not len(door.clients))
            assert words.text.count("refused 127.0.0.1") >= 1
            assert not door.server.named("client_received")
            words.clear()

    run(story)


def test_the_pacer_runs_one_step_a_round_in_order() -> None:
    """Between two handshakes everything else that is ready gets its turn."""

    async def story() -> None:
        pacer, said = Pacer(), []
        for number in range(3):
            pacer.run(lambda n=number: said.append(n))
        seen = []
        while len(said) < 3:
            await asyncio.sleep(0)
            seen.append(len(said))
        assert said == [0, 1, 2]
        assert sorted(set(seen)) in ([1, 2, 3], [0, 1, 2, 3])  # never two in one round

    run(story)


def test_every_reason_has_words() -> None:
    """Reasons that we know have sentences, others are passed on, and none is empty."""
    error = ssl.SSLError(1, "[SSL: SOMETHING_NEW] something new")
    error.reason = "SOMETHING_NEW"
    assert why(error, serving=True) == "TLS failed: something new"
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert why(error, serving=False) == "it wants a certificate, and we have shown none"
    refused = ssl.SSLCertVerificationError("x")
    refused.verify_code, refused.verify_message = 99, "odd"
    assert why(refused, serving=True) == "its certificate is refused: odd"
    assert why(ConnectionError("gone"), serving=True) == "TLS failed: gone"
    assert tls_transport._HANDSHAKE_BYTES_MAX < 1 << 20
