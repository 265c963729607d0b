"""What clients of a tree can be told to do, and that nothing else passes."""

import pytest

from quorate.protocol.zookeeper import ANY_VERSION
from quorate.simulation.scenario import Scenario
from quorate.simulation.workloads.tree_plan import draw_steps
from quorate.simulation.workloads.tree_words import (
    EPHEMERAL,
    SEEN,
    SEQUENTIAL,
    Ask,
    Conduct,
    encode,
    parse_step,
    resolve,
)
from quorate.simulation.world import Dice


def parse(text):
    return parse_step(tuple(text.split()))


def test_requests_are_read():
    """Each request, alone and in a pipeline."""
    assert parse("set /a 5 seen ; get /a watch") == (
        Ask("set", b"/a", b"5", SEEN),
        Ask("get", b"/a", watch=True),
    )
    assert parse("create /q/n- 7 ephemeral sequential") == (
        Ask("create", b"/q/n-", b"7", flags=EPHEMERAL | SEQUENTIAL),
    )
    assert parse("delete /a 3") == (Ask("delete", b"/a", version=3),)
    assert parse("sync / ; close") == (Ask("sync", b"/"), Ask("close"))
    (multi,) = parse("multi check /a 1 + set /b 2 + create /c 3 + delete /d")
    assert [part.verb for part in multi.parts] == ["check", "set", "create", "delete"]
    assert multi.parts[3].version == ANY_VERSION
    assert parse("once set /a 5 ; get /a") == (
        Ask("set", b"/a", b"5", is_once=True),
        Ask("get", b"/a"),
    )


def test_conduct_is_read():
    """What a client does besides asking."""
    assert parse("open 1.5s") == Conduct("open", 1_500_000)
    assert parse("sleep 20ms") == Conduct("sleep", 20_000)
    assert parse("die") == Conduct("die")
    assert parse("move") == Conduct("move")
    assert parse("move 3") == Conduct("move", 3)


@pytest.mark.parametrize(
    "text",
    [
        "create /a",
        "create a 1",
        "create /a/ 1",
        "create /a 1 ephemeral ephemeral",
        "create /a 1 forever",
        "set /a",
        "set /a 1 -5",
        "delete",
        "get /a look",
        "sync /a watch",
        "multi",
        "multi get /a",
        "multi check /a",
        "multi create /a 1 ephemeral",
        "close now",
        "close ; get /a",
        "check /a 1",
        "once",
        "once get /a",
        "once close",
        "once once set /a 1",
        "open",
        "open 41s",
        "sleep -1s",
        "sleep long",
        "die twice",
        "move 0",
        "move away",
        "sing",
        " ; ".join(["get /a"] * 201),
    ],
)
def test_anything_else_is_refused(text):
    """The message says what could be written instead."""
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_seen_versions_are_filled_in_when_sent():
    """`seen` is the version that this client saw last, 0 when it saw none; multis too."""
    (ask,) = parse("set /a 1 seen")
    assert resolve(ask, {b"/a": 4}).version == 4
    assert resolve(ask, {}).version == 0
    (multi,) = parse("multi set /a 1 seen + delete /b")
    assert [part.version for part in resolve(multi, {b"/a": 4}).parts] == [4, ANY_VERSION]


def test_all_that_is_drawn_can_be_read_and_sent():
    """The plan writes nothing that a scenario file could not hold."""
    seen = set()
    for seed in range(40):
        steps = draw_steps(Dice(seed, "workload"), Scenario(seed, "tree", duration_us=10_000_000))
        assert steps == sorted(steps)
        for step in steps:
            does = parse_step(step.words)
            if isinstance(does, Conduct):
                seen.add(does.verb)
                continue
            for ask in does:
                seen.add(ask.verb)
                assert encode(resolve(ask, {})).frame(1)
    assert len(seen) == 13
