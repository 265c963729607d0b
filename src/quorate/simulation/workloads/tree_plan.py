"""What the clients of a tree do, drawn: few znodes, many conflicts, pipelines, and rough manners.

Each run has a mood of its own: which znodes, how fast, how many pipelines, and whether clients
fall asleep, die and move at all. A run where everything happens a little would be a weaker test.

In some runs a share of the writes is asked for exactly once; that is drawn last, so that everything
else stays as it was.

Invariant: the same dice and scenario give the same steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.simulation.scenario import Scenario, Step
from quorate.simulation.units import format_duration
from quorate.simulation.world import Dice

MS: Final = 1_000
SECOND: Final = 1_000_000
TIMEOUTS_US: Final = (600 * MS, 1 * SECOND, 2 * SECOND, 4 * SECOND)
PACES_US: Final = (500 * MS, 1 * SECOND, 2 * SECOND)
PARENTS: Final = ("/a", "/b")
QUEUE: Final = "/q"
PLAIN: Final = ("/a", "/b", "/c", "/a/x", "/a/y", "/b/x", "/d")

_WRITES: Final = ("create", "set", "delete", "multi")

Words = tuple[str, ...]


class _Mood:
    """What a run is like."""

    def __init__(self, dice: Dice) -> None:
        self.paths = dice.some(PLAIN, 2 + dice.draw(len(PLAIN) - 1))
        self.locks = ("/l", "/m")[: 1 + dice.draw(2)]
        self.pace_us = dice.pick(PACES_US)
        self.pipelines = dice.pick((0.1, 0.3, 0.6))
        self.watchfulness = dice.pick((0.2, 0.5, 0.9))
        self.rough = dice.pick((0.0, 0.02, 0.08))
        self.sociable = dice.pick((0.2, 0.6, 0.9))
        self.values = 0

    def value(self) -> str:
        self.values += 1
        return str(self.values)


def draw_steps(dice: Dice, scenario: Scenario) -> list[Step]:
    """Draw the steps of all clients, by time."""
    mood = _Mood(dice)
    moments = _moments(dice, mood.pace_us, scenario.duration_us)
    steps: list[Step] = []
    for client in range(1, scenario.clients + 1):
        steps.append(Step(0, client, ("open", format_duration(dice.pick(TIMEOUTS_US)))))
        steps += [Step(0, client, ("create", path, mood.value())) for path in (*PARENTS, QUEUE)]
        alone = iter(_moments(dice, mood.pace_us, scenario.duration_us))
        for together_us in moments:
            at_us = together_us + dice.draw(2 * MS)
            if not dice.chance(mood.sociable):
                at_us = next(alone, together_us)
            steps += [Step(at_us, client, _step(dice, mood)) for _ in range(1 + dice.draw(3))]
    percent = scenario.settings.once_percent
    if percent:
        steps = [each._replace(words=_once(dice, each.words, percent)) for each in steps]
    return sorted(steps)


def _once(dice: Dice, words: Words, percent: int) -> Words:
    """Ask for some of these writes exactly once."""
    asked: list[str] = []
    for before, word in zip((";", *words), words, strict=False):
        if before == ";" and word in _WRITES and dice.draw(100) < percent:
            asked.append("once")
        asked.append(word)
    return tuple(asked)


def _moments(dice: Dice, pace_us: int, until_us: int) -> list[int]:
    """Moments at which something happens: conflicts want several clients at once."""
    moments: list[int] = []
    at_us = dice.between(0, pace_us)
    while at_us < until_us:
        moments.append(at_us)
        at_us += dice.between(pace_us // 2, 2 * pace_us)
    return moments


def _step(dice: Dice, mood: _Mood) -> Words:
    if dice.chance(mood.rough):
        return _rough(dice)
    if not dice.chance(mood.pipelines):
        return _request(dice, mood)
    count = 2 + dice.draw(4) if dice.chance(0.8) else 8 + dice.draw(20)
    words: list[str] = []
    for _ in range(count):
        words += [*((";",) if words else ()), *_request(dice, mood)]
    return tuple(words)


def _rough(dice: Dice) -> Words:
    kind = dice.draw(8)
    if kind < 3:
        return ("move",)
    if kind < 5:
        return ("sleep", format_duration(dice.between(100, 6_000) * MS))
    return ("die",) if kind < 7 else ("close",)


def _request(dice: Dice, mood: _Mood) -> Words:
    total = sum(weight for weight, _ in _KINDS)
    place = dice.draw(total)
    for weight, make in _KINDS:
        if place < weight:
            return make(dice, mood)
        place -= weight
    raise AssertionError("weights do not add up")


def _watching(dice: Dice, mood: _Mood) -> Words:
    return ("watch",) if dice.chance(mood.watchfulness) else ()


def _expecting(dice: Dice) -> Words:
    kind = dice.draw(6)
    if kind < 3:
        return ("seen",)
    return () if kind < 5 else (str(dice.draw(4)),)


def _read(dice: Dice, mood: _Mood) -> Words:
    path = dice.pick((*mood.paths, *mood.paths, *mood.locks))
    return (dice.pick(("get", "exists", "get")), path, *_watching(dice, mood))


def _children(dice: Dice, mood: _Mood) -> Words:
    return ("children", dice.pick(("/", QUEUE, *PARENTS)), *_watching(dice, mood))


def _fresh_read(dice: Dice, mood: _Mood) -> Words:
    path = dice.pick(mood.paths)
    return ("sync", path, ";", dice.pick(("get", "get", "exists")), path)


def _set(dice: Dice, mood: _Mood) -> Words:
    return ("set", dice.pick(mood.paths), mood.value(), *_expecting(dice))


def _create(dice: Dice, mood: _Mood) -> Words:
    return ("create", dice.pick(mood.paths), mood.value())


def _delete(dice: Dice, mood: _Mood) -> Words:
    return ("delete", dice.pick(mood.paths), *_expecting(dice))


def _lock(dice: Dice, mood: _Mood) -> Words:
    path = dice.pick(mood.locks)
    if dice.chance(0.3):
        return ("delete", path)
    return ("create", path, mood.value(), "ephemeral")


def _queue(dice: Dice, mood: _Mood) -> Words:
    kind = ("ephemeral", "sequential") if dice.chance(0.7) else ("sequential",)
    return ("create", f"{QUEUE}/n-", mood.value(), *kind)


def _multi(dice: Dice, mood: _Mood) -> Words:
    first, second = (*dice.some(mood.paths, 2), mood.paths[0])[:2]
    kind = dice.draw(4)
    if kind == 0:
        return ("multi", "check", first, "seen", "+", "set", second, mood.value())
    if kind == 1:
        swap = ("multi", "set", first, mood.value(), "seen")
        return (*swap, "+", "set", second, mood.value(), "seen")
    if kind == 2:
        return ("multi", "delete", first, "+", "create", first, mood.value())
    return ("multi", "create", first, mood.value(), "+", "delete", second)


def _publish(dice: Dice, mood: _Mood) -> Words:
    """Paper §2.3: take the ready znode away, change the others, put it back."""
    ready, *rest = mood.paths
    words = ["delete", ready]
    for path in dice.some(rest, 2):
        words += [";", "set", path, mood.value()]
    return (*words, ";", "create", ready, mood.value())


_KINDS: Final[tuple[tuple[int, Callable[[Dice, _Mood], Words]], ...]] = (
    (7, _read),
    (3, _children),
    (7, _fresh_read),
    (8, _set),
    (4, _create),
    (3, _delete),
    (4, _lock),
    (3, _queue),
    (3, _multi),
    (1, _publish),
)
