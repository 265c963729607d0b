"""Stories: a text file of commands and what they gave, one file per scenario.

Format: lines that start with ``#`` are comments; commands follow; ``----`` ends a block of
commands; the lines up to the next empty line are what happened. Commands:

    cluster [voters=3] [learners=0] [seed=1] [disk=manual] [setting=value ...]
    prepare n1 1 1 4 [term=7]     restart n1 with a log of these terms
    campaign n1                   n1's election timer runs out, nothing is delivered
    elect n1                      the same, and everything is delivered
    advance 300 [n1 ...]          time passes, nothing is delivered
    run 300                       time passes, everything is delivered
    settle                        deliver everything
    deliver n1>n2 [Kind]          deliver the oldest such message
    repeat n1>n2 [Kind]           the same, and keep a copy on the network
    drop n1>n2 [Kind]             lose all such messages (n*: any node)
    persist n1                    confirm all of n1's writes
    propose n1 a b    read n1 r1    transfer n1 [n2]    snapshot n1
    join n4                       start a new node that knows of no configuration
    change n1 c1 +4 -1 ^5 v2 !3   ask n1, as c1: add a voter (+4l: learner, +4w: witness), remove,
                                  promote, demote, prefer
    crash n1    start n1    closed n1 [n3 ...]    opened n1 n2
    isolate n1 | n2 n3    heal
    status [n1 ...]    logs    network    same     what it looks like now; all logs are equal
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from raft_cluster import Letter, RaftCluster

from quorate.consensus.change import Change, MemberRole, NewMember
from quorate.consensus.registry import EngineSettings


def _node(word: str) -> int:
    assert word.startswith("n"), f"a node is written n1, not {word}"
    return int(word[1:])


class Story:
    """Runs the commands of one file."""

    def __init__(self) -> None:
        self.cluster = RaftCluster(1)
        self.lines: list[str] = []

    def run_block(self, commands: list[str]) -> list[str]:
        """Carry out some commands; return what happened, in order."""
        self.lines = []
        self.cluster.notes.clear()
        for command in commands:
            words = command.split()
            getattr(self, f"do_{words[0]}")(words[1:])
            self.lines += self.cluster.notes
            self.cluster.notes.clear()
        return self.lines

    # ---- building ------------------------------------------------------------------------------

    def do_cluster(self, words: list[str]) -> None:
        options = dict(word.split("=") for word in words)
        disk = options.pop("disk", "instant")
        numbers = {name: int(value) for name, value in options.items()}
        self.cluster = RaftCluster(
            numbers.pop("voters", 3),
            learners=numbers.pop("learners", 0),
            seed=numbers.pop("seed", 1),
            instant_disk=disk == "instant",
            settings=EngineSettings(**numbers),
        )
        self.cluster.notes.clear()

    def do_prepare(self, words: list[str]) -> None:
        term = next((int(word[5:]) for word in words if word.startswith("term=")), None)
        terms = [int(word) for word in words[1:] if not word.startswith("term=")]
        self.cluster.prepare(_node(words[0]), terms, term=term)
        self.cluster.notes.clear()

    # ---- time and messages ---------------------------------------------------------------------

    def do_elect(self, words: list[str]) -> None:
        self.cluster.elect(_node(words[0]))

    def do_campaign(self, words: list[str]) -> None:
        self.cluster.campaign(_node(words[0]))

    def do_advance(self, words: list[str]) -> None:
        only = [_node(word) for word in words[1:]] or None
        self.cluster.advance(int(words[0]), only=only)

    def do_run(self, words: list[str]) -> None:
        self.cluster.run(int(words[0]))

    def do_settle(self, _: list[str]) -> None:
        self.cluster.settle()

    def _matching(self, words: list[str]) -> Callable[[Letter], bool]:
        sender, to = words[0].split(">")
        kind = words[1] if len(words) > 1 else ""

        def matches(letter: Letter) -> bool:
            return (
                sender in ("n*", f"n{letter.sender}")
                and to in ("n*", f"n{letter.to}")
                and kind in ("", type(letter.message).__name__)
            )

        return matches

    def _deliver(self, words: list[str], *, copy: bool) -> None:
        matches = self._matching(words)
        for position, letter in enumerate(self.cluster.network):
            if matches(letter):
                self.lines.append(f"  {letter}")
                self.cluster.deliver_one(position, copy=copy)
                return
        self.lines.append(f"no message {' '.join(words)}")

    def do_deliver(self, words: list[str]) -> None:
        self._deliver(words, copy=False)

    def do_repeat(self, words: list[str]) -> None:
        self._deliver(words, copy=True)

    def do_drop(self, words: list[str]) -> None:
        matches = self._matching(words)
        network = self.cluster.network
        lost = [letter for letter in network if matches(letter)]
        self.cluster.network = [letter for letter in network if not matches(letter)]
        self.lines += [f"  lost {letter}" for letter in lost]

    def do_persist(self, words: list[str]) -> None:
        while self.cluster.persist(_node(words[0])):
            pass

    # ---- requests ------------------------------------------------------------------------------

    def do_propose(self, words: list[str]) -> None:
        self.cluster.propose(_node(words[0]), *words[1:])

    def do_read(self, words: list[str]) -> None:
        self.cluster.read(_node(words[0]), words[1])

    def do_transfer(self, words: list[str]) -> None:
        self.cluster.transfer(_node(words[0]), _node(words[1]) if len(words) > 1 else 0)

    def do_join(self, words: list[str]) -> None:
        self.cluster.join(_node(words[0]))

    def do_change(self, words: list[str]) -> None:
        numbers: dict[str, list[str]] = {}
        for word in words[2:]:
            numbers.setdefault(word[0], []).append(word[1:])
        roles = {"l": MemberRole.LEARNER, "w": MemberRole.WITNESS}
        change = Change(
            add=tuple(
                NewMember(int(new.rstrip("lw")), roles.get(new[-1], MemberRole.VOTER))
                for new in numbers.get("+", ())
            ),
            remove=tuple(map(int, numbers.get("-", ()))),
            promote=tuple(map(int, numbers.get("^", ()))),
            demote=tuple(map(int, numbers.get("v", ()))),
            priorities=tuple((int(node), 1) for node in numbers.get("!", ())),
        )
        self.cluster.change(_node(words[0]), words[1], change)

    def do_snapshot(self, words: list[str]) -> None:
        self.cluster.take_snapshot(_node(words[0]))

    # ---- faults --------------------------------------------------------------------------------

    def do_crash(self, words: list[str]) -> None:
        self.cluster.crash(_node(words[0]))

    def do_start(self, words: list[str]) -> None:
        self.cluster.start(_node(words[0]))

    def do_closed(self, words: list[str]) -> None:
        self.cluster.tell_closed(_node(words[0]), only=[_node(word) for word in words[1:]])

    def do_opened(self, words: list[str]) -> None:
        self.cluster.tell_opened(_node(words[0]), _node(words[1]))

    def do_isolate(self, words: list[str]) -> None:
        groups = " ".join(words).split("|")
        self.cluster.isolate(*[[_node(word) for word in group.split()] for group in groups])

    def do_heal(self, _: list[str]) -> None:
        self.cluster.heal()

    # ---- looking -------------------------------------------------------------------------------

    def do_status(self, words: list[str]) -> None:
        for node_id, node in self.cluster.nodes.items():
            if not words or f"n{node_id}" in words:
                text = node.engine.describe() if node.engine else f"n{node_id} down"
                self.lines += text.splitlines()

    def do_logs(self, _: list[str]) -> None:
        for node_id, node in self.cluster.nodes.items():
            log = node.state.log.describe() if node.is_up else "down"
            self.lines.append(f"n{node_id} {log}")

    def do_network(self, _: list[str]) -> None:
        self.lines += [f"  {letter}" for letter in self.cluster.network]

    def do_same(self, _: list[str]) -> None:
        up = [node for node in self.cluster.nodes.values() if node.is_up]
        logs = [(node.state.log.entries, node.applied) for node in up]
        assert all(log == logs[0] for log in logs), self.cluster.describe()
        self.lines.append("all logs and states are equal")


def replay(text: str) -> str:
    """Run a story's text; return the same text with what happened now."""
    story = Story()
    result: list[str] = []
    commands: list[str] = []
    skipping = False
    for line in text.splitlines():
        if skipping:
            if line == "":
                skipping = False
                result.append(line)
            continue
        result.append(line)
        if line == "----":
            result += story.run_block(commands)
            commands = []
            skipping = True
        elif line and not line.startswith("#"):
            commands.append(line)
    assert not commands, f"commands without ---- at the end: {commands}"
    return "\n".join(result).rstrip() + "\n"


def compare(path: Path, *, rewrite: bool) -> None:
    """Run a story and compare (or rewrite) its file."""
    expected = path.read_text()
    actual = replay(expected)
    if rewrite:
        path.write_text(actual)
        return
    difference = "\n".join(
        difflib.unified_diff(expected.splitlines(), actual.splitlines(), path.name, "now", n=4)
    )
    assert actual == expected, f"the story went differently:\n{difference}"
