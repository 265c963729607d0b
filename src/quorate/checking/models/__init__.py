"""The models by name: what correct registers, maps, locks, queues and trees would do.

Each file is one family, and knows nothing of searches and files.
No model knows which server it describes: it says what any correct one would do.
"""

from __future__ import annotations

from quorate.checking.models.catalogue import MODEL_NAMES, model_named

__all__ = ["MODEL_NAMES", "model_named"]
