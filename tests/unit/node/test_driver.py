"""The turn: coalesced, in the right order, and stopped by a broken rule."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from quorate.consensus.entry import Persist, SnapshotMeta
from quorate.node.clock import Clock
from quorate.node.driver import Driver

from .fakes import FakeServer, FakeTurn, eventually, run, settle

META = SnapshotMeta(9, 2, b"")


class Recorder:
    """Stands for everything that carries effects out; remembers the order."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []

    def part(self, name: str, *methods: str) -> Any:
        def recording(method: str) -> Any:
            return lambda *args: self.done.append((name, method, *args))

        return SimpleNamespace(**{method: recording(method) for method in methods})


def build(server: FakeServer, stopped: list[str]) -> tuple[Driver, Recorder]:
    recorder = Recorder()
    driver = Driver(server, Clock(), stopped.append)
    snapshots = recorder.part("snapshots", "save", "cancel", "read")
    snapshots.is_saving = False
    disk = recorder.part("disk", "submit")
    disk.try_persist_now = lambda _: False
    driver.connect(
        clients=recorder.part("clients", "write", "close", "pause", "resume", "end_turn"),
        peers=recorder.part("peers", "send"),
        disk=disk,
        snapshots=snapshots,
        membership=recorder.part("membership", "configured", "answered"),
        store=SimpleNamespace(open_snapshot=lambda _: [b"sta", b"te"]),  # type: ignore[arg-type]
    )
    return driver, recorder


def test_many_wakes_make_one_turn_after_everything_that_is_ready() -> None:
    """Whatever arrived in one round of the loop is decided in one turn."""

    async def story() -> None:
        server = FakeServer()
        driver, _ = build(server, [])
        for _ in range(5):
            driver.wake()
        asyncio.get_running_loop().call_soon(driver.wake)
        assert server.takes == 0
        await asyncio.sleep(0)
        assert server.takes == 1
        await asyncio.sleep(0)
        assert server.takes == 2  # the last wake came behind the turn in the same round

    run(story)


def test_peers_then_disk_then_clients() -> None:
    """Other nodes' disks start before ours does; clients come last; the rare follows."""

    async def story() -> None:
        server = FakeServer()
        job = SimpleNamespace(meta=META, chunks=iter(()))
        step = Persist(1)
        turn = FakeTurn(
            configuration="now",
            sends=[(2, 1, b"m")],
            persists=[step],
            membership=("done",),
            writes=[(5, b"w")],
            closings=[6],
            pauses=[7],
            resumes=[8],
            abandon_snapshot=True,
            install=META,
            save_snapshot=job,
        )
        server.turns.append(turn)
        driver, recorder = build(server, [])
        driver.wake()
        await eventually(lambda: server.takes)
        assert recorder.done[:11] == [
            ("membership", "configured", "now"),  # says where to send
            ("peers", "send", [(2, 1, b"m")]),
            ("disk", "submit", step),
            ("clients", "write", 5, b"w"),
            ("membership", "answered", "done"),
            ("clients", "close", 6),
            ("clients", "pause", 7),
            ("clients", "resume", 8),
            ("snapshots", "cancel"),
            ("snapshots", "save", job),
            ("clients", "end_turn"),
        ]
        assert server.named("install") == [("install", META, b"state")]

    run(story)


def test_nothing_leaves_after_a_broken_rule() -> None:
    """A fatal turn is not carried out, and no other turn is taken."""

    async def story() -> None:
        server, stopped = FakeServer(), []
        server.turns.append(FakeTurn(fatal="digest differs", writes=[(1, b"wrong")]))
        driver, recorder = build(server, stopped)
        driver.start()
        await eventually(lambda: stopped)
        driver.wake()
        await settle()
        assert stopped == ["digest differs"]
        assert recorder.done == []
        assert server.takes == 1

    run(story)


def test_the_clock_ticks() -> None:
    """The server hears the time again and again without being asked."""

    async def story() -> None:
        server = FakeServer()
        driver, _ = build(server, [])
        driver.start()
        await eventually(lambda: len(server.named("tick")) >= 3)
        driver.stop()
        times = [event[1] for event in server.named("tick")]
        assert times == sorted(times)

    run(story)


def test_small_step_is_durable_within_the_turn_and_its_acknowledgement_goes_out() -> None:
    """A small step is written on the spot; what waited for it leaves in the same go."""

    async def story() -> None:
        server = FakeServer()
        step = Persist(1)
        server.turns.append(FakeTurn(persists=[step], may_wait_for_disk=True))
        server.turns.append(FakeTurn(sends=[(1, 1, b"ack")]))
        driver, recorder = build(server, [])
        driver._disk.try_persist_now = lambda steps: recorder.done.append(("disk", steps)) or True
        driver.wake()
        await eventually(lambda: server.takes >= 2)
        assert recorder.done[0] == ("disk", [step])
        assert server.named("persisted") == [("persisted", 1)]
        assert ("peers", "send", [(1, 1, b"ack")]) in recorder.done

    run(story)


def test_step_that_the_disk_declines_goes_to_the_thread() -> None:
    """A busy or slow disk is never waited for on the loop."""

    async def story() -> None:
        server = FakeServer()
        step = Persist(1)
        server.turns.append(FakeTurn(persists=[step], may_wait_for_disk=True))
        driver, recorder = build(server, [])
        driver._disk.try_persist_now = lambda _: False
        driver.wake()
        await eventually(lambda: server.takes)
        assert recorder.done[0] == ("disk", "submit", step)
        assert server.named("persisted") == []

    run(story)


def test_news_of_a_commit_travels_alone_only_when_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asked for soon, the announcement comes by itself once, and not when entries carry it."""

    # long enough that the second turn comes first on any machine
    monkeypatch.setattr("quorate.node.driver.ANNOUNCE_SECONDS", 0.2)

    async def story() -> None:
        server = FakeServer()
        server.turns.append(FakeTurn(announce_soon=True))
        server.turns.append(FakeTurn(persists=[Persist(1)]))
        driver, _ = build(server, [])
        driver.wake()
        await eventually(lambda: server.takes == 1)
        driver.wake()
        await eventually(lambda: not driver._announce_armed)
        assert server.named("announce") == []
        server.turns.append(FakeTurn(announce_soon=True))
        driver.wake()
        await eventually(lambda: server.named("announce"))
        await eventually(lambda: not driver._announce_armed)
        assert len(server.named("announce")) == 1

    run(story)
