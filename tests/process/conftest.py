"""Process tests share their harness with the scripts in ``bench/``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
