"""``quorate simulate``: this very code on virtual clusters under faults, from seeds.

    run          try seeds, on all cores                          run.py
    replay       run a scenario file again, and tell what happens scenarios.py
    shrink       make a failing scenario small                    scenarios.py
    properties   what is checked                                  lists.py
    faults       what can go wrong in a run                       lists.py

A further subcommand is a file here and a line at the end.

Exit codes: 0 no violation; 1 a violation; 2 the call or a file is wrong.
"""

from __future__ import annotations

import click

from quorate.cli.simulate import lists, mutants, run, scenarios


class _InOrder(click.Group):
    """Subcommands in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.commands)


_HELP = """Run this very code on virtual clusters under faults, from seeds.

A seed fixes everything: which faults a run has and when they strike, what clients ask, how long
each message takes. The same seed gives the same run, bit for bit, on any machine.

\b
quorate simulate run --seeds 100         try a hundred seeds on all cores
quorate simulate run --first-seed 7      try one
quorate simulate replay FILE --trace     see what happens in a scenario
quorate simulate shrink FILE             the same failure from as little as possible
quorate simulate mutants                 take every rule away and see it missed
"""


@click.group("simulate", cls=_InOrder, help=_HELP)
def command() -> None:
    """Find the subcommand and run it."""


command.add_command(run.command)
command.add_command(scenarios.replay)
command.add_command(scenarios.shrink)
command.add_command(mutants.command)
command.add_command(lists.properties)
command.add_command(lists.faults)
