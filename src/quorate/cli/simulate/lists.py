"""``quorate simulate properties`` and ``faults``: what is checked, and what can go wrong."""

from __future__ import annotations

import json

import click

from quorate.cli.simulate import options as given
from quorate.cli.simulate.report import show_table
from quorate.simulation.actions import ACTIONS, method_name, usage
from quorate.simulation.cluster import VirtualCluster
from quorate.simulation.plan import KINDS, PLOT_KINDS
from quorate.simulation.plots import claim
from quorate.simulation.properties import Kind, catalogue

_KINDS = {
    Kind.SAFETY: "nothing bad ever happens; checked at each step.",
    Kind.LIVENESS: "something good happens in the end; checked once the faults have stopped.",
}


def claim_of(action: str) -> str:
    """What an action does, in a sentence."""
    text = getattr(VirtualCluster, method_name(action)).__doc__ or ""
    return " ".join(text.split("\n\n")[0].split())


@click.command("properties")
@given.as_json
def properties(as_json: bool) -> None:
    """List every property that runs are judged by."""
    known = catalogue()
    if as_json:
        click.echo(
            json.dumps([{**one._asdict(), "kind": one.kind.value} for one in known], indent=2)
        )
        return
    for kind, words in _KINDS.items():
        click.echo(f"{kind.value.capitalize()}: {words}\n")
        rows = [(one.name, one.claim, one.source) for one in known if one.kind is kind]
        show_table(rows, ("property", "what must hold", "source"))
        click.echo()


@click.command("faults", short_help="List what can go wrong in a run.")
@given.as_json
def faults(as_json: bool) -> None:
    """List what can go wrong: kinds that seeds draw from, actions that scenario files name.

    Actions take nodes by number (NODE), or several with commas (NODES); DURATION is written 1.5s,
    20ms or 300us; QUALITY is `good`, or any of loss=0.1, duplication=0.1, corruption=0.01,
    delay_probability=0.2, delay_us=50000, latency_us=100..300, ordered=yes, with commas.
    """
    plots = {kind: claim(name) for kind, name in PLOT_KINDS.items()}
    actions = {name: (usage(name), claim_of(name)) for name in ACTIONS}
    if as_json:
        described = {name: {"usage": use, "claim": claim} for name, (use, claim) in actions.items()}
        click.echo(json.dumps({"kinds": KINDS, "plots": plots, "actions": described}, indent=2))
        return
    show_table(list(KINDS.items()), ("kind", "for --faults: what it does"))
    click.echo()
    show_table(list(plots.items()), ("plot", "for --faults: an ambush, in every run"))
    click.echo()
    show_table(list(actions.values()), ("action", "in scenario files, after `at TIME`"))
