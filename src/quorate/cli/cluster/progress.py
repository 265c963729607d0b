"""Watching a change until it is done: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self, TypeAlias

import click

from quorate.cli.cluster.api import Cluster, Refused
from quorate.cli.cluster.picture import Picture, describe
from quorate.errors import NoQuorum, OutcomeUnknown

_POLL_SECONDS = 0.1
_SILENCE_SECONDS_MAX = 30.0
_STEP_PERCENT = 10

Wanted: TypeAlias = dict[str, Any]


def watch(cluster: Cluster, wanted: Wanted, *, quiet: bool) -> Picture:
    """Poll until no change is under way; shows how far it is unless ``quiet``.

    Args:
        cluster: whom to ask.
        wanted: the change as it was asked for, to see whether it came about.
        quiet: show nothing.

    Raises:
        Refused: the change was taken back; the message says why.
        OutcomeUnknown: nobody leads for long; the change goes on with the next leader, or not.
    """
    heard = monotonic()
    with _Screen(quiet=quiet) as screen:
        while True:
            try:
                picture = describe(cluster.page())
            except NoQuorum as error:
                if monotonic() > heard + _SILENCE_SECONDS_MAX:
                    raise OutcomeUnknown(f"nobody leads any more: {error}") from None
            else:
                heard = monotonic()
                if not picture.change:
                    break
                screen.show(picture)
            sleep(_POLL_SECONDS)
    if not came_about(wanted, picture):
        reason = picture.change_failed or "another change was made since"
        raise Refused(f"the change was given up: {reason}")
    return picture


def came_about(wanted: Wanted, picture: Picture) -> bool:
    """Whether the members are what the change asked for."""
    roles = {member.node_id: member.role for member in picture.members}
    priorities = {str(member.node_id): member.priority for member in picture.members}
    addresses = {str(member.node_id): member.address for member in picture.members}
    return (
        all(roles.get(new["node_id"]) == new["role"] for new in wanted.get("add", []))
        and not any(node in roles for node in wanted.get("remove", []))
        and all(roles.get(node) == "voter" for node in wanted.get("promote", []))
        and all(roles.get(node) == "learner" for node in wanted.get("demote", []))
        and wanted.get("priorities", {}).items() <= priorities.items()
        and wanted.get("addresses", {}).items() <= addresses.items()
    )


def is_coming_about(wanted: Wanted, picture: Picture) -> bool:
    """Whether somebody else, as a node that joins does, asked for these new members before."""
    members = {member.node_id: member for member in picture.members}
    new = wanted.get("add", [])
    return (
        set(wanted) == {"add"}
        and all(each["node_id"] in members for each in new)
        and all(members[each["node_id"]].address == each["address"] for each in new)
        and all(members[each["node_id"]].role.startswith(each["role"]) for each in new)
    )


class _Screen:
    """Where progress is shown."""

    def __init__(self, *, quiet: bool) -> None:
        self._is_quiet = quiet
        self._said: dict[int, int] = {}
        self._change = ""
        self._bars: dict[int, Any] = {}
        self._progress: Any = None
        if not quiet and sys.stdout.isatty():
            from rich import progress  # noqa: PLC0415 - not needed without a terminal

            self._progress = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(bar_width=32),
                progress.TaskProgressColumn(),
                transient=True,
            )

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, picture: Picture) -> None:
        """The change is under way."""
        if self._is_quiet:
            return
        if picture.change != self._change:
            self._change = picture.change
            self._say(f"under way: {picture.change}")
        for member in picture.members:
            if member.percent is None:
                continue
            if self._progress is not None:
                self._move_bar(member.node_id, member.percent)
            elif member.percent >= self._said.get(member.node_id, -_STEP_PERCENT) + _STEP_PERCENT:
                self._said[member.node_id] = member.percent
                self._say(f"node {member.node_id} is {member.words}")

    def _move_bar(self, node: int, percent: int) -> None:
        if node not in self._bars:
            words = f"node {node} is catching up"
            self._bars[node] = self._progress.add_task(words, total=100)
        self._progress.update(self._bars[node], completed=percent)

    def _say(self, words: str) -> None:
        if self._progress is not None:
            self._progress.console.print(words)
        else:
            click.echo(words)
            sys.stdout.flush()
