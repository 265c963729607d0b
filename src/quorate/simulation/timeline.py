"""A run told as it happens: a line for each thing that people care about.

It puts itself between the run and its parts and repeats what passes by: faults as they strike,
nodes that go down and come back, elections, what clients ask and are told. It changes nothing,
draws nothing and schedules nothing, so a run with a timeline is the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from quorate.consensus.engine import Leadership
from quorate.simulation.actions import ACTIONS, Action, format_action, method_name
from quorate.simulation.host import Host
from quorate.simulation.run import Run
from quorate.simulation.scenario import Step
from quorate.simulation.workloads.replicas import ReplicaWorkload


class Happening(NamedTuple):
    """Something that happened.

    Attributes:
        at_us: virtual time.
        who: "node 2", "client 1", or "fault".
        what: in words.
    """

    at_us: int
    who: str
    what: str

    def __str__(self) -> str:
        return f"{self.at_us / 1e6:11.6f}  {self.who:<9} {self.what}"


class Timeline:
    """Listens to a run.

    Args:
        run: has not begun.
        tell: hears each happening as it happens.
    """

    def __init__(self, run: Run, tell: Callable[[Happening], None]) -> None:
        self._world = run.world
        self._tell = tell
        self._cluster: Any = run.cluster  # Any: its methods are put in the place of
        self._judge: Any = run.court.engine
        self._workload: Any = run.workload
        self._answers: dict[int, str] = {}
        for name in ACTIONS:
            self._wrap(self._cluster, method_name(name), partial(self._on_action, name))
        self._wrap(self._cluster, "mend", self._on_mend)
        self._wrap(self._judge, "on_leadership", self._on_leadership)
        self._wrap(self._workload, "begin", self._on_begin)
        if isinstance(run.workload, ReplicaWorkload):
            self._wrap(self._workload, "operation", self._on_operation)
        for host in run.cluster.hosts.values():
            self._wrap(host, "start", partial(self._on_start, host))
        self._wrap(self._cluster, "on_down", self._on_down)

    def _wrap(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        setattr(owner, name, partial(around, getattr(owner, name)))

    def _say(self, who: str, what: str) -> None:
        self._tell(Happening(self._world.now_us, who, what))

    # ---- what passes by ------------------------------------------------------------------------

    def _on_action(self, name: str, inner: Callable[..., Any], *arguments: Any) -> Any:
        if not self._mending:
            self._say("fault", format_action(Action(0, name, arguments)))
        return inner(*arguments)

    _mending = False

    def _on_mend(self, inner: Callable[[], None]) -> None:
        self._say("fault", "none from here on: everything is mended, and must get well")
        self._mending = True
        inner()

    def _on_start(self, host: Host, inner: Callable[..., bool], **arguments: Any) -> bool:
        is_up = inner(**arguments)
        if is_up:
            how = "starts" if host.life == 1 else f"starts again, for the {_nth(host.life)} time"
            self._say(f"node {host.node_id}", how)
        elif host.retired is not None:
            self._say(f"node {host.node_id}", f"refuses to start: {host.retired}")
        else:
            self._say(f"node {host.node_id}", "does not come up: its disk fails again")
        return is_up

    def _on_down(self, inner: Callable[[Host], None], host: Host) -> None:
        why = host.retired or host.stopped
        self._say(f"node {host.node_id}", f"is down: {why}" if why else "is down")
        inner(host)

    def _on_leadership(
        self, inner: Callable[[int, Leadership], None], node: int, news: Leadership
    ) -> None:
        if news.leader == node:
            how = "leads" if news.established else "is elected in"
            self._say(f"node {node}", f"{how} epoch {news.epoch}")
        inner(node, news)

    def _on_begin(
        self, inner: Callable[[Step, Callable[[], None]], None], step: Step, done: Any
    ) -> None:
        words, client = " ".join(step.words), step.client
        self._say(f"client {client}", f"asks: {words}")

        def finished() -> None:
            told = self._answers.pop(client, "done")
            self._say(f"client {client}", f"{words}: {told}")
            done()

        inner(step, finished)

    def _on_operation(
        self, inner: Callable[[Any, Any, int], Any], call: Any, result: Any, returned: int
    ) -> Any:
        operation = inner(call, result, returned)
        is_unknown = operation is not None and operation.is_unknown
        told = "no answer; nobody knows" if is_unknown else f"{result!r}"
        self._answers[call.client.number] = told
        return operation


def _nth(number: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")
