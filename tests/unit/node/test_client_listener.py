"""Clients' connections: chunks in, one write out, and every bound."""

import asyncio
import socket

from quorate.node.client_listener import ClientBounds, ClientListener

from .fakes import FakeServer, dialled, eventually, listening, run

BOUNDS = ClientBounds(connections_max=100, connections_per_address_max=0, buffer_bytes_max=1 << 20)


def wake(wakes: list[int], clients: ClientListener) -> None:
    """Count, and end the turn that a driver would take."""
    wakes.append(1)
    asyncio.get_running_loop().call_soon(clients.end_turn)


def test_events_and_answers() -> None:
    """Open, chunk and close reach the server once each; answers reach the client."""

    async def story() -> None:
        server, wakes = FakeServer(), []
        clients = ClientListener(server, lambda: wake(wakes, clients), BOUNDS)
        async with listening(clients.connect) as port, dialled(port) as (reader, writer):
            writer.write(b"hello")
            await eventually(lambda: server.named("client_received"))
            clients.write(1, b"answer")
            assert await reader.readexactly(6) == b"answer"
            writer.transport.abort()
            await eventually(lambda: server.named("client_closed"))
        assert server.events == [
            ("client_opened", 1, "127.0.0.1"),
            ("client_received", 1, b"hello"),
            ("client_closed", 1),
        ]
        assert len(wakes) == 4  # the end of the client's output woke, too
        assert len(clients) == 0
        clients.write(1, b"too late")  # harmless

    run(story)


def test_close_sends_what_was_written_first() -> None:
    """A connection told to close delivers its last answer, then ends."""

    async def story() -> None:
        clients = ClientListener(FakeServer(), lambda: None, BOUNDS)
        async with listening(clients.connect) as port, dialled(port) as (reader, _):
            await eventually(lambda: len(clients))
            clients.write(1, b"last words")
            clients.close(1)
            assert await reader.read() == b"last words"
            await eventually(lambda: not len(clients))

    run(story)


def test_a_client_that_stops_sending_still_gets_its_answer() -> None:
    """``echo ruok | nc``: end-of-file arrives before the answer, and the answer is still sent."""

    async def story() -> None:
        server = FakeServer()
        clients = ClientListener(server, lambda: None, BOUNDS)
        async with listening(clients.connect) as port, dialled(port) as (reader, writer):
            writer.write(b"ruok")
            writer.write_eof()
            await eventually(lambda: clients._ending)
            clients.write(1, b"imok")
            clients.end_turn()
            assert await reader.read() == b"imok"

    run(story)


def test_pause_and_resume() -> None:
    """A paused client is not read from until it is resumed."""

    async def story() -> None:
        server = FakeServer()
        clients = ClientListener(server, lambda: None, BOUNDS)
        async with listening(clients.connect) as port, dialled(port) as (_, writer):
            await eventually(lambda: len(clients))
            clients.pause(1)
            writer.write(b"data")
            for _ in range(20):
                await asyncio.sleep(0)
            assert not server.named("client_received")
            clients.resume(1)
            await eventually(lambda: server.named("client_received"))

    run(story)


def test_congestion_is_told_and_too_much_unread_output_ends_the_connection() -> None:
    """Above high water the server hears of it; above the cap the connection is aborted."""

    async def story() -> None:
        server = FakeServer()
        clients = ClientListener(server, lambda: None, BOUNDS)
        async with listening(clients.connect) as port:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            await eventually(lambda: len(clients))
            for _ in range(200):
                clients.write(1, bytes(1 << 17))
                await asyncio.sleep(0)
                if not len(clients):
                    break
            await eventually(lambda: server.named("client_closed"))
            assert ("client_congested", 1, True) in server.events
            sock.close()

    run(story)


def test_a_client_that_reads_again_is_uncongested() -> None:
    """Reading clears the congestion."""

    async def story() -> None:
        server = FakeServer()
        bounds = ClientBounds(10, 0, 64 << 20)
        clients = ClientListener(server, lambda: None, bounds)
        async with listening(clients.connect) as port, dialled(port) as (reader, _):
            await eventually(lambda: len(clients))
            clients.write(1, bytes(16 << 20))
            await eventually(lambda: ("client_congested", 1, True) in server.events)
            assert len(await reader.readexactly(16 << 20)) == 16 << 20
            await eventually(lambda: ("client_congested", 1, False) in server.events)

    run(story)


def test_too_many_connections_are_closed_and_cost_nothing() -> None:
    """One connection too many is closed without the server hearing of it; a free place counts."""

    async def story() -> None:
        server = FakeServer()
        clients = ClientListener(server, lambda: wake([], clients), ClientBounds(10, 2, 1 << 20))
        async with (
            listening(clients.connect) as port,
            dialled(port) as (_, first),
            dialled(port),
        ):
            await eventually(lambda: len(clients) == 2)
            async with dialled(port) as (reader, _):
                assert await _ended(reader)
            assert clients.refused == 1
            assert len(server.events) == 2
            first.transport.abort()
            await eventually(lambda: len(clients) == 1)
            async with dialled(port):
                await eventually(lambda: len(clients) == 2)
            clients.abort_all()

    run(story)


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True
