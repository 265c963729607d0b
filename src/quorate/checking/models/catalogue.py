"""The list of models, by the names that the command line and histories use.

Some take a parameter after a colon: ``semaphore:3`` has three permits, ``cas-register:0`` and
``multi-register:0`` begin with 0 where the plain names begin with nothing.
"""

from __future__ import annotations

from typing import Any, Final

from quorate.checking.model import Model
from quorate.checking.models.counter import Counter
from quorate.checking.models.locks import Lock, Mutex, Semaphore
from quorate.checking.models.maps import CasMap, StringMap
from quorate.checking.models.register import CasRegister, Register
from quorate.checking.models.sequences import AppendLog, Queue
from quorate.checking.models.transactions import MultiRegister
from quorate.checking.models.tree import Subtrees, Tree, Znode
from quorate.errors import UsageError

PERMITS_UNLESS_SAID: Final = 2

_MODELS: Final[dict[str, Model]] = {
    model.name: model
    for model in (
        Register(),
        CasRegister(),
        CasMap(),
        StringMap(),
        Counter(),
        Lock(),
        Semaphore(PERMITS_UNLESS_SAID),
        Mutex(),
        Queue(),
        AppendLog(),
        MultiRegister(),
        Tree(),
        Subtrees(),
        Znode(),
    )
}

MODEL_NAMES: Final = tuple(sorted(_MODELS))
"""The names that ``model_named`` knows, without parameters."""


def model_named(name: str) -> Model:
    """The model with this name, which may carry a parameter: ``semaphore:3``.

    Raises:
        UsageError: there is none; the message lists the names there are. Or the parameter is
            none that the model can take.
    """
    plain, colon, parameter = name.partition(":")
    if plain not in _MODELS:
        raise UsageError(f"there is no model {name!r}; there are {', '.join(MODEL_NAMES)}")
    if not colon:
        return _MODELS[plain]
    value: Any = int(parameter) if parameter.removeprefix("-").isdecimal() else parameter
    if plain == Semaphore.name:
        if not isinstance(value, int) or value < 1:
            raise UsageError(f"semaphore:N wants a whole number of permits, not {parameter!r}")
        return Semaphore(value)
    if plain == Register.name:
        return Register(value)
    if plain == CasRegister.name:
        return CasRegister(value)
    if plain == MultiRegister.name:
        return MultiRegister(value)
    raise UsageError(f"model {plain} takes no parameter, but {name!r} has one")
