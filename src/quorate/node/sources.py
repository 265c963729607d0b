"""Where settings come from: flag > environment > TOML file > default.

Every refusal names the source, so that nobody looks in the file for a mistake in the environment.
Unknown keys are refused with the nearest known one: a misspelt ``electon_timeout`` that silently
does nothing is found in an outage.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from quorate.errors import SettingsError
from quorate.node.setting import Setting
from quorate.node.settings import BY_KEY, SETTINGS, NodeSettings, complete
from quorate.node.units import add_member, parse_address
from quorate.node.versions import VARIABLE

CONFIG_VARIABLE = "QUORATE_CONFIG"
OTHER_VARIABLES = frozenset(
    # Read by other commands or by launch scripts; not settings of a node.
    {
        CONFIG_VARIABLE,
        VARIABLE,
        "QUORATE_SERVERS",
        "QUORATE_ADMIN",
        "QUORATE_PYTHON",
        "QUORATE_NODES",
        "QUORATE_DIR",
    }
    | {"QUORATE_BASE_PORT"}
)


def load_settings(
    flags: Mapping[str, str], environ: Mapping[str, str], config: Path | None = None
) -> NodeSettings:
    """Merge all sources and check the result.

    Args:
        flags: text by setting key, only what was given on the command line.
        environ: the whole environment; only ``QUORATE_*`` is looked at.
        config: the TOML file; None means ``QUORATE_CONFIG``, or no file.

    Raises:
        SettingsError: the message names the source, the problem and what to do.
    """
    if config is None and environ.get(CONFIG_VARIABLE):
        config = Path(environ[CONFIG_VARIABLE])
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        if setting.default is not None:
            values[setting.field] = setting.parse(setting.default)
    if config is not None:
        values.update(_from_file(config))
    values.update(_from_environment(environ))
    values.update(_from_flags(flags))
    return complete(values)


def _from_flags(flags: Mapping[str, str]) -> dict[str, Any]:
    values = {}
    for key, text in flags.items():
        setting = BY_KEY[key]
        values[setting.field] = _parse(setting, text, setting.flag)
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    by_variable = {setting.variable: setting for setting in SETTINGS}
    values = {}
    for variable in sorted(environ):
        if not variable.startswith("QUORATE_") or variable in OTHER_VARIABLES:
            continue
        setting = by_variable.get(variable)
        if setting is None:
            hint = suggestion(variable, [*by_variable, *OTHER_VARIABLES])
            raise SettingsError(f"environment variable {variable} is no setting; {hint}")
        values[setting.field] = _parse(setting, environ[variable], f"environment {variable}")
    return values


def _from_file(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"settings file {path}: {error.strerror}; check --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path} is no TOML: {error}") from None
    values = {}
    for key, value in table.items():
        where = f"settings file {path}: {key}"
        setting = BY_KEY.get(key.replace("-", "_"))
        if setting is None:
            raise SettingsError(f"{where} is no setting; {suggestion(key, BY_KEY)}")
        values[setting.field] = _from_toml(setting, value, where)
    return values


def _from_toml(setting: Setting, value: object, where: str) -> Any:
    if setting.key == "cluster" and isinstance(value, dict):
        return _cluster_from_table(value, where)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise SettingsError(f"{where}: write it as text in quotes")
    return _parse(setting, str(value), where)


def _cluster_from_table(table: Mapping[str, object], where: str) -> Any:
    members: Any = {}
    for id_text, address in table.items():
        if not id_text.isdecimal() or not isinstance(address, str):
            raise SettingsError(f'{where}: write one line per node, as in 1 = "10.0.0.1:2281"')
        try:
            add_member(members, int(id_text), parse_address(address))
        except SettingsError as error:
            raise SettingsError(f"{where}: {error}") from None
    return members


def _parse(setting: Setting, text: str, where: str) -> Any:
    try:
        return setting.parse(text)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None


def suggestion(unknown: str, known: Collection[str]) -> str:
    """Half a sentence: the nearest known name, or all of them."""
    near = difflib.get_close_matches(unknown, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(sorted(known))}"
