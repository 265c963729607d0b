"""What one setting is: a key, from which flag, variable and file key follow, and how to read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quorate.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as users see it.

    Attributes:
        key: its name in a file; flag and environment variable follow from it.
        field: the attribute of NodeSettings that holds the parsed value.
        parse: text to value; raises SettingsError.
        default: as text; None when it is computed or required.
        metavar: placeholder in ``--help``.
        help: one sentence for ``--help``.
    """

    key: str
    field: str
    parse: Callable[[str], Any]
    default: str | None
    metavar: str
    help: str

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.key.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "QUORATE_" + self.key.upper()


def one_of(*words: str) -> Callable[[str], str]:
    """Make a parser that takes exactly these words."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise SettingsError(f"{text!r} is not one of {', '.join(words)}")
        return text.lower()

    return parse
