"""The list of models, by the names that the command line and histories use."""

from __future__ import annotations

from typing import Final

from quorate.checking.model import Model
from quorate.checking.models.maps import CasMap, StringMap
from quorate.checking.models.register import CasRegister, Register
from quorate.errors import UsageError

_MODELS: Final[dict[str, Model]] = {
    model.name: model for model in (Register(), CasRegister(), CasMap(), StringMap())
}

MODEL_NAMES: Final = tuple(sorted(_MODELS))
"""The names that ``model_named`` knows."""


def model_named(name: str) -> Model:
    """The model with this name.

    Raises:
        UsageError: there is none; the message lists the names there are.
    """
    model = _MODELS.get(name)
    if model is None:
        raise UsageError(f"there is no model {name!r}; there are {', '.join(MODEL_NAMES)}")
    return model
