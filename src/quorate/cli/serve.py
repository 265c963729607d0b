"""``quorate serve``: one node in the foreground.

The options are generated from the table of settings, so that flag, variable, file key and help
can never disagree.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from quorate.node.settings import SETTINGS

_HELP = """Run one node in the foreground until SIGTERM.

Every option can also be given as QUORATE_<OPTION> in the environment or as a key of the TOML
file; the order of precedence is option, environment, file, default. Times are written as 150ms or
2s, sizes as 64MiB.

SIGTERM hands leadership over, finishes what was begun and exits 0; a second one quits at once.

\b
Exit codes:
  0  stopped cleanly
  2  a setting is wrong
  3  a rule that can never break was broken: a bug; keep the data directory
  4  the disk failed or its data is damaged
  5  the data directory is foreign, copied or wiped
  6  nobody let this node join; nothing happened, trying later may help
  7  this node was removed from its cluster; restarting will not help
"""


def _run(config: str | None, stop_with_stdin: bool, **flags: str | None) -> None:
    from quorate.node.process import run_node  # noqa: PLC0415 - only when a node runs
    from quorate.node.sources import load_settings  # noqa: PLC0415

    settings = load_settings(
        {key: text for key, text in flags.items() if text is not None},
        os.environ,
        Path(config) if config else None,
    )
    raise SystemExit(run_node(settings, stop_with_stdin=stop_with_stdin))


def _make_command() -> click.Command:
    options: list[click.Parameter] = []
    for setting in SETTINGS:
        words = setting.help
        if setting.default:
            words += f"  [default: {setting.default}]"
        option: dict[str, Any] = {"metavar": setting.metavar, "help": words}
        options.append(click.Option([setting.flag, setting.key], **option))
    options.append(
        click.Option(["--config"], metavar="FILE.toml", help="Settings file (QUORATE_CONFIG).")
    )
    options.append(click.Option(["--stop-with-stdin"], is_flag=True, hidden=True))
    return click.Command("serve", params=options, callback=_run, help=_HELP)


command = _make_command()
