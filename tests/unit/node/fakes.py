"""A recording server, and loop-back helpers: what the process is tested against."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from quorate.consensus.engine import ReadSnapshot
from quorate.consensus.entry import Persist, SnapshotMeta


@dataclass
class FakeTurn:
    """A turn with everything settable."""

    sends: list[tuple[int, int, bytes]] = field(default_factory=list)
    persists: list[Persist] = field(default_factory=list)
    writes: list[tuple[int, bytes]] = field(default_factory=list)
    closings: list[int] = field(default_factory=list)
    pauses: list[int] = field(default_factory=list)
    resumes: list[int] = field(default_factory=list)
    read_snapshot: list[ReadSnapshot] = field(default_factory=list)
    save_snapshot: Any = None
    abandon_snapshot: bool = False
    install: SnapshotMeta | None = None
    may_wait_for_disk: bool = False
    announce_soon: bool = False
    submitted: int = 0
    results: list[tuple[int, Any]] = field(default_factory=list)
    leadership: Any = None
    role_changes: list[Any] = field(default_factory=list)
    goodbyes: list[Any] = field(default_factory=list)
    configuration: Any = None
    membership: tuple[Any, ...] = ()
    again: bool = False
    fatal: str | None = None


class FakeServer:
    """Records every event; ``turns`` are handed out one by one, then empty ones."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.turns: list[FakeTurn] = []
        self.takes = 0

    def __getattr__(self, name: str) -> Callable[..., None]:
        def record(*args: Any, **keywords: Any) -> None:
            self.events.append((name, *args, *keywords.values()))

        return record

    def install(self, meta: SnapshotMeta, chunks: Iterable[bytes]) -> None:
        self.events.append(("install", meta, b"".join(chunks)))

    def take(self) -> FakeTurn:
        self.takes += 1
        return self.turns.pop(0) if self.turns else FakeTurn()

    def status(self) -> dict[str, Any]:
        return {"role": "follower"}

    def is_serving(self) -> bool:
        return True

    def named(self, *names: str) -> list[tuple[Any, ...]]:
        return [event for event in self.events if event[0] in names]


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Tell the story on asyncio's own loop and, where it is installed, on uvloop."""
    asyncio.run(story())
    with contextlib.suppress(ImportError):
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(story())


async def eventually(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def listening(connect: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    """Serve this protocol on a free loop-back port."""
    made: list[Any] = []

    def connect_and_remember() -> asyncio.Protocol:
        made.append(connect())
        return made[-1]

    loop = asyncio.get_running_loop()
    server = await loop.create_server(connect_and_remember, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for protocol in made:
            (getattr(protocol, "transport", None) or protocol._transport).abort()
        await settle()


async def settle() -> None:
    """Let connections that were just closed come to their end."""
    for _ in range(10):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def dialled(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a loop-back port, closed at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
