"""The models by name: what correct registers, maps, locks, queues and trees would do."""

from __future__ import annotations

from quorate.checking.models.catalogue import MODEL_NAMES, model_named

__all__ = ["MODEL_NAMES", "model_named"]
