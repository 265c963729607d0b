"""A node's TLS as a whole: loaded, renewed while connections stand, and never quietly wrong."""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import BOTH, client_context, expired, files, node_files

from quorate.cli.dev_authority import DevAuthority
from quorate.errors import SettingsError
from quorate.node import security as module
from quorate.node.client_listener import ClientBounds, ClientListener
from quorate.node.complaints import Complaints
from quorate.node.security import Security
from quorate.node.tls_settings import TlsSettings
from quorate.node.units import Address

from .fakes import FakeServer, eventually, listening, run

HERE = Address("127.0.0.1", 2281)
BOUNDS = ClientBounds(connections_max=100, connections_per_address_max=0, buffer_bytes_max=1 << 20)


@pytest.fixture
def authority(tmp_path: Path) -> DevAuthority:
    return DevAuthority(tmp_path / "certs")


@pytest.fixture(autouse=True)
def words(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    caplog.set_level(logging.DEBUG, "quorate")
    yield caplog


def settings(authority: DevAuthority, node_id: int = 1) -> TlsSettings:
    own = node_files(authority, node_id)
    return TlsSettings(
        "require", Address("127.0.0.1", 2381), peer_files=own, client_files=own, admin_tls="on"
    )


def made(authority: DevAuthority) -> Security:
    return Security(settings(authority), 1, HERE)


async def certificate_shown(port: int, authority: DevAuthority) -> str:
    """The serial number of the certificate that this door shows now."""
    context = client_context(authority, authority.client())
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown: ssl.SSLObject = writer.get_extra_info("ssl_object")
    certificate = shown.getpeercert()
    assert certificate is not None
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return str(certificate["serialNumber"])


def test_a_node_without_tls_has_none() -> None:
    """Nothing is loaded, watched or wrapped."""
    security = Security(TlsSettings(), 1, HERE)
    assert not security.is_used
    security.start()
    protocol = asyncio.Protocol()
    assert security.peers.accepted(protocol) is protocol
    assert security.peers.dialled(protocol, 2, HERE, print) is protocol
    assert security.peers.objection(asyncio.BaseTransport(), 2, HERE) is None
    assert security.status()["peers"] == "off"


def test_another_nodes_certificate_is_refused_at_the_start(authority: DevAuthority) -> None:
    """Every other node would refuse it, so the node does not start with it."""
    with pytest.raises(SettingsError, match="for quorate:node:2, not for quorate:node:1"):
        Security(settings(authority, node_id=2), 1, HERE)


def test_a_hosts_certificate_is_for_the_node_at_this_host(authority: DevAuthority) -> None:
    """Without a node's name in it the host of the node's own peer address counts."""
    pair = authority.issue("host", [], ["b.example"], [*BOTH], 1)
    tls = TlsSettings("require", peer_files=files(authority, pair))
    Security(tls, 1, Address("b.example", 2281))
    Security(tls, 1, None)  # nobody knows yet where others will dial it
    with pytest.raises(SettingsError, match=r"for b\.example, not for node 1 at 127\.0\.0\.1"):
        Security(tls, 1, HERE)


def test_new_certificates_are_used_for_new_connections(
    authority: DevAuthority, words: pytest.LogCaptureFixture
) -> None:
    """Those that stand go on; the next one sees the new certificate; nothing is restarted."""
    security = made(authority)

    async def story() -> None:
        server = FakeServer()
        wake = asyncio.get_running_loop().call_soon
        clients = ClientListener(server, lambda: wake(clients.end_turn), BOUNDS)
        assert security.clients is not None
        connect = security.clients.secure(clients.connect)
        context = client_context(authority, authority.client())
        async with listening(connect) as port:
            first = await certificate_shown(port, authority)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            await eventually(lambda: len(clients) == 1)
            authority.node(1)
            assert security.reload()
            assert "certificates loaded; new connections use them" in words.text
            assert await certificate_shown(port, authority) != first
            writer.write(b"still here")
            await eventually(lambda: server.named("client_received"))
            conn = server.named("client_received")[-1][1]
            clients.write(conn, b"yes")
            assert await reader.readexactly(3) == b"yes"
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    run(story)


@pytest.mark.parametrize("kind", ["expired", "garbage", "half", "open key", "gone"])
def test_a_broken_new_file_keeps_the_old_one_and_says_so(
    kind: str, authority: DevAuthority, words: pytest.LogCaptureFixture
) -> None:
    """Whatever is wrong with the new files, the node goes on serving with the old ones."""
    security = made(authority)
    before = security.peers.material
    assert security.clients is not None
    door = security.clients.material
    own = authority.pair("node-1")
    if kind == "expired":
        bad = expired(authority)
        own.cert.write_bytes(bad.cert.read_bytes())
        own.key.write_bytes(bad.key.read_bytes())
    elif kind == "garbage":
        own.cert.write_text("oops")
    elif kind == "half":
        own.cert.write_bytes(authority.node(2).cert.read_bytes())
    elif kind == "open key":
        authority.node(1).key.chmod(0o644)
    else:
        own.key.unlink()
    assert not security.reload()
    assert "new certificates are not used, the old ones still are" in words.text
    assert security.peers.material is before
    assert security.clients.material is door
    authority.node(1)
    assert security.reload()
    assert security.peers.material is not before


@pytest.mark.parametrize("error", [OSError("input/output error"), ValueError("odd bytes")])
def test_no_error_while_loading_stops_a_node_that_serves(
    error: Exception,
    authority: DevAuthority,
    words: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A disk that fails, or bytes that nobody foresaw, are words in the log too."""
    security = made(authority)

    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(module, "load_peer_material", fail)
    assert not security.reload()
    assert str(error) in words.text


def test_files_are_taken_up_when_they_have_stopped_changing(
    authority: DevAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificate and key are written one after the other; in between nothing is tried."""
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    security = made(authority)
    loads: list[int] = []
    monkeypatch.setattr(security, "reload", lambda: loads.append(1) or _used(security))

    async def story() -> None:
        security._watch()
        security._watch()
        assert loads == []
        authority.node(1)
        security._watch()
        assert loads == []  # seen for the first time: perhaps half written
        authority.node(1)
        security._watch()
        assert loads == []  # changed again
        security._watch()
        assert loads == [1]
        security._watch()
        assert loads == [1]
        security.stop()
        loads.clear()

    asyncio.run(story())


def _used(security: Security) -> bool:
    security._used = security._seen
    return True


def test_the_watch_finds_a_change_by_itself(
    authority: DevAuthority, monkeypatch: pytest.MonkeyPatch, words: pytest.LogCaptureFixture
) -> None:
    """Without a signal: a changed file is loaded after two looks."""
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    security = made(authority)

    async def story() -> None:
        security.start()
        authority.node(1)
        await eventually(lambda: "certificates loaded" in words.text)
        security.stop()

    asyncio.run(story())


def test_a_certificate_that_ends_soon_is_said_once_a_day(
    authority: DevAuthority, words: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log warns two weeks before, and the status page has the date."""
    own = files(authority, authority.node(1, days=3))
    security = Security(TlsSettings("require", peer_files=own), 1, HERE)

    async def story() -> None:
        security.start()
        security._watch()
        security.stop()

    asyncio.run(story())
    assert words.text.count("expires in 3.0 days: put a new one there") == 1
    assert str(security.status()["peer_certificate_not_after"]).endswith("Z")
    dates = security.status()["certificates_not_after_seconds"]
    assert list(dates) == ["peers"]
    assert 2.9 < (dates["peers"] - time.time()) / 86_400 < 3.1


def test_a_half_secured_cluster_is_said_at_the_start(
    authority: DevAuthority, words: pytest.LogCaptureFixture
) -> None:
    """accept and dial take links without TLS; that must not be forgotten."""
    security = Security(TlsSettings("dial", peer_files=node_files(authority, 1)), 1, HERE)

    async def story() -> None:
        security.start()
        security.stop()

    asyncio.run(story())
    assert "links without TLS are taken too, from anybody" in words.text


def test_complaints_do_not_fill_the_log(words: pytest.LogCaptureFixture) -> None:
    """The same words about one host are said at doubling distances; the memory is bounded."""
    complaints = Complaints("a door")
    for _ in range(1000):
        complaints.say("10.0.0.1", "it speaks plaintext")
    assert len(words.records) == 10
    assert "(512 times so far)" in words.text
    for number in range(2000):
        complaints.say(f"host {number}", "x")
    assert len(complaints._counts) <= 256
    assert complaints.refused == 3000
